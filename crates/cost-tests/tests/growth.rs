use std::time::Instant;
use cost_tests::{desk::Desk, dice::Dice, host::{Host, Size}, operations::Operation, instructions::{self,Scratch}};
#[test]
fn probe() {
    let n: usize = std::env::var("N").unwrap().parse().unwrap();
    let w: usize = std::env::var("W").unwrap_or("1".into()).parse().unwrap();
    let wide: usize = std::env::var("WIDE").unwrap_or("100".into()).parse().unwrap();
    let size = Size { nodes: n, watches: w, wide };
    let t = Instant::now();
    let mut desk = Desk::new(Host::bytes_for(size));
    Host::fill(&mut desk, size);
    println!("fill {:?}", t.elapsed());
    let t = Instant::now();
    desk.rest();
    println!("rest {:?}", t.elapsed());
    let t = Instant::now();
    let bytes = desk.into_bytes();
    let s = Scratch::new("growth").unwrap();
    std::fs::write(s.file("pages"), &bytes).unwrap();
    let mut desk = Desk::resume(bytes);
    println!("resume {:?}", t.elapsed());
    let mut dice = Dice::new(1);
    let host = Host::again(size);
    let mut args = vec![s.file("pages").display().to_string(), n.to_string(), w.to_string(), wide.to_string(), "500".into()];
    let mut v = vec![];
    for op in Operation::IN_HOMES.into_iter().chain(Operation::IN_WIDE) {
        let mut work = op.prepare(&mut desk, &host, 500, &mut dice);
        desk.rest();
        let visits = desk.visits();
        let t = Instant::now();
        work.run(&mut desk);
        v.push((t.elapsed().as_nanos() / 500, (desk.visits() - visits) as f64 / 500.0));
        args.push(op.name().into());
    }
    let t = Instant::now();
    for ((name, i), (ns, v)) in instructions::count(std::path::Path::new(env!("CARGO_BIN_EXE_measured")), &args, &s).unwrap().into_iter().zip(v) {
        println!("{name:40} {:8} instr {ns:8} ns {v:8.1} visits", i/500);
    }
    println!("count {:?}", t.elapsed());
}
