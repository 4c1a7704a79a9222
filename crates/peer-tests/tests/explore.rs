use peer_tests::{differences, guests::Peer, ours::Ours};
use xenstore_wire::{Header, MessageType::{self, *}};
fn ask(o: &mut Ours, d: u16, tx: u32, k: MessageType, p: &str) -> String {
    let p = p.replace('|', "\0");
    o.send(d, Header { kind: k as u32, request_id: 1, transaction_id: tx, length: p.len() as u32 }, p.as_bytes());
    let all = o.settle().unwrap();
    let t = format!("{:?}", all.into_iter().map(|(d, l)| (d, l.iter().map(|m| m.text()).collect::<Vec<_>>())).collect::<Vec<_>>());
    println!("d{d} tx{tx} {k:?} {p:?} -> {t}");
    t
}
#[test]
fn explore() {
    let mut o = Ours::start(differences::our_configuration());
    for d in [3u16, 4] {
        o.build(d);
        ask(&mut o, 0, 0, Introduce, &format!("{d}|1|1|"));
        ask(&mut o, 0, 0, Mkdir, &format!("/local/domain/{d}|"));
        ask(&mut o, 0, 0, SetPerms, &format!("/local/domain/{d}|n{d}|"));
    }
    ask(&mut o, 0, 0, TransactionStart, "|");
    ask(&mut o, 0, 1, Write, "/local/domain/4/a/b/c|v");
    o.domain_is(4, native_rings::Life::Absent);
    o.settle().unwrap();
    ask(&mut o, 0, 0, Directory, "/local/domain|");
    ask(&mut o, 0, 1, TransactionEnd, "T|");
    for p in ["/local/domain/4", "/local/domain/4/a", "/local/domain/4/a/b/c"] {
        ask(&mut o, 0, 0, GetPerms, &format!("{p}|"));
    }
    ask(&mut o, 0, 0, Control, "quota|4|");
    ask(&mut o, 0, 0, Control, "check|");
    o.build(4);
    ask(&mut o, 0, 0, Introduce, "4|1|1|");
    ask(&mut o, 4, 0, Read, "/local/domain/4/a/b/c|");
    ask(&mut o, 4, 0, Write, "/local/domain/4/a/b/c|mine");
    ask(&mut o, 0, 0, Control, "check|");
    ask(&mut o, 0, 0, Control, "quota|4|");
}
