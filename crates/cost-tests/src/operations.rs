//! The requests whose cost is measured. Each is prepared first, so that only the server's work is measured.

use xenstore_wire::MessageType::{
    self, Directory, DirectoryPart, Error, GetPerms, Introduce, Mkdir, Read, Release, Rm, SetPerms, TransactionEnd,
    TransactionStart, Unwatch, Watch, Write,
};

use crate::desk::{Client, Desk, request};
use crate::dice::Dice;
use crate::host::Host;

/// The domain that is started and ended.
const SHORT_LIVED: u16 = 900;

/// One kind of work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    Read,
    Write,
    /// MKDIR of a node and RM of it.
    MkdirAndRm,
    Directory,
    DirectoryPart,
    GetPerms,
    SetPerms,
    /// TRANSACTION_START, ten WRITEs, TRANSACTION_END.
    Transaction,
    /// A WRITE that one watch matches, and its event.
    WatchEvent,
    /// WATCH and UNWATCH.
    WatchAndUnwatch,
    /// INTRODUCE, a home with ten nodes, RELEASE.
    LifeOfADomain,
    WideRead,
    WideWrite,
    /// MKDIR of a child and RM of it.
    WideMkdirAndRm,
    /// DIRECTORY_PART of the last ten names or so.
    WideDirectoryPart,
}

impl Operation {
    /// All, those first that change nothing: what a change leaves to be tidied up falls to those that come after it.
    pub const ALL: [Operation; 15] = [
        Operation::Read,
        Operation::Directory,
        Operation::DirectoryPart,
        Operation::GetPerms,
        Operation::WideRead,
        Operation::WideDirectoryPart,
        Operation::WatchAndUnwatch,
        Operation::Write,
        Operation::MkdirAndRm,
        Operation::SetPerms,
        Operation::Transaction,
        Operation::WatchEvent,
        Operation::LifeOfADomain,
        Operation::WideWrite,
        Operation::WideMkdirAndRm,
    ];

    /// The operation with this name.
    pub fn named(name: &str) -> Operation {
        let found = Self::ALL.into_iter().find(|operation| operation.name() == name);
        found.unwrap_or_else(|| panic!("there is no operation {name}"))
    }

    /// What it is called in tables.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Read => "READ",
            Operation::Write => "WRITE",
            Operation::MkdirAndRm => "MKDIR, RM",
            Operation::Directory => "DIRECTORY",
            Operation::DirectoryPart => "DIRECTORY_PART",
            Operation::GetPerms => "GET_PERMS",
            Operation::SetPerms => "SET_PERMS",
            Operation::Transaction => "transaction of 10 writes",
            Operation::WatchEvent => "WRITE and one event",
            Operation::WatchAndUnwatch => "WATCH, UNWATCH",
            Operation::LifeOfADomain => "a domain of ten nodes, start to end",
            Operation::WideRead => "READ in the wide directory",
            Operation::WideWrite => "WRITE there",
            Operation::WideMkdirAndRm => "MKDIR, RM there",
            Operation::WideDirectoryPart => "DIRECTORY_PART there",
        }
    }

    /// Prepares it, to be done so often.
    pub fn prepare(self, desk: &mut Desk, host: &Host, times: usize, dice: &mut Dice) -> Work {
        let mut work = Work {
            client: host.dom0,
            listener: None,
            requests: Vec::new(),
        };
        match self {
            Operation::WatchEvent => {
                let listener = desk.dom0();
                desk.must(listener, Watch, 0, &format!("{}|token|", host.home(0)));
                work.listener = Some(listener);
            }
            Operation::LifeOfADomain => desk.build(SHORT_LIVED),
            _ => {}
        }
        work.requests = self.requests(host, times, dice);
        work
    }

    /// Its requests, to be done so often, each with whether it belongs to the transaction that was opened last.
    pub fn requests(self, host: &Host, times: usize, dice: &mut Dice) -> Vec<Asked> {
        let mut asked = Requests::default();
        for number in 0..times {
            self.add(host, number, dice, &mut asked);
        }
        asked.0
    }

    fn add(self, host: &Host, number: usize, dice: &mut Dice, work: &mut Requests) {
        let wide = host.wide_child(dice.below(host.size.wide.max(1)));
        let spread = host.home(number % host.domains());
        match self {
            Operation::Read => work.add(Read, &format!("{}|", host.some_entry(dice))),
            Operation::Write => work.add(Write, &format!("{}|{number:016}", host.some_entry(dice))),
            Operation::MkdirAndRm => {
                let path = format!("{}/new-{number}", host.some_device(dice));
                work.add(Mkdir, &format!("{path}|"));
                work.add(Rm, &format!("{path}|"));
            }
            Operation::Directory => work.add(Directory, &format!("{}|", host.some_device(dice))),
            Operation::DirectoryPart => work.add(DirectoryPart, &format!("{}|3|", host.some_device(dice))),
            Operation::GetPerms => work.add(GetPerms, &format!("{}|", host.some_entry(dice))),
            Operation::SetPerms => {
                let reader = 1 + number % 7;
                work.add(SetPerms, &format!("{}|n0|r{reader}|", host.some_entry(dice)));
            }
            Operation::Transaction => {
                work.add(TransactionStart, "|");
                for _ in 0..10 {
                    let path = host.some_entry(dice);
                    work.add_in_transaction(Write, &format!("{path}|{number:016}"));
                }
                work.add_in_transaction(TransactionEnd, "T|");
            }
            Operation::WatchEvent => work.add(Write, &format!("{}/device-1/entry-01|{number:016}", host.home(0))),
            Operation::WatchAndUnwatch => {
                work.add(Watch, &format!("{spread}|other|"));
                work.add(Unwatch, &format!("{spread}|other|"));
            }
            Operation::LifeOfADomain => {
                let home = "/local/domain/short-lived";
                work.add(Introduce, &format!("{SHORT_LIVED}|1|1|"));
                work.add(Mkdir, &format!("{home}|"));
                work.add(SetPerms, &format!("{home}|n{SHORT_LIVED}|"));
                for entry in 0..9 {
                    work.add(Write, &format!("{home}/entry-{entry}|value"));
                }
                work.add(Release, &format!("{SHORT_LIVED}|"));
            }
            Operation::WideRead => work.add(Read, &format!("{wide}|")),
            Operation::WideWrite => work.add(Write, &format!("{wide}|{number:016}")),
            Operation::WideMkdirAndRm => {
                work.add(Mkdir, &format!("/wide/new-{number}|"));
                work.add(Rm, &format!("/wide/new-{number}|"));
            }
            Operation::WideDirectoryPart => {
                // The last names: how many are returned is the same for every width.
                let offset = host.wide_names() - 90 - dice.below(9);
                work.add(DirectoryPart, &format!("/wide|{offset}|"));
            }
        }
    }
}

