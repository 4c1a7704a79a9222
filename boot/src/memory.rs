//! Memory outside the image: which frames are free, and the areas they are mapped into — heap, durable region, windows.
//!
//! Everything grows page by page and nothing is given back. Frames first come from what the domain started with; when that is
//! used up and the toolstack allowed a larger domain, from Xen.

use crate::frames::Frames;
use crate::kept;
use crate::layout::{AREAS, AREAS_GIB, AREAS_SLOT, Area, DURABLE, HEAP, PAGE_SIZE, TABLE_ENTRIES, WINDOWS, l2_index};
use crate::paging::{Access, clear_frame, entry_of, link_table, set_entry};
use xen_bindings::grant::{MAX_WINDOWS, WindowPlace, WindowSpace};
use xen_bindings::memory::DURABLE_UNIT;
use xen_bindings::{Mode, XenError};

/// Tables that all windows together need; kept aside at the cold start, so that a full memory never refuses a domain.
pub const WINDOW_TABLES: usize = MAX_WINDOWS / TABLE_ENTRIES;
/// Frames asked from Xen at once.
const BATCH: usize = 32;
/// Pages of a unit of the durable region.
const UNIT_PAGES: usize = DURABLE_UNIT / PAGE_SIZE;

/// Why memory could not be mapped.
#[derive(Clone, Copy, Debug)]
pub enum MemoryError {
    /// No frames left, nor more to be had.
    Exhausted,
    /// The area has reached its limit.
    AreaFull,
    /// Xen refused a page table.
    Xen(XenError),
}

impl From<XenError> for MemoryError {
    fn from(error: XenError) -> Self {
        Self::Xen(error)
    }
}

impl core::fmt::Display for MemoryError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Exhausted => f.write_str("memory used up"),
            Self::AreaFull => f.write_str("address range used up"),
            Self::Xen(error) => write!(f, "page tables: {error}"),
        }
    }
}

/// What the mode's start has found out.
pub struct Found {
    pub mode: Mode,
    /// Frame of the top-level page table.
    pub l4: u64,
    /// Free frames: guest frame numbers.
    pub free: Frames,
    /// Guest frame numbers where nothing is yet, for growing.
    pub growable: Frames,
    /// PV: address of the builder's list of machine frames; 0 on PVH.
    pub frame_list: usize,
    /// First guest frame number of the windows (PVH).
    pub windows_frame: u64,
}

/// All that is known about memory. Lies in [`kept::Kept`].
pub struct Memory {
    found: Found,
    /// Frames, as entries hold them, that Xen gave later.
    given: [u64; BATCH],
    given_count: usize,
    /// Whether frames may come from Xen.
    growing: bool,
    l3: u64,
    l2: [u64; AREAS_GIB],
    /// Frames for the tables of windows.
    spare_tables: [u64; WINDOW_TABLES],
    spare_count: usize,
    /// One bit per table of windows that is in place.
    window_tables: u32,
    heap_pages: usize,
    /// Pages that the heap may have in the end.
    heap_limit: usize,
    durable_pages: usize,
    /// Pages that the durable region may have in the end, so that it leaves the heap its share.
    durable_limit: usize,
}

impl Memory {
    /// Before [`Memory::arrange`].
    pub fn new(found: Found) -> Self {
        Self {
            found,
            given: [0; BATCH],
            given_count: 0,
            growing: false,
            l3: 0,
            l2: [0; AREAS_GIB],
            spare_tables: [0; WINDOW_TABLES],
            spare_count: 0,
            window_tables: 0,
            heap_pages: 0,
            heap_limit: 0,
            durable_pages: 0,
            durable_limit: 0,
        }
    }

    /// Cold start: builds the areas and distributes all free frames. `share` says how many of so many pages the heap gets.
    pub fn arrange(&mut self, share: fn(usize) -> usize) -> Result<(), MemoryError> {
        self.l3 = self.new_table()?;
        // SAFETY: the slot is empty in both modes' first tables.
        unsafe { link_table(self.found.mode, self.found.l4, AREAS_SLOT, self.l3)? };
        self.gib_table(WINDOWS.gib(0))?;
        for _ in 0..WINDOW_TABLES {
            let frame = self.take_frame().ok_or(MemoryError::Exhausted)?;
            self.spare_tables[self.spare_count] = frame;
            self.spare_count += 1;
        }
        let heap = share(self.found.free.len() as usize).min(HEAP.limit);
        while self.heap_pages < heap {
            self.extend_heap()?;
        }
        // Whole units, each with the two tables that it may need; what is left over is heap.
        while self.found.free.len() as usize >= UNIT_PAGES + 2 && self.durable_pages + UNIT_PAGES <= DURABLE.limit {
            for _ in 0..UNIT_PAGES {
                self.extend_durable()?;
            }
        }
        loop {
            match self.extend_heap() {
                Ok(()) => {}
                Err(MemoryError::Exhausted | MemoryError::AreaFull) => break,
                Err(error) => return Err(error),
            }
        }
        let growable = self.found.growable.len() as usize;
        self.heap_limit = self.heap_pages + share(growable);
        self.durable_limit = self.durable_pages + growable - share(growable);
        self.growing = true;
        Ok(())
    }

