//! The preload library: stands in for Xen's libraries, so that an unmodified `xenstored` runs as a plain process.
//!
//! It exports the functions of libxenctrl, libxenevtchn and libxengnttab that C xenstored (4.17, 4.20) and oxenstored
//! (4.17) call, and the few of libc that tell them where they are: `open` (for /proc/xen), `bind`, `mkdir` and
//! `unlink` (oxenstored's socket has a fixed place), `poll` (to know when the server
//! has done all it can), `clock_gettime` (so that the driver decides how fast time passes), `setrlimit` (oxenstored wants
//! more files than a user may have) and syslog (so that the host's log stays clean). It knows files and FIFOs in one
//! folder, see `layout`; it knows nothing of Xenstore.

#[path = "../src/layout.rs"]
#[allow(dead_code, reason = "each side uses a part of it")]
mod layout;

mod host;

use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_void};
use std::sync::atomic::{AtomicU32, Ordering};

use host::{
    EINVAL, ESRCH, Host, SYS_BIND, SYS_MKDIR, SYS_POLL, SYS_UNLINK, fail, munmap, read, real_clock_gettime, real_open,
    syscall,
};

/// What the handles of all three libraries point to; nobody looks into it.
static HANDLE: u64 = 0;

fn handle() -> *mut c_void {
    Host::get();
    (&raw const HANDLE).cast_mut().cast()
}

/// What the hypervisor says of a domain.
fn state_of(domid: u32) -> u8 {
    Host::get()
        .byte(layout::STATES, domid)
        .map_or(layout::ABSENT, |state| state.load(Ordering::SeqCst))
}

/// Maps the ring page of a domain that exists; null, with errno set, if there is none.
fn page_of(domid: u32) -> *mut c_void {
    let page = if state_of(domid) == layout::ABSENT {
        std::ptr::null_mut()
    } else {
        Host::get().map(&format!("page-{domid}"), layout::PAGE)
    };
    if page.is_null() {
        fail(EINVAL);
    }
    page
}

/// The beginning of `xc_dominfo_t` (xenctrl.h of 4.17): all of it that xenstored looks at.
#[repr(C)]
pub struct DomainInfo {
    domid: u32,
    ssidref: u32,
    /// Bit 0 dying, 1 crashed, 2 shutdown, 5 running.
    flags: c_uint,
    shutdown_reason: c_uint,
}

#[unsafe(no_mangle)]
extern "C" fn xc_interface_open(_logger: *mut c_void, _other: *mut c_void, _flags: c_uint) -> *mut c_void {
    handle()
}

#[unsafe(no_mangle)]
extern "C" fn xc_interface_close(_handle: *mut c_void) -> c_int {
    0
}

/// # Safety
/// `info` has room for one `xc_dominfo_t`.
#[unsafe(no_mangle)]
unsafe extern "C" fn xc_domain_getinfo(
    _handle: *mut c_void,
    domid: u32,
    _count: c_uint,
    info: *mut DomainInfo,
) -> c_int {
    let flags = match state_of(domid) {
        layout::ALIVE => 1 << 5,
        layout::SHUTDOWN => 1 << 2,
        layout::DYING => 1 << 2 | 1,
        _ => return 0,
    };
    // SAFETY: the caller has room for the whole structure, of which this is the beginning.
    unsafe {
        info.write(DomainInfo {
            domid,
            ssidref: 0,
            flags,
            shutdown_reason: 0,
        })
    };
    1
}

/// `xc_domaininfo_t` of 4.17, the 112 bytes of `struct xen_domctl_getdomaininfo` (domctl.h); that of 4.20 is not shorter and
/// begins alike. The domain's number, two bytes of padding, the flags; the servers look at no more.
type DomctlInfo = [u32; 28];

/// The flags of a domain in a [`DomctlInfo`]: bit 0 dying, 2 shut down, 5 running.
fn domctl_info(domid: u32) -> Option<DomctlInfo> {
    let flags = match state_of(domid) {
        layout::ALIVE => 1 << 5,
        layout::SHUTDOWN => 1 << 2,
        layout::DYING => 1 << 2 | 1,
        _ => return None,
    };
    let mut info = [0; 28];
    info[0] = domid;
    info[1] = flags;
    Some(info)
}

