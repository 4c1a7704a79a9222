//! Time without a hypercall: Xen publishes a base and a scale in the shared info page, the processor's counter gives the rest.

use crate::abi::shared::{SharedInfo, VcpuTimeInfo};
use crate::shared_info;
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering, fence};

/// Latest value returned, so that time never runs back when Xen corrects its scale.
static LATEST: AtomicU64 = AtomicU64::new(0);

fn read_tsc() -> u64 {
    // SAFETY: the fence and RDTSC exist on every x86_64 and touch no memory.
    unsafe {
        core::arch::x86_64::_mm_lfence();
        core::arch::x86_64::_rdtsc()
    }
}

/// Xen system time at counter value `tsc`, ns (`xen.h`, `vcpu_time_info`).
fn system_time(info: &VcpuTimeInfo, tsc: u64) -> u64 {
    // Modulo 2⁶⁴: the base can be "negative" (seen on PVH). A counter a little behind the base counts as being at it.
    let delta = tsc.wrapping_sub(info.tsc_timestamp);
    let delta = if delta > u64::MAX / 2 { 0 } else { delta };
    let shift = u32::from(info.tsc_shift.unsigned_abs());
    let shifted = if info.tsc_shift < 0 {
        delta.checked_shr(shift)
    } else {
        delta.checked_shl(shift)
    }
    .unwrap_or(0);
    let scaled = (u128::from(shifted) * u128::from(info.tsc_to_system_mul)) >> 32;
    info.system_time.wrapping_add(scaled as u64)
}

/// Reads something that Xen writes under a version: again until the version is even and did not change.
fn read_versioned<T>(version: *const u32, mut read: impl FnMut() -> T) -> T {
    loop {
        // SAFETY: callers pass the address of a version field of the installed shared info page.
        let before = unsafe { ptr::read_volatile(version) };
        fence(Ordering::Acquire);
        let value = read();
        fence(Ordering::Acquire);
        // SAFETY: as above.
        let after = unsafe { ptr::read_volatile(version) };
        if before == after && before & 1 == 0 {
            return value;
        }
        core::hint::spin_loop();
    }
}

/// Xen's system time: nanoseconds since the host's boot. Never runs backwards within one start; 0 when not on Xen.
#[must_use]
pub fn now_ns() -> u64 {
    let Some(page) = shared_info::page() else {
        return 0;
    };
    // SAFETY: the installed page is mapped for ever; Xen writes it concurrently, hence raw pointers and volatile reads.
    let now = unsafe {
        let time = &raw const (*page).vcpu_info[0].time;
        read_versioned(&raw const (*time).version, || {
            let info = ptr::read_volatile(time);
            system_time(&info, read_tsc())
        })
    };
    let latest = LATEST.load(Ordering::Relaxed).max(now);
    LATEST.store(latest, Ordering::Relaxed);
    latest
}

/// Unix time, nanoseconds; 0 when not on Xen. Follows corrections of the host's clock, so it may jump.
#[must_use]
pub fn wall_clock_ns() -> u64 {
    let Some(page) = shared_info::page() else {
        return 0;
    };
    // SAFETY: as in `now_ns`.
    let (seconds, nanoseconds) = unsafe { read_versioned(&raw const (*page).wc_version, || wall_clock_base(page)) };
    seconds
        .wrapping_mul(1_000_000_000)
        .wrapping_add(nanoseconds)
        .wrapping_add(now_ns())
}

/// # Safety
/// `page` is the installed shared info page.
unsafe fn wall_clock_base(page: *const SharedInfo) -> (u64, u64) {
    // SAFETY: the caller's promise.
    unsafe {
        let low = u64::from(ptr::read_volatile(&raw const (*page).wc_sec));
        let high = u64::from(ptr::read_volatile(&raw const (*page).wc_sec_hi));
        (
            high << 32 | low,
            u64::from(ptr::read_volatile(&raw const (*page).wc_nsec)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(shift: i8, mul: u32) -> VcpuTimeInfo {
        VcpuTimeInfo {
            tsc_timestamp: 1000,
            system_time: 5_000,
            tsc_to_system_mul: mul,
            tsc_shift: shift,
            ..Default::default()
        }
    }

    #[test]
    fn time_is_scaled_by_shift_and_multiplier() {
        assert_eq!(system_time(&scale(0, 1 << 31), 3000), 6_000);
        assert_eq!(system_time(&scale(1, 1 << 31), 3000), 7_000);
        assert_eq!(system_time(&scale(-1, 1 << 31), 3000), 5_500);
    }

    #[test]
    fn a_counter_behind_the_base_does_not_go_back() {
        assert_eq!(system_time(&scale(0, 1 << 31), 10), 5_000);
    }

    #[test]
    fn a_base_below_zero_is_a_base() {
        let info = VcpuTimeInfo {
            tsc_timestamp: 1000_u64.wrapping_neg(),
            ..scale(0, 1 << 31)
        };
        assert_eq!(system_time(&info, 1000), 6_000);
    }

    #[test]
    fn an_absurd_shift_does_not_panic() {
        assert_eq!(system_time(&scale(127, u32::MAX), u64::MAX), 5_000);
        assert_eq!(system_time(&scale(-128, u32::MAX), u64::MAX), 5_000);
    }

    #[test]
    fn without_xen_time_is_zero() {
        assert_eq!((now_ns(), wall_clock_ns()), (0, 0));
    }
}