    pub fn heap_pages(&self) -> usize {
        self.heap_pages
    }

    /// Pages in whole units; a unit that was begun and not finished, because memory was used up, does not count.
    pub fn durable_pages(&self) -> usize {
        self.durable_pages / UNIT_PAGES * UNIT_PAGES
    }

    /// What an entry holds for guest frame `guest_frame` of the memory the domain started with.
    fn frame(&self, guest_frame: u64) -> u64 {
        if self.found.frame_list == 0 {
            return guest_frame;
        }
        let list = self.found.frame_list as *const u64;
        // SAFETY: the builder's list has an entry for every guest frame that `free` ever held, and stays mapped.
        unsafe { list.add(guest_frame as usize).read() }
    }

    fn take_frame(&mut self) -> Option<u64> {
        if let Some(guest_frame) = self.found.free.take() {
            return Some(self.frame(guest_frame));
        }
        if self.given_count == 0 && self.growing {
            self.ask_for_frames();
        }
        self.given_count = self.given_count.checked_sub(1)?;
        self.given.get(self.given_count).copied()
    }

    /// Gets the next few frames from Xen, if it has any for this domain.
    fn ask_for_frames(&mut self) {
        let mut frames = [0; BATCH];
        let mut wanted = 0;
        while wanted < BATCH
            && let Some(frame) = self.found.growable.take()
        {
            frames[wanted] = frame;
            wanted += 1;
        }
        if wanted == 0 {
            return;
        }
        // SAFETY: `growable` holds frames where nothing is, each given out once.
        self.given_count = unsafe { xen_bindings::memory::populate(&mut frames[..wanted]) };
        if self.given_count < wanted {
            // The host is short of memory, or the maximum is reached: the rest would fail again.
            self.growing = false;
        }
        self.given = frames;
    }

    fn new_table(&mut self) -> Result<u64, MemoryError> {
        let frame = self.take_frame().ok_or(MemoryError::Exhausted)?;
        // SAFETY: a free frame, used by nobody else from here on.
        unsafe { clear_frame(self.found.mode, frame)? };
        Ok(frame)
    }

    /// Makes sure that gigabyte `gib` of the areas has its second-level table.
    fn gib_table(&mut self, gib: usize) -> Result<u64, MemoryError> {
        if self.l2[gib] == 0 {
            let table = self.new_table()?;
            // SAFETY: the gigabyte is unused so far.
            unsafe { link_table(self.found.mode, self.l3, gib, table)? };
            self.l2[gib] = table;
        }
        Ok(self.l2[gib])
    }

    /// Maps a free frame, zeroed, as page `index` of `area`: the page behind those mapped so far.
    fn map_next(&mut self, area: Area, index: usize) -> Result<(), MemoryError> {
        if index >= area.limit {
            return Err(MemoryError::AreaFull);
        }
        let address = area.page(index);
        if index.is_multiple_of(TABLE_ENTRIES) {
            if !self.growing && self.found.free.len() < 3 {
                // Two tables and the page itself: do not begin what cannot be ended.
                return Err(MemoryError::Exhausted);
            }
            let l2 = self.gib_table(area.gib(index))?;
            let table = self.new_table()?;
            // SAFETY: nothing is mapped from `address` on.
            unsafe { link_table(self.found.mode, l2, l2_index(address), table)? };
        }
        let frame = self.take_frame().ok_or(MemoryError::Exhausted)?;
        // SAFETY: a free frame at an address where nothing was.
        unsafe {
            set_entry(
                self.found.mode,
                address,
                entry_of(self.found.mode, frame, Access::ReadWrite),
            )?;
            (address as *mut u8).write_bytes(0, PAGE_SIZE);
        }
        Ok(())
    }

    fn extend_heap(&mut self) -> Result<(), MemoryError> {
        self.map_next(HEAP, self.heap_pages)?;
        self.heap_pages += 1;
        Ok(())
    }

