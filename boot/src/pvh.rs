//! The cold start's findings, PVH: which Xen, how much memory, where the console and the store's page are.

use crate::entry;
use crate::frames::Frames;
use crate::kept::{COMMAND_LINE_BYTES, ConsolePlace};
use crate::layout::{CONSOLE, IMAGE_START, SHARED_INFO, STORE};
use crate::memory::Found;
use crate::paging::{self, Access, entry_of, set_entry};
use crate::panic::fail;
use crate::start::Facts;
use crate::traps;
use core::arch::x86_64::__cpuid;
use xen_bindings::abi::boot::{HVM_START_MAGIC, HvmStartInfo};
use xen_bindings::abi::console::XenconsInterface;
use xen_bindings::abi::hvm::{
    HVM_CALLBACK_TYPE_VECTOR, HVM_PARAM_CALLBACK_IRQ, HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_CONSOLE_PFN,
    HVM_PARAM_STORE_EVTCHN, HVM_PARAM_STORE_PFN, HVMOP_GET_PARAM, HVMOP_SET_PARAM, XenHvmParam,
};
use xen_bindings::abi::memory::{
    E820Entry, XEN_HVM_MEMMAP_TYPE_RAM, XENMAPSPACE_SHARED_INFO, XENMEM_ADD_TO_PHYSMAP, XenAddToPhysmap,
};
use xen_bindings::abi::numbers::{DOMID_SELF, XEN_CPUID_FIRST_LEAF, XEN_HVM_START_INFO_INITDOMAIN, hypercall as nr};
use xen_bindings::evtchn::Port;
use xen_bindings::grant::MAX_WINDOWS;
use xen_bindings::hypercall::{self, Instruction};
use xen_bindings::memory::{MEMORY_MAP_ENTRIES, current_reservation, maximum_reservation, memory_map};
use xen_bindings::{Mode, XenError, console};

/// Pages that the toolstack puts outside the memory map (console, store, identity page table …) and that the reservation
/// counts (`tools/libs/guest`, special pages).
const SPECIAL_PAGES: u64 = 8;

/// Where memory below 4 GiB ends at the latest; behind it are the special pages and the processor's devices.
const LOW_MEMORY_END: u64 = 0xfee0_0000;

/// First leaf of Xen's CPUID information, if this is Xen.
fn xen_leaf() -> Option<u32> {
    (0..0x100)
        .map(|step| XEN_CPUID_FIRST_LEAF + step * 0x100)
        .find(|&leaf| {
            let signature = __cpuid(leaf);
            [signature.ebx, signature.ecx, signature.edx]
                .map(u32::to_le_bytes)
                .as_flattened()
                == b"XenVMMXenVMM"
        })
}

/// The instruction of hypercalls on this processor.
fn instruction() -> Instruction {
    let vendor = __cpuid(0);
    let name = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes);
    match name.as_flattened() {
        b"AuthenticAMD" | b"HygonGenuine" => Instruction::Vmmcall,
        _ => Instruction::Vmcall,
    }
}

/// Every start: chooses the hypercall instruction and opens the first console.
pub fn connect() {
    // SAFETY: PVH may use I/O ports; port 0xE9 has no other meaning for a guest of Xen, nor on a bare QEMU machine.
    unsafe { console::install_debug_port() };
    if xen_leaf().is_none() {
        fail(format_args!("this is not Xen (no XenVMMXenVMM in CPUID)"));
    }
    // SAFETY: this is a PVH guest of Xen, and the instruction fits the processor's vendor.
    unsafe { hypercall::select(instruction()) };
}

/// Copies the NUL-terminated text at physical address `address`; returns its length.
///
/// # Safety
/// The entry's identity mapping is in use.
unsafe fn copy_text(address: u64, out: &mut [u8; COMMAND_LINE_BYTES]) -> usize {
    if address == 0 {
        return 0;
    }
    for (index, byte) in out.iter_mut().enumerate() {
        // SAFETY: the toolstack's text ends with NUL and lies below 4 GiB.
        *byte = unsafe { (address as *const u8).add(index).read() };
        if *byte == 0 {
            return index;
        }
    }
    out.len()
}

fn hvm_param(index: u32) -> Option<u64> {
    let mut argument = XenHvmParam {
        domid: DOMID_SELF,
        index,
        ..Default::default()
    };
    // SAFETY: the structure belongs to the operation.
    let result = unsafe {
        hypercall::raw(
            nr::HVM_OP,
            [HVMOP_GET_PARAM, (&raw mut argument).addr() as u64, 0, 0, 0],
        )
    };
    (result == 0 && argument.value != 0).then_some(argument.value)
}

fn set_hvm_param(index: u32, value: u64) -> i64 {
    let mut argument = XenHvmParam {
        domid: DOMID_SELF,
        index,
        value,
        ..Default::default()
    };
    // SAFETY: the structure belongs to the operation; used for the callback only.
    unsafe {
        hypercall::raw(
            nr::HVM_OP,
            [HVMOP_SET_PARAM, (&raw mut argument).addr() as u64, 0, 0, 0],
        )
    }
}

/// Usable memory by Xen's map, and the first guest frame of a free GiB: the lowest above 4 GiB that the map does not mention.
/// (Not simply above the whole map: a dom0's map can name addresses that the processor cannot reach.)
fn memory_ranges() -> (Frames, u64) {
    let mut map = [E820Entry::default(); MEMORY_MAP_ENTRIES];
    let entries = memory_map(&mut map).unwrap_or_else(|error| fail(format_args!("no memory map: {error}")));
    let mut ram = Frames::new();
    for &E820Entry { addr, size, kind } in &map[..entries] {
        if kind == XEN_HVM_MEMMAP_TYPE_RAM {
            ram.add(addr.div_ceil(4096), addr.saturating_add(size) >> 12);
        }
    }
    const GIB: u64 = 1 << 30;
    let mut hole = 4 * GIB;
    while let Some(entry) = map[..entries].iter().find(|entry| {
        let (addr, size) = (entry.addr, entry.size);
        addr < hole + GIB && addr.saturating_add(size) > hole
    }) {
        hole = entry.addr.saturating_add(entry.size).next_multiple_of(GIB);
    }
    (ram, hole >> 12)
}

