//! Looking at another domain from a program in dom0's Linux: is it there, why did it end, what is in its registers and its memory; and,
//! for tests, ending it.
//!
//! Everything goes through `/dev/xen/privcmd` straight to Xen. Nothing here uses Xenstore, so it works when the store is what has
//! ended. The control interface has a version that depends on Xen's release (4.17 to 4.22 are known); it is probed once.
//!
//! What is read of a domain's memory is copied out before anybody sees it: no reference points into another domain's page.

extern crate std;

use std::boxed::Box;
use std::cell::RefCell;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::ptr;
use std::vec;
use std::vec::Vec;

use crate::abi::domctl::{
    Domctl, GetDomainInfoHead, GetVcpuContext, INTERFACE_VERSIONS, XEN_DOMCTL_DESTROYDOMAIN, XEN_DOMCTL_GETDOMAININFO,
    XEN_DOMCTL_GETVCPUCONTEXT, XEN_DOMCTL_SENDTRIGGER, XEN_DOMINF_DYING, XEN_DOMINF_HVM_GUEST, XEN_DOMINF_SHUTDOWN,
    XEN_DOMINF_SHUTDOWNMASK, XEN_DOMINF_SHUTDOWNSHIFT, XEN_DOMINF_XS_DOMAIN,
};
use crate::abi::numbers::{DOMID_FIRST_RESERVED, hypercall as nr};
use crate::abi::privcmd::{IOCTL_PRIVCMD_HYPERCALL, IOCTL_PRIVCMD_MMAPBATCH_V2, PrivcmdHypercall, PrivcmdMmapbatchV2};
use crate::abi::sched::{
    SCHEDOP_REMOTE_SHUTDOWN, SHUTDOWN_CRASH, SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT, SHUTDOWN_SOFT_RESET, SHUTDOWN_SUSPEND,
    SHUTDOWN_WATCHDOG, SchedRemoteShutdown,
};
use crate::abi::vcpu::VcpuGuestContext;
use crate::error::XenError;
use crate::window::PAGE_SIZE;

pub use crate::abi::vcpu::CpuUserRegs;

/// Hypercalls and foreign pages.
const PRIVCMD: &str = "/dev/xen/privcmd";
/// Memory that Xen can read and write during a hypercall, because Linux never moves it. Since Linux 4.18.
const BUFFERS: &str = "/dev/xen/hypercall";

/// Pages of the buffer: a domctl in the first, a virtual CPU's context (5168 bytes) in the other two.
const BUFFER_PAGES: usize = 3;

/// Frames that are mapped at a time.
const BATCH: usize = 256;

/// Content of a page.
pub type Page = [u8; PAGE_SIZE];

/// Why something could not be learned.
#[derive(Debug)]
pub enum Dom0Error {
    /// A device of Linux cannot be opened or mapped: no dom0, no root, or the modules are not loaded.
    Device(&'static str, io::Error),
    /// No version of the control interface is accepted; the last answer. This Xen is newer or older than 4.17 to 4.22.
    Interface(XenError),
    /// Xen refused an operation.
    Refused(XenError),
}

impl fmt::Display for Dom0Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dom0Error::Device(device, error) => write!(f, "{device}: {error}"),
            Dom0Error::Interface(error) => {
                write!(f, "this Xen's control interface is not one of 4.17 to 4.22 ({error})")
            }
            Dom0Error::Refused(error) => write!(f, "Xen refuses: {error}"),
        }
    }
}

impl std::error::Error for Dom0Error {}

/// Why a domain shut down, as it said itself or as Xen decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownReason {
    Poweroff,
    Reboot,
    Suspend,
    Crash,
    Watchdog,
    SoftReset,
    /// A number without a name in Xen 4.22.
    Other(u8),
}

impl ShutdownReason {
    fn of_flags(flags: u32) -> ShutdownReason {
        match flags >> XEN_DOMINF_SHUTDOWNSHIFT & XEN_DOMINF_SHUTDOWNMASK {
            SHUTDOWN_POWEROFF => ShutdownReason::Poweroff,
            SHUTDOWN_REBOOT => ShutdownReason::Reboot,
            SHUTDOWN_SUSPEND => ShutdownReason::Suspend,
            SHUTDOWN_CRASH => ShutdownReason::Crash,
            SHUTDOWN_WATCHDOG => ShutdownReason::Watchdog,
            SHUTDOWN_SOFT_RESET => ShutdownReason::SoftReset,
            other => ShutdownReason::Other(other as u8),
        }
    }

