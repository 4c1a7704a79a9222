//! Why something that was asked of the store did not come to a good end.

use alloc::string::String;
use core::fmt;

use xenstore_ring::RingFault;
use xenstore_wire::Errno;

/// What came instead of a good reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The server answered with this error.
    Refused(Errno),
    /// The server gave the connection up; the number of the error field.
    GivenUp(u32),
    /// The server's indices are impossible.
    Indices(RingFault),
    /// Nothing came, for this many seconds.
    Silence(u64),
    /// Something came that no server should send.
    Strange(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused(errno) => f.write_str(errno.name()),
            Failure::GivenUp(error) => write!(f, "given up, error {error}"),
            Failure::Indices(fault) => write!(f, "the server's indices: {fault}"),
            Failure::Silence(seconds) => write!(f, "no answer for {seconds} s"),
            Failure::Strange(what) => f.write_str(what),
        }
    }
}
