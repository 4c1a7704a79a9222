//! What a request may still use, as far as the model of `model-tests` does not know it: the room of a store that is nearly full,
//! the memory of the server, and what the log says of refusals and of domains at their limits.
//!
//! Who may add to a nearly full store are exactly those that the rules of `share` and of the reserve allow, to the byte. The rules
//! are said here once more, from what anyone can see: the room that the tree has, what a change costs at most, and what domains are
//! charged with. Full stores are made at random; then it is looked for how long a value may be, and the rules must say the same of
//! that length and of the next one.
#![forbid(unsafe_code)]

mod oracle;

use std::collections::BTreeMap;

use oracle::{DOM0, Host, Random, parent};
use xenstore_core::{Account, Action, Configuration, Limit, Quotas, Record};
use xenstore_wire::MessageType::{self, *};
use xenstore_wire::Path;

/// Guests of each store.
const GUESTS: u16 = 4;
/// The longest value that is tried.
const LONGEST: usize = 2500;
/// Full stores that are looked at.
const STORES: u64 = 240;

/// One node that a request makes or changes.
struct Change {
    path: String,
    value: usize,
    entries: usize,
    /// Whose it is.
    owner: u16,
    /// The length of its value before, if it is there.
    before: Option<usize>,
}

/// Why a request is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Refused {
    Room,
    Share,
}

fn account(host: &Host, domid: u16) -> Account {
    let mut domains = host.server.domains();
    domains
        .find(|(known, _)| known.0 == domid)
        .map_or(Account::default(), |(_, domain)| domain.account)
}

/// What the nodes of an account take with this added: three eighths more than their bytes, and 96 each.
fn takes(account: &Account, (nodes, bytes): (i64, i64)) -> i64 {
    let bytes = account.node_bytes + account.transaction_bytes + bytes;
    let things = account.nodes + account.transaction_items + nodes;
    bytes + bytes * 3 / 8 + 96 * things
}

/// Half of the whole, halved again with each tenth that is taken.
fn largest(room: i64, held: i64) -> i64 {
    let tenths = if room + held == 0 { 0 } else { held * 10 / (room + held) };
    (room + held) >> (tenths.min(9) + 1)
}

/// What the rules say of these changes, one after the other.
fn rule(host: &Host, caller: u16, changes: &[Change]) -> Option<Refused> {
    let tree = host.server.tree();
    let (room, with_reserve) = (tree.room(), tree.room_with_reserve());
    let (mut added, mut charged) = (0, BTreeMap::<u16, (i64, i64)>::new());
    for change in changes {
        let longer = change.before.is_none_or(|before| change.value > before);
        let grows = longer && (change.before.is_none() || change.value > 32);
        let payload = change.value + 4 * change.entries;
        let path = Path::new(&change.path).unwrap();
        let limit = match (caller, grows) {
            (0, _) => with_reserve,
            (_, true) => room,
            (_, false) => (room + with_reserve) / 2,
        };
        if added + tree.cost_of(tree.current(), path, payload) > limit {
            return Some(Refused::Room);
        }
        added += payload + path.name().len() + 128;
        let mut charge = |owner: u16, nodes: i64, bytes: usize| {
            let all = charged.entry(owner).or_default();
            (all.0, all.1) = (all.0 + nodes, all.1 + bytes as i64);
        };
        match change.before {
            None => {
                // The name stands in the node above, too.
                let above = host.permissions(parent(&change.path).unwrap());
                charge(
                    above.map_or(change.owner, |list| list[0].domid.0),
                    0,
                    path.name().len() + 1,
                );
                charge(
                    change.owner,
                    1,
                    16 + 8 * change.entries + change.value + change.path.len(),
                );
            }
            Some(before) => charge(change.owner, 0, change.value.saturating_sub(before)),
        }
        if caller == 0 || !grows {
            continue;
        }
        let after = |domid: u16| takes(&account(host, domid), charged.get(&domid).copied().unwrap_or_default());
        let now = |domid: u16| takes(&account(host, domid), (0, 0));
        let held: i64 = (1..=GUESTS).map(after).sum();
        let more = held - (1..=GUESTS).map(now).sum::<i64>();
        let most = largest((tree.room() as i64 - more).max(0), held);
        if [change.owner, caller]
            .iter()
            .any(|domid| *domid != 0 && after(*domid) > most)
        {
            return Some(Refused::Share);
        }
    }
    None
}