/// What oxenstored asks. Of a domain that is not there Xen would tell the next; the server takes either for an error.
///
/// # Safety
/// `info` has room for one `xc_domaininfo_t` of 4.17.
#[unsafe(no_mangle)]
unsafe extern "C" fn xc_domain_getinfolist(
    _handle: *mut c_void,
    first: u32,
    _count: c_uint,
    info: *mut DomctlInfo,
) -> c_int {
    let Some(found) = domctl_info(first) else {
        return 0;
    };
    // SAFETY: the caller has room for it.
    unsafe { info.write(found) };
    1
}

/// What C xenstored asks since 4.18.
///
/// # Safety
/// `info` has room for one `xc_domaininfo_t`, or is null.
#[unsafe(no_mangle)]
unsafe extern "C" fn xc_domain_getinfo_single(_handle: *mut c_void, domid: u32, info: *mut DomctlInfo) -> c_int {
    let Some(found) = domctl_info(domid) else {
        return fail(ESRCH);
    };
    if !info.is_null() {
        // SAFETY: the caller has room for it.
        unsafe { info.write(found) };
    }
    0
}

/// An `xc_error` that says that there is none: its code comes first, and nobody reads on if that is 0.
static NO_ERROR: [u64; 2] = [0; 2];

#[unsafe(no_mangle)]
extern "C" fn xc_get_last_error(_handle: *mut c_void) -> *const c_void {
    (&raw const NO_ERROR).cast()
}

/// How oxenstored maps a ring: by the frame that INTRODUCE names. Here each domain has one page, whatever its frame.
#[unsafe(no_mangle)]
extern "C" fn xc_map_foreign_range(
    _handle: *mut c_void,
    domid: u32,
    _size: c_int,
    _protection: c_int,
    _frame: u64,
) -> *mut c_void {
    page_of(domid)
}

#[unsafe(no_mangle)]
extern "C" fn setrlimit(_resource: c_int, _limit: *const c_void) -> c_int {
    0
}

#[unsafe(no_mangle)]
extern "C" fn xengnttab_open(_logger: *mut c_void, _flags: c_uint) -> *mut c_void {
    handle()
}

#[unsafe(no_mangle)]
extern "C" fn xengnttab_close(_handle: *mut c_void) -> c_int {
    0
}

#[unsafe(no_mangle)]
extern "C" fn xengnttab_set_max_grants(_handle: *mut c_void, _count: u32) -> c_int {
    0
}

#[unsafe(no_mangle)]
extern "C" fn xengnttab_map_grant_ref(
    _handle: *mut c_void,
    domid: u32,
    reference: u32,
    _protection: c_int,
) -> *mut c_void {
    if reference == 1 {
        page_of(domid)
    } else {
        fail(EINVAL);
        std::ptr::null_mut()
    }
}

/// # Safety
/// `address` came from [`xengnttab_map_grant_ref`] and is not used again.
#[unsafe(no_mangle)]
unsafe extern "C" fn xengnttab_unmap(_handle: *mut c_void, address: *mut c_void, count: u32) -> c_int {
    // SAFETY: the caller gives back its own mapping.
    unsafe { munmap(address, count as usize * layout::PAGE) }
}

#[unsafe(no_mangle)]
extern "C" fn xenevtchn_open(_logger: *mut c_void, _flags: c_uint) -> *mut c_void {
    handle()
}

#[unsafe(no_mangle)]
extern "C" fn xenevtchn_fdopen(_logger: *mut c_void, _fd: c_int, _flags: c_uint) -> *mut c_void {
    handle()
}

#[unsafe(no_mangle)]
extern "C" fn xenevtchn_close(_handle: *mut c_void) -> c_int {
    0
}

#[unsafe(no_mangle)]
extern "C" fn xenevtchn_fd(_handle: *mut c_void) -> c_int {
    Host::get().to_server
}

