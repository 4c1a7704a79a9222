//! What these tests once found wrong in ours, each as short as it can be.
#![forbid(unsafe_code)]

use native_rings::Life;
use native_rings::packages::{self, Product};
use peer_tests::duel::{Duel, Mismatch};
use peer_tests::trace::Step;
use xenstore_wire::MessageType::{self, *};

type Told = Result<(), Box<Mismatch>>;

struct Both(Duel);

impl Both {
    fn new() -> Both {
        let server = packages::obtain(Product::C417)
            .unwrap_or_else(|failure| panic!("no C xenstored to compare with: {failure}"));
        Both(Duel::start(&server).unwrap_or_else(|failure| panic!("{failure}")))
    }

    fn revive(&mut self, domid: u16) -> Told {
        self.0.step(&Step::Revive { domid })
    }

    fn ask(&mut self, domid: u16, kind: MessageType, payload: &str) -> Result<String, Box<Mismatch>> {
        self.0.ask(domid, kind, payload)
    }

    fn ends(&mut self, domid: u16) -> Told {
        self.0.step(&Step::Life {
            domid,
            life: Life::Absent,
        })
    }
}

fn must(told: Told) {
    told.unwrap_or_else(|mismatch| panic!("{mismatch}"));
}

/// `forget` in domain_requests.rs looks at the further entries of special nodes only, not at their owner.
#[test]
fn xsa_322_a_special_node_does_not_pass_to_the_next_domain_with_its_owners_number() {
    let mut both = Both::new();
    let mut story = || {
        both.revive(4)?;
        both.ask(0, SetPerms, "@releaseDomain|n4|")?;
        both.ends(4)?;
        both.revive(4)?;
        both.revive(6)?;
        both.ask(4, Watch, "@releaseDomain|x|")?;
        both.ends(6)
    };
    must(story());
}

/// `connected` in domain_requests.rs: known and not introduced is unknown to these requests (4.22, find_connected_domain).
#[test]
fn a_domain_that_is_only_named_in_a_permission_cannot_be_released() {
    let mut both = Both::new();
    must(both.ask(0, SetPerms, "/tool|n0|r7|").map(drop));
    assert_eq!(
        both.ask(0, Release, "7|").map_err(|mismatch| mismatch.to_string()),
        Ok("!ENOENT".into())
    );
    assert_eq!(both.0.figures().differences.values().sum::<u64>(), 0);
}

/// A commit must not bring back what the end of a domain has removed from everywhere else.
#[test]
fn xsa_322_a_commit_does_not_give_a_dead_domains_rights_to_the_next_with_its_number() {
    let mut both = Both::new();
    let inside = |kind: MessageType, payload: &str| Step::Request {
        domid: 0,
        within: Some(0),
        kind: kind as u32,
        payload: payload.replace('|', "\0").into_bytes(),
    };
    let mut story = || {
        both.revive(2)?;
        both.revive(3)?;
        both.0.step(&Step::Start { domid: 0 })?;
        both.0.step(&inside(Write, "data|v"))?;
        both.0.step(&inside(SetPerms, "data|r2|w3|"))?;
        both.ends(3)?;
        both.0.step(&Step::End {
            domid: 0,
            which: 0,
            commit: true,
        })?;
        both.revive(3)?;
        both.ask(3, Write, "/local/domain/0/data|mine").map(drop)
    };
    must(story());
}

/// `write_permissions` in node_requests.rs refuses with EPERM without a note in the transaction of what it saw.
#[test]
fn a_commit_fails_when_a_refusal_inside_would_have_been_another() {
    let mut both = Both::new();
    let inside = |kind: MessageType, payload: &str| Step::Request {
        domid: 1,
        within: Some(0),
        kind: kind as u32,
        payload: payload.replace('|', "\0").into_bytes(),
    };
    let mut story = || {
        both.revive(1)?;
        both.revive(3)?;
        both.ask(0, Write, "/x|")?;
        both.ask(0, SetPerms, "/x|n1|")?;
        both.0.step(&Step::Start { domid: 1 })?;
        both.0.step(&inside(Write, "b|v"))?;
        both.0.step(&inside(SetPerms, "/x|n3|"))?;
        both.ask(0, Rm, "/x|")?;
        both.0.step(&Step::End {
            domid: 1,
            which: 0,
            commit: true,
        })
    };
    must(story());
    assert_eq!(both.0.figures().differences.values().sum::<u64>(), 0);
}
