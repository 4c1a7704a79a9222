//! The self-test: the platform checks itself on real Xen, as dom0 without any other domain, or as an ordinary guest.
//!
//! Chosen by the word `selftest` on the command line, in the image that is shipped. One line per check, `selftest: NAME ok` or
//! `selftest: NAME FAILED: WHY`, then `selftest: PASS n checks` or `selftest: FAIL n of m checks`; then the domain powers off
//! (as dom0 it reboots, so that a QEMU that boots it under `-no-reboot` ends with status 0).
//!
//! The words `crash-panic`, `crash-fault` and `crash-overflow` end it in that way instead, after the checks.
//! With the word `selftest-restart` as well, it runs a second time after a restart in place, and checks what must have survived. Its text
//! goes to every console there is: a PVH domain whose console nobody reads yet is found in Xen's own log.

use crate::entry;
use crate::heap;
use crate::layout::{DURABLE, HEAP, PAGE_SIZE, WINDOWS};
use crate::traps::{Trap, probe};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use core::hint::black_box;
use xen_bindings::abi::numbers::{DOMID_SELF, VIRQ_TIMER};
use xen_bindings::console::Emergency;
use xen_bindings::domain::Interface;
use xen_bindings::evtchn::{self, Status};
use xen_bindings::grant::{GrantError, MAX_WINDOWS};
use xen_bindings::{Mode, Platform, XenError, counters, memory, shutdown, time};

type Outcome = Result<String, String>;
type Check = (&'static str, fn(&mut Platform) -> Outcome);

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1000 * MILLISECOND;
/// Written to the durable region before a warm restart.
const MARK: &[u8] = b"written before the restart";

/// Runs all checks and shuts the domain down.
pub fn run(mut platform: Platform) -> ! {
    let checks: [Check; 13] = [
        ("boot", boot),
        ("time", time_runs),
        ("invalid opcode", invalid_opcode),
        ("general protection", general_protection),
        ("page protection", page_protection),
        ("heap", heap_works),
        ("durable", durable),
        ("ports", ports),
        ("events", events),
        ("timer", timer),
        ("grants", grants),
        ("domains", domains),
        ("own ring", own_ring),
    ];
    let mut failed = 0;
    for (name, check) in checks {
        let outcome = check(&mut platform);
        failed += u32::from(outcome.is_err());
        let _ = match outcome {
            Ok(detail) => writeln!(
                Emergency,
                "selftest: {name} ok{}{detail}",
                if detail.is_empty() { "" } else { ": " }
            ),
            Err(why) => writeln!(Emergency, "selftest: {name} FAILED: {why}"),
        };
    }
    let restart = platform.command_line.contains("selftest-restart") && platform.restarts == 0;
    let _ = match failed {
        0 if restart => writeln!(
            Emergency,
            "selftest: {} checks passed, restarting in place",
            checks.len()
        ),
        0 => writeln!(Emergency, "selftest: PASS {} checks", checks.len()),
        _ => writeln!(Emergency, "selftest: FAIL {failed} of {} checks", checks.len()),
    };
    if failed == 0 && restart {
        platform.durable[PAGE_SIZE..PAGE_SIZE + MARK.len()].copy_from_slice(MARK);
        entry::warm_start()
    }
    crash_on_request(platform.command_line);
    if platform.own_domid == 0 {
        shutdown::reboot()
    }
    shutdown::poweroff()
}

/// Ends in the way that a word of the command line names, to show what the report of such an end looks like.
fn crash_on_request(command_line: &str) {
    let asked = |word| command_line.split([' ', ',']).any(|given| given == word);
    if asked("crash-panic") {
        panic!("asked for on the command line");
    }
    if asked("crash-fault") {
        write_byte((&raw const entry::data_load).addr());
    }
    if asked("crash-overflow") {
        use_up_stack(1);
    }
}

/// Calls itself until the stack is used up.
#[allow(unconditional_recursion)]
fn use_up_stack(depth: u64) -> u64 {
    black_box(use_up_stack(black_box(depth + 1)) + depth)
}

/// `Err` with a description unless `condition`.
fn ensure(condition: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(why()) }
}

