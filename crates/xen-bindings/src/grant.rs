//! Pages of other domains: mapping grants into windows.
//!
//! A window is an address in a range that boot keeps for this, and a record of what is mapped there. Records lie in memory
//! that a warm restart does not clear, and so does the one operation in flight: before Xen is asked, the record says what is
//! about to happen, and Xen's answer lands beside it. So after a crash at any point [`Windows::survivors`] knows every page
//! that is still mapped, with its handle; no handle is lost.
//!
//! Knows nothing about what the pages contain.

use crate::abi::grant::{
    GNTMAP_HOST_MAP, GNTST_BAD_DOMAIN, GNTST_BAD_GNTREF, GNTST_EAGAIN, GNTST_GENERAL_ERROR, GNTST_NO_SPACE, GNTST_OKAY,
    GNTST_PERMISSION_DENIED, GNTTABOP_MAP_GRANT_REF, GNTTABOP_UNMAP_GRANT_REF, GnttabMapGrantRef, GnttabUnmapGrantRef,
};
use crate::abi::numbers::hypercall as nr;
use crate::error::XenError;
use crate::window::Window;
use crate::{counters, hypercall, shutdown};
use core::fmt;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicU64, compiler_fence};

/// Windows of one domain: one per port of the two-level event ABI.
pub const MAX_WINDOWS: usize = 4096;
/// Largest grant reference that a record can hold. Rings of the store are reference 1.
pub const MAX_GRANT_REFERENCE: u32 = (1 << 14) - 1;
/// How often a mapping is tried again when Xen says that the page is being paged in.
const EAGAIN_TRIES: u32 = 16;
/// Status of an operation that Xen has not answered; Xen uses small negative numbers.
const UNANSWERED: i16 = i16::MIN;

/// Why a grant could not be mapped or unmapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GrantError {
    /// All [`MAX_WINDOWS`] windows are in use.
    NoWindow,
    /// No memory for page tables.
    NoMemory,
    /// There is no such domain.
    NoDomain,
    /// The domain granted nothing under this reference, or granted it to another domain.
    NotGranted,
    /// The reference is above [`MAX_GRANT_REFERENCE`].
    ReferenceTooLarge,
    /// The page is paged out and did not come back in time.
    Again,
    /// Xen has no more handles for this domain.
    NoHandle,
    /// The window is not one of a mapped grant.
    NotMapped,
    /// Another status of Xen's.
    Status(i16),
    /// The hypercall itself failed.
    Hypercall(XenError),
}

impl fmt::Display for GrantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoWindow => f.write_str("no free window"),
            Self::NoMemory => f.write_str("no memory for a window"),
            Self::NoDomain => f.write_str("no such domain"),
            Self::NotGranted => f.write_str("not granted"),
            Self::ReferenceTooLarge => f.write_str("grant reference too large"),
            Self::Again => f.write_str("page not available"),
            Self::NoHandle => f.write_str("no free grant handle"),
            Self::NotMapped => f.write_str("not mapped"),
            Self::Status(status) => write!(f, "grant status {status}"),
            Self::Hypercall(error) => write!(f, "grant operation: {error}"),
        }
    }
}

impl core::error::Error for GrantError {}

impl GrantError {
    fn of_status(status: i16) -> Self {
        match status {
            GNTST_BAD_DOMAIN => Self::NoDomain,
            // General error is what an entry without permission, or for somebody else, gives in practice.
            GNTST_GENERAL_ERROR | GNTST_BAD_GNTREF | GNTST_PERMISSION_DENIED => Self::NotGranted,
            GNTST_EAGAIN => Self::Again,
            GNTST_NO_SPACE => Self::NoHandle,
            other => Self::Status(other),
        }
    }
}

/// Where a window lies.
#[derive(Clone, Copy, Debug)]
pub struct WindowPlace {
    /// Virtual address.
    pub page: *mut u8,
    /// What Xen is told: the virtual address (PV) or the guest physical address (PVH).
    pub host_addr: u64,
}

/// The range of addresses that windows lie in, provided by boot.
///
/// # Safety
/// Places of different indices are different pages; nothing else lies there; [`Self::show`] makes exactly this page
/// accessible (read, write, not execute) once Xen has mapped the grant, [`Self::hide`] makes every access fault.
pub unsafe trait WindowSpace: Sync {
    /// The place of window `index` (below [`MAX_WINDOWS`]), with its page tables ready; `None`: no memory for them.
    fn place(&self, index: usize) -> Option<WindowPlace>;
    /// Makes the page accessible after Xen mapped the grant.
    fn show(&self, index: usize);
    /// Makes the page inaccessible before Xen unmaps the grant. Where Xen itself removes the entry (PV): nothing.
    fn hide(&self, index: usize);
}

