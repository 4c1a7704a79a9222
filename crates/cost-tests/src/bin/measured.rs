//! Work on a store that was filled before, for [`cost_tests::instructions`]: `measured PAGES NODES WATCHES WIDE TIMES OPERATION…`.
//! With `each` in front of all that, every request is counted for itself.

use std::{env, fs};

use cost_tests::desk::Desk;
use cost_tests::dice::Dice;
use cost_tests::host::{Host, Size};
use cost_tests::instructions::{counted, end_of_part, end_of_request};
use cost_tests::operations::Operation;

fn main() {
    let mut arguments: Vec<String> = env::args().skip(1).collect();
    let each = arguments.first().is_some_and(|first| first == "each");
    if each {
        arguments.remove(0);
    }
    let [pages, nodes, watches, wide, times, operations @ ..] = arguments.as_slice() else {
        panic!("measured PAGES NODES WATCHES WIDE TIMES OPERATION…");
    };
    let number = |text: &String| text.parse::<usize>().unwrap_or_else(|error| panic!("{text}: {error}"));
    let size = Size {
        nodes: number(nodes),
        watches: number(watches),
        wide: number(wide),
    };
    let bytes = fs::read(pages).unwrap_or_else(|error| panic!("{pages}: {error}"));
    let (mut desk, host) = (Desk::resume(bytes), Host::again(size));
    let mut dice = Dice::new(1);
    for name in operations {
        let operation = Operation::named(name);
        let mut work = operation.prepare(&mut desk, &host, number(times), &mut dice);
        desk.rest();
        if each {
            let mut requests = 0;
            counted(|| {
                work.run_each(&mut desk, |_, _| {
                    end_of_request();
                    requests += 1;
                });
            });
            println!("{requests} {name}");
        } else {
            counted(|| work.run(&mut desk));
            end_of_part(name);
        }
    }
}
