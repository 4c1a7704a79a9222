//! `self-test`: the image runs as dom0, without Linux and without clients, and examines itself.

use super::{Kind, PLAIN, Scenario};
use crate::store::Store;

pub const SCENARIO: Scenario = Scenario {
    name: "self-test",
    about: "the image, booted as dom0 with the option selftest, examines itself",
    kind: Kind::ImageAlone("selftest", verdict),
    // Xen starts dom0 as PV unless it is told otherwise, so there is one form only.
    stores: &[Store::Pv],
    ..PLAIN
};

fn verdict(line: &str) -> Option<Result<(), String>> {
    let (_, verdict) = line.split_once("selftest: ")?;
    if verdict.starts_with("PASS") {
        return Some(Ok(()));
    }
    verdict.starts_with("FAIL").then(|| Err(verdict.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_verdict_ends_it() {
        assert_eq!(verdict("selftest: 3 of 9 pages"), None);
        assert_eq!(verdict("PASS"), None);
        assert_eq!(verdict("(XEN) selftest: PASS"), Some(Ok(())));
        assert_eq!(verdict("selftest: FAIL heap"), Some(Err("FAIL heap".to_owned())));
    }
}