/// A domain's local port follows from its number, so that the driver knows it without being told.
#[unsafe(no_mangle)]
extern "C" fn xenevtchn_bind_interdomain(_handle: *mut c_void, domid: u32, remote_port: u32) -> c_int {
    match domid
        .checked_add(layout::FIRST_PORT)
        .and_then(|port| c_int::try_from(port).ok())
    {
        Some(port) if remote_port <= layout::REMOTE_PORT_MAX => port,
        _ => fail(EINVAL),
    }
}

#[unsafe(no_mangle)]
extern "C" fn xenevtchn_bind_virq(_handle: *mut c_void, _virq: c_uint) -> c_int {
    layout::VIRQ_PORT as c_int
}

#[unsafe(no_mangle)]
extern "C" fn xenevtchn_unbind(_handle: *mut c_void, _port: u32) -> c_int {
    0
}

#[unsafe(no_mangle)]
extern "C" fn xenevtchn_unmask(_handle: *mut c_void, _port: u32) -> c_int {
    0
}

#[unsafe(no_mangle)]
extern "C" fn xenevtchn_notify(_handle: *mut c_void, port: u32) -> c_int {
    let host = Host::get();
    host.long(layout::NOTIFICATIONS).fetch_add(1, Ordering::Relaxed);
    let domid = port.wrapping_sub(layout::FIRST_PORT);
    // As in hardware: an event that is pending already is not sent twice.
    if host
        .byte(layout::FROM_SERVER_PENDING, domid)
        .is_some_and(|pending| pending.swap(1, Ordering::SeqCst) == 0)
    {
        host.tell(domid);
    }
    0
}

/// Events taken from the FIFO by this process.
static TAKEN: AtomicU32 = AtomicU32::new(0);

#[unsafe(no_mangle)]
extern "C" fn xenevtchn_pending(_handle: *mut c_void) -> c_int {
    let host = Host::get();
    let mut bytes = [0; 4];
    // SAFETY: at most four bytes are written to `bytes`.
    if unsafe { read(host.to_server, bytes.as_mut_ptr().cast(), bytes.len()) } != 4 {
        return -1;
    }
    TAKEN.fetch_add(1, Ordering::SeqCst);
    let port = u32::from_ne_bytes(bytes);
    if port == layout::VIRQ_PORT {
        host.word(layout::VIRQ_PENDING).store(0, Ordering::SeqCst);
    } else if let Some(pending) = host.byte(layout::TO_SERVER_PENDING, port.wrapping_sub(layout::FIRST_PORT)) {
        pending.store(0, Ordering::SeqCst);
    }
    port as c_int
}

/// Tells the driver when the server has nothing left to do: it would wait, and nothing has happened.
///
/// # Safety
/// As poll(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn poll(fds: *mut c_void, count: u64, timeout: c_int) -> c_int {
    let host = Host::get();
    if host.word(layout::BY_SOCKET).load(Ordering::Relaxed) != 0 {
        // SAFETY: the caller's arguments.
        return unsafe { syscall(SYS_POLL, fds, count, timeout) as c_int };
    }
    let now: c_int = 0;
    // SAFETY: the caller's arguments, unchanged but for the time.
    let ready = unsafe { syscall(SYS_POLL, fds, count, now) as c_int };
    if ready != 0 || timeout == 0 {
        return ready;
    }
    host.word(layout::TAKEN)
        .store(TAKEN.load(Ordering::SeqCst), Ordering::SeqCst);
    host.tell(layout::IDLE);
    // SAFETY: the caller's arguments.
    unsafe { syscall(SYS_POLL, fds, count, timeout) as c_int }
}

/// `struct timespec` of Linux on x86-64.
#[repr(C)]
pub struct Timespec {
    seconds: c_long,
    nanoseconds: c_long,
}

/// # Safety
/// As clock_gettime(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int {
    // SAFETY: the caller's arguments.
    let result = unsafe { real_clock_gettime()(clock, time.cast()) };
    if result == 0 {
        let ahead = Host::get().long(layout::CLOCK_AHEAD).load(Ordering::SeqCst);
        // SAFETY: the kernel has just written to it, so it is valid; nobody else has it.
        let time = unsafe { &mut *time };
        time.seconds += c_long::try_from(ahead / 1000).unwrap_or(0);
        time.nanoseconds += c_long::try_from(ahead % 1000).unwrap_or(0) * 1_000_000;
        time.seconds += time.nanoseconds / 1_000_000_000;
        time.nanoseconds %= 1_000_000_000;
    }
    result
}

