//! Page table entries and tables, for both kinds of guest.
//!
//! PVH writes its tables itself: the last level is seen through a slot of the top-level table that points to the table itself,
//! any other table is mapped at a scratch address for the moment of the change. PV asks Xen, which checks every entry; a page
//! that becomes a table must not be mapped writable anywhere.
//!
//! Frames here are what an entry holds: machine frames (PV), guest frames (PVH).

use crate::entry;
use crate::layout::{
    IMAGE_START, IMAGE_TABLES, PAGE_SIZE, RECURSIVE_SLOT, SCRATCH, TABLE_ENTRIES, l1_index, recursive_l1_entry,
};
use crate::traps;
use core::arch::asm;
use core::cell::UnsafeCell;
use core::ptr;
use xen_bindings::abi::numbers::{DOMID_SELF, hypercall as nr};
use xen_bindings::abi::paging::{MMU_NORMAL_PT_UPDATE, MmuUpdate, UVMF_INVLPG};
use xen_bindings::{Mode, XenError, hypercall};

const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const NO_EXECUTE: u64 = 1 << 63;

/// What may be done with a page. There is no "write and execute".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    None,
    ReadExecute,
    Read,
    ReadWrite,
}

/// The entry that maps `frame`.
pub fn entry_of(mode: Mode, frame: u64, access: Access) -> u64 {
    let flags = match access {
        Access::None => return 0,
        Access::ReadExecute => 0,
        Access::Read => NO_EXECUTE,
        Access::ReadWrite => NO_EXECUTE | WRITE,
    };
    frame << 12 | flags | table_flags(mode) & !WRITE
}

/// Flags of an entry that points to a table. A PV kernel runs in ring 3: all its entries are "user".
fn table_flags(mode: Mode) -> u64 {
    let user = match mode {
        Mode::Pv => USER,
        Mode::Pvh => 0,
    };
    PRESENT | WRITE | ACCESSED | DIRTY | user
}

fn xen(result: i64) -> Result<(), XenError> {
    if result < 0 {
        Err(XenError(result as i32))
    } else {
        Ok(())
    }
}

/// Sets the last-level entry of `address`; its table must exist.
///
/// # Safety
/// Nothing that Rust relies on lies at `address`, or it is mapped as before with the access it needs.
pub unsafe fn set_entry(mode: Mode, address: usize, value: u64) -> Result<(), XenError> {
    match mode {
        // SAFETY: Xen checks the entry; what it means for memory is the caller's promise.
        Mode::Pv => xen(unsafe { hypercall::raw(nr::UPDATE_VA_MAPPING, [address as u64, value, UVMF_INVLPG, 0, 0]) }),
        Mode::Pvh => {
            // SAFETY: the table exists, so its entries are mapped there.
            unsafe {
                ptr::write_volatile(recursive_l1_entry(address) as *mut u64, value);
                asm!("invlpg [{}]", in(reg) address, options(nostack, preserves_flags));
            }
            Ok(())
        }
    }
}

/// Maps `frame` at the scratch address for the duration of `use_it`.
///
/// # Safety
/// `frame` is a page of this domain that `use_it` may write to.
unsafe fn with_scratch(mode: Mode, frame: u64, use_it: impl FnOnce(*mut u64)) -> Result<(), XenError> {
    // SAFETY: nothing else lies at the scratch address.
    unsafe {
        set_entry(mode, SCRATCH, entry_of(mode, frame, Access::ReadWrite))?;
        use_it(SCRATCH as *mut u64);
        set_entry(mode, SCRATCH, 0)
    }
}

/// Fills a frame with zeros, so that it can become a table.
///
/// # Safety
/// `frame` is a page of this domain that nobody uses.
pub unsafe fn clear_frame(mode: Mode, frame: u64) -> Result<(), XenError> {
    // SAFETY: the caller's promise; the scratch mapping is one page.
    unsafe { with_scratch(mode, frame, |page| page.write_bytes(0, TABLE_ENTRIES)) }
}

/// Hangs table `child` (cleared, not mapped writable) into entry `index` of table `parent`.
///
/// # Safety
/// Both are tables of this domain's address space; the addresses below the entry are unused.
pub unsafe fn link_table(mode: Mode, parent: u64, index: usize, child: u64) -> Result<(), XenError> {
    let value = child << 12 | table_flags(mode);
    match mode {
        Mode::Pv => {
            let update = MmuUpdate {
                ptr: parent << 12 | (index as u64) << 3 | MMU_NORMAL_PT_UPDATE,
                val: value,
            };
            let pointer = (&raw const update).addr() as u64;
            // SAFETY: one request; Xen checks it.
            xen(unsafe { hypercall::raw(nr::MMU_UPDATE, [pointer, 1, 0, u64::from(DOMID_SELF), 0]) })
        }
        // SAFETY: the caller's promise; the index is below the entries of a table.
        Mode::Pvh => unsafe {
            with_scratch(mode, parent, |table| {
                table.add(index % TABLE_ENTRIES).write_volatile(value)
            })
        },
    }
}

