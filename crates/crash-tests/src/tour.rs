//! A stream that goes round: every request and whatever else happens, in every kind of state, and once more in parts. Random streams
//! meet most of that, but what they do not meet depends on chance.

use model_tests::engine::LinkEvent;
use model_tests::maker;
use model_tests::model::{LIMITS, Settings};
use model_tests::step::{Fate, Step, Within};
use xenstore_wire::MessageType::{self, *};

/// Asks most of what is asked, and has a transaction of its own for it.
const CLIENT: u16 = 1;
/// Has the transaction that is open meanwhile.
const OTHER: u16 = 2;
/// Takes nothing while messages wait.
const SLOW: u16 = 3;
/// Breaks the rules.
const BREAKER: u16 = 4;
/// Comes and goes.
const VISITOR: u16 = 5;
/// Bytes of the first part of a message that comes in parts: its header, and one more.
const FIRST: u16 = 17;
/// The same where not even the header is complete.
const LESS: u16 = 7;
/// Milliseconds after which an event has waited too long.
const TOO_LONG: u32 = 21_000;

/// How requests are sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Whole,
    Inside,
    Parts,
}

/// Settings under which nothing is refused for a limit, and the steps.
pub fn tour(seed: u64) -> (Settings, Vec<Step>) {
    let settings = Settings {
        features: 15,
        timeout: 20,
        limits: vec![0; LIMITS.len()],
        lists_changes: seed.is_multiple_of(2),
        credit: false,
    };
    let mut tour = Tour {
        steps: maker::stream(seed, 0).1,
        made: 0,
    };
    tour.steps.push(Step::Fates(vec![(VISITOR, Fate::Alive)]));
    tour.ask(0, Watch, "@releaseDomain|t|");
    tour.ask(SLOW, Watch, "/shared|t|");
    tour.ask(CLIENT, Write, "/shared/a|1|");
    tour.round(How::Whole);
    tour.events();
    tour.round(How::Inside);
    tour.round(How::Parts);
    tour.steps.push(Step::Restart);
    tour.ask(OTHER, TransactionStart, "|");
    tour.inside(OTHER, Read, "/shared/a|", None);
    tour.round(How::Whole);
    tour.events();
    tour.steps.push(Step::Restart);
    tour.inside(OTHER, TransactionEnd, "F|", None);
    tour.steps.push(Step::Compare);
    tour.wait();
    tour.round(How::Whole);
    tour.events();
    tour.wait();
    tour.steps.push(Step::Restart);
    for bytes in [Some(40), None] {
        tour.steps.push(Step::Room { domid: SLOW, bytes });
    }
    tour.long_answers();
    tour.wait();
    tour.steps.push(Step::Pass(TOO_LONG));
    tour.steps.push(Step::Compare);
    (settings, tour.steps)
}

struct Tour {
    steps: Vec<Step>,
    made: u32,
}

impl Tour {
    fn ask(&mut self, domid: u16, kind: MessageType, payload: &str) {
        self.request(domid, Within::Outside, kind, payload, None);
    }

    fn inside(&mut self, domid: u16, kind: MessageType, payload: &str, first: Option<u16>) {
        self.request(domid, Within::Open(0), kind, payload, first);
    }

    fn request(&mut self, domid: u16, within: Within, kind: MessageType, payload: &str, first: Option<u16>) {
        self.steps.push(Step::Request {
            domid,
            within,
            kind: kind as u32,
            payload: payload.replace('|', "\0").into_bytes(),
            first,
        });
    }

    /// Messages wait for the slow one from now on.
    fn wait(&mut self) {
        let bytes = Some(0);
        self.steps.push(Step::Room { domid: SLOW, bytes });
        self.ask(0, Write, "/shared/a|waits|");
    }

    /// Long answers that wait while what they show changes and goes, one behind the other, and in a transaction.
    fn long_answers(&mut self) {
        self.steps.push(Step::Room {
            domid: SLOW,
            bytes: Some(0),
        });
        self.ask(0, Mkdir, "/shared/long|");
        self.ask(0, SetPerms, "/shared/long|r0|");
        for letter in ["a", "b", "c"] {
            self.ask(0, Write, &format!("/shared/long|{}", letter.repeat(300)));
            self.ask(0, Write, &format!("/shared/long/{}|", letter.repeat(60)));
            self.ask(SLOW, Read, "/shared/long|");
            self.ask(SLOW, Directory, "/shared/long|");
        }
        self.ask(SLOW, TransactionStart, "|");
        self.inside(SLOW, Read, "/shared/long|", None);
        self.ask(0, Rm, "/shared/long|");
        self.inside(SLOW, Read, "/shared/long|", None);
        self.inside(SLOW, TransactionEnd, "F|", None);
        self.ask(SLOW, Read, "/shared/long|");
        for bytes in [Some(100), None] {
            self.steps.push(Step::Restart);
            self.steps.push(Step::Room { domid: SLOW, bytes });
        }
    }