fn xen<T>(what: &str, result: Result<T, XenError>) -> Result<T, String> {
    result.map_err(|error| format!("{what}: {error}"))
}

fn boot(platform: &mut Platform) -> Outcome {
    let figures = platform.memory;
    let sum = figures.image_bytes + figures.heap_bytes + figures.durable_bytes + figures.tables_bytes;
    // After a restart the heap and the durable region may be larger than the domain began with.
    let adds_up = sum == figures.reservation_bytes || platform.restarts > 0;
    ensure(adds_up, || format!("memory does not add up: {figures:?}"))?;
    ensure(platform.restarts <= 1, || format!("{} restarts", platform.restarts))?;
    let stack = black_box([0_u8; 64]);
    let address = stack.as_ptr().addr();
    let (guard, top) = (
        (&raw const entry::stack_guard).addr(),
        (&raw const entry::trap_stack_guard).addr(),
    );
    ensure((guard..top).contains(&address), || format!("stack at {address:#x}"))?;
    Ok(format!(
        "{} Xen {}.{} start {}",
        platform.mode, platform.xen_version.0, platform.xen_version.1, platform.restarts
    ))
}

fn time_runs(_: &mut Platform) -> Outcome {
    let start = time::now_ns();
    let mut previous = start;
    for _ in 0..10_000 {
        let now = time::now_ns();
        ensure(now >= previous, || format!("{now} after {previous}"))?;
        previous = now;
    }
    ensure(previous > start, || "time stands still".into())?;
    let year_2020 = 1_577_836_800 * SECOND;
    let wall = time::wall_clock_ns();
    ensure(wall > year_2020, || format!("wall clock {wall}"))?;
    Ok(format!("10000 readings, {} ns each", (previous - start) / 10_000))
}

extern "sysv64" fn execute_ud2(_: usize) {
    // SAFETY: the trap is what is wanted; `probe` goes on.
    unsafe { core::arch::asm!("ud2") };
}

extern "sysv64" fn read_non_canonical(_: usize) {
    read_byte(1 << 63 | 1);
}

extern "sysv64" fn read_byte(address: usize) {
    // SAFETY: either the byte can be read, or the trap is what is wanted.
    black_box(unsafe { (address as *const u8).read_volatile() });
}

/// Writes back what is there, so that nothing changes even where writing is allowed.
extern "sysv64" fn write_byte(address: usize) {
    // SAFETY: as for `read_byte`; the value stays the same.
    unsafe {
        let pointer = address as *mut u8;
        pointer.write_volatile(pointer.read_volatile());
    }
}

extern "sysv64" fn call(address: usize) {
    // SAFETY: the bytes there are a `ret`, or the trap is what is wanted.
    let function: extern "sysv64" fn() = unsafe { core::mem::transmute(address) };
    function();
}

fn expect_vector(trap: Option<Trap>, vector: u64) -> Outcome {
    match trap {
        Some(trap) if trap.vector == vector => Ok(String::new()),
        other => Err(format!("expected vector {vector}, got {other:?}")),
    }
}

fn invalid_opcode(_: &mut Platform) -> Outcome {
    expect_vector(probe(execute_ud2, 0), 6)
}

fn general_protection(_: &mut Platform) -> Outcome {
    expect_vector(probe(read_non_canonical, 0), 13)
}

