//! The device, or a daemon's socket: messages out, replies and events in. Knows the 16 bytes of a header and the names of types and
//! errors (xen/include/public/io/xs_wire.h), and nothing about what requests mean.
//!
//! Linux stands between this program and the store: it answers some requests itself (UNWATCH, an unknown transaction), and gives
//! an error of WATCH as the error of the write.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// The types by number; empty names are answers, or were removed.
const TYPES: [&str; 23] = [
    "CONTROL",
    "DIRECTORY",
    "READ",
    "GET_PERMS",
    "WATCH",
    "UNWATCH",
    "TRANSACTION_START",
    "TRANSACTION_END",
    "INTRODUCE",
    "RELEASE",
    "GET_DOMAIN_PATH",
    "WRITE",
    "MKDIR",
    "RM",
    "SET_PERMS",
    "WATCH_EVENT",
    "ERROR",
    "IS_DOMAIN_INTRODUCED",
    "RESUME",
    "SET_TARGET",
    "RESTRICT",
    "RESET_WATCHES",
    "DIRECTORY_PART",
];

pub const READ: u32 = 2;
const TRANSACTION_START: u32 = 6;
const TRANSACTION_END: u32 = 7;
pub const WRITE: u32 = 11;
const WATCH_EVENT: u32 = 15;
const ERROR: u32 = 16;

/// Outside any transaction.
pub const NONE: u32 = 0;

/// Linux' numbers of the errors that it can give for a write.
const ERRORS: [(i32, &str); 14] = [
    (1, "EPERM"),
    (2, "ENOENT"),
    (5, "EIO"),
    (7, "E2BIG"),
    (11, "EAGAIN"),
    (12, "ENOMEM"),
    (13, "EACCES"),
    (16, "EBUSY"),
    (17, "EEXIST"),
    (22, "EINVAL"),
    (28, "ENOSPC"),
    (38, "ENOSYS"),
    (84, "EILSEQ"),
    (106, "EISCONN"),
];

/// The number of a type.
pub fn number_of(name: &str) -> Option<u32> {
    let index = TYPES.iter().position(|known| *known == name)?;
    u32::try_from(index).ok()
}

/// What a request gave: its payload, or the name of an error.
pub type Reply = Result<Vec<u8>, String>;

/// An event: path and token.
pub type Event = (String, String);

/// The device, opened once: to the store each open of a domain is the same connection, to Linux its own.
pub struct Bus {
    device: File,
    received: Vec<u8>,
    replies: VecDeque<(u32, Vec<u8>)>,
    events: VecDeque<Event>,
}

impl Bus {
    pub fn open() -> io::Result<Bus> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/xen/xenbus")?;
        Ok(Bus::on(device))
    }

    /// The same to a daemon, without Linux' driver between: to the daemon it is a connection of its own.
    // Not every program that has this module uses it.
    #[allow(dead_code)]
    pub fn connect(socket: &Path) -> io::Result<Bus> {
        Ok(Bus::on(File::from(OwnedFd::from(UnixStream::connect(socket)?))))
    }

    fn on(device: File) -> Bus {
        Bus {
            device,
            received: Vec::new(),
            replies: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Sends a request and waits for its reply. An error of the device that has no name here ends the program.
    pub fn ask(&mut self, kind: u32, transaction: u32, payload: &[u8]) -> io::Result<Reply> {
        match self.send(kind, transaction, payload)? {
            Ok(()) => self.reply(),
            Err(name) => Ok(Err(name)),
        }
    }

    /// Sends a request. At most one of each opening of the device may be under way: Linux keeps its bytes in one place until they are in
    /// the ring. The inner error is Linux' own answer in place of the store's.
    pub fn send(&mut self, kind: u32, transaction: u32, payload: &[u8]) -> io::Result<Result<(), String>> {
        let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
        let mut message = Vec::new();
        for field in [kind, 0, transaction, length] {
            message.extend(field.to_le_bytes());
        }
        message.extend(payload);
        if let Err(error) = self.device.write_all(&message) {
            let known = ERRORS.iter().find(|(number, _)| error.raw_os_error() == Some(*number));
            return match known {
                Some((_, name)) => Ok(Err((*name).to_owned())),
                None => Err(error),
            };
        }
        Ok(Ok(()))
    }

    /// The reply to the request that was sent.
    pub fn reply(&mut self) -> io::Result<Reply> {
        loop {
            if let Some((kind, payload)) = self.replies.pop_front() {
                return Ok(if kind == ERROR {
                    Err(text(&payload))
                } else {
                    Ok(payload)
                });
            }
            self.receive()?;
        }
    }

    /// As [`Bus::ask`], where an error is the end.
    pub fn must(&mut self, kind: u32, transaction: u32, payload: &[u8]) -> io::Result<Vec<u8>> {
        self.ask(kind, transaction, payload)?
            .map_err(|error| io::Error::other(format!("{}: {error}", show(payload))))
    }

    /// Starts a transaction and gives its id.
    pub fn begin(&mut self) -> io::Result<u32> {
        let id = self.must(TRANSACTION_START, NONE, b"\0")?;
        text(&id).parse().map_err(io::Error::other)
    }

    /// Ends a transaction.
    pub fn end(&mut self, transaction: u32, commit: bool) -> io::Result<Reply> {
        self.ask(TRANSACTION_END, transaction, if commit { b"T\0" } else { b"F\0" })
    }

    /// The next event, whenever it comes.
    pub fn wait_for_event(&mut self) -> io::Result<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            self.receive()?;
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut buffer = [0; 8192];
        let length = self.device.read(&mut buffer)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.received.extend(buffer.get(..length).unwrap_or_default());
        while let Some((kind, payload)) = take_message(&mut self.received) {
            if kind == WATCH_EVENT {
                let mut strings = payload.split(|byte| *byte == 0).map(show);
                self.events
                    .push_back((strings.next().unwrap_or_default(), strings.next().unwrap_or_default()));
            } else {
                self.replies.push_back((kind, payload));
            }
        }
        Ok(())
    }
}

/// The first message, if all of it is there.
fn take_message(received: &mut Vec<u8>) -> Option<(u32, Vec<u8>)> {
    let field = |at: usize| {
        let bytes = received.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let (kind, length) = (field(0)?, field(12)?);
    let end = usize::try_from(length).ok()?.checked_add(16)?;
    let payload = received.get(16..end)?.to_vec();
    received.drain(..end);
    Some((kind, payload))
}

/// A payload that is one string, without its end.
fn text(payload: &[u8]) -> String {
    show(payload.strip_suffix(b"\0").unwrap_or(payload))
}

/// A payload as it can be printed: `|` for NUL.
pub fn show(payload: &[u8]) -> String {
    payload
        .iter()
        .map(|byte| match byte {
            0 => '|',
            b' '..=b'~' => char::from(*byte),
            _ => '?',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_only_when_they_are_complete() {
        let mut received = vec![2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, b'o', b'n'];
        assert_eq!(take_message(&mut received), None);
        received.extend(b"e!");
        assert_eq!(take_message(&mut received), Some((2, b"one".to_vec())));
        assert_eq!(received, b"!");
    }

    #[test]
    fn types_have_the_numbers_of_the_wire() {
        assert_eq!(number_of("READ"), Some(READ));
        assert_eq!(number_of("WRITE"), Some(WRITE));
        assert_eq!(number_of("DIRECTORY_PART"), Some(22));
        assert_eq!(number_of("NOTHING"), None);
    }
}
