//! A domain's end: whatever the store has of it is found, though nobody looks at the whole store.

use cost_tests::desk::Desk;
use cost_tests::dice::Dice;
use xenstore_wire::MessageType::{Directory, GetPerms, Introduce, Mkdir, Release, Rm, SetPerms};

const DOMAINS: usize = 4;

/// All nodes that there are, each with its permissions.
fn everything(desk: &mut Desk, dom0: u32) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut stack = vec![String::new()];
    while let Some(at) = stack.pop() {
        let path = if at.is_empty() { "/" } else { &at };
        found.push((
            path.to_owned(),
            desk.must(dom0, GetPerms, 0, &format!("{path}|")).text(),
        ));
        let children = desk.must(dom0, Directory, 0, &format!("{path}|")).text();
        let names = children.split_terminator('|');
        stack.extend(names.map(|name| format!("{at}/{name}")));
    }
    found.sort();
    found
}

fn some_change(desk: &mut Desk, dom0: u32, paths: &[(String, String)], dice: &mut Dice) {
    let (at, _) = &paths[dice.below(paths.len())];
    let domid = 1 + dice.below(DOMAINS);
    match dice.below(8) {
        0..4 => {
            let below = format!("{}/{}", at.trim_end_matches('/'), ["a", "a-b", "b"][dice.below(3)]);
            desk.must(dom0, Mkdir, 0, &format!("{below}|"));
        }
        4 => drop(desk.must(dom0, SetPerms, 0, &format!("{at}|n{domid}|"))),
        5..7 => drop(desk.must(dom0, SetPerms, 0, &format!("{at}|n0|r{domid}|"))),
        _ if at.len() > 4 => drop(desk.must(dom0, Rm, 0, &format!("{at}|"))),
        _ => {}
    }
}

/// What the end of a domain leaves, by looking at everything: what it owned goes with all below it, and nothing mentions it.
fn without(before: &[(String, String)], domid: usize) -> Vec<(String, String)> {
    let entry = |text: &str| text[1..] == domid.to_string();
    let owned: Vec<String> = before
        .iter()
        .filter(|(at, permissions)| at != "/" && permissions.split('|').next().is_some_and(entry))
        .map(|(at, _)| at.clone())
        .collect();
    let below = |at: &str, above: &String| at == above || at.starts_with(&format!("{above}/"));
    let stays = before
        .iter()
        .filter(|(at, _)| !owned.iter().any(|above| below(at, above)));
    let changed = stays.map(|(at, permissions)| {
        let entries = permissions.split_terminator('|').enumerate();
        let rest = entries.filter(|(number, text)| *number == 0 || !entry(text));
        let rest: String = rest.map(|(_, text)| format!("{text}|")).collect();
        let rest = if at == "/" {
            rest.replace(&format!("n{domid}|"), "n0|")
        } else {
            rest
        };
        (at.clone(), rest)
    });
    changed.collect()
}

#[test]
fn nothing_of_a_dead_domain_stays_and_all_else_does() {
    for seed in 0..12 {
        let mut dice = Dice::new(seed);
        let mut desk = Desk::new(4 << 20);
        let dom0 = desk.dom0();
        for domid in 1..=DOMAINS {
            desk.build(domid as u16);
            desk.must(dom0, Introduce, 0, &format!("{domid}|1|1|"));
        }
        for _ in 0..120 {
            let paths = everything(&mut desk, dom0);
            some_change(&mut desk, dom0, &paths, &mut dice);
        }
        if seed % 2 == 1 {
            // A restart makes anew what it knows of domains.
            desk = Desk::resume(desk.into_bytes());
        }
        for domid in 1..=DOMAINS {
            let expected = without(&everything(&mut desk, dom0), domid);
            desk.must(dom0, Release, 0, &format!("{domid}|"));
            assert_eq!(everything(&mut desk, dom0), expected, "domain {domid} of seed {seed}");
        }
    }
}
