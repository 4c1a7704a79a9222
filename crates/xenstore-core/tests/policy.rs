//! Another policy than C xenstored's is asked about everything, and its answers hold: a tiny one that knows only labels, and one
//! that forbids one thing at a time.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Mutex;

use xenstore_core::tree::PlainMemory;
use xenstore_core::{
    Channel, Configuration, ConnectionId, DomainState, Epoch, Input, Legacy, Object, Policy, Rights, Server, Subject,
    Time, World,
};
use xenstore_wire::MessageType::{self, *};
use xenstore_wire::{DomId, HEADER_SIZE, Header};

struct Host;

impl World for Host {
    fn domain(&self, _domid: DomId) -> DomainState {
        DomainState::ALIVE
    }
    fn wall_clock(&self) -> u64 {
        0
    }
    fn report(&self, _out: &mut dyn fmt::Write) -> fmt::Result {
        Ok(())
    }
}

/// A server with dom0 and domains 1 and 2 connected.
struct Bed(Server<PlainMemory>);

impl Bed {
    fn new(policy: &'static dyn Policy) -> Bed {
        let configuration = Configuration {
            features: 15,
            ..Configuration::default()
        };
        let mut server = Server::new(configuration, PlainMemory::new(1 << 20));
        server.set_policy(policy);
        let mut bed = Bed(server);
        for domid in 0..3 {
            bed.input(Input::Connected {
                domid: DomId(domid),
                channel: Channel::Ring {
                    port: u32::from(domid) + 1,
                },
                epoch: Epoch::default(),
            });
        }
        bed
    }

    fn input(&mut self, input: Input<'_>) -> Vec<(ConnectionId, Vec<u8>)> {
        let record = self.0.decide(Time(0), &Host, input);
        self.0.apply(&record);
        let outputs = record.outputs.into_iter();
        outputs
            .map(|output| (output.connection, output.message.bytes))
            .collect()
    }

    /// What `domid` and others are told: the text of the reply, then every event with its receiver.
    fn told(&mut self, domid: u16, kind: MessageType, transaction_id: u32, payload: &str) -> (String, Vec<String>) {
        let payload = payload.replace('|', "\0");
        let header = Header {
            kind: kind as u32,
            request_id: 7,
            transaction_id,
            length: u32::try_from(payload.len()).unwrap(),
        };
        let outputs = self.input(Input::Request {
            connection: ConnectionId(u32::from(domid) + 1),
            consumed: 0,
            header,
            payload: payload.as_bytes(),
        });
        let (mut reply, mut events) = (String::new(), Vec::new());
        for (connection, bytes) in outputs {
            let header = Header::parse(bytes.first_chunk().unwrap());
            let text = String::from_utf8_lossy(&bytes[HEADER_SIZE..]).replace('\0', "|");
            match MessageType::from_wire(header.kind) {
                Some(WatchEvent) => events.push(format!("{}: {text}", connection.0 - 1)),
                Some(Error) => reply = format!("!{}", text.trim_end_matches('|')),
                _ => reply = text,
            }
        }
        (reply, events)
    }

    fn ask(&mut self, domid: u16, kind: MessageType, payload: &str) -> String {
        self.told(domid, kind, 0, payload).0
    }
}

/// A domain may use nodes with its own label and nothing else, whatever permissions say. A node whose name is a number is that
/// domain's, another one has the label of its parent.
struct Labels;

fn label_of(domid: DomId) -> u32 {
    u32::from(domid.0) + 100
}

impl Policy for Labels {
    fn may_request(&self, subject: &Subject, kind: MessageType, about: Option<DomId>) -> bool {
        Legacy::default().may_request(subject, kind, about)
    }
    fn rights(&self, subject: &Subject, node: &Object<'_>) -> Rights {
        if subject.privileged || node.label == label_of(subject.domid) {
            Rights::ALL
        } else {
            Rights::NONE
        }
    }
    fn label_of_new(&self, subject: &Subject, path: &str, parent: &Object<'_>) -> u32 {
        let named = path.rsplit('/').next().and_then(|name| name.parse().ok());
        match named {
            Some(number) => label_of(DomId(number)),
            None if parent.label != 0 => parent.label,
            None => label_of(subject.domid),
        }
    }
    fn owner_of_new(&self, subject: &Subject, _above: DomId) -> DomId {
        subject.domid
    }
    fn may_give(&self, subject: &Subject, node: &Object<'_>, to: DomId) -> bool {
        Legacy::default().may_give(subject, node, to)
    }
    fn exempt(&self, subject: &Subject) -> bool {
        subject.privileged
    }
}

