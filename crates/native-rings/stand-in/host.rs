//! The shared folder as the server's process sees it: files mapped once, FIFOs opened once.

use std::ffi::{CString, c_char, c_int, c_long, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

use crate::layout;

unsafe extern "C" {
    fn mmap(
        address: *mut c_void,
        length: usize,
        protection: c_int,
        flags: c_int,
        fd: c_int,
        offset: i64,
    ) -> *mut c_void;
    pub fn munmap(address: *mut c_void, length: usize) -> c_int;
    fn close(fd: c_int) -> c_int;
    pub fn read(fd: c_int, to: *mut c_void, length: usize) -> isize;
    fn write(fd: c_int, from: *const c_void, length: usize) -> isize;
    pub fn syscall(number: c_long, ...) -> c_long;
    fn __errno_location() -> *mut c_int;
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}

pub const ESRCH: c_int = 3;
pub const EINVAL: c_int = 22;
/// System call numbers of Linux on x86-64.
pub const SYS_POLL: c_long = 7;
pub const SYS_BIND: c_long = 49;
pub const SYS_MKDIR: c_long = 83;
pub const SYS_UNLINK: c_long = 87;
const SYS_OPENAT: c_long = 257;
const AT_FDCWD: c_int = -100;
const O_RDWR: c_int = 2;
const O_NONBLOCK: c_int = 0o4000;
const PROT_READ_WRITE: c_int = 3;
const MAP_SHARED: c_int = 1;

/// Sets errno and gives what a failed call returns.
pub fn fail(error: c_int) -> c_int {
    // SAFETY: libc gives each thread a valid place for errno.
    unsafe { *__errno_location() = error };
    -1
}

/// Opens a file past the `open` of this library.
///
/// # Safety
/// `path` is a C string.
pub unsafe fn real_open(path: *const c_char, flags: c_int, mode: u32) -> c_int {
    // SAFETY: openat takes any flags; the path is a C string by this function's contract.
    unsafe { syscall(SYS_OPENAT, AT_FDCWD, path, flags, mode) as c_int }
}

/// `RTLD_NEXT` of Linux: the library behind this one.
const NEXT: usize = usize::MAX;

/// clock_gettime(2) as libc has it.
pub type ClockGettime = unsafe extern "C" fn(c_int, *mut c_void) -> c_int;

/// libc's clock_gettime, which needs no system call: servers ask for the time in each round.
pub fn real_clock_gettime() -> ClockGettime {
    static REAL: OnceLock<ClockGettime> = OnceLock::new();
    *REAL.get_or_init(|| {
        // SAFETY: the name is a C string, and the handle is one that dlsym knows.
        let found = unsafe { dlsym(std::ptr::without_provenance_mut(NEXT), c"clock_gettime".as_ptr()) };
        assert!(!found.is_null(), "libc has no clock_gettime");
        // SAFETY: libc's function of this name has this signature.
        unsafe { std::mem::transmute::<*mut c_void, ClockGettime>(found) }
    })
}

/// The folder, mapped.
pub struct Host {
    folder: PathBuf,
    control: *mut u8,
    pub to_server: c_int,
    pub from_server: c_int,
}

// SAFETY: the mapping lives as long as the process, and all access to it is atomic.
unsafe impl Send for Host {}
// SAFETY: as above.
unsafe impl Sync for Host {}

impl Host {
    /// The folder that the environment names; without it this library is of no use.
    pub fn get() -> &'static Host {
        static HOST: OnceLock<Host> = OnceLock::new();
        HOST.get_or_init(|| {
            let folder = std::env::var_os(layout::FOLDER).unwrap_or_else(|| panic!("{} is not set", layout::FOLDER));
            let mut host = Host {
                folder: folder.into(),
                control: std::ptr::null_mut(),
                to_server: -1,
                from_server: -1,
            };
            host.to_server = host.open(layout::TO_SERVER);
            host.from_server = host.open(layout::FROM_SERVER);
            host.control = host.map(layout::CONTROL, layout::CONTROL_SIZE).cast();
            assert!(
                !host.control.is_null() && host.to_server >= 0 && host.from_server >= 0,
                "the shared folder lacks files"
            );
            host
        })
    }

    /// The path of a file in the folder, as C wants it.
    pub fn path(&self, name: &str) -> CString {
        CString::new(self.folder.join(name).as_os_str().as_bytes()).unwrap_or_default()
    }

    fn open(&self, name: &str) -> c_int {
        // SAFETY: `path` gives a C string that lives during the call.
        unsafe { real_open(self.path(name).as_ptr(), O_RDWR | O_NONBLOCK, 0) }
    }

    /// Maps a file of the folder, shared; null if there is none.
    pub fn map(&self, name: &str, length: usize) -> *mut c_void {
        let fd = self.open(name);
        if fd < 0 {
            return std::ptr::null_mut();
        }
        // SAFETY: a new mapping at an address of the kernel's choice takes nothing that exists; `fd` is ours.
        let address = unsafe { mmap(std::ptr::null_mut(), length, PROT_READ_WRITE, MAP_SHARED, fd, 0) };
        // SAFETY: `fd` was opened above; a mapping outlives its file descriptor.
        unsafe { close(fd) };
        if address.addr() == usize::MAX {
            std::ptr::null_mut()
        } else {
            address
        }
    }

    /// A shared word of the control file.
    pub fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= layout::CONTROL_SIZE);
        // SAFETY: inside the mapping and aligned (the mapping is page aligned); it is only ever used as an atomic.
        unsafe { AtomicU32::from_ptr(self.control.add(offset).cast()) }
    }

    /// A shared double word of the control file.
    pub fn long(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= layout::CONTROL_SIZE);
        // SAFETY: as in `word`.
        unsafe { AtomicU64::from_ptr(self.control.add(offset).cast()) }
    }

    /// A domain's byte in one of the tables of the control file.
    pub fn byte(&self, table: usize, domid: u32) -> Option<&AtomicU8> {
        let index = usize::try_from(domid).ok().filter(|domid| *domid < layout::DOMAINS)?;
        assert!(table + layout::DOMAINS <= layout::CONTROL_SIZE);
        // SAFETY: inside the mapping; it is only ever used as an atomic.
        Some(unsafe { AtomicU8::from_ptr(self.control.add(table + index)) })
    }

    /// Puts one number into the FIFO to the driver.
    pub fn tell(&self, number: u32) {
        let bytes = number.to_ne_bytes();
        // SAFETY: four bytes are read from `bytes`. The FIFO holds 64 KiB and each domain at most one number in it.
        unsafe { write(self.from_server, bytes.as_ptr().cast(), bytes.len()) };
    }
}
