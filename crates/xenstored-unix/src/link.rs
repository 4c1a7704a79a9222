//! One client: a stream socket as the service sees it.

use std::io::{ErrorKind, Read as _, Write as _};

use mio::net::UnixStream;
use xenstore_core::{Epoch, Fault};
use xenstore_service::{Link, LinkState};
use xenstore_wire::{HEADER_SIZE, PAYLOAD_MAX};

/// Bytes of requests that are read ahead of the service: as much as it takes of a client in one round.
const AHEAD: usize = 16 * 1024;
/// Bytes asked of the socket at once: the longest message.
const AT_ONCE: usize = HEADER_SIZE + PAYLOAD_MAX;
/// An idle client keeps no more than this for its next request.
const KEPT: usize = 1024;

/// A client's socket.
#[derive(Debug)]
pub struct SocketLink {
    stream: UnixStream,
    /// Read and not yet consumed.
    received: Vec<u8>,
    /// The socket may have something to read.
    readable: bool,
    /// The socket may take something.
    writable: bool,
    /// The client has said all that it will say.
    ended: bool,
    /// The client takes nothing any more: what it is told vanishes, so that its last requests are still done.
    deaf: bool,
}

impl SocketLink {
    /// A client that has just been accepted. Its socket does not block and tells of changes by edges.
    pub fn new(stream: UnixStream) -> Self {
        SocketLink {
            stream,
            received: Vec::new(),
            readable: true,
            writable: true,
            ended: false,
            deaf: false,
        }
    }

    fn read_ahead(&mut self) {
        let mut piece = [0; AT_ONCE];
        while self.readable && !self.ended && self.received.len() < AHEAD {
            match self.stream.read(&mut piece) {
                Ok(0) => self.ended = true,
                Ok(count) => self.received.extend_from_slice(piece.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.ended = true,
            }
        }
    }
}

impl Link for SocketLink {
    fn epoch(&self) -> Epoch {
        Epoch::default()
    }

    fn stirred(&mut self) {
        self.readable = true;
        self.writable = true;
    }

    fn look(&mut self) -> LinkState {
        self.read_ahead();
        if self.ended && self.received.is_empty() {
            return LinkState::Closed;
        }
        LinkState::Open {
            readable: u32::try_from(self.received.len()).unwrap_or(u32::MAX),
            // How much fits, only trying can tell.
            writable: if self.writable { u32::MAX } else { 0 },
        }
    }

    fn peek(&self, skip: u32, out: &mut [u8]) -> usize {
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let rest = self.received.get(skip..).unwrap_or_default();
        let count = rest.len().min(out.len());
        if let (Some(to), Some(from)) = (out.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        count
    }

    fn consume(&mut self, count: u32) {
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(self.received.len());
        self.received.drain(..count);
        if self.received.is_empty() && self.received.capacity() > KEPT {
            self.received = Vec::new();
        }
    }

    fn publish(&mut self, bytes: &[u8]) -> usize {
        loop {
            if self.deaf {
                return bytes.len();
            }
            match self.stream.write(bytes) {
                Ok(count) => return count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.writable = false;
                    return 0;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.deaf = true,
            }
        }
    }

    // A socket cannot begin anew, has no place for an error, and a write is its own notification.
    fn restart(&mut self, _why: LinkState) {}

    fn set_error(&mut self, _fault: Fault) {}

    fn take_notify(&mut self, _lacking: Option<u32>) -> bool {
        false
    }
}