#[test]
fn labels_decide_where_permissions_do_not_count_and_stay_with_their_nodes() {
    let mut bed = Bed::new(&Labels);
    assert_eq!(bed.ask(0, Write, "/data/1|mine"), "OK|");
    assert_eq!(bed.ask(0, Write, "/data/2|yours"), "OK|");
    // Open to all by permission, closed by label.
    assert_eq!(bed.ask(0, SetPerms, "/data/2|b0|"), "OK|");
    assert_eq!(bed.ask(1, Read, "/data/1|"), "mine");
    assert_eq!(bed.ask(1, Read, "/data/2|"), "!EACCES");
    assert_eq!(bed.ask(1, Write, "/data/1/below|x"), "OK|");
    assert_eq!(bed.ask(2, Read, "/data/1/below|"), "!EACCES");
    // A new value, other permissions and a new child leave the label as it is.
    assert_eq!(bed.ask(1, Write, "/data/1|again"), "OK|");
    assert_eq!(bed.ask(1, SetPerms, "/data/1/below|n1|b2|"), "OK|");
    assert_eq!(bed.ask(1, Read, "/data/1|"), "again");
    assert_eq!(bed.ask(2, Read, "/data/1/below|"), "!EACCES");
    // Events follow labels, too.
    assert_eq!(bed.ask(1, Watch, "/|one|"), "OK|");
    assert_eq!(bed.ask(2, Watch, "/|two|"), "OK|");
    assert_eq!(bed.told(0, Write, 0, "/data/2|new").1, ["2: /data/2|two|"]);
    assert_eq!(bed.told(0, Rm, 0, "/data/1|").1, ["1: /data/1|one|"]);
}

#[test]
fn a_node_made_in_a_transaction_has_its_label_in_it_and_after_it() {
    let mut bed = Bed::new(&Labels);
    assert_eq!(bed.ask(0, Mkdir, "/data/1|"), "OK|");
    assert_eq!(bed.ask(1, TransactionStart, "|"), "1|");
    assert_eq!(bed.told(1, Write, 1, "/data/1/a/b|x").0, "OK|");
    assert_eq!(bed.told(1, Read, 1, "/data/1/a/b|").0, "x");
    assert_eq!(bed.ask(1, TransactionEnd, "T|"), "!ENOENT");
    assert_eq!(bed.told(1, TransactionEnd, 1, "T|").0, "OK|");
    assert_eq!(bed.ask(1, Read, "/data/1/a/b|"), "x");
    assert_eq!(bed.ask(2, Read, "/data/1/a/b|"), "!EACCES");
}

/// C's policy, with a list of what it was asked; one kind of question can be answered with "no".
struct Asked {
    forbidden: Mutex<Option<&'static str>>,
    questions: Mutex<BTreeSet<String>>,
}

impl Asked {
    const fn new() -> Asked {
        Asked {
            forbidden: Mutex::new(None),
            questions: Mutex::new(BTreeSet::new()),
        }
    }

    fn allows(&self, question: &'static str, detail: String) -> bool {
        self.questions.lock().unwrap().insert(format!("{question} {detail}"));
        *self.forbidden.lock().unwrap() != Some(question)
    }

    fn forbid(&self, question: &'static str) {
        *self.forbidden.lock().unwrap() = Some(question);
    }

    fn was_asked(&self, question: &str) -> bool {
        self.questions.lock().unwrap().contains(question)
    }
}

const C: Legacy = Legacy {
    target_rights: xenstore_core::TargetRights::Union,
};

impl Policy for Asked {
    fn may_request(&self, subject: &Subject, kind: MessageType, about: Option<DomId>) -> bool {
        let whom = about.map_or_else(String::new, |domid| format!(" {domid}"));
        self.allows("request", format!("{} {}{whom}", subject.domid, kind.name()))
            && C.may_request(subject, kind, about)
    }
    fn rights(&self, subject: &Subject, node: &Object<'_>) -> Rights {
        if self.allows("rights", format!("{} {}", subject.domid, node.name)) {
            C.rights(subject, node)
        } else {
            Rights::NONE
        }
    }
    fn may_create(&self, subject: &Subject, path: &str, _label: u32, parent: &Object<'_>) -> bool {
        self.allows("create", format!("{} {path} {}", subject.domid, parent.name))
    }
    fn owner_of_new(&self, subject: &Subject, above: DomId) -> DomId {
        C.owner_of_new(subject, above)
    }
    fn may_remove(&self, subject: &Subject, node: &Object<'_>) -> bool {
        self.allows("remove", format!("{} {}", subject.domid, node.name))
    }
    fn may_give(&self, subject: &Subject, node: &Object<'_>, to: DomId) -> bool {
        self.allows("give", format!("{} {} {to}", subject.domid, node.name)) && C.may_give(subject, node, to)
    }
    fn may_see(&self, subject: &Subject, seen: &mut dyn Iterator<Item = Object<'_>>) -> bool {
        let names: Vec<&str> = seen.map(|node| node.name).collect();
        self.allows("see", format!("{} {}", subject.domid, names.join(" ")))
    }
    fn exempt(&self, subject: &Subject) -> bool {
        self.allows("exempt", format!("{}", subject.domid)) && subject.privileged
    }
}

