//! `first-light`: the store starts, every ordinary client works, upstream's own test passes, and a Linux guest lives and dies.

use super::{Kind, PLAIN, Scenario};
use crate::markers::Transcript;
use crate::store::Store;

pub const SCENARIO: Scenario = Scenario {
    name: "first-light",
    about: "the store starts; every client, upstream's test, 5,000 children, and a Linux guest work",
    kind: Kind::Served(include_str!("../../dom0/first-light.sh")),
    stores: &Store::ALL,
    judge,
    ..PLAIN
};

/// test-xenstore of Xen 4.17 to 4.22 has this many tests (`test-xenstore -l`).
const TESTS: usize = 12;

fn judge(transcript: &mut Transcript, _: Store) {
    let verdict = transcript.output_of("test-xenstore").map_or(Ok(()), all_tests_passed);
    if let Err(why) = verdict {
        transcript.reject("test-xenstore", why);
    }
}

/// Each test prints one line: its name, a colon, and its times, or `failed`.
fn all_tests_passed(output: &[String]) -> Result<(), String> {
    if let Some(line) = output.iter().find(|line| line.contains("failed")) {
        return Err(line.clone());
    }
    let passed = output.iter().filter(|line| is_a_result(line)).count();
    if passed == TESTS {
        Ok(())
    } else {
        Err(format!("{passed} of {TESTS} tests gave a result"))
    }
}

fn is_a_result(line: &str) -> bool {
    line.split_once(':')
        .is_some_and(|(_, times)| times.contains(" ns") && times.chars().any(|letter| letter.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(last: &str) -> Vec<String> {
        let mut lines: Vec<String> = (1..TESTS)
            .map(|n| format!("read {n}    : avg: {n}000 ns (1 ns .. 9 ns)"))
            .collect();
        lines.push(last.to_owned());
        lines
    }

    #[test]
    fn twelve_results_are_a_pass() {
        assert_eq!(
            all_tests_passed(&output("ta err    : avg: 1 ns (1 ns .. 1 ns)")),
            Ok(())
        );
    }

    #[test]
    fn a_failed_or_missing_test_is_not() {
        let failed = "ta err    : failed (ret = 22, stage run)";
        assert_eq!(all_tests_passed(&output(failed)), Err(failed.to_owned()));
        assert_eq!(
            all_tests_passed(&output("could not connect to xenstore")),
            Err("11 of 12 tests gave a result".to_owned())
        );
    }
}