/// Learns everything and leaves the entry's identity mapping.
///
/// # Safety
/// Runs once, at a cold start, on the entry's mapping, with `start_info` from the entry.
pub unsafe fn cold_start(start_info: u64) -> (Facts, Found) {
    connect();
    let info = start_info as *const HvmStartInfo;
    // SAFETY: EBX pointed to it; it lies below 4 GiB, where everything is mapped.
    let info = unsafe { info.read_unaligned() };
    if info.magic != HVM_START_MAGIC {
        fail(format_args!("start info has magic {:#x}", info.magic));
    }
    let mut facts = Facts::new();
    // SAFETY: still on the entry's mapping.
    facts.command_line_length = unsafe { copy_text(info.cmdline_paddr, &mut facts.command_line) };
    facts.initial_domain = info.flags & XEN_HVM_START_INFO_INITDOMAIN != 0;

    let reservation = current_reservation().unwrap_or_else(|error| fail(format_args!("no reservation: {error}")));
    let special = if facts.initial_domain { 0 } else { SPECIAL_PAGES };
    facts.reservation_pages = reservation.saturating_sub(special);
    let (mut ram, windows_frame) = memory_ranges();
    if !facts.initial_domain && ram.len() < facts.reservation_pages / 2 {
        // The map says far less than there is (init-xenstore-domain of Xen 4.17 with --maxmem writes MiB where bytes belong).
        // Memory of a toolstack's domain begins at 0 in one piece. A map that says a little less is right: `xl` puts more pages outside
        // of it than init-xenstore-domain does.
        let maximum = maximum_reservation().unwrap_or(reservation).saturating_sub(special);
        ram = Frames::new();
        ram.add(0, maximum.max(facts.reservation_pages).min(LOW_MEMORY_END >> 12));
    }
    // The map covers what the domain may grow to; only the first part is there.
    let (populated, growable) = ram.split(facts.reservation_pages);
    facts.growable_pages = if facts.initial_domain { 0 } else { growable.len() };
    // Frame 0 stays unused: too many things mean "nothing" by zero.
    let free = populated.without(0, 1).without(
        (IMAGE_START >> 12) as u64,
        (&raw const entry::image_end).addr().div_ceil(4096) as u64,
    );

    // SAFETY: everything from the start info was copied.
    let l4 = unsafe { paging::install_pvh() };
    // SAFETY: the image is mapped by its own tables now.
    unsafe { traps::install_pvh() };
    let frames = SharedFrames {
        shared_info: windows_frame + MAX_WINDOWS as u64,
    };
    frames
        .install(&mut facts)
        .unwrap_or_else(|error| fail(format_args!("shared pages: {error}")));
    let growable = if facts.initial_domain { Frames::new() } else { growable };
    (
        facts,
        Found {
            mode: Mode::Pvh,
            l4,
            free,
            growable,
            frame_list: 0,
            windows_frame,
        },
    )
}

struct SharedFrames {
    shared_info: u64,
}

impl SharedFrames {
    /// Maps the pages shared with Xen and the toolstack, and turns on upcalls.
    fn install(&self, facts: &mut Facts) -> Result<(), XenError> {
        let map = |address, frame| {
            let access = if frame == 0 { Access::None } else { Access::ReadWrite };
            // SAFETY: nothing lies at these addresses; the frames are the toolstack's special pages, or Xen's own.
            unsafe { set_entry(Mode::Pvh, address, entry_of(Mode::Pvh, frame, access)) }
        };
        // SAFETY: loaded a moment ago.
        unsafe { paging::protect_processor_tables()? };
        let mut place = XenAddToPhysmap {
            domid: DOMID_SELF,
            size: 0,
            space: XENMAPSPACE_SHARED_INFO,
            idx: 0,
            gpfn: self.shared_info,
        };
        // SAFETY: the structure belongs to the operation; nothing is at that guest frame.
        let placed = unsafe {
            hypercall::raw(
                nr::MEMORY_OP,
                [XENMEM_ADD_TO_PHYSMAP, (&raw mut place).addr() as u64, 0, 0, 0],
            )
        };
        if placed < 0 {
            return Err(XenError(placed as i32));
        }
        map(SHARED_INFO, self.shared_info)?;
        let callback = HVM_CALLBACK_TYPE_VECTOR << 56 | u64::from(traps::UPCALL_VECTOR);
        let set = set_hvm_param(HVM_PARAM_CALLBACK_IRQ, callback);
        if set < 0 {
            return Err(XenError(set as i32));
        }
        if let (Some(frame), Some(port)) = (hvm_param(HVM_PARAM_CONSOLE_PFN), hvm_param(HVM_PARAM_CONSOLE_EVTCHN)) {
            map(CONSOLE, frame)?;
            facts.console = ConsolePlace::Ring { port: port as u32 };
            // SAFETY: mapped a moment ago.
            unsafe { console::install_ring(CONSOLE as *mut XenconsInterface, Port(port as u32)) };
        }
        if let Some(frame) = hvm_param(HVM_PARAM_STORE_PFN) {
            map(STORE, frame)?;
            facts.store_port = hvm_param(HVM_PARAM_STORE_EVTCHN).map(|port| port as u32);
        }
        Ok(())
    }
}
