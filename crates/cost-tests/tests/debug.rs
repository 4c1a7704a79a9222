use cost_tests::{desk::Desk, dice::Dice, host::{Host, Size}, operations::Operation};
#[test]
fn debug() {
    let size = Size { nodes: 100, watches: 1, wide: 100 };
    let mut desk = Desk::new(Host::bytes_for(size));
    let host = Host::fill(&mut desk, size);
    let bytes = desk.into_bytes(); let mut desk = Desk::resume(bytes);
    let mut dice = Dice::new(1);
    for op in Operation::IN_HOMES.into_iter().chain(Operation::IN_WIDE) {
        let mut work = op.prepare(&mut desk, &host, 500, &mut dice);
        println!("{}", op.name());
        for n in 0.. {
            let before = desk.server().tree().figures();
            desk.round();
            let after = desk.server().tree().figures();
            if before == after { break; }
            if n > 30 { println!("{after:?}"); }
            if n > 40 { break }
        }
        work.run(&mut desk);
    }
}