/// Access to each page of the image, by its address.
fn image_access(address: usize) -> Access {
    let is = |symbol: *const u8| address == symbol.addr();
    if is(&raw const entry::stack_guard)
        || is(&raw const entry::trap_stack_guard)
        || is(&raw const entry::second_stack_guard)
        || is(&raw const entry::upcall_stack_guard)
    {
        Access::None
    } else if address < (&raw const entry::text_end).addr() {
        Access::ReadExecute
    } else if address < (&raw const entry::data_start).addr() {
        Access::Read
    } else {
        Access::ReadWrite
    }
}

/// Addresses of the image's pages.
fn image_pages() -> impl Iterator<Item = usize> {
    (IMAGE_START..(&raw const entry::image_end).addr()).step_by(PAGE_SIZE)
}

/// Tables for the image, PVH.
#[repr(C, align(4096))]
struct ImageTables {
    l4: [u64; TABLE_ENTRIES],
    l3: [u64; TABLE_ENTRIES],
    l2: [u64; TABLE_ENTRIES],
    l1: [[u64; TABLE_ENTRIES]; IMAGE_TABLES],
}

struct ImageTablesCell(UnsafeCell<ImageTables>);
// SAFETY: Rust touches it once, in the cold start.
unsafe impl Sync for ImageTablesCell {}

#[unsafe(link_section = ".noinit.paging")]
static IMAGE_TABLES_PVH: ImageTablesCell = ImageTablesCell(UnsafeCell::new(ImageTables {
    l4: [0; TABLE_ENTRIES],
    l3: [0; TABLE_ENTRIES],
    l2: [0; TABLE_ENTRIES],
    l1: [[0; TABLE_ENTRIES]; IMAGE_TABLES],
}));

/// PVH, cold start: leaves the entry's identity mapping for tables that map the image alone, each page with the access it
/// needs. Returns the frame of the top-level table.
///
/// # Safety
/// Runs once, on the entry's mapping; whatever lies outside the image is out of reach afterwards.
pub unsafe fn install_pvh() -> u64 {
    // SAFETY: boot runs alone; the image is mapped at its physical addresses, so addresses are frames.
    unsafe {
        let tables = IMAGE_TABLES_PVH.0.get();
        tables.write_bytes(0, 1);
        let table = |table: *const [u64; TABLE_ENTRIES]| table.addr() as u64 | table_flags(Mode::Pvh);
        (*tables).l4[0] = table(&raw const (*tables).l3);
        (*tables).l4[RECURSIVE_SLOT] = table(&raw const (*tables).l4) | NO_EXECUTE;
        (*tables).l3[0] = table(&raw const (*tables).l2);
        for index in 0..IMAGE_TABLES {
            (*tables).l2[index] = table(&raw const (*tables).l1[index]);
        }
        for address in image_pages() {
            let value = entry_of(Mode::Pvh, (address >> 12) as u64, image_access(address));
            (*tables).l1[address >> 21][l1_index(address)] = value;
        }
        let l4 = (&raw const (*tables).l4).addr();
        asm!("mov cr3, {}", in(reg) l4, options(nostack, preserves_flags));
        (l4 >> 12) as u64
    }
}

/// PV, cold start: gives each page of the image the access it needs. `frame_of` knows the machine frame of an image page.
///
/// # Safety
/// Runs on the builder's mapping.
pub unsafe fn protect_image_pv(frame_of: impl Fn(u64) -> u64) -> Result<(), XenError> {
    image_pages().try_for_each(|address| {
        let frame = frame_of((address >> 12) as u64);
        // SAFETY: the same frame as before, with the access that its content needs.
        unsafe { set_entry(Mode::Pv, address, entry_of(Mode::Pv, frame, image_access(address))) }
    })
}

/// PVH: makes the processor's tables read-only, once they are loaded.
///
/// # Safety
/// [`traps::install_pvh`] has run; nothing writes to them any more.
pub unsafe fn protect_processor_tables() -> Result<(), XenError> {
    let start = traps::TABLES.address();
    (start..start + size_of::<traps::CpuTables>())
        .step_by(PAGE_SIZE)
        .try_for_each(|address| {
            // SAFETY: the same frame, read-only; the caller's promise.
            unsafe {
                set_entry(
                    Mode::Pvh,
                    address,
                    entry_of(Mode::Pvh, (address >> 12) as u64, Access::Read),
                )
            }
        })
}