#[test]
fn the_policy_is_asked_about_everything() {
    static POLICY: Asked = Asked::new();
    let mut bed = Bed::new(&POLICY);
    for (request, payload) in [
        (Mkdir, "/local/domain/1|"),
        (SetPerms, "/local/domain/1|n1|"),
        (SetTarget, "2|1|"),
        (GetFeature, "1|"),
        (SetFeature, "1|1|"),
        (GetQuota, "1|nodes|"),
        (SetQuota, "1|nodes|500|"),
        (IsDomainIntroduced, "1|"),
        (Resume, "1|"),
        (GetDomainPath, "1|"),
        (Control, "quota|1|"),
        (Introduce, "1|1|1|"),
    ] {
        bed.ask(0, request, payload);
        assert!(
            POLICY.was_asked(&format!("request 0 {}", request.name())),
            "{request:?}"
        );
        let about = payload.split('|').find(|word| word.parse::<u16>().is_ok());
        if let Some(domid) = about {
            let question = format!("request 0 {} {domid}", request.name());
            assert!(POLICY.was_asked(&question), "{question}");
        }
    }
    for (request, payload) in [
        (Write, "/local/domain/1/a/b|x"),
        (Read, "/local/domain/1/a/b|"),
        (Directory, "/local/domain/1/a|"),
        (DirectoryPart, "/local/domain/1/a|0|"),
        (GetPerms, "/local/domain/1/a|"),
        (SetPerms, "/local/domain/1/a/b|n1|r2|"),
        (Watch, "a|t|"),
        (Unwatch, "a|u|"),
        (TransactionStart, "|"),
        (TransactionEnd, "F|"),
        (Rm, "/local/domain/1/a|"),
        (GetFeature, ""),
        (GetPerms, "@releaseDomain|"),
        (ResetWatches, ""),
    ] {
        bed.ask(1, request, payload);
        assert!(
            POLICY.was_asked(&format!("request 1 {}", request.name())),
            "{request:?}"
        );
    }
    for question in [
        "rights 1 /local/domain/1/a/b",
        "create 1 /local/domain/1/a /local/domain/1",
        "create 1 /local/domain/1/a/b /local/domain/1/a",
        "give 1 /local/domain/1/a/b 1",
        "give 0 /local/domain/1 1",
        "remove 1 /local/domain/1/a",
        "remove 1 /local/domain/1/a/b",
        "rights 1 @releaseDomain",
        "see 1 /local/domain/1/a /local/domain/1",
        "exempt 0",
        "exempt 1",
    ] {
        assert!(POLICY.was_asked(question), "{question}: {:?}", POLICY.questions);
    }
}

#[test]
fn a_no_of_the_policy_is_refused_and_changes_nothing() {
    static POLICY: Asked = Asked::new();
    let mut bed = Bed::new(&POLICY);
    bed.ask(0, Mkdir, "/local/domain/1|");
    bed.ask(0, SetPerms, "/local/domain/1|n1|");
    bed.ask(1, Write, "a/b|x");
    bed.ask(1, Watch, "a|t|");
    for (forbidden, request, payload, answer) in [
        ("request", Read, "a|", "!EACCES"),
        ("rights", Read, "a/b|", "!EACCES"),
        ("create", Write, "a/c|", "!EACCES"),
        ("create", Mkdir, "d/e/f|", "!EACCES"),
        ("remove", Rm, "a|", "!EACCES"),
        ("give", SetPerms, "a|n1|", "!EPERM"),
    ] {
        POLICY.forbid(forbidden);
        assert_eq!(
            bed.told(1, request, 0, payload),
            (answer.into(), Vec::new()),
            "{forbidden}"
        );
    }
    POLICY.forbid("see");
    assert_eq!(bed.told(1, Write, 0, "a/b|y"), ("OK|".into(), Vec::new()));
    POLICY.forbid("nothing");
    assert_eq!(bed.ask(1, Directory, "/local/domain/1|"), "a|");
    assert_eq!(bed.ask(1, Directory, "a|"), "b|");
    assert_eq!(bed.told(1, Write, 0, "a/b|z").1, ["1: a/b|t|"]);
}

#[test]
fn what_a_policy_forbids_since_is_a_conflict_at_commit() {
    static POLICY: Asked = Asked::new();
    let mut bed = Bed::new(&POLICY);
    bed.ask(0, Mkdir, "/local/domain/1|");
    bed.ask(0, SetPerms, "/local/domain/1|n1|");
    bed.ask(1, TransactionStart, "|");
    assert_eq!(bed.told(1, Write, 1, "a|x").0, "OK|");
    POLICY.forbid("create");
    assert_eq!(bed.told(1, TransactionEnd, 1, "T|").0, "!EAGAIN");
    POLICY.forbid("nothing");
    assert_eq!(bed.ask(1, Read, "a|"), "!ENOENT");
}