/// What survives a warm restart: one record per window and the operation in flight. All zero at a cold start.
#[repr(C)]
pub struct WindowRecords {
    records: [AtomicU64; MAX_WINDOWS],
    map: GnttabMapGrantRef,
    unmap: GnttabUnmapGrantRef,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Use {
    Free = 0,
    Mapping = 1,
    Mapped = 2,
    Unmapping = 3,
}

/// A record: handle (bits 0–31), domid (32–47), use (48–49), grant reference (50–63).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Record {
    handle: u32,
    domid: u16,
    gref: u16,
    used: Use,
}

impl Record {
    const FREE: Self = Self {
        handle: 0,
        domid: 0,
        gref: 0,
        used: Use::Free,
    };

    fn pack(self) -> u64 {
        u64::from(self.handle) | u64::from(self.domid) << 32 | (self.used as u64) << 48 | u64::from(self.gref) << 50
    }

    fn unpack(word: u64) -> Self {
        let used = match word >> 48 & 3 {
            0 => Use::Free,
            1 => Use::Mapping,
            2 => Use::Mapped,
            _ => Use::Unmapping,
        };
        Self {
            handle: word as u32,
            domid: (word >> 32) as u16,
            gref: (word >> 50) as u16,
            used,
        }
    }

    fn survivor(self, index: usize) -> Survivor {
        Survivor {
            domid: self.domid,
            gref: u32::from(self.gref),
            handle: self.handle,
            index: index as u16,
        }
    }
}

/// A grant that was mapped before a warm restart and still is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Survivor {
    pub domid: u16,
    pub gref: u32,
    pub handle: u32,
    index: u16,
}

/// Makes and ends windows.
pub struct Windows {
    space: &'static dyn WindowSpace,
    kept: &'static mut WindowRecords,
    /// One bit per window that a [`Window`] value of this start stands for.
    held: [u64; MAX_WINDOWS / 64],
    /// Where the search for a free record begins.
    next: usize,
}

impl Windows {
    /// Called by boot, once per (warm or cold) start. After a warm restart it finishes the bookkeeping of the operation
    /// that the crash interrupted.
    ///
    /// # Safety
    /// `kept` is in memory of this domain that keeps its content over a warm restart and was all zero at the cold start;
    /// `space` is the same in all of them; there is no other `Windows`.
    pub unsafe fn from_boot(space: &'static dyn WindowSpace, kept: &'static mut WindowRecords) -> Self {
        let mut windows = Self {
            space,
            kept,
            held: [0; MAX_WINDOWS / 64],
            next: 0,
        };
        for index in 0..MAX_WINDOWS {
            let record = windows.record(index);
            let settled = settle(record, &windows.kept.map, &windows.kept.unmap);
            if settled != record {
                windows.set(index, settled);
            }
            if settled.used == Use::Mapped && windows.space.place(index).is_some() {
                windows.space.show(index);
            }
        }
        windows
    }

    fn record(&self, index: usize) -> Record {
        self.kept
            .records
            .get(index)
            .map_or(Record::FREE, |word| Record::unpack(word.load(Relaxed)))
    }

    fn set(&mut self, index: usize, record: Record) {
        if let Some(word) = self.kept.records.get(index) {
            word.store(record.pack(), Relaxed);
            // The compiler must not move this across the hypercall that it speaks about.
            compiler_fence(SeqCst);
        }
    }

    fn is_held(&self, index: usize) -> bool {
        self.held
            .get(index / 64)
            .is_some_and(|word| word >> (index % 64) & 1 != 0)
    }

    fn hold(&mut self, index: usize, held: bool) {
        if let Some(word) = self.held.get_mut(index / 64) {
            let bit = 1 << (index % 64);
            *word = if held { *word | bit } else { *word & !bit };
        }
    }

    /// Windows in use, survivors included.
    #[must_use]
    pub fn in_use(&self) -> usize {
        (0..MAX_WINDOWS)
            .filter(|&index| self.record(index).used != Use::Free)
            .count()
    }

