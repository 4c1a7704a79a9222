//! A guest that asks the same short READ again and again between two points of Xen's system time, together with all others of its kind.
//!
//! What is to be done stands in `/bench/go`, which all of them watch: `ID START END GREEDY`, the times in nanoseconds. Each asks one
//! request after the other; the domain `GREEDY` (none: 0) has as many under way as its ring and the server's limits let it. Then it
//! writes `ID ok requests=… p50=… p99=… max=…` into `data/report`, or `ID late` if it heard of it after the start. `clock DOMID` asks
//! that domain for the time: its report is `clock NANOSECONDS`.

use alloc::format;
use alloc::string::{String, ToString};

use xen_bindings::time;
use xenstore_wire::{Errno, MessageType};

use crate::failure::Failure;
use crate::latency::Latencies;
use crate::log::Log;
use crate::store::Store;

const GO: &str = "/bench/go";
const REPORT: &str = "data/report";
const VALUE: &str = "data/ping";

/// What `/bench/go` says.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Order {
    /// Tell the time, whoever has this number.
    Clock(u16),
    /// Ask.
    Ask {
        id: String,
        start: u64,
        end: u64,
        greedy: u16,
    },
}

impl Order {
    fn parse(text: &str) -> Option<Order> {
        let mut words = text.split(' ');
        let id = words.next()?;
        if id == "clock" {
            return Some(Order::Clock(words.next()?.parse().ok()?));
        }
        Some(Order::Ask {
            id: id.into(),
            start: words.next()?.parse().ok()?,
            end: words.next()?.parse().ok()?,
            greedy: words.next()?.parse().ok()?,
        })
    }
}

/// Does what it is told, for ever.
pub fn run(store: &mut Store, log: &mut Log, own_domid: u16) -> ! {
    let Err(failure) = follow(store, own_domid);
    log.line(&format!("bench FAILED {failure}"));
    store.sleep_for_ever()
}

fn follow(store: &mut Store, own_domid: u16) -> Result<core::convert::Infallible, Failure> {
    store.write(0, VALUE, b"ping")?;
    store.watch(GO, "go")?;
    store.write(0, REPORT, b"ready")?;
    loop {
        store.watch_event_some_day()?;
        // One look for all that has been told meanwhile.
        store.take_events();
        let order = match store.read(0, GO) {
            Ok(order) => String::from_utf8_lossy(&order).into_owned(),
            Err(Failure::Refused(Errno::ENOENT)) => continue,
            Err(failure) => return Err(failure),
        };
        let report = match Order::parse(&order) {
            Some(Order::Clock(domid)) if domid != own_domid => continue,
            Some(Order::Clock(_)) => format!("clock {}", time::now_ns()),
            Some(Order::Ask { id, start, .. }) if time::now_ns() > start => format!("{id} late"),
            Some(Order::Ask { id, start, end, greedy }) => {
                store.sleep(start.saturating_sub(time::now_ns()));
                store.latencies = Latencies::default();
                if greedy == own_domid {
                    many_at_once(store, end)?;
                } else {
                    one_by_one(store, end)?;
                }
                let times = core::mem::take(&mut store.latencies);
                format!("{id} ok {times}")
            }
            None => return Err(Failure::Strange(format!("{GO} says {:?}", order.to_string()))),
        };
        store.write(0, REPORT, report.as_bytes())?;
    }
}

fn one_by_one(store: &mut Store, end: u64) -> Result<(), Failure> {
    while time::now_ns() < end {
        store.read(0, VALUE)?;
    }
    Ok(())
}

/// One more request as soon as there is room for it.
fn many_at_once(store: &mut Store, end: u64) -> Result<(), Failure> {
    let mut under_way = 0;
    while time::now_ns() < end {
        let request = store.encode(MessageType::Read.to_wire(), 0, format!("{VALUE}\0").as_bytes());
        store.send(&request)?;
        under_way += 1;
        for _ in 0..store.replies_so_far()? {
            under_way -= 1;
            store.latencies.count();
        }
    }
    for _ in 0..under_way {
        store.reply()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_says_when_and_who_is_greedy() {
        let ask = Order::Ask {
            id: "7".into(),
            start: 10,
            end: 20,
            greedy: 3,
        };
        assert_eq!(Order::parse("7 10 20 3"), Some(ask));
        assert_eq!(Order::parse("clock 4"), Some(Order::Clock(4)));
        assert_eq!(Order::parse("7 10 20"), None);
        assert_eq!(Order::parse(""), None);
    }
}
