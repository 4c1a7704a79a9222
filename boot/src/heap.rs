//! The heap: `linked_list_allocator` over the heap's area, which grows when an allocation does not fit.
//!
//! `linked_list_allocator` walks its list of holes for every call. Small blocks, which are nearly all, therefore go to a list of their
//! size class when they are freed, and the next allocation of the class takes one from there: constant time, however long the server has
//! run. When memory is short, larger blocks are cut, and at last the lists are given back, so that they are never the reason for a failure.

use crate::layout::HEAP;
use crate::memory;
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};
use linked_list_allocator::Heap;
use spin::Mutex;

/// Step between size classes, and alignment of their blocks.
const CLASS_STEP: usize = 16;
/// Size classes: 16, 32, … 512 bytes.
const CLASSES: usize = 32;

/// A free block of a class; its first bytes hold the next one.
struct FreeBlock {
    next: Option<NonNull<FreeBlock>>,
}

struct State {
    heap: Heap,
    classes: [Option<NonNull<FreeBlock>>; CLASSES],
    /// Bytes in the classes' lists; `heap` counts them as used.
    cached: usize,
}

// SAFETY: the blocks of the lists belong to the state alone.
unsafe impl Send for State {}

struct KernelHeap(Mutex<State>);

#[global_allocator]
static HEAP_ALLOCATOR: KernelHeap = KernelHeap(Mutex::new(State {
    heap: Heap::empty(),
    classes: [None; CLASSES],
    cached: 0,
}));

/// Starts with an empty heap of `bytes` at the beginning of its area.
///
/// # Safety
/// That many bytes are mapped there; runs once per start, before the first allocation.
pub unsafe fn initialise(bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe { HEAP_ALLOCATOR.0.lock().heap.init(HEAP.base as *mut u8, bytes) };
    xen_bindings::memory::report_heap(0, bytes);
}

/// Gives the cached free blocks back, so that the figures are exact.
pub fn flush() {
    let mut state = HEAP_ALLOCATOR.0.lock();
    state.flush();
    state.report();
}

/// The class of a layout, and the layout that all blocks of the class have.
fn class_of(layout: Layout) -> Option<(usize, Layout)> {
    if layout.align() > CLASS_STEP || layout.size() > CLASSES * CLASS_STEP {
        return None;
    }
    let class = layout.size().saturating_sub(1) / CLASS_STEP;
    let block = Layout::from_size_align(size_of_class(class), CLASS_STEP).ok()?;
    Some((class, block))
}

fn size_of_class(class: usize) -> usize {
    (class + 1) * CLASS_STEP
}

impl State {
    fn allocate(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        let Some((class, block_layout)) = class_of(layout) else {
            return self.heap.allocate_first_fit(layout).ok();
        };
        self.pop(class)
            .or_else(|| self.heap.allocate_first_fit(block_layout).ok())
    }

    /// Takes a block from the list of a class.
    fn pop(&mut self, class: usize) -> Option<NonNull<u8>> {
        let block = self.classes[class]?;
        // SAFETY: a block in a list is free and holds a `FreeBlock`.
        self.classes[class] = unsafe { block.as_ref().next };
        self.cached -= size_of_class(class);
        Some(block.cast())
    }

    /// Puts a block into the list of a class.
    ///
    /// # Safety
    /// `block` has the size and alignment of the class, is free, and belongs to the heap.
    unsafe fn push(&mut self, block: NonNull<u8>, class: usize) {
        let free = block.cast::<FreeBlock>();
        // SAFETY: at least 16 bytes, aligned to 16, and free.
        unsafe {
            free.write(FreeBlock {
                next: self.classes[class],
            })
        };
        self.classes[class] = Some(free);
        self.cached += size_of_class(class);
    }

    /// Cuts a free block of a larger class in two. Classes are one step apart, so the rest is a block of a class as well.
    fn cut(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        let (class, block_layout) = class_of(layout)?;
        let larger = (class + 1..CLASSES).find(|&larger| self.classes[larger].is_some())?;
        let block = self.pop(larger)?;
        // SAFETY: the rest lies within the block, behind the part that is given out.
        unsafe { self.push(block.add(block_layout.size()), larger - class - 1) };
        Some(block)
    }

    /// # Safety
    /// `block` was allocated here with `layout` and is not used any more.
    unsafe fn free(&mut self, block: NonNull<u8>, layout: Layout) {
        match class_of(layout) {
            // SAFETY: blocks of a class have its size, whatever size was asked for.
            Some((class, _)) => unsafe { self.push(block, class) },
            // SAFETY: large blocks come from `heap` with their own layout.
            None => unsafe { self.heap.deallocate(block, layout) },
        }
    }

    fn flush(&mut self) {
        for class in 0..CLASSES {
            let Ok(layout) = Layout::from_size_align(size_of_class(class), CLASS_STEP) else {
                continue;
            };
            while let Some(block) = self.pop(class) {
                // SAFETY: a block of the class that came from `heap`, whole or as a part of a larger one.
                unsafe { self.heap.deallocate(block, layout) };
            }
        }
    }

    fn report(&self) {
        xen_bindings::memory::report_heap(self.heap.used() - self.cached, self.heap.size());
    }
}

impl KernelHeap {
    /// In the order of cost: what is free, more memory, a larger free block cut in two, and at last all free blocks joined again.
    fn allocate(&self, layout: Layout) -> Option<NonNull<u8>> {
        let mut state = self.0.lock();
        let mut block = state.allocate(layout);
        if block.is_none() {
            let grown = memory::grow_heap(layout.size() + layout.align());
            if grown > 0 {
                // SAFETY: `grow_heap` has mapped the bytes behind the heap's end.
                unsafe { state.heap.extend(grown) };
                block = state.allocate(layout);
            }
        }
        if block.is_none() {
            block = state.cut(layout);
        }
        if block.is_none() {
            state.flush();
            block = state.allocate(layout);
        }
        state.report();
        block
    }
}

// SAFETY: blocks come from `linked_list_allocator`, which keeps the contract of `GlobalAlloc`, with at least the size and alignment asked
// for; a class's blocks all have the class's layout. Nothing allocates while the lock is held.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.allocate(layout).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(pointer) {
            let mut state = self.0.lock();
            // SAFETY: the caller allocated this block here, with this layout.
            unsafe { state.free(block, layout) };
            state.report();
        }
    }
}