/// Lines for the log.
fn lines(record: &Record) -> Vec<&str> {
    let lines = record.actions.iter().filter_map(|action| match action {
        Action::Log { line, .. } => Some(line.as_str()),
        _ => None,
    });
    lines.collect()
}

/// What the server says.
fn said(record: &Record) -> Option<Refused> {
    let message = &record.outputs.last().unwrap().message.bytes;
    if message[16..] == *b"OK\0" {
        return None;
    }
    assert_eq!(message[16..], *b"ENOSPC\0");
    let lines = lines(record);
    let line = lines
        .iter()
        .find(|line| line.contains(" refused, the store has "))
        .unwrap();
    let by_share = line.contains("of room left, for domains that have up to ");
    Some(if by_share { Refused::Share } else { Refused::Room })
}

fn change(host: &Host, path: &str, value: usize, owner: u16) -> Change {
    let node = host.node(path);
    Change {
        path: path.into(),
        value,
        entries: node.map_or(1, |node| node.permissions().iter().count()),
        owner: node.map_or(owner, |node| node.permissions().owner().0),
        before: node.map(|node| node.value().len()),
    }
}

/// A host with two guests at home and these limits.
fn limited(limits: &[(Limit, u32)]) -> Host {
    let mut quotas = Quotas::default();
    for limit in Limit::ALL {
        quotas.set(limit, 0);
    }
    for (limit, value) in limits {
        quotas.set(*limit, *value);
    }
    let configuration = Configuration {
        quotas,
        ..Configuration::default()
    };
    let mut host = Host::with(configuration, 2);
    for domid in [1, 2] {
        host.ask(DOM0, Mkdir, 0, &format!("/local/domain/{domid}|"));
        host.ask(DOM0, SetPerms, 0, &format!("/local/domain/{domid}|b{domid}|"));
    }
    host
}

/// A store with little room left.
fn full(random: &mut Random) -> Host {
    let mut quotas = Quotas::default();
    for limit in Limit::ALL {
        quotas.set(limit, 0);
    }
    let configuration = Configuration {
        quotas,
        ..Configuration::default()
    };
    let mut host = Host::with_memory(configuration, GUESTS, 512 << 10);
    for domid in 1..=GUESTS {
        let home = format!("/local/domain/{domid}");
        host.ask(DOM0, Mkdir, 0, &format!("{home}|"));
        host.ask(DOM0, SetPerms, 0, &format!("{home}|b{domid}|"));
    }
    let most = random.of(&[1, 6, 120]);
    let busy = random.below(most);
    for _ in 0..busy {
        let domid = 1 + random.below(usize::from(GUESTS)) as u16;
        let value = "v".repeat(random.below(3000));
        let node = ["a", "b", "c", "d/e", "f/g/h"][random.below(5)];
        host.ask(
            DOM0 + u32::from(domid),
            Write,
            0,
            &format!("{node}{}|{value}", random.below(4)),
        );
    }
    if random.below(2) == 0 {
        let open = host.begin(DOM0 + 1);
        for number in 0..random.below(30) {
            host.ask(DOM0 + 1, Read, open, &format!("what is not there {number}|"));
            host.ask(DOM0 + 1, Read, open, &format!("missing-{number}|"));
        }
    }
    // The privileged domain takes the rest, but for so much.
    let left = [0, 2000, 5000, 9000, 60_000][random.below(5)] + random.below(4000);
    let number = &mut 0;
    for size in [3000, 200, 1] {
        while host.server.tree().room() > left + 2 * size + 2000 * usize::from(size > 200) && *number < 4000 {
            *number += 1;
            host.ask(
                DOM0,
                Write,
                0,
                &format!("/data/{}/{number}|{}", *number % 7, "w".repeat(size)),
            );
        }
    }
    host
}

