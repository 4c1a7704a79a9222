//! Work on a store that was filled before, for [`cost_tests::instructions`]: `measured PAGES NODES WATCHES WIDE TIMES OPERATION…`.
//! `measured durability` and the same without operations counts WRITE with durable pages and without; `measured done` or `going` counts
//! single requests, `OPERATION=NUMBER`.

use std::{env, fs};

use cost_tests::desk::Desk;
use cost_tests::dice::Dice;
use cost_tests::durability;
use cost_tests::host::{Host, Size};
use cost_tests::instructions::{counted, end_of_part};
use cost_tests::longest::{Pass, Upkeep};
use cost_tests::operations::Operation;

fn main() {
    let mut arguments: Vec<String> = env::args().skip(1).collect();
    let modes = ["durability", Upkeep::Done.name(), Upkeep::Going.name()];
    let mode = modes
        .into_iter()
        .find(|mode| arguments.first().is_some_and(|first| first == mode));
    if mode.is_some() {
        arguments.remove(0);
    }
    let [pages, nodes, watches, wide, times, operations @ ..] = arguments.as_slice() else {
        panic!("measured [MODE] PAGES NODES WATCHES WIDE TIMES OPERATION…");
    };
    let number = |text: &str| text.parse::<usize>().unwrap_or_else(|error| panic!("{text}: {error}"));
    let size = Size {
        nodes: number(nodes),
        watches: number(watches),
        wide: number(wide),
    };
    let bytes = fs::read(pages).unwrap_or_else(|error| panic!("{pages}: {error}"));
    match mode {
        None => sums(bytes, size, number(times), operations),
        Some("durability") => with_and_without(bytes, size, number(times)),
        Some(upkeep) => {
            let chosen = operations.iter().filter_map(|chosen| chosen.split_once('='));
            let chosen: Vec<(&str, usize)> = chosen.map(|(name, request)| (name, number(request))).collect();
            single(bytes, size, number(times), Upkeep::named(upkeep), &chosen);
        }
    }
}

fn sums(bytes: Vec<u8>, size: Size, times: usize, operations: &[String]) {
    let (mut desk, host) = (Desk::resume(bytes), Host::again(size));
    let mut dice = Dice::new(1);
    for name in operations {
        let operation = Operation::named(name);
        let mut work = operation.prepare(&mut desk, &host, times, &mut dice);
        desk.rest();
        counted(|| work.run(&mut desk));
        end_of_part(name);
    }
}

fn with_and_without(bytes: Vec<u8>, size: Size, times: usize) {
    let requests = durability::requests(size, times);
    let mut durable = durability::durable(bytes);
    let mut plain = durable.plain();
    let mut shown = [0; 2];
    counted(|| shown[0] = durability::run(&mut durable, &requests));
    end_of_part("with");
    counted(|| shown[1] = durability::run(&mut plain, &requests));
    end_of_part("without");
    assert_eq!(shown[0], shown[1], "bytes that the client was shown");
}

fn single(bytes: Vec<u8>, size: Size, times: usize, upkeep: Upkeep, chosen: &[(&str, usize)]) {
    let mut operations: Vec<Operation> = chosen.iter().map(|(name, _)| Operation::named(name)).collect();
    operations.dedup();
    let pass = Pass {
        size,
        times,
        upkeep,
        operations: &operations,
    };
    pass.run(bytes, |operation, number, work| {
        if chosen.contains(&(operation.name(), number)) {
            counted(work);
            end_of_part(operation.name());
        } else {
            work();
        }
    });
}