/// In C `mode` is an optional argument; on x86-64 it lies in the same register either way.
///
/// # Safety
/// As open(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: u32) -> c_int {
    // SAFETY: open's path is a C string.
    let name = unsafe { CStr::from_ptr(path) }.to_bytes();
    let replaced = if name.ends_with(b"/xsd_port") {
        Host::get().path(layout::PORT_FILE)
    } else if name.ends_with(b"/xsd_kva") {
        Host::get().path("page-0")
    } else {
        // SAFETY: the caller's arguments.
        return unsafe { real_open(path, flags, mode) };
    };
    // SAFETY: `replaced` is a C string that lives during the call.
    unsafe { real_open(replaced.as_ptr(), flags, mode) }
}

/// Where oxenstored's socket is: it knows no other place. C xenstored asks its environment.
const SOCKET: &[u8] = b"/var/run/xenstored/socket";
const SOCKETS_FOLDER: &[u8] = b"/var/run/xenstored";
/// `sa_family_t` of a Unix socket, before its path.
const AF_UNIX: u16 = 1;
const FAMILY: usize = 2;

/// The place that a path of the host's own gets instead, if it is oxenstored's socket.
///
/// # Safety
/// `path` is a C string.
unsafe fn instead_of_socket(path: *const c_char) -> Option<std::ffi::CString> {
    // SAFETY: a C string by this function's contract.
    let is_it = unsafe { CStr::from_ptr(path) }.to_bytes() == SOCKET;
    is_it.then(|| Host::get().path("run/socket"))
}

/// The socket that an earlier server left; never the host's own.
///
/// # Safety
/// As unlink(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: unlink's path is a C string.
    let replaced = unsafe { instead_of_socket(path) };
    // SAFETY: either C string lives during the call.
    unsafe { syscall(SYS_UNLINK, replaced.as_ref().map_or(path, |other| other.as_ptr())) as c_int }
}

/// The socket's folder is there already, elsewhere.
///
/// # Safety
/// As mkdir(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn mkdir(path: *const c_char, mode: u32) -> c_int {
    // SAFETY: mkdir's path is a C string.
    if unsafe { CStr::from_ptr(path) }.to_bytes() == SOCKETS_FOLDER {
        return 0;
    }
    // SAFETY: the caller's arguments.
    unsafe { syscall(SYS_MKDIR, path, mode) as c_int }
}

/// # Safety
/// As bind(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn bind(socket: c_int, address: *const c_void, length: u32) -> c_int {
    // SAFETY: an address begins with its family, and a Unix socket's path ends with NUL in what both servers give.
    let replaced = unsafe {
        if length as usize > FAMILY && address.cast::<u16>().read_unaligned() == AF_UNIX {
            instead_of_socket(address.cast::<c_char>().add(FAMILY))
        } else {
            None
        }
    };
    let Some(path) = replaced else {
        // SAFETY: the caller's arguments.
        return unsafe { syscall(SYS_BIND, socket, address, length) as c_int };
    };
    let mut other = AF_UNIX.to_ne_bytes().to_vec();
    other.extend(path.as_bytes_with_nul());
    // SAFETY: `other` is an address of its own length and lives during the call.
    unsafe { syscall(SYS_BIND, socket, other.as_ptr(), other.len() as c_int) as c_int }
}

/// As [`open`]: on x86-64 the two are one.
///
/// # Safety
/// As open(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: u32) -> c_int {
    // SAFETY: the caller's arguments.
    unsafe { open(path, flags, mode) }
}

#[unsafe(no_mangle)]
extern "C" fn openlog(_name: *const c_char, _options: c_int, _facility: c_int) {}

/// The further arguments stay where they are: nobody reads them.
#[unsafe(no_mangle)]
extern "C" fn __syslog_chk(_priority: c_int, _flag: c_int, _format: *const c_char) {}

#[unsafe(no_mangle)]
extern "C" fn syslog(_priority: c_int, _format: *const c_char) {}
