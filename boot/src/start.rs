//! From the first Rust instruction to the kernel: learn (cold) or remember (warm), arrange memory, hand over.

use crate::entry::{self, MODE_PV, PHASE_WARM};
use crate::kept::{self, Answers, COMMAND_LINE_BYTES, ConsolePlace, End, Kept};
use crate::layout::{CONSOLE, DURABLE, PAGE_SIZE, SHARED_INFO, STORE, heap_share};
use crate::memory::{self, Memory, Space};
use crate::panic::{fail, give_up, in_one_piece};
use crate::{MINIMUM_PAGES, heap, pv, pvh, selftest, traps, wait};
use xen_bindings::abi::console::XenconsInterface;
use xen_bindings::abi::shared::SharedInfo;
use xen_bindings::console::{self, Console};
use xen_bindings::domain::{DomainWatch, own_domid};
use xen_bindings::events::Events;
use xen_bindings::evtchn::Port;
use xen_bindings::grant::Windows;
use xen_bindings::memory::MemoryFigures;
use xen_bindings::{Mode, Platform, Window, hypercall, shared_info};

/// What a cold start finds out, apart from free memory.
pub struct Facts {
    pub initial_domain: bool,
    pub command_line: [u8; COMMAND_LINE_BYTES],
    pub command_line_length: usize,
    pub console: ConsolePlace,
    pub store_port: Option<u32>,
    /// Pages of the domain, without the toolstack's special pages.
    pub reservation_pages: u64,
    /// Pages it may grow by.
    pub growable_pages: u64,
}

impl Facts {
    pub fn new() -> Self {
        Self {
            initial_domain: false,
            command_line: [0; COMMAND_LINE_BYTES],
            command_line_length: 0,
            console: ConsolePlace::None,
            store_port: None,
            reservation_pages: 0,
            growable_pages: 0,
        }
    }
}

/// Called by the assembly entries, on the main stack, with fresh `.data` and `.bss`.
pub extern "sysv64" fn main(phase: u32, mode: u32, start_info: u64) -> ! {
    let mode = if mode == MODE_PV { Mode::Pv } else { Mode::Pvh };
    if phase == PHASE_WARM {
        warm(mode);
    } else {
        // SAFETY: first thing of a cold start, with what the entry got.
        unsafe { cold(mode, start_info) };
    }
    // SAFETY: called once per start, after `cold` or `warm`.
    let platform = unsafe { platform(mode, phase != PHASE_WARM) };
    if platform.command_line.split([' ', ',']).any(|word| word == "selftest") {
        selftest::run(platform);
    }
    crate::serve(platform)
}

/// # Safety
/// Runs once, at a cold start, with `start_info` from the entry.
unsafe fn cold(mode: Mode, start_info: u64) {
    // SAFETY: the caller's promise.
    let (facts, found) = unsafe {
        match mode {
            Mode::Pv => pv::cold_start(start_info),
            Mode::Pvh => pvh::cold_start(start_info),
        }
    };
    let console = match facts.console {
        ConsolePlace::None if console::install_xen_log() => ConsolePlace::XenLog,
        place => place,
    };
    if facts.reservation_pages < MINIMUM_PAGES {
        fail(format_args!(
            "{} KiB of memory; at least {} KiB are needed",
            facts.reservation_pages * 4,
            MINIMUM_PAGES * 4
        ));
    }
    let kept = Kept {
        restarts: 0,
        starts_in_vain: 0,
        last_end: End::new(),
        command_line: facts.command_line,
        command_line_length: facts.command_line_length,
        console,
        store_port: facts.store_port,
        figures: MemoryFigures::default(),
        memory: Memory::new(found),
        answers: None,
    };
    // SAFETY: a cold start; nobody uses the structures yet.
    let kept = unsafe {
        kept::initialise(kept);
        kept::get()
    };
    kept.memory
        .arrange(heap_share)
        .unwrap_or_else(|error| fail(format_args!("arranging memory: {error}")));
    let image = ((&raw const entry::image_end).addr() - (&raw const entry::image_start).addr()) as u64;
    let (heap, durable) = (
        (kept.memory.heap_pages() * PAGE_SIZE) as u64,
        (kept.memory.durable_pages() * PAGE_SIZE) as u64,
    );
    let reservation = facts.reservation_pages * PAGE_SIZE as u64;
    kept.figures = MemoryFigures {
        reservation_bytes: reservation,
        maximum_bytes: reservation + facts.growable_pages * PAGE_SIZE as u64,
        image_bytes: image,
        heap_bytes: heap,
        durable_bytes: durable,
        tables_bytes: reservation.saturating_sub(image + heap + durable),
    };
}