/// Compares for the longest value that is granted, and the next one.
fn compare(host: &Host, caller: u16, kind: MessageType, target: &str, changes: impl Fn(usize) -> Vec<Change>) {
    let ask = |value: usize| {
        let request = format!("{target}|{}", "x".repeat(value));
        said(&host.would(DOM0 + u32::from(caller), kind, 0, &request))
    };
    let (mut granted, mut refused) = (0, LONGEST);
    while refused - granted > 1 {
        let middle = granted.midpoint(refused);
        if ask(middle).is_none() {
            granted = middle;
        } else {
            refused = middle;
        }
    }
    for value in [0, 31, 32, 33, granted, refused] {
        let (rule, said) = (rule(host, caller, &changes(value)), ask(value));
        assert_eq!(said, rule, "domain {caller}: {target} with {value} bytes");
    }
}

#[test]
fn a_nearly_full_store_grants_to_the_byte_what_the_rules_allow() {
    for seed in 0..STORES {
        let mut random = Random::new(seed);
        let mut host = full(&mut random);
        let home = "/local/domain/1";
        for (domid, longest) in [(0, 60), (1, 60), (2, 60), (1, 600), (2, 600)] {
            let new = format!("{home}/{}", "n".repeat(1 + random.below(longest)));
            let owner = if domid == 0 { 1 } else { domid };
            compare(&host, domid, Write, &new, |value| {
                vec![change(&host, &new, value, owner)]
            });
            let below = format!("{new}/below");
            compare(&host, domid, Write, &below, |value| {
                vec![change(&host, &new, 0, owner), change(&host, &below, value, owner)]
            });
            let mut known = host.below(home);
            known.truncate(4);
            for path in known {
                compare(&host, domid, Write, &path, |value| vec![change(&host, &path, value, 0)]);
            }
        }
        // After some more work it must still be so.
        host.ask(DOM0 + 1, Write, 0, "a0|changed");
        host.ask(DOM0 + 2, Rm, 0, "a0|");
        let path = format!("{home}/a0");
        compare(&host, 1, Write, &path, |value| vec![change(&host, &path, value, 1)]);
    }
}

/// A longer list of permissions needs room, as a new node does; one that is as long as before may use half of the reserve.
#[test]
fn permissions_are_granted_to_the_byte_too() {
    let mut answers = [[0; 2]; 2];
    for seed in 0..STORES {
        let host = full(&mut Random::new(seed));
        let tree = host.server.tree();
        let mut paths = host.below("/local/domain/1");
        paths.truncate(3);
        paths.push("/local/domain/1".into());
        for path in paths {
            let node = host.node(&path).unwrap();
            let before = node.permissions().iter().count();
            for count in [before, before + 1, before + 40, before + 200] {
                let payload = node.value().len() + 4 * count;
                let needed = tree.cost_of(tree.current(), Path::new(&path).unwrap(), payload);
                let room = match count > before {
                    true => tree.room(),
                    false => (tree.room() + tree.room_with_reserve()) / 2,
                };
                let list = "|r2".repeat(count - 1);
                let record = host.would(DOM0 + 1, SetPerms, 0, &format!("{path}|b1{list}|"));
                let granted = said(&record).is_none();
                assert_eq!(granted, needed <= room, "seed {seed}: {path} with {count} entries");
                answers[usize::from(count > before)][usize::from(granted)] += 1;
            }
        }
    }
    println!("as long as before, longer: refused, granted: {answers:?}");
    assert!(
        answers[1][0] > 20 && answers[0][1] > 20 && answers[1][1] > 20,
        "{answers:?}"
    );
}

#[test]
fn who_has_no_heap_left_is_refused_and_the_log_says_so() {
    let mut host = Host::without_limits(2);
    host.server.set_limits(80_000, 1 << 30);
    assert_eq!(host.ask(DOM0 + 1, Watch, 0, "a|x|").reply, "OK|");
    let mut count = 0;
    let refused = loop {
        let (answer, record) = host.ask_and_keep(DOM0 + 1, Watch, 0, &format!("a|{count}|"));
        if answer.reply != "OK|" {
            assert_eq!(answer.reply, "!ENOMEM");
            break record;
        }
        count += 1;
        assert!(count < 50);
    };
    let told = lines(&refused);
    assert!(
        told.len() == 1
            && told[0].starts_with("domain 1: WATCH refused, the store has ")
            && told[0].contains(" of memory left, "),
        "{told:?}"
    );
    // The privileged domain has no limit.
    for number in 0..50 {
        assert_eq!(host.ask(DOM0, Watch, 0, &format!("/a|{number}|")).reply, "OK|");
    }
    assert_eq!(host.ask(DOM0 + 2, TransactionStart, 0, "|").reply, "!ENOMEM");
}

