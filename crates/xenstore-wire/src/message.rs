//! The message header, the message types, and the limits of a message.
//!
//! A message is a header of 16 bytes followed by `length` bytes of payload (`struct xsd_sockmsg` in `xs_wire.h`).
//! The four words are in the byte order of the host; every host that this project runs on is little endian. Nothing
//! here knows what a payload means.

use core::fmt;

/// Bytes in a header (`sizeof(struct xsd_sockmsg)`).
pub const HEADER_SIZE: usize = 16;
/// The most bytes a payload may have, in either direction (`XENSTORE_PAYLOAD_MAX`).
pub const PAYLOAD_MAX: usize = 4096;
/// The most bytes a message may have.
pub const MESSAGE_MAX: usize = HEADER_SIZE + PAYLOAD_MAX;
/// The longest absolute path by definition (`XENSTORE_ABS_PATH_MAX`). C xenstored enforces it nowhere.
pub const ABS_PATH_MAX: usize = 3072;
/// The default of the quota `path-max`: the part of a path below "/local/domain/N/" must be shorter
/// (`XENSTORE_REL_PATH_MAX`).
pub const REL_PATH_MAX: usize = 2048;

/// Where the fields lie in a header.
mod field {
    use core::ops::Range;

    pub const KIND: Range<usize> = 0..4;
    pub const REQUEST_ID: Range<usize> = 4..8;
    pub const TRANSACTION_ID: Range<usize> = 8..12;
    pub const LENGTH: Range<usize> = 12..16;
}

/// A message header as numbers. Any sixteen bytes are a header; whether it makes sense is the reader's question.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Header {
    /// The message type; see [`MessageType::from_wire`].
    pub kind: u32,
    /// Chosen by the client and returned in the reply; 0 in a watch event.
    pub request_id: u32,
    /// The transaction that the request belongs to, 0 for none; returned in the reply.
    pub transaction_id: u32,
    /// Bytes of payload that follow. More than [`PAYLOAD_MAX`] is a protocol violation.
    pub length: u32,
}

impl Header {
    /// Reads a header.
    pub fn parse(bytes: &[u8; HEADER_SIZE]) -> Header {
        let word = |range| {
            let bytes: Option<&[u8]> = bytes.get::<core::ops::Range<usize>>(range);
            bytes
                .and_then(|bytes| bytes.try_into().ok())
                .map_or(0, u32::from_le_bytes)
        };
        Header {
            kind: word(field::KIND),
            request_id: word(field::REQUEST_ID),
            transaction_id: word(field::TRANSACTION_ID),
            length: word(field::LENGTH),
        }
    }

    /// Writes the header.
    pub fn emit(&self) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        for (range, value) in [
            (field::KIND, self.kind),
            (field::REQUEST_ID, self.request_id),
            (field::TRANSACTION_ID, self.transaction_id),
            (field::LENGTH, self.length),
        ] {
            if let Some(place) = bytes.get_mut(range) {
                place.copy_from_slice(&value.to_le_bytes());
            }
        }
        bytes
    }

    /// The header of a reply to this request: same ids, another type and length.
    pub fn reply(&self, kind: MessageType, length: u32) -> Header {
        Header {
            kind: kind.to_wire(),
            length,
            ..*self
        }
    }

    /// The header of a watch event with `length` bytes of payload: both ids are 0.
    pub fn event(length: u32) -> Header {
        Header {
            kind: MessageType::WatchEvent.to_wire(),
            request_id: 0,
            transaction_id: 0,
            length,
        }
    }
}

/// A whole message in a buffer: a view whose payload is exactly as long as its header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message<'a> {
    /// The header.
    pub header: Header,
    /// `header.length` bytes, at most [`PAYLOAD_MAX`].
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// Splits the first message off `bytes`. `None`: it is not all there yet, or longer than [`PAYLOAD_MAX`].
    pub fn split(bytes: &'a [u8]) -> Option<(Message<'a>, &'a [u8])> {
        let (header, rest) = bytes.split_first_chunk::<HEADER_SIZE>()?;
        let header = Header::parse(header);
        let length = usize::try_from(header.length)
            .ok()
            .filter(|&length| length <= PAYLOAD_MAX)?;
        let (payload, rest) = rest.split_at_checked(length)?;
        Some((Message { header, payload }, rest))
    }
}

macro_rules! message_types {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal;)*) => {
        /// What a message asks or tells (`enum xsd_sockmsg_type`, Xen 4.22).
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize)]
        #[repr(u32)]
        pub enum MessageType { $($(#[$doc])* $variant = $number),* }

        impl MessageType {
            /// All types, ordered by number.
            pub const ALL: [MessageType; 27] = [$(MessageType::$variant),*];

            /// The type with this number.
            pub const fn from_wire(number: u32) -> Option<MessageType> {
                match number { $($number => Some(MessageType::$variant),)* _ => None }
            }

            /// The name in Xen's documents and in C xenstored's trace, such as "READ".
            pub const fn name(self) -> &'static str {
                match self { $(MessageType::$variant => $name),* }
            }
        }
    };
}