    fn number(self) -> u32 {
        match self {
            ShutdownReason::Poweroff => SHUTDOWN_POWEROFF,
            ShutdownReason::Reboot => SHUTDOWN_REBOOT,
            ShutdownReason::Suspend => SHUTDOWN_SUSPEND,
            ShutdownReason::Crash => SHUTDOWN_CRASH,
            ShutdownReason::Watchdog => SHUTDOWN_WATCHDOG,
            ShutdownReason::SoftReset => SHUTDOWN_SOFT_RESET,
            ShutdownReason::Other(number) => u32::from(number),
        }
    }
}

impl fmt::Display for ShutdownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ShutdownReason::Poweroff => f.write_str("poweroff"),
            ShutdownReason::Reboot => f.write_str("reboot"),
            ShutdownReason::Suspend => f.write_str("suspend"),
            ShutdownReason::Crash => f.write_str("crash"),
            ShutdownReason::Watchdog => f.write_str("watchdog"),
            ShutdownReason::SoftReset => f.write_str("soft reset"),
            ShutdownReason::Other(number) => write!(f, "reason {number}"),
        }
    }
}

/// What Xen says about a domain that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DomainInfo {
    pub domid: u16,
    /// Hardware virtualised (HVM or PVH); else PV.
    pub is_hvm: bool,
    /// It is a Xenstore domain.
    pub is_xenstore: bool,
    /// It is torn down; only references to its pages keep it.
    pub is_dying: bool,
    /// Set once it has shut down.
    pub shutdown: Option<ShutdownReason>,
    /// Pages that belong to it.
    pub pages: u64,
    /// Nanoseconds that its virtual CPUs have run since it was made, what Xen did on their behalf included.
    pub cpu_ns: u64,
}

impl DomainInfo {
    fn of(head: GetDomainInfoHead, pages: u64, cpu_ns: u64) -> DomainInfo {
        DomainInfo {
            domid: head.domain,
            is_hvm: head.flags & XEN_DOMINF_HVM_GUEST != 0,
            is_xenstore: head.flags & XEN_DOMINF_XS_DOMAIN != 0,
            is_dying: head.flags & XEN_DOMINF_DYING != 0,
            shutdown: (head.flags & XEN_DOMINF_SHUTDOWN != 0).then(|| ShutdownReason::of_flags(head.flags)),
            pages,
            cpu_ns,
        }
    }
}

/// Registers of a domain's first virtual CPU.
#[derive(Clone, Copy, Debug)]
pub struct Registers {
    pub user: CpuUserRegs,
    /// Address of the top page table: machine (PV) or guest physical.
    pub cr3: u64,
    pub fs_base: u64,
    pub gs_base: u64,
}

/// The way to Xen for a program of dom0 that runs as root.
#[derive(Debug)]
pub struct Dom0 {
    privcmd: File,
    buffer: RefCell<Mapping>,
    /// Of the control interface.
    version: u32,
}