/// Where guests have next to nothing only the room counts: its last bytes, taken one small node after the other.
#[test]
fn the_last_room_is_granted_to_the_byte() {
    let mut host = Host::with_memory(Configuration::default(), GUESTS, 512 << 10);
    host.ask(DOM0, Mkdir, 0, "/local/domain/1|");
    host.ask(DOM0, SetPerms, 0, "/local/domain/1|b1|");
    let mut answers = [0; 2];
    for number in 0..9000 {
        let size = if host.server.tree().room() > 40_000 { 1500 } else { 1 };
        host.ask(
            DOM0,
            Write,
            0,
            &format!("/data/{}/{number}|{}", number % 9, "w".repeat(size)),
        );
        if size > 1 {
            continue;
        }
        for length in [5, 30, 40, 50, 60, 80] {
            let new = format!("/local/domain/1/{}", "n".repeat(length));
            let below = format!("{new}/below");
            let changes = [change(&host, &new, 0, 1), change(&host, &below, 9, 1)];
            let (rule, said) = (
                rule(&host, 1, &changes),
                said(&host.would(DOM0 + 1, Write, 0, &format!("{below}|{}", "x".repeat(9)))),
            );
            assert_eq!(
                said,
                rule,
                "a name of {length} bytes, {} of room",
                host.server.tree().room()
            );
            answers[usize::from(said.is_none())] += 1;
        }
        if host.server.tree().room() == 0 {
            break;
        }
    }
    assert!(answers.iter().all(|count| *count > 100), "{answers:?}");
}

/// The longest token with which guest 1 may watch, and what the rule says of it and of the next one: an account may grow that is
/// small enough for what is left then.
fn compare_heap(host: &Host, limit: i64) {
    let cost = |token: usize| 768 + 2 * ("/a".len() + token) as i64;
    let rule = |token: usize| {
        let (held, privileged) = (host_heap(host, 1..=GUESTS), host_heap(host, 0..=0));
        let after = limit - held - privileged - cost(token);
        after >= 0 && account(host, 1).heap_bytes + cost(token) <= largest(after, held + cost(token))
    };
    let ask = |token: usize| {
        let record = host.would(DOM0 + 1, Watch, 0, &format!("/a|{}|", "t".repeat(token)));
        record.outputs[0].message.bytes[16..] == *b"OK\0"
    };
    let (mut granted, mut refused) = (0usize, 3000usize);
    while refused - granted > 1 {
        let middle = granted.midpoint(refused);
        *(if ask(middle) { &mut granted } else { &mut refused }) = middle;
    }
    for token in [0, 1, granted, refused] {
        assert_eq!(ask(token), rule(token), "a token of {token} bytes, limit {limit}");
    }
}

fn host_heap(host: &Host, domids: std::ops::RangeInclusive<u16>) -> i64 {
    domids.map(|domid| account(host, domid).heap_bytes).sum()
}

#[test]
fn the_memory_of_the_server_is_granted_to_the_byte() {
    let mut host = Host::without_limits(GUESTS);
    for number in 0..650 {
        host.ask(DOM0 + 2, Watch, 0, &format!("/b|{number}{}|", "t".repeat(4000)));
        host.ask(DOM0 + 3, Watch, 0, &format!("/b|{number}|"));
        if number % 50 == 0 {
            let taken = host_heap(&host, 0..=GUESTS);
            for more in [
                0,
                1606,
                2000,
                4000,
                30_000,
                100_000,
                taken / 9,
                taken / 2,
                taken * 9,
                taken * 20,
            ] {
                let limit = taken + more;
                host.server.set_limits(limit as u64, 1 << 40);
                compare_heap(&host, limit);
            }
            host.server.set_limits(u64::MAX, u64::MAX);
        }
    }
}