message_types! {
    /// Administrator's commands.
    Control = 0, "CONTROL";
    /// Names of a node's children.
    Directory = 1, "DIRECTORY";
    /// Value of a node.
    Read = 2, "READ";
    /// Permissions of a node.
    GetPerms = 3, "GET_PERMS";
    /// Registers a watch.
    Watch = 4, "WATCH";
    /// Removes a watch.
    Unwatch = 5, "UNWATCH";
    /// Opens a transaction.
    TransactionStart = 6, "TRANSACTION_START";
    /// Commits or aborts a transaction.
    TransactionEnd = 7, "TRANSACTION_END";
    /// Connects a domain.
    Introduce = 8, "INTRODUCE";
    /// Disconnects a domain.
    Release = 9, "RELEASE";
    /// "/local/domain/N".
    GetDomainPath = 10, "GET_DOMAIN_PATH";
    /// Sets a node's value, creating it if need be.
    Write = 11, "WRITE";
    /// Creates a node if it is missing.
    Mkdir = 12, "MKDIR";
    /// Removes a node and what is below.
    Rm = 13, "RM";
    /// Sets a node's permissions.
    SetPerms = 14, "SET_PERMS";
    /// From the server only: a watch fired.
    WatchEvent = 15, "WATCH_EVENT";
    /// From the server only: a request failed.
    Error = 16, "ERROR";
    /// Whether a domain is connected.
    IsDomainIntroduced = 17, "IS_DOMAIN_INTRODUCED";
    /// A domain that was shut down runs again.
    Resume = 18, "RESUME";
    /// Gives a domain the rights of another.
    SetTarget = 19, "SET_TARGET";
    /// No longer served by anyone (removed from Xen); the number stays taken.
    Restrict = 20, "RESTRICT";
    /// Drops the caller's watches and transactions.
    ResetWatches = 21, "RESET_WATCHES";
    /// Names of a node's children, from an offset on.
    DirectoryPart = 22, "DIRECTORY_PART";
    /// Features offered to a domain (Xen 4.21).
    GetFeature = 23, "GET_FEATURE";
    /// Sets the features offered to a domain (Xen 4.21).
    SetFeature = 24, "SET_FEATURE";
    /// Reads quotas (Xen 4.22).
    GetQuota = 25, "GET_QUOTA";
    /// Sets quotas (Xen 4.22).
    SetQuota = 26, "SET_QUOTA";
}

impl MessageType {
    /// The number on the wire.
    pub const fn to_wire(self) -> u32 {
        self as u32
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    #[test]
    fn types_have_the_numbers_of_xs_wire_h() {
        for (number, kind) in (0u32..).zip(MessageType::ALL) {
            assert_eq!(kind.to_wire(), number);
            assert_eq!(MessageType::from_wire(number), Some(kind));
        }
        assert_eq!(MessageType::from_wire(27), None);
        assert_eq!(MessageType::from_wire(0xffff), None);
        assert_eq!(MessageType::DirectoryPart.name(), "DIRECTORY_PART");
    }

    #[test]
    fn a_header_lies_in_memory_as_in_c() {
        let header = Header {
            kind: 2,
            request_id: 0x0102_0304,
            transaction_id: 7,
            length: 4096,
        };
        assert_eq!(header.emit(), [2, 0, 0, 0, 4, 3, 2, 1, 7, 0, 0, 0, 0, 16, 0, 0]);
    }

    #[test]
    fn a_reply_keeps_the_ids_and_an_event_has_none() {
        let request = Header {
            kind: 2,
            request_id: 9,
            transaction_id: 7,
            length: 3,
        };
        let reply = request.reply(MessageType::Error, 7);
        assert_eq!(
            reply,
            Header {
                kind: 16,
                request_id: 9,
                transaction_id: 7,
                length: 7
            }
        );
        assert_eq!(
            Header::event(5),
            Header {
                kind: 15,
                request_id: 0,
                transaction_id: 0,
                length: 5
            }
        );
    }

    #[test]
    fn a_message_over_the_limit_is_not_a_message() {
        let mut bytes = Vec::from(
            Header {
                kind: 2,
                request_id: 0,
                transaction_id: 0,
                length: 4097,
            }
            .emit(),
        );
        bytes.resize(2 * MESSAGE_MAX, 0);
        assert_eq!(Message::split(&bytes), None);
    }

    proptest! {
        #[test]
        fn headers_round_trip(bytes: [u8; HEADER_SIZE]) {
            prop_assert_eq!(Header::parse(&bytes).emit(), bytes);
        }

        #[test]
        fn messages_are_split_where_they_end(
            payload in proptest::collection::vec(any::<u8>(), 0..300),
            next in proptest::collection::vec(any::<u8>(), 0..20),
            cut in any::<prop::sample::Index>(),
        ) {
            let header = Header { kind: 11, request_id: 1, transaction_id: 0, length: payload.len() as u32 };
            let mut bytes = Vec::from(header.emit());
            bytes.extend(&payload);
            prop_assert_eq!(Message::split(&bytes[..cut.index(bytes.len())]), None);
            bytes.extend(&next);
            let (message, rest) = Message::split(&bytes).unwrap();
            prop_assert_eq!((message.header, message.payload, rest), (header, &payload[..], &next[..]));
        }
    }
}