fn page_protection(platform: &mut Platform) -> Outcome {
    let fault = |what: &str, function, address: usize| match probe(function, address) {
        Some(Trap {
            vector: 14,
            address: reported,
        }) if reported == address => Ok(()),
        other => Err(format!("{what} at {address:#x}: expected a page fault, got {other:?}")),
    };
    let fine = |what: &str, function, address: usize| {
        probe(function, address).map_or(Ok(()), |trap| Err(format!("{what} at {address:#x}: {trap:?}")))
    };
    // `ret`, in memory that can be read, and in memory that can be written.
    static CONSTANT_RET: [u8; 1] = [0xc3];
    let heap_ret = Box::new(0xc3_u8);
    platform.durable[0] = 0xc3;
    let text = (execute_ud2 as *const ()).addr();
    fine("reading text", read_byte, text)?;
    fault("writing text", write_byte, text)?;
    fine("reading a constant", read_byte, CONSTANT_RET.as_ptr().addr())?;
    fault("writing a constant", write_byte, CONSTANT_RET.as_ptr().addr())?;
    fault("executing a constant", call, CONSTANT_RET.as_ptr().addr())?;
    fine("writing the heap", write_byte, (&raw const *heap_ret).addr())?;
    fault("executing the heap", call, (&raw const *heap_ret).addr())?;
    fault("executing durable memory", call, platform.durable.as_ptr().addr())?;
    platform.durable[0] = 0;
    let stack_ret = black_box([0xc3_u8; 16]);
    fault("executing the stack", call, stack_ret.as_ptr().addr())?;
    fault(
        "writing the pristine data",
        write_byte,
        (&raw const entry::data_load).addr(),
    )?;
    // Behind the image: nothing (PVH), or the builder's lists, read-only (PV).
    fault(
        "writing behind the image",
        write_byte,
        (&raw const entry::image_end).addr(),
    )?;
    fine("writing zeroed data", write_byte, (&raw const entry::bss_start).addr())?;
    for guard in [
        0,
        0x1000,
        (&raw const entry::stack_guard).addr(),
        (&raw const entry::trap_stack_guard).addr(),
        (&raw const entry::second_stack_guard).addr(),
        (&raw const entry::upcall_stack_guard).addr(),
        HEAP.base - 1,
        HEAP.page(memory::heap_usage().1 / PAGE_SIZE),
        DURABLE.base - 1,
        DURABLE.page(platform.durable.len() / PAGE_SIZE),
        WINDOWS.base,
        WINDOWS.page(WINDOWS.limit),
    ] {
        fault("reading a guard", read_byte, guard)?;
    }
    Ok("12 guards, no page both writable and executable".into())
}

fn heap_works(_: &mut Platform) -> Outcome {
    let (used_before, size) = memory::heap_usage();
    let mut map = BTreeMap::new();
    for key in 0..2000_u64 {
        map.insert(key.wrapping_mul(0x9e37_79b9_7f4a_7c15), format!("value {key}"));
    }
    ensure(map.values().map(String::len).sum::<usize>() == 18_890, || {
        "values changed".into()
    })?;
    let mut blocks = Vec::new();
    for round in 0..300_usize {
        let mut block: Vec<u8> = Vec::new();
        block.resize(round * 7 + 1, round as u8);
        blocks.push(block);
        if round % 3 == 0 {
            blocks.swap_remove(round / 3);
        }
    }
    ensure(
        blocks
            .iter()
            .all(|block| block.windows(2).all(|pair| pair[0] == pair[1])),
        || "blocks overlap".into(),
    )?;
    drop((map, blocks));
    heap::flush();
    let used = memory::heap_usage().0;
    ensure(used == used_before, || {
        format!("{used} bytes in use, before {used_before}")
    })?;
    let mut impossible: Vec<u8> = Vec::new();
    ensure(impossible.try_reserve_exact(1 << 40).is_err(), || {
        "a TiB was allocated".into()
    })?;
    Ok(format!("{} KiB", size / 1024))
}