    fn extend_durable(&mut self) -> Result<(), MemoryError> {
        self.map_next(DURABLE, self.durable_pages)?;
        self.durable_pages += 1;
        Ok(())
    }

    /// Makes sure that window `index` has its last-level table.
    fn window_table(&mut self, index: usize) -> Result<(), MemoryError> {
        let group = index / TABLE_ENTRIES;
        if self.window_tables & 1 << group != 0 {
            return Ok(());
        }
        let frame = match self.spare_count.checked_sub(1) {
            Some(last) => {
                self.spare_count = last;
                self.spare_tables[last]
            }
            None => self.take_frame().ok_or(MemoryError::Exhausted)?,
        };
        // SAFETY: a free frame; nothing is mapped among these windows.
        unsafe {
            clear_frame(self.found.mode, frame)?;
            let address = WINDOWS.page(group * TABLE_ENTRIES);
            link_table(self.found.mode, self.l2[WINDOWS.gib(0)], l2_index(address), frame)?;
        }
        self.window_tables |= 1 << group;
        Ok(())
    }
}

/// Lock against re-entry; in `.bss`, so that a restart finds it open.
static LOCK: spin::Mutex<()> = spin::Mutex::new(());

/// Works on the memory's state.
fn with<R>(work: impl FnOnce(&mut Memory) -> R) -> R {
    let _lock = LOCK.lock();
    // SAFETY: filled before the first use; the lock makes this the only reference to this part, and after boot's start
    // nothing uses another part.
    work(unsafe { &mut kept::get().memory })
}

/// Adds at least `bytes` to the heap's end, if the heap may become so large; in steps that make growing rare. How many bytes were added:
/// fewer if memory is used up, 0 if growing would not help.
pub fn grow_heap(bytes: usize) -> usize {
    const STEP_PAGES: usize = 64;
    with(|memory| {
        let before = memory.heap_pages;
        let needed = bytes.div_ceil(PAGE_SIZE);
        if needed > memory.heap_limit.saturating_sub(before) {
            return 0;
        }
        let end = (before + needed.next_multiple_of(STEP_PAGES)).min(memory.heap_limit);
        while memory.heap_pages < end && memory.extend_heap().is_ok() {}
        (memory.heap_pages - before) * PAGE_SIZE
    })
}

/// Adds `bytes`, rounded up to whole units, to the end of the durable region, or as many units as there are. `None`: there is none.
pub fn grow_durable(bytes: usize) -> Option<&'static mut [u8]> {
    with(|memory| {
        let before = memory.durable_pages();
        let end = (before + bytes.div_ceil(DURABLE_UNIT) * UNIT_PAGES).min(memory.durable_limit);
        while memory.durable_pages < end && memory.extend_durable().is_ok() {}
        let pages = memory.durable_pages() - before;
        if pages == 0 {
            return None;
        }
        // SAFETY: these pages were mapped since the last call that counted them; nobody else has a reference to them.
        Some(unsafe { core::slice::from_raw_parts_mut(DURABLE.page(before) as *mut u8, pages * PAGE_SIZE) })
    })
}

/// The windows' addresses.
pub struct Space;

// SAFETY: windows lie in an area of their own; PVH's guest frames of the windows are outside of all memory. `show` and `hide`
// touch exactly the window's entry.
unsafe impl WindowSpace for Space {
    fn place(&self, index: usize) -> Option<WindowPlace> {
        with(|memory| {
            memory.window_table(index).ok()?;
            let page = WINDOWS.page(index);
            let host_addr = match memory.found.mode {
                Mode::Pv => page as u64,
                Mode::Pvh => (memory.found.windows_frame + index as u64) << 12,
            };
            Some(WindowPlace {
                page: page as *mut u8,
                host_addr,
            })
        })
    }

    fn show(&self, index: usize) {
        with(|memory| {
            if memory.found.mode == Mode::Pvh {
                let value = entry_of(Mode::Pvh, memory.found.windows_frame + index as u64, Access::ReadWrite);
                // SAFETY: the window's table exists since `place`; a PVH entry cannot be refused.
                let _ = unsafe { set_entry(Mode::Pvh, WINDOWS.page(index), value) };
            }
        });
    }

    fn hide(&self, index: usize) {
        with(|memory| {
            if memory.found.mode == Mode::Pvh {
                // SAFETY: as above.
                let _ = unsafe { set_entry(Mode::Pvh, WINDOWS.page(index), 0) };
            }
        });
    }
}

const _: () = assert!(WINDOWS.limit == MAX_WINDOWS && AREAS.is_multiple_of(1 << 39));
