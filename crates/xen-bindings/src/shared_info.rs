//! Where the shared info page lies. Boot says it once per start; all other modules read the page through here, never by
//! reference: Xen writes to it at any time.

use crate::abi::shared::SharedInfo;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU64, Ordering::Relaxed};

static PAGE: AtomicPtr<SharedInfo> = AtomicPtr::new(ptr::null_mut());

/// Names the page.
///
/// # Safety
/// `page` is the mapped shared info page of this domain, page aligned, and stays mapped and writable for ever.
pub unsafe fn install(page: *mut SharedInfo) {
    PAGE.store(page, Relaxed);
}

/// The page, if boot has named it.
pub(crate) fn page() -> Option<*mut SharedInfo> {
    let page = PAGE.load(Relaxed);
    (!page.is_null()).then_some(page)
}

/// A view of the words that events need. All of them are changed by Xen at the same time, so all are atomics.
pub(crate) struct EventWords<'a> {
    pub upcall_pending: &'a AtomicU8,
    pub upcall_mask: &'a AtomicU8,
    pub selector: &'a AtomicU64,
    pub pending: &'a [AtomicU64; crate::abi::shared::EVTCHN_2L_WORDS],
    pub mask: &'a [AtomicU64; crate::abi::shared::EVTCHN_2L_WORDS],
}

/// The event words of vCPU 0.
pub(crate) fn event_words() -> Option<EventWords<'static>> {
    let page = page()?;
    // SAFETY: `install`'s caller promised a page that stays mapped for ever; the fields are aligned for their atomic types
    // (asserted layout), and nobody makes non-atomic references to them.
    unsafe {
        let vcpu = &raw mut (*page).vcpu_info[0];
        Some(EventWords {
            upcall_pending: AtomicU8::from_ptr(&raw mut (*vcpu).evtchn_upcall_pending),
            upcall_mask: AtomicU8::from_ptr(&raw mut (*vcpu).evtchn_upcall_mask),
            selector: AtomicU64::from_ptr(&raw mut (*vcpu).evtchn_pending_sel),
            pending: &*(&raw const (*page).evtchn_pending).cast(),
            mask: &*(&raw const (*page).evtchn_mask).cast(),
        })
    }
}