fn durable(platform: &mut Platform) -> Outcome {
    let warm = platform.restarts > 0;
    let durable = &mut platform.durable;
    ensure(
        durable.as_ptr().addr().is_multiple_of(PAGE_SIZE) && durable.len().is_multiple_of(PAGE_SIZE),
        || "not whole pages".into(),
    )?;
    if warm {
        ensure(durable[PAGE_SIZE..].starts_with(MARK), || {
            "the mark of the first start is gone".into()
        })?;
        return Ok("the mark of the first start is there".into());
    }
    ensure(durable.iter().all(|&byte| byte == 0), || {
        "not zero at the cold start".into()
    })?;
    for (index, page) in durable.chunks_exact_mut(PAGE_SIZE).enumerate() {
        page[..4].copy_from_slice(&(index as u32).to_le_bytes());
    }
    let distinct = durable
        .chunks_exact(PAGE_SIZE)
        .enumerate()
        .all(|(index, page)| page[..4] == (index as u32).to_le_bytes());
    ensure(distinct, || "two addresses are one page".into())?;
    durable.fill(0);
    let mut detail = format!("{} KiB", durable.len() / 1024);
    if platform.memory.maximum_bytes > platform.memory.reservation_bytes {
        let more = memory::grow_durable(3).ok_or("it does not grow")?;
        ensure(
            more.as_ptr().addr() == platform.durable.as_ptr_range().end.addr(),
            || "it grew elsewhere".into(),
        )?;
        ensure(
            more.len() == memory::DURABLE_UNIT && more.iter().all(|&byte| byte == 0),
            || "not zero".into(),
        )?;
        grow_heap()?;
        let _ = write!(
            detail,
            ", grew by 32 KiB; heap grew to {} KiB",
            memory::heap_usage().1 / 1024
        );
    }
    Ok(detail)
}

/// Allocates until the heap is larger than it was.
fn grow_heap() -> Result<(), String> {
    const BLOCK: usize = 16 * 1024;
    let (_, size) = memory::heap_usage();
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    while memory::heap_usage().1 == size {
        let mut block = Vec::new();
        block.try_reserve_exact(BLOCK).map_err(|_| "the heap does not grow")?;
        block.resize(BLOCK, 1);
        blocks.push(block);
    }
    Ok(())
}

fn ports(platform: &mut Platform) -> Outcome {
    let port = xen("alloc_unbound", evtchn::alloc_unbound(DOMID_SELF))?;
    let status = xen("status", evtchn::status(port))?;
    ensure(
        status
            == Status::Unbound {
                remote: platform.own_domid,
            },
        || format!("{status:?}"),
    )?;
    evtchn::close(port);
    let status = xen("status", evtchn::status(port))?;
    ensure(status == Status::Closed, || format!("{status:?} after close"))?;
    let again = evtchn::bind_virq(VIRQ_TIMER);
    ensure(again == Err(XenError::EEXIST), || {
        format!("a second binding of the timer: {again:?}")
    })?;
    let is_timer = |(_, status)| status == Status::Virq(VIRQ_TIMER);
    ensure(evtchn::bound_ports().any(is_timer), || {
        "the timer's port is not found".into()
    })?;
    let missing = evtchn::bind_interdomain(platform.own_domid, 4095);
    ensure(missing.is_err(), || format!("bound to nothing: {missing:?}"))?;
    Ok(format!("{} bound", evtchn::bound_ports().count()))
}

/// 1000 times: send an event to oneself, then wait for it. A lost wake-up would leave the wait to its deadline.
fn events(platform: &mut Platform) -> Outcome {
    let listening = xen("alloc_unbound", evtchn::alloc_unbound(DOMID_SELF))?;
    let sending = xen(
        "bind_interdomain",
        evtchn::bind_interdomain(platform.own_domid, listening.0),
    )?;
    platform.events.drain(|_| {});
    let before = counters::read();
    let start = time::now_ns();
    let mut late = 0;
    for round in 0..1000 {
        // A wait whose time is over: it does not block, and leaves nothing announced, so that the next event causes an upcall.
        platform.events.wait(Some(time::now_ns()));
        evtchn::notify(sending);
        let mut seen = 0;
        let deadline = time::now_ns() + SECOND;
        while seen == 0 && time::now_ns() < deadline {
            // Every other round looks only after the block, as after an event that came between look and block.
            if round % 2 == 0 {
                platform.events.wait(Some(deadline));
            } else {
                wait_without_looking(platform);
            }
            platform.events.drain(|port| seen += u32::from(port == listening));
        }
        late += u32::from(seen != 1);
    }
    let after = counters::read();
    let elapsed = time::now_ns() - start;
    ensure(late == 0, || format!("{late} of 1000 wake-ups lost or doubled"))?;
    ensure(after.notifies - before.notifies == 1000, || {
        format!("{} notifies", after.notifies - before.notifies)
    })?;
    ensure(after.notify_failures == 0, || {
        format!("{} notifies failed", after.notify_failures)
    })?;
    // Masked, an event wakes nobody; unmasked, it is still there.
    evtchn::mask(listening);
    evtchn::notify(sending);
    ensure(!platform.events.any_pending(), || "a masked port is reported".into())?;
    evtchn::unmask(listening);
    ensure(platform.events.any_pending(), || "unmasking lost the event".into())?;
    platform.events.drain(|_| {});
    evtchn::close(sending);
    evtchn::close(listening);
    Ok(format!(
        "1000 pairs, {} ns each, {} blocks, {} upcalls",
        elapsed / 1000,
        after.blocks - before.blocks,
        after.upcalls - before.upcalls
    ))
}

