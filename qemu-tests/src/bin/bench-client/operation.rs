//! What a client asks for, again and again, while it is measured. Each client has a directory of its own, `/bench/clients/N`.

use std::io;

use xenstore_wire::MessageType;

use crate::bus::{Bus, NONE, READ, WRITE};

const DIRECTORY: u32 = MessageType::Directory as u32;
const WATCH: u32 = MessageType::Watch as u32;
const TRANSACTION_START: u32 = MessageType::TransactionStart as u32;
const TRANSACTION_END: u32 = MessageType::TransactionEnd as u32;
const MKDIR: u32 = MessageType::Mkdir as u32;

/// Children of the large directory: as many as fit into a reply with names of three letters.
const LARGE: u32 = 1000;
/// Writes of a transaction.
const WRITES: u32 = 10;

/// A part of an operation; the next one follows when it is answered.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// Sent with this path below the client's directory, and bytes behind its NUL.
    Ask(u32, &'static str, usize),
    /// Of the large directory.
    List,
    Begin,
    /// Writes one of the children of a transaction.
    Write(u32),
    Commit,
    /// Waits for an event.
    Event,
}

/// An operation.
#[derive(Clone, Debug)]
pub struct Operation {
    pub name: &'static str,
    parts: Vec<Part>,
}

/// One client, and where it is.
pub struct Client {
    pub bus: Bus,
    home: String,
    transaction: u32,
}

/// All operations, in the order of the table.
pub fn all() -> Vec<Operation> {
    let one = |name, part| Operation {
        name,
        parts: vec![part],
    };
    let mut transaction = vec![Part::Begin];
    transaction.extend((0..WRITES).map(Part::Write));
    transaction.push(Part::Commit);
    vec![
        one("READ", Part::Ask(READ, "v1", 0)),
        one("WRITE of 1 byte", Part::Ask(WRITE, "v1", 1)),
        one("WRITE of 100 bytes", Part::Ask(WRITE, "v100", 100)),
        one("WRITE of 2000 bytes", Part::Ask(WRITE, "v2000", 2000)),
        one("DIRECTORY of 10", Part::Ask(DIRECTORY, "d10", 0)),
        one("DIRECTORY of 1000", Part::List),
        Operation {
            name: "transaction of 10 writes",
            parts: transaction,
        },
        Operation {
            name: "watch event",
            parts: vec![Part::Ask(WRITE, "event", 1), Part::Event],
        },
    ]
}

impl Operation {
    /// Requests of one client.
    pub fn requests(&self) -> u64 {
        self.parts.iter().filter(|part| !matches!(part, Part::Event)).count() as u64
    }

    /// All clients do it at the same time, part by part. How many commits must be done again.
    pub fn run(&self, clients: &mut [Client]) -> io::Result<u64> {
        let mut conflicts = 0;
        for part in &self.parts {
            if matches!(part, Part::Event) {
                for client in clients.iter_mut() {
                    client.bus.wait_for_event()?;
                }
                continue;
            }
            for client in clients.iter_mut() {
                client.send(*part)?;
            }
            for client in clients.iter_mut() {
                conflicts += u64::from(client.hear(*part)?);
            }
        }
        Ok(conflicts)
    }
}

impl Client {
    /// Makes what its operations need.
    pub fn new(bus: Bus, number: u32) -> io::Result<Client> {
        let mut client = Client {
            bus,
            home: format!("/bench/clients/{number}"),
            transaction: NONE,
        };
        for (name, size) in [("v1", 1), ("v100", 100), ("v2000", 2000), ("event", 1)] {
            client.must(WRITE, name, size)?;
        }
        for child in 0..WRITES {
            client.must(WRITE, &format!("t{child}"), 1)?;
            client.must(MKDIR, &format!("d10/{child}"), 0)?;
        }
        let watch = format!("{}/event\0token\0", client.home);
        client.bus.must(WATCH, NONE, watch.as_bytes())?;
        // Every new watch is told once.
        client.bus.wait_for_event()?;
        Ok(client)
    }

    fn must(&mut self, kind: u32, name: &str, size: usize) -> io::Result<Vec<u8>> {
        let payload = payload(&self.home, name, size);
        self.bus.must(kind, NONE, &payload)
    }

    fn send(&mut self, part: Part) -> io::Result<()> {
        let (kind, transaction, payload) = match part {
            Part::Ask(kind, name, size) => (kind, NONE, payload(&self.home, name, size)),
            Part::List => (DIRECTORY, NONE, b"/bench/large\0".to_vec()),
            Part::Begin => (TRANSACTION_START, NONE, b"\0".to_vec()),
            Part::Write(child) => (WRITE, self.transaction, payload(&self.home, &format!("t{child}"), 5)),
            Part::Commit => (TRANSACTION_END, self.transaction, b"T\0".to_vec()),
            Part::Event => return Ok(()),
        };
        let sent = self.bus.send(kind, transaction, &payload)?;
        sent.map_err(|error| io::Error::other(format!("{part:?}: {error}")))
    }

    /// True if a commit must be done again.
    fn hear(&mut self, part: Part) -> io::Result<bool> {
        match (part, self.bus.reply()?) {
            (Part::Begin, Ok(id)) => {
                let text = String::from_utf8_lossy(&id);
                self.transaction = text.trim_end_matches('\0').parse().map_err(io::Error::other)?;
                Ok(false)
            }
            (_, Ok(_)) => Ok(false),
            (Part::Commit, Err(error)) if error == "EAGAIN" => Ok(true),
            (_, Err(error)) => Err(io::Error::other(format!("{part:?}: {error}"))),
        }
    }
}

/// The directory that all list.
pub fn make_large_directory(bus: &mut Bus) -> io::Result<()> {
    let digit = |number: u32| char::from_digit(number % 36, 36).unwrap_or('0');
    for number in 0..LARGE {
        let name: String = [number / 1296, number / 36, number].map(digit).into_iter().collect();
        bus.must(MKDIR, NONE, format!("/bench/large/{name}\0").as_bytes())?;
    }
    Ok(())
}

fn payload(home: &str, name: &str, size: usize) -> Vec<u8> {
    let mut payload = format!("{home}/{name}\0").into_bytes();
    payload.resize(payload.len() + size, b'x');
    payload
}