    /// Every request, and what it needs to do something.
    fn round(&mut self, how: How) {
        for kind in MessageType::ALL {
            match kind {
                Introduce => {
                    // The second one connects the same domain again.
                    self.send(0, how, Introduce, "5|1|6|");
                    self.send(0, how, Introduce, "5|1|7|");
                }
                Release => self.send(0, how, Release, "5|"),
                Mkdir => self.send(CLIENT, how, Mkdir, &format!("/shared/m{}|", self.made)),
                Rm => {
                    self.ask(CLIENT, Mkdir, &format!("/shared/m{}|", self.made));
                    self.send(CLIENT, how, Rm, &format!("/shared/m{}|", self.made));
                    self.made += 1;
                }
                Write => self.send(CLIENT, how, Write, &format!("/shared/a|{}|", self.made)),
                SetPerms => self.send(CLIENT, how, SetPerms, &format!("/shared/p{}|n1|r2|", self.made)),
                TransactionEnd => self.end(how),
                _ => {
                    let (domid, payload) = harmless(kind);
                    self.send(domid, how, kind, payload);
                    if kind == TransactionStart {
                        self.inside(domid, TransactionEnd, "F|", None);
                    }
                }
            }
            if how == How::Parts {
                self.request(CLIENT, Within::Outside, Read, "/shared/a|", Some(LESS));
            }
        }
    }

    fn send(&mut self, domid: u16, how: How, kind: MessageType, payload: &str) {
        if kind == SetPerms {
            let path = payload.split('|').next().unwrap_or_default();
            self.ask(domid, Mkdir, &format!("{path}|"));
        }
        match how {
            How::Whole => self.ask(domid, kind, payload),
            How::Inside => {
                self.ask(domid, TransactionStart, "|");
                self.inside(domid, kind, payload, None);
                self.inside(domid, TransactionEnd, "F|", None);
            }
            How::Parts => self.request(domid, Within::Outside, kind, payload, Some(FIRST)),
        }
    }

    /// The end of a transaction that changes something, where there is one.
    fn end(&mut self, how: How) {
        if how == How::Whole {
            return self.ask(CLIENT, TransactionEnd, "T|");
        }
        self.made += 1;
        self.ask(CLIENT, TransactionStart, "|");
        self.inside(CLIENT, Write, &format!("/shared/t{}|1|", self.made), None);
        self.inside(CLIENT, TransactionEnd, "T|", (how == How::Parts).then_some(FIRST));
    }

    /// What happens besides requests.
    fn events(&mut self) {
        let link = |domid, event| Step::Link { domid, event, torn: 0 };
        // The reset comes behind one reply: its end is told from its beginning only by what the server remembers of it.
        self.steps.push(link(CLIENT, LinkEvent::Reconnect));
        self.ask(CLIENT, Read, "/shared/a|");
        self.steps.push(link(CLIENT, LinkEvent::Reset));
        self.ask(CLIENT, Read, "/shared/a|");
        self.steps.push(link(BREAKER, LinkEvent::Impossible));
        self.steps.push(link(BREAKER, LinkEvent::Reconnect));
        self.steps.push(Step::Start { domid: VISITOR });
        self.steps.push(Step::Fates(vec![(VISITOR, Fate::Shutdown)]));
        self.steps.push(Step::Fates(vec![(VISITOR, Fate::Absent)]));
        self.steps.push(Step::Fates(vec![(VISITOR, Fate::Alive)]));
    }
}

/// Who sends a request that needs nothing before it, and what it carries: two bytes at least, so that it can come in parts.
fn harmless(kind: MessageType) -> (u16, &'static str) {
    match kind {
        Control => (0, "print|hello|"),
        Watch => (CLIENT, "/local|w|"),
        Unwatch => (CLIENT, "/local|w|"),
        TransactionStart => (CLIENT, "||"),
        GetDomainPath => (CLIENT, "1|"),
        IsDomainIntroduced => (0, "1|"),
        Resume => (0, "5|"),
        SetTarget => (0, "9|1|"),
        ResetWatches => (CLIENT, "||"),
        DirectoryPart => (CLIENT, "/shared|0|"),
        GetFeature => (0, "1|"),
        SetFeature => (0, "9|1|"),
        GetQuota => (0, "1|nodes|"),
        SetQuota => (0, "9|nodes|5|"),
        _ => (CLIENT, "/shared/a|"),
    }
}