/// Blocks although an event is pending: the stub itself must not sleep then.
fn wait_without_looking(platform: &Platform) {
    let wait = match platform.mode {
        Mode::Pv => crate::wait::wait_pv,
        Mode::Pvh => crate::wait::wait_pvh,
    };
    // SAFETY: the stub of this mode; upcalls are off.
    unsafe { wait() };
}

fn timer(platform: &mut Platform) -> Outcome {
    platform.events.drain(|_| {});
    let mut worst = 0;
    for _ in 0..10 {
        let deadline = time::now_ns() + 5 * MILLISECOND;
        let mut rounds = 0;
        while time::now_ns() < deadline {
            platform.events.wait(Some(deadline));
            platform.events.drain(|_| {});
            rounds += 1;
            ensure(rounds < 100, || "the wait does not wait".into())?;
        }
        worst = worst.max(time::now_ns() - deadline);
    }
    ensure(worst < SECOND, || format!("woken {worst} ns late"))?;
    let before = counters::read().blocks;
    platform.events.wait(Some(time::now_ns()));
    ensure(counters::read().blocks == before, || {
        "a deadline in the past blocked".into()
    })?;
    Ok(format!("10 waits of 5 ms, at most {} us late", worst / 1000))
}

/// No other domain is needed to see that mappings that cannot be are refused, and that windows are not used up by that.
fn grants(platform: &mut Platform) -> Outcome {
    let nobody = platform.windows.map(0x7000, 1).err();
    ensure(nobody == Some(GrantError::NoDomain), || {
        format!("a grant of no domain: {nobody:?}")
    })?;
    for _ in 0..3 {
        let refused = platform.windows.map(platform.own_domid, 3).err();
        ensure(refused.is_some(), || "a grant that was never made was mapped".into())?;
    }
    ensure(platform.windows.in_use() == 0, || {
        format!("{} windows in use", platform.windows.in_use())
    })?;
    Ok(format!("{MAX_WINDOWS} windows, refusals as expected"))
}

/// As a client of whoever serves this host.
#[cfg(feature = "image")]
fn own_ring(platform: &mut Platform) -> Outcome {
    kernel::check_own_ring(platform)
}

#[cfg(not(feature = "image"))]
fn own_ring(_: &mut Platform) -> Outcome {
    Ok("this image knows no Xenstore".into())
}

fn domains(platform: &mut Platform) -> Outcome {
    let watch = &platform.domain_watch;
    let interface = watch.interface();
    if let Interface::Nothing { answer } = interface {
        return Ok(format!("Xen does not let this domain ask ({answer})"));
    }
    let own = watch.state(platform.own_domid);
    ensure(own.exists && !own.shutdown && !own.dead, || {
        format!("own state {own:?}")
    })?;
    let other = watch.state(0x6fff);
    ensure(!other.exists, || format!("a domain that is not there: {other:?}"))?;
    Ok(format!("{interface:?}"))
}