impl Dom0 {
    /// Opens the devices and finds out which version of the control interface this Xen has, by asking about domain 0.
    pub fn open() -> Result<Dom0, Dom0Error> {
        let open = |device| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(device)
                .map_err(|error| Dom0Error::Device(device, error))
        };
        let buffer = Mapping::new(&open(BUFFERS)?, BUFFER_PAGES, libc::PROT_READ | libc::PROT_WRITE)
            .map_err(|error| Dom0Error::Device(BUFFERS, error))?;
        let mut dom0 = Dom0 {
            privcmd: open(PRIVCMD)?,
            buffer: RefCell::new(buffer),
            version: 0,
        };
        let mut answer = XenError::ENOSYS;
        for version in INTERFACE_VERSIONS {
            dom0.version = version;
            match dom0.domctl(Domctl::new(XEN_DOMCTL_GETDOMAININFO, version, 0)) {
                Ok(_) => return Ok(dom0),
                Err(error) => answer = error,
            }
        }
        Err(Dom0Error::Interface(answer))
    }

    /// What Xen says about domain `domid`; `None` if there is no such domain.
    pub fn domain(&self, domid: u16) -> Result<Option<DomainInfo>, Dom0Error> {
        match self.domctl(Domctl::new(XEN_DOMCTL_GETDOMAININFO, self.version, domid)) {
            // Xen 4.17 answers with the next domain that exists.
            Ok(answer) if answer.domain_info().domain == domid => {
                // tot_pages is the second word, cpu_time the eighth (`xen_domctl_getdomaininfo`, the same from 4.17 to 4.22).
                let [_, pages, _, _, _, _, _, cpu_ns, ..] = answer.u;
                Ok(Some(DomainInfo::of(answer.domain_info(), pages, cpu_ns)))
            }
            Ok(_) | Err(XenError::ESRCH) => Ok(None),
            Err(error) => Err(Dom0Error::Refused(error)),
        }
    }

    /// The first Xenstore domain among all that there can be. Asks Xen about each number: some ten milliseconds.
    pub fn find_store(&self) -> Result<Option<DomainInfo>, Dom0Error> {
        for domid in 1..DOMID_FIRST_RESERVED {
            if let Some(info) = self.domain(domid)?.filter(|info| info.is_xenstore) {
                return Ok(Some(info));
            }
        }
        Ok(None)
    }

    /// The registers of the first virtual CPU of domain `domid`, which must not be domain 0.
    pub fn registers(&self, domid: u16) -> Result<Registers, Dom0Error> {
        let context_at = self.buffer.borrow().address + PAGE_SIZE;
        let operation = Domctl::new(XEN_DOMCTL_GETVCPUCONTEXT, self.version, domid).with_vcpu_context(GetVcpuContext {
            vcpu: 0,
            pad: 0,
            ctxt: context_at as u64,
        });
        self.domctl(operation).map_err(Dom0Error::Refused)?;
        let buffer = self.buffer.borrow();
        // SAFETY: pages 1 and 2 of the buffer hold the structure (5168 bytes), page aligned; Xen has written it and is done; any bits
        // are a valid `VcpuGuestContext`, which consists of numbers.
        let context = unsafe { ptr::read(buffer.at(PAGE_SIZE).cast::<VcpuGuestContext>()) };
        let [_, _, _, cr3, ..] = context.ctrlreg;
        Ok(Registers {
            user: context.user_regs,
            cr3,
            fs_base: context.fs_base,
            gs_base: context.gs_base_kernel,
        })
    }

    /// Copies of frames of domain `domid` — machine frames of a PV domain, guest frames of another — in the order of `frames`.
    /// `None` for a frame that is not there or does not belong to it.
    pub fn read_frames(&self, domid: u16, frames: &[u64]) -> Result<Vec<Option<Box<Page>>>, Dom0Error> {
        let mut pages = Vec::with_capacity(frames.len());
        for batch in frames.chunks(BATCH) {
            self.read_batch(domid, batch, &mut pages)
                .map_err(|error| Dom0Error::Device(PRIVCMD, error))?;
        }
        Ok(pages)
    }

    fn read_batch(&self, domid: u16, frames: &[u64], pages: &mut Vec<Option<Box<Page>>>) -> io::Result<()> {
        let mapping = Mapping::new(&self.privcmd, frames.len(), libc::PROT_READ)?;
        let mut errors = vec![0_i32; frames.len()];
        let mut request = PrivcmdMmapbatchV2 {
            num: u32::try_from(frames.len()).map_err(io::Error::other)?,
            dom: domid,
            pad: 0,
            addr: mapping.address as u64,
            arr: frames.as_ptr().expose_provenance() as u64,
            err: errors.as_mut_ptr().expose_provenance() as u64,
        };
        // SAFETY: `frames` and `errors` have `num` elements each and live until the call returns; the mapping has `num` pages and is
        // used by nobody else.
        let result = unsafe { libc::ioctl(self.privcmd.as_raw_fd(), IOCTL_PRIVCMD_MMAPBATCH_V2, &raw mut request) };
        // ENOENT: at least one frame is swapped out, which its own error tells.
        if result < 0 && io::Error::last_os_error().raw_os_error() != Some(libc::ENOENT) {
            return Err(io::Error::last_os_error());
        }
        for (index, error) in errors.iter().enumerate() {
            pages.push((*error == 0).then(|| {
                let mut page = Box::new([0; PAGE_SIZE]);
                // SAFETY: Linux has mapped a frame at page `index` of the mapping, readable. It is copied through raw pointers, so it
                // does not matter if the domain writes to it meanwhile: the copy may then be a mixture of old and new bytes.
                unsafe { ptr::copy_nonoverlapping(mapping.at(index * PAGE_SIZE), page.as_mut_ptr(), PAGE_SIZE) };
                page
            }));
        }
        Ok(())
    }

    /// Makes domain `domid` shut down with this reason, as if it had asked for it itself.
    pub fn shut_down(&self, domid: u16, reason: ShutdownReason) -> Result<(), Dom0Error> {
        let argument = SchedRemoteShutdown {
            domain_id: domid,
            pad: 0,
            reason: reason.number(),
        };
        let buffer = self.buffer.borrow_mut();
        // SAFETY: the buffer is page aligned, larger than the structure, and used by nobody else while it is borrowed.
        unsafe { ptr::write(buffer.at(0).cast(), argument) };
        self.hypercall(nr::SCHED_OP, [SCHEDOP_REMOTE_SHUTDOWN, buffer.address as u64, 0, 0, 0])
            .map_err(Dom0Error::Refused)
    }

    /// Destroys domain `domid`. Xen does it in pieces; returns when there is nothing more to do.
    pub fn destroy(&self, domid: u16) -> Result<(), Dom0Error> {
        loop {
            match self.domctl(Domctl::new(XEN_DOMCTL_DESTROYDOMAIN, self.version, domid)) {
                Ok(_) => return Ok(()),
                // Xen wants to be asked again.
                Err(XenError(error)) if error == -libc::EAGAIN || error == -ERESTART => {}
                Err(error) => return Err(Dom0Error::Refused(error)),
            }
        }
    }

    /// Sends an NMI to the first virtual CPU of domain `domid`, which takes it at the instruction where it is.
    pub fn send_nmi(&self, domid: u16) -> Result<(), Dom0Error> {
        // Trigger 0 is the NMI, and the first virtual CPU is 0 too (`xen_domctl_sendtrigger`, domctl.h).
        let operation = Domctl::new(XEN_DOMCTL_SENDTRIGGER, self.version, domid);
        self.domctl(operation).map(|_| ()).map_err(Dom0Error::Refused)
    }

    fn domctl(&self, operation: Domctl) -> Result<Domctl, XenError> {
        let buffer = self.buffer.borrow_mut();
        let pointer = buffer.at(0).cast::<Domctl>();
        // SAFETY: the buffer is page aligned, larger than the structure, and used by nobody else while it is borrowed.
        unsafe { ptr::write(pointer, operation) };
        self.hypercall(nr::DOMCTL, [buffer.address as u64, 0, 0, 0, 0])?;
        // SAFETY: as above; Xen is done with it, and any bits are a valid `Domctl`, which consists of numbers.
        Ok(unsafe { ptr::read(pointer) })
    }

    /// The callers in this module pass only addresses within the buffer.
    fn hypercall(&self, number: u32, arg: [u64; 5]) -> Result<(), XenError> {
        let mut call = PrivcmdHypercall {
            op: u64::from(number),
            arg,
        };
        // SAFETY: the request reads the structure; the hypercalls of this module read and write nothing but the buffer, which lives as
        // long as `self`.
        let result = unsafe { libc::ioctl(self.privcmd.as_raw_fd(), IOCTL_PRIVCMD_HYPERCALL, &raw mut call) };
        if result < 0 {
            return Err(XenError(
                -io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO),
            ));
        }
        Ok(())
    }
}