#[test]
fn what_a_transaction_looks_at_or_writes_again_takes_nothing_more() {
    let mut host = Host::without_limits(1);
    let guest = DOM0 + 1;
    host.ask(DOM0, Mkdir, 0, "/local/domain/1|");
    host.ask(DOM0, SetPerms, 0, "/local/domain/1|n1|");
    let open = host.begin(guest);
    host.ask(guest, Read, open, "/local/domain/1|");
    let looked = account(&host, 1);
    // Once as what it has observed, once as what it uses.
    assert_eq!(looked.transaction_bytes, 2 * "/local/domain/1".len() as i64);
    assert_eq!(looked.transaction_items, 1);
    host.ask(guest, Read, open, "/local/domain/1|");
    host.ask(guest, Directory, open, "/local/domain/1|");
    assert_eq!(account(&host, 1), looked);
    host.ask(guest, Write, open, "a|value");
    let wrote = account(&host, 1);
    host.ask(guest, Write, open, "a|other");
    assert_eq!(account(&host, 1), wrote);
    host.ask(guest, Write, open, "a|longer by six");
    host.ask(guest, Write, open, "a|value");
    assert_eq!(account(&host, 1), wrote);
    host.commit(guest, open);
    let after = account(&host, 1);
    assert_eq!((after.transaction_bytes, after.transaction_items), (0, 0));
}

#[test]
fn a_refusal_is_logged_with_who_met_which_limit() {
    let mut host = limited(&[(Limit::Watches, 3), (Limit::Memory, 1000)]);
    let guest = DOM0 + 1;
    for token in ["x", "y"] {
        let (answer, record) = host.ask_and_keep(guest, Watch, 0, &format!("a|{token}|"));
        assert_eq!((answer.reply.as_str(), lines(&record).len()), ("OK|", 0));
    }
    let (answer, record) = host.ask_and_keep(guest, Watch, 0, "a|z|");
    assert_eq!(answer.reply, "!ENOSPC");
    assert_eq!(
        lines(&record),
        ["domain 1: WATCH refused, domain 1 has reached its limit watches of 3"]
    );
    let value = "v".repeat(990);
    let (answer, record) = host.ask_and_keep(DOM0 + 2, Write, 0, &format!("/local/domain/1|{value}"));
    assert_eq!(answer.reply, "!ENOMEM");
    assert_eq!(
        lines(&record),
        ["domain 2: WRITE refused, domain 1 has reached its limit memory of 1000"]
    );
    // What fails for another reason says nothing.
    let (answer, record) = host.ask_and_keep(guest, Read, 0, "a|");
    assert_eq!((answer.reply.as_str(), lines(&record).len()), ("!ENOENT", 0));
}

#[test]
fn each_crossing_of_a_memory_limit_is_logged_once_with_what_the_domain_has() {
    let mut host = limited(&[(Limit::SoftMemory, 1000), (Limit::Memory, 2500)]);
    let guest = DOM0 + 1;
    let mut known = 0;
    let mut said = [0; 3];
    let mut random = Random::new(7);
    for round in 0..400 {
        let value = "v".repeat(random.below(3000));
        let record = match random.below(4) {
            0 => host.would(guest, Read, 0, "a|"),
            1 => host.would(guest, Write, 0, &format!("b|{}", &value[..value.len() / 3])),
            2 => host.would(
                DOM0,
                Write,
                0,
                &format!("/local/domain/1/a|{}", &value[..value.len() / 3]),
            ),
            _ => host.would(DOM0, Write, 0, &format!("/local/domain/1/a|{value}")),
        };
        host.server.apply(&record);
        let memory = account(&host, 1).memory();
        let now = usize::from(memory >= 1000) + usize::from(memory >= 2500);
        let (limit, what) = [
            ("soft-memory of 1000", "below it again"),
            ("soft-memory of 1000", "a warning"),
            ("memory of 2500", "its requests wait"),
        ][now];
        let expected = format!("domain 1 has {memory} bytes, limit {limit}: {what}");
        let lines: Vec<&str> = lines(&record)
            .into_iter()
            .filter(|line| line.contains(" bytes, limit "))
            .collect();
        if now == known {
            assert_eq!(lines, [""; 0], "round {round}");
        } else {
            assert_eq!(lines, [expected.as_str()], "round {round}");
            said[now] += 1;
        }
        known = now;
        // Often what is told waits for a while.
        if random.below(3) > 0 {
            host.ask(DOM0, Read, 0, "/|");
        }
    }
    assert!(said.iter().all(|count| *count > 10), "{said:?}");
}