/// Makes the globals of a warm restart equal to what the cold start left.
fn warm(mode: Mode) {
    match mode {
        Mode::Pv => pv::connect(),
        Mode::Pvh => pvh::connect(),
    }
    traps::reinstall(mode);
    // SAFETY: the cold start filled it; this start uses it alone.
    let kept = unsafe { kept::get() };
    kept.restarts = kept.restarts.saturating_add(1);
    // SAFETY: as above.
    kept.last_end = unsafe { kept::take_end() };
    kept.starts_in_vain = if kept.last_end.served {
        0
    } else {
        kept.starts_in_vain.saturating_add(1)
    };
    match kept.console {
        // SAFETY: the cold start's mapping is still there.
        ConsolePlace::Ring { port } => unsafe { console::install_ring(CONSOLE as *mut XenconsInterface, Port(port)) },
        ConsolePlace::XenLog => {
            console::install_xen_log();
        }
        ConsolePlace::None => {}
    }
}

/// Starts in a row that may end before they serve. With one more the domain ends: what ends them is not what clients ask for. (Lives
/// that end as soon as they serve are counted in the durable pages, by `xenstore-recovery`.)
const STARTS_IN_VAIN_AT_MOST: u32 = 20;

/// Asks Xen what does not change. A dozen hypercalls, which a restart need not make again.
fn ask() -> Answers {
    let own_domid = own_domid().unwrap_or_else(|error| fail(format_args!("own domid: {error}")));
    Answers {
        own_domid,
        xen_version: hypercall::xen_version().unwrap_or((0, 0)),
        domain_watch: DomainWatch::probe(own_domid),
    }
}

/// # Safety
/// Called once per start, after [`cold`] or [`warm`].
unsafe fn platform(mode: Mode, is_cold: bool) -> Platform {
    // SAFETY: filled; used alone.
    let kept = unsafe { kept::get() };
    // SAFETY: both modes map the page at this address, for ever.
    unsafe { shared_info::install(SHARED_INFO as *mut SharedInfo) };
    if kept.starts_in_vain > STARTS_IN_VAIN_AT_MOST {
        give_up(format_args!(
            "{STARTS_IN_VAIN_AT_MOST} starts in a row ended before they served; the last one so: {}",
            kept.last_end.text()
        ));
    }
    let heap_bytes = kept.memory.heap_pages() * PAGE_SIZE;
    // SAFETY: the heap's pages are mapped, and this start has allocated nothing yet.
    unsafe { heap::initialise(heap_bytes) };
    xen_bindings::memory::install_durable_growth(kept.memory.durable_pages() * PAGE_SIZE, memory::grow_durable);
    let wait = match mode {
        Mode::Pv => wait::wait_pv as xen_bindings::events::WaitStub,
        Mode::Pvh => wait::wait_pvh,
    };
    // SAFETY: upcalls are off since the entry, and the stub is the mode's own.
    let events =
        unsafe { Events::from_boot(is_cold, mode, wait) }.unwrap_or_else(|error| fail(format_args!("timer: {error}")));
    if !is_cold {
        traps::allow_nmi(mode);
    }
    let Answers {
        own_domid,
        xen_version,
        domain_watch,
    } = *kept.answers.get_or_insert_with(ask);
    let durable_bytes = kept.memory.durable_pages() * PAGE_SIZE;
    // SAFETY: the durable pages are mapped, and this is the one reference of this start.
    let durable = unsafe { core::slice::from_raw_parts_mut(DURABLE.base as *mut u8, durable_bytes) };
    let own_store = kept.store_port.map(|port| {
        // SAFETY: mapped by the cold start, for ever; nobody refers to it.
        (unsafe { Window::of_own_page(STORE as *mut u8) }, Port(port))
    });
    let command_line = kept.command_line.get(..kept.command_line_length).unwrap_or_default();
    let mut console = Console::from_boot();
    let figures = MemoryFigures {
        heap_bytes: heap_bytes as u64,
        durable_bytes: durable_bytes as u64,
        ..kept.figures
    };
    let found = format_args!(
        "{}: {mode}, Xen {}.{}, domain {own_domid}, {} KiB: image {}, heap {}, durable {}, tables {}{}\n",
        env!("CARGO_BIN_NAME"),
        xen_version.0,
        xen_version.1,
        figures.reservation_bytes / 1024,
        figures.image_bytes / 1024,
        figures.heap_bytes / 1024,
        figures.durable_bytes / 1024,
        figures.tables_bytes / 1024,
        if is_cold { "" } else { "; warm restart" },
    );
    in_one_piece(found, |bytes| console.write(bytes));
    Platform {
        events,
        // SAFETY: the records were zeroed by the cold start, and the space is always the same.
        windows: unsafe { Windows::from_boot(&Space, kept::window_records()) },
        console,
        durable,
        command_line: core::str::from_utf8(command_line).unwrap_or_default(),
        mode,
        xen_version,
        memory: figures,
        own_store,
        domain_watch,
        own_domid,
        restarts: kept.restarts,
        last_end: kept.last_end.text(),
    }
}