/// Xen's internal "again", which older releases let through.
const ERESTART: i32 = 85;

/// Pages mapped from a device, unmapped when dropped.
#[derive(Debug)]
struct Mapping {
    pointer: *mut u8,
    address: usize,
    bytes: usize,
}

impl Mapping {
    fn new(device: &File, pages: usize, protection: i32) -> io::Result<Mapping> {
        let bytes = pages * PAGE_SIZE;
        // SAFETY: Linux chooses a free range of addresses, so no memory of this program is touched.
        let pointer = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                protection,
                libc::MAP_SHARED,
                device.as_raw_fd(),
                0,
            )
        };
        if pointer == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapping {
            pointer: pointer.cast(),
            // Linux and Xen get it as a number.
            address: pointer.expose_provenance(),
            bytes,
        })
    }

    /// The address `offset` bytes in, which must be less than the mapping has.
    fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset < self.bytes, "offset {offset} of {} bytes", self.bytes);
        self.pointer.wrapping_add(offset)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this object made the mapping, and nothing that points into it outlives it: contents are only ever copied.
        unsafe { libc::munmap(self.pointer.cast(), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn reasons_are_read_from_the_flags() {
        let info = |flags| {
            DomainInfo::of(
                GetDomainInfoHead {
                    domain: 1,
                    pad1: 0,
                    flags,
                },
                2048,
                0,
            )
        };
        let crashed = info(1 << 1 | 1 << 2 | 1 << 7 | 3 << 16);
        assert_eq!(crashed.shutdown, Some(ShutdownReason::Crash));
        assert!(crashed.is_hvm && crashed.is_xenstore && !crashed.is_dying);
        // The field is only meaningful with the flag.
        assert_eq!(info(3 << 16).shutdown, None);
        assert_eq!(info(1 << 2 | 9 << 16).shutdown, Some(ShutdownReason::Other(9)));
        assert_eq!(ShutdownReason::Other(9).to_string(), "reason 9");
    }

    #[test]
    fn outside_of_dom0_the_device_is_named() {
        if std::path::Path::new(PRIVCMD).exists() {
            return;
        }
        let error = Dom0::open().map(|_| ()).expect_err("no such device");
        assert!(error.to_string().starts_with("/dev/xen/"), "{error}");
    }
}