/// A request, and whether it belongs to the transaction that was opened last.
pub type Asked = (Vec<u8>, bool);

#[derive(Default)]
struct Requests(Vec<Asked>);

impl Requests {
    fn add(&mut self, kind: MessageType, payload: &str) {
        let payload = payload.replace('|', "\0");
        self.0.push((request(kind, 0, payload.as_bytes()), false));
    }

    fn add_in_transaction(&mut self, kind: MessageType, payload: &str) {
        self.add(kind, payload);
        if let Some((_, inside)) = self.0.last_mut() {
            *inside = true;
        }
    }
}

/// Requests ready to be sent.
pub struct Work {
    client: Client,
    /// Who is told of what is done.
    listener: Option<Client>,
    requests: Vec<Asked>,
}

impl Work {
    /// Does it all: every request through the service's loop, answered before the next one is sent. Each must succeed.
    pub fn run(&mut self, desk: &mut Desk) {
        self.run_each(desk, |_, _| {});
    }

    /// [`Work::run`], and `look` is called after each request with its number.
    pub fn run_each(&mut self, desk: &mut Desk, mut look: impl FnMut(&mut Desk, usize)) {
        let mut transaction = 0u32;
        for number in 0..self.requests.len() {
            self.run_one(desk, number, &mut transaction);
            look(desk, number);
        }
    }

    /// How many requests there are.
    pub fn count(&self) -> usize {
        self.requests.len()
    }

    /// Does one request, which is the next one. `transaction` is the one that was opened last.
    pub fn run_one(&mut self, desk: &mut Desk, number: usize, transaction: &mut u32) {
        let Some((bytes, inside)) = self.requests.get_mut(number) else {
            return;
        };
        if *inside {
            put_transaction(bytes, *transaction);
        }
        desk.send(self.client, bytes);
        desk.settle();
        let told = desk.told(self.client);
        if let Some(opened) = heard(bytes, &told) {
            *transaction = opened;
        }
        if let Some(listener) = self.listener {
            assert!(!desk.told(listener).is_empty(), "no event came");
        }
    }
}

/// Writes the number of a transaction into a request.
pub fn put_transaction(request: &mut [u8], transaction: u32) {
    request[8..12].copy_from_slice(&transaction.to_le_bytes());
}

/// A reply to a request, which must have succeeded. The transaction that it has opened.
pub fn heard(request: &[u8], told: &[u8]) -> Option<u32> {
    let kind = told.first().copied().unwrap_or(u8::MAX);
    assert!(
        u32::from(kind) != Error as u32 && kind == request[0],
        "{} was answered {}",
        String::from_utf8_lossy(&request[16..]),
        String::from_utf8_lossy(told.get(16..).unwrap_or_default())
    );
    (u32::from(kind) == TransactionStart as u32).then(|| {
        let digits = told[16..].iter().take_while(|byte| **byte != 0);
        digits.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'))
    })
}