    /// The grants that a warm restart found mapped and that nobody has adopted yet.
    pub fn survivors(&self) -> impl Iterator<Item = Survivor> + '_ {
        (0..MAX_WINDOWS).filter_map(|index| self.survivor(index))
    }

    fn survivor(&self, index: usize) -> Option<Survivor> {
        let record = self.record(index);
        (record.used == Use::Mapped && !self.is_held(index)).then(|| record.survivor(index))
    }

    /// Takes over a grant that was mapped before a warm restart, without asking Xen. `None`: no such survivor, or adopted already.
    pub fn adopt(&mut self, survivor: Survivor) -> Option<Window> {
        let index = usize::from(survivor.index);
        if self.survivor(index) != Some(survivor) {
            return None;
        }
        self.window(index, survivor.handle)
    }

    fn window(&mut self, index: usize, handle: u32) -> Option<Window> {
        let place = self.space.place(index)?;
        self.hold(index, true);
        // SAFETY: the record says that Xen has mapped the grant there, and `WindowSpace` that nothing else lies there; the
        // `held` bit says that this is the only value for it, and only `unmap`, which takes the value, ends the mapping.
        Some(unsafe { Window::of_grant(place.page, index as u16, handle) })
    }

    fn free_index(&self) -> Option<usize> {
        (self.next..MAX_WINDOWS)
            .chain(0..self.next)
            .find(|&index| self.record(index).used == Use::Free)
    }

    /// Maps the page that domain `domid` granted to this domain under reference `gref`, for reading and writing.
    pub fn map(&mut self, domid: u16, gref: u32) -> Result<Window, GrantError> {
        if gref > MAX_GRANT_REFERENCE {
            return Err(GrantError::ReferenceTooLarge);
        }
        let index = self.free_index().ok_or(GrantError::NoWindow)?;
        let place = self.space.place(index).ok_or(GrantError::NoMemory)?;
        let mapping = Record {
            handle: 0,
            domid,
            gref: gref as u16,
            used: Use::Mapping,
        };
        let mut result = Err(GrantError::Again);
        for _ in 0..EAGAIN_TRIES {
            self.kept.map = GnttabMapGrantRef {
                host_addr: place.host_addr,
                flags: GNTMAP_HOST_MAP,
                gref,
                dom: domid,
                status: UNANSWERED,
                ..Default::default()
            };
            self.set(index, mapping);
            // SAFETY: the structure belongs to the operation and lies in this domain's own memory; Xen maps the page at a
            // place that `WindowSpace` keeps for it.
            result = unsafe { operate(GNTTABOP_MAP_GRANT_REF, &mut self.kept.map) }
                .and_then(|()| answer(self.kept.map.status));
            if result != Err(GrantError::Again) {
                break;
            }
            shutdown::yield_now();
        }
        if let Err(error) = result {
            self.set(index, Record::FREE);
            return Err(error);
        }
        let handle = self.kept.map.handle;
        self.set(
            index,
            Record {
                used: Use::Mapped,
                handle,
                ..mapping
            },
        );
        self.next = (index + 1) % MAX_WINDOWS;
        self.space.show(index);
        counters::grant_map();
        self.window(index, handle).ok_or(GrantError::NoMemory)
    }

    /// Ends a mapping. If Xen refuses, the page stays mapped and its window is not used again.
    pub fn unmap(&mut self, window: Window) -> Result<(), GrantError> {
        let index = usize::from(window.index().ok_or(GrantError::NotMapped)?);
        let record = self.record(index);
        if record.used != Use::Mapped || record.handle != window.handle() {
            return Err(GrantError::NotMapped);
        }
        let place = self.space.place(index).ok_or(GrantError::NotMapped)?;
        self.space.hide(index);
        self.kept.unmap = GnttabUnmapGrantRef {
            host_addr: place.host_addr,
            dev_bus_addr: 0,
            handle: record.handle,
            status: UNANSWERED,
        };
        self.set(
            index,
            Record {
                used: Use::Unmapping,
                ..record
            },
        );
        // SAFETY: the structure belongs to the operation; the window's value is consumed, so nobody uses the page any more.
        let result = unsafe { operate(GNTTABOP_UNMAP_GRANT_REF, &mut self.kept.unmap) }
            .and_then(|()| answer(self.kept.unmap.status));
        if let Err(error) = result {
            self.set(index, record);
            return Err(error);
        }
        self.set(index, Record::FREE);
        self.hold(index, false);
        counters::grant_unmap();
        Ok(())
    }
}

/// What a record must say, now that nothing is in flight any more.
fn settle(record: Record, map: &GnttabMapGrantRef, unmap: &GnttabUnmapGrantRef) -> Record {
    match record.used {
        Use::Mapping if map.status == GNTST_OKAY => Record {
            used: Use::Mapped,
            handle: map.handle,
            ..record
        },
        Use::Mapping => Record::FREE,
        Use::Unmapping if unmap.status == GNTST_OKAY => Record::FREE,
        Use::Unmapping => Record {
            used: Use::Mapped,
            ..record
        },
        Use::Free | Use::Mapped => record,
    }
}

