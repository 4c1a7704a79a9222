//! The cold start's findings, PV: everything is in the start info page, and every page table entry goes through Xen.
//!
//! The builder mapped the domain's first pages at their guest frame numbers from address 0 on: the image, its own tables and
//! lists, and some free pages behind them.

use crate::entry;
use crate::frames::Frames;
use crate::kept::ConsolePlace;
use crate::layout::{CONSOLE, IMAGE_START, PAGE_SIZE, SHARED_INFO, STORE};
use crate::memory::Found;
use crate::paging::{self, Access, entry_of, set_entry};
use crate::panic::fail;
use crate::start::Facts;
use crate::traps;
use xen_bindings::abi::boot::StartInfo;
use xen_bindings::abi::console::XenconsInterface;
use xen_bindings::abi::numbers::SIF_INITDOMAIN;
use xen_bindings::evtchn::Port;
use xen_bindings::hypercall::{self, Instruction};
use xen_bindings::memory::maximum_reservation;
use xen_bindings::{Mode, XenError, console};

/// Every start: chooses the hypercall instruction.
pub fn connect() {
    // SAFETY: the PV entry is only ever used by Xen.
    unsafe { hypercall::select(Instruction::Syscall) };
}

/// What the start info says, as numbers.
struct Builder {
    pages: u64,
    frame_list: usize,
    /// First guest frame of the builder's page tables, and the first behind them and the builder's stack.
    tables: (u64, u64),
}

impl Builder {
    fn frame(&self, guest_frame: u64) -> u64 {
        let list = self.frame_list as *const u64;
        // SAFETY: the list has an entry for each of the domain's pages; callers stay below `pages`.
        unsafe { list.add(guest_frame as usize).read() }
    }

    /// Frames that hold nothing: below the image, and behind the builder's tables.
    fn free(&self) -> Frames {
        let mut free = Frames::new();
        // Frame 0 stays unused: too many things mean "nothing" by zero.
        free.add(1, (IMAGE_START >> 12) as u64);
        free.add(self.tables.1, self.pages);
        free
    }

    /// Takes away every mapping of the builder's that is not needed, or not with so much access.
    fn tidy(&self) -> Result<(), XenError> {
        // SAFETY: `frame` answers for image pages.
        unsafe { paging::protect_image_pv(|guest_frame| self.frame(guest_frame))? };
        let address = |guest_frame: u64| guest_frame as usize * PAGE_SIZE;
        for below in (0..IMAGE_START).step_by(PAGE_SIZE).filter(|&below| below != CONSOLE) {
            // SAFETY: nothing lies below the image. A builder that mapped nothing there is as good.
            let _ = unsafe { set_entry(Mode::Pv, below, 0) };
        }
        let image_end = (&raw const entry::image_end).addr().div_ceil(PAGE_SIZE) as u64;
        for guest_frame in image_end..self.tables.1 {
            // The builder's lists and tables are read at most; a module, if there is one, is not used. Tables are read-only already.
            let value = entry_of(Mode::Pv, self.frame(guest_frame), Access::Read);
            // SAFETY: the same frame, read-only.
            unsafe { set_entry(Mode::Pv, address(guest_frame), value)? };
        }
        for guest_frame in self.tables.1..self.pages {
            // SAFETY: these pages hold nothing. The first error is where the builder's mapping ends.
            if unsafe { set_entry(Mode::Pv, address(guest_frame), 0) }.is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// Learns everything and tidies up the builder's mapping.
///
/// # Safety
/// Runs once, at a cold start, with `start_info` from the entry.
pub unsafe fn cold_start(start_info: u64) -> (Facts, Found) {
    connect();
    // SAFETY: RSI pointed to the page; it stays mapped.
    let info = unsafe { &*(start_info as *const StartInfo) };
    let mut facts = Facts::new();
    facts.initial_domain = info.flags & SIF_INITDOMAIN != 0;
    let length = info
        .cmd_line
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(info.cmd_line.len())
        .min(facts.command_line.len());
    facts.command_line[..length].copy_from_slice(&info.cmd_line[..length]);
    facts.command_line_length = length;
    facts.reservation_pages = info.nr_pages;
    // Frames for growing get the guest frame numbers behind the last; only dom0's maximum means nothing.
    let maximum = maximum_reservation().unwrap_or(0);
    let mut growable = Frames::new();
    if !facts.initial_domain {
        growable.add(info.nr_pages, maximum);
    }
    facts.growable_pages = growable.len();

    let tables = info.pt_base >> 12;
    let builder = Builder {
        pages: info.nr_pages,
        frame_list: info.mfn_list as usize,
        tables: (tables, tables + info.nr_pt_frames + 1),
    };
    install(info, &builder, &mut facts).unwrap_or_else(|error| fail(format_args!("first mappings: {error}")));
    let found = Found {
        mode: Mode::Pv,
        l4: builder.frame(tables),
        free: builder.free(),
        growable,
        frame_list: builder.frame_list,
        windows_frame: 0,
    };
    (facts, found)
}

/// Maps the pages shared with Xen and the toolstack, and installs traps and upcalls.
fn install(info: &StartInfo, builder: &Builder, facts: &mut Facts) -> Result<(), XenError> {
    let (initial_domain, console_frame, store_frame) = (facts.initial_domain, info.console_mfn, info.store_mfn);
    // The console first, so that everything that goes wrong can be told.
    let map = |address, frame| {
        let access = if frame == 0 { Access::None } else { Access::ReadWrite };
        // SAFETY: below the image, where nothing of ours lies.
        unsafe { set_entry(Mode::Pv, address, entry_of(Mode::Pv, frame, access)) }
    };
    if initial_domain || console_frame == 0 {
        map(CONSOLE, 0)?;
    } else {
        map(CONSOLE, console_frame)?;
        facts.console = ConsolePlace::Ring {
            port: info.console_evtchn,
        };
        // SAFETY: mapped a moment ago; the tidying leaves it out.
        unsafe { console::install_ring(CONSOLE as *mut XenconsInterface, Port(info.console_evtchn)) };
    }
    let (shared_info, store_port) = (info.shared_info >> 12, info.store_evtchn);
    builder.tidy()?;
    if !initial_domain && store_frame != 0 {
        map(STORE, store_frame)?;
        facts.store_port = (store_port != 0).then_some(store_port);
    }
    map(SHARED_INFO, shared_info)?;
    // SAFETY: a PV guest with its shared info page in place.
    unsafe { traps::install_pv() }
}
