//! What a peer can do to indices that no honest peer does.

use core::fmt;

use crate::layout::{ConnectionError, RING_SIZE};

/// An impossible state of the indices, with the values that were found. The connection is of no use any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RingFault {
    /// More than [`RING_SIZE`] bytes of requests are claimed to be in the ring.
    RequestDistance {
        /// How far requests were read.
        consumed: u32,
        /// How far they are claimed to be written.
        produced: u32,
    },
    /// More than [`RING_SIZE`] bytes of replies are claimed to be in the ring.
    ResponseDistance {
        /// How far replies are claimed to be read.
        consumed: u32,
        /// How far they were written.
        produced: u32,
    },
    /// The peer changed the index of requests that is ours.
    RequestIndexChanged {
        /// The value that we had put there.
        ours: u32,
        /// The value in the page.
        found: u32,
    },
    /// The peer changed the index of replies that is ours.
    ResponseIndexChanged {
        /// The value that we had put there.
        ours: u32,
        /// The value in the page.
        found: u32,
    },
}

impl RingFault {
    /// What to write into the page's error field.
    pub const fn connection_error(self) -> ConnectionError {
        ConnectionError::RingIndex
    }
}

impl fmt::Display for RingFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RingFault::RequestDistance { consumed, produced } => {
                write!(
                    f,
                    "requests read to {consumed:#x}, written to {produced:#x}: more than {RING_SIZE} apart"
                )
            }
            RingFault::ResponseDistance { consumed, produced } => {
                write!(
                    f,
                    "replies read to {consumed:#x}, written to {produced:#x}: more than {RING_SIZE} apart"
                )
            }
            RingFault::RequestIndexChanged { ours, found } => {
                write!(f, "req_cons was {ours:#x} and is now {found:#x}")
            }
            RingFault::ResponseIndexChanged { ours, found } => {
                write!(f, "rsp_prod was {ours:#x} and is now {found:#x}")
            }
        }
    }
}
