//! Where things lie in the page, and the values that have names (`struct xenstore_domain_interface` in `xs_wire.h`).

/// Bytes in the page.
pub const PAGE_SIZE: usize = 4096;
/// Bytes in each of the two rings (`XENSTORE_RING_SIZE`). A ring may be filled to the last byte.
pub const RING_SIZE: u32 = 1024;

/// Byte offsets in the page. The rings are bytes, everything else is a `u32` in the byte order of the host.
pub mod offset {
    /// Requests, [`super::RING_SIZE`] bytes.
    pub const REQUESTS: usize = 0;
    /// Replies and events, [`super::RING_SIZE`] bytes.
    pub const RESPONSES: usize = 1024;
    /// How far the server has read requests. Like all four indices: counts bytes modulo 2^32.
    pub const REQ_CONS: usize = 2048;
    /// How far the client has written requests.
    pub const REQ_PROD: usize = 2052;
    /// How far the client has read replies.
    pub const RSP_CONS: usize = 2056;
    /// How far the server has written replies.
    pub const RSP_PROD: usize = 2060;
    /// What the server offers, see [`super::feature`].
    pub const SERVER_FEATURES: usize = 2064;
    /// 0: connected. 1: the client wants a reconnect. Only the client sets 1, only the server sets 0.
    pub const CONNECTION: usize = 2068;
    /// Why the server has given this connection up, see [`super::ConnectionError`].
    pub const ERROR: usize = 2072;
    /// The event channel of a domain that Xen built at boot, 0 for none (Xen 4.21).
    pub const EVTCHN_PORT: usize = 2076;
}

/// Values of the connection field.
pub mod connection {
    /// The steady state (`XENSTORE_CONNECTED`).
    pub const CONNECTED: u32 = 0;
    /// The client asked for a reconnect (`XENSTORE_RECONNECT`).
    pub const RECONNECT: u32 = 1;
}

/// Bits of `server_features`. Once offered, a bit is never taken back.
pub mod feature {
    /// The client may ask for a reconnect.
    pub const RECONNECTION: u32 = 1;
    /// The error field is in use.
    pub const ERROR: u32 = 2;
    /// WATCH takes a depth.
    pub const WATCHDEPTH: u32 = 4;
    /// Permissions may name `DOMID_ANY`.
    pub const DOMID_ANY: u32 = 8;
}

/// What the server writes into the error field when it gives a connection up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum ConnectionError {
    /// The connection is valid.
    None = 0,
    /// The event channel does not work.
    Communication = 1,
    /// An index made an impossible move.
    RingIndex = 2,
    /// The client violated the protocol, as by a payload that is too long.
    Protocol = 3,
}

impl ConnectionError {
    /// The number in the page.
    pub const fn code(self) -> u32 {
        self as u32
    }
}