/// One operation of the grant table.
///
/// # Safety
/// `T` belongs to `command`, and the effect on memory is one the caller accounts for.
unsafe fn operate<T>(command: u64, argument: &mut T) -> Result<(), GrantError> {
    let pointer = (&raw mut *argument).addr() as u64;
    // SAFETY: an array of one structure; the rest is the caller's promise.
    let value = unsafe { hypercall::raw(nr::GRANT_TABLE_OP, [command, pointer, 1, 0, 0]) };
    hypercall::check(value).map(|_| ()).map_err(GrantError::Hypercall)
}

fn answer(status: i16) -> Result<(), GrantError> {
    if status == GNTST_OKAY {
        Ok(())
    } else {
        Err(GrantError::of_status(status))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::boxed::Box;

    const MAPPED: Record = Record {
        handle: 0xdead_beef,
        domid: 0x7fef,
        gref: 0x3fff,
        used: Use::Mapped,
    };

    struct Nowhere;
    // SAFETY: never gives out a place.
    unsafe impl WindowSpace for Nowhere {
        fn place(&self, _: usize) -> Option<WindowPlace> {
            None
        }
        fn show(&self, _: usize) {}
        fn hide(&self, _: usize) {}
    }

    fn windows() -> Windows {
        let kept = Box::leak(Box::new(WindowRecords {
            records: [const { AtomicU64::new(0) }; MAX_WINDOWS],
            map: GnttabMapGrantRef::default(),
            unmap: GnttabUnmapGrantRef::default(),
        }));
        // SAFETY: leaked memory of zeros, used by this value only.
        unsafe { Windows::from_boot(&Nowhere, kept) }
    }

    #[test]
    fn a_record_survives_packing() {
        for used in [Use::Free, Use::Mapping, Use::Mapped, Use::Unmapping] {
            let record = Record { used, ..MAPPED };
            assert_eq!(Record::unpack(record.pack()), record);
        }
        assert_eq!(Record::FREE.pack(), 0);
    }

    #[test]
    fn a_mapping_that_xen_finished_before_the_crash_keeps_its_handle() {
        let mapping = Record {
            used: Use::Mapping,
            handle: 0,
            ..MAPPED
        };
        let map = GnttabMapGrantRef {
            status: GNTST_OKAY,
            handle: 0xdead_beef,
            ..Default::default()
        };
        assert_eq!(settle(mapping, &map, &GnttabUnmapGrantRef::default()), MAPPED);
        for status in [UNANSWERED, GNTST_BAD_GNTREF] {
            let map = GnttabMapGrantRef {
                status,
                ..Default::default()
            };
            assert_eq!(settle(mapping, &map, &GnttabUnmapGrantRef::default()), Record::FREE);
        }
    }

    #[test]
    fn an_unmapping_that_xen_did_not_answer_leaves_the_page_mapped() {
        let unmapping = Record {
            used: Use::Unmapping,
            ..MAPPED
        };
        for (status, expected) in [(GNTST_OKAY, Record::FREE), (UNANSWERED, MAPPED), (-1, MAPPED)] {
            let unmap = GnttabUnmapGrantRef {
                status,
                ..Default::default()
            };
            assert_eq!(settle(unmapping, &GnttabMapGrantRef::default(), &unmap), expected);
        }
    }

    #[test]
    fn without_memory_or_with_a_large_reference_nothing_is_mapped() {
        let mut windows = windows();
        assert_eq!(windows.map(1, 1).err(), Some(GrantError::NoMemory));
        assert_eq!(windows.map(1, 1 << 14).err(), Some(GrantError::ReferenceTooLarge));
        assert_eq!((windows.in_use(), windows.survivors().count()), (0, 0));
    }

    #[test]
    fn a_survivor_is_found_by_its_record() {
        let mut windows = windows();
        windows.set(17, MAPPED);
        let survivor = MAPPED.survivor(17);
        assert!(windows.survivors().eq([survivor]));
        assert_eq!(windows.free_index(), Some(0));
        windows.hold(17, true);
        assert_eq!(windows.survivors().count(), 0);
    }

    #[test]
    fn a_window_of_an_own_page_cannot_be_unmapped() {
        static PAGE: crate::window::OwnPage = crate::window::OwnPage::new();
        assert_eq!(windows().unmap(Window::over(&PAGE)), Err(GrantError::NotMapped));
    }
}
