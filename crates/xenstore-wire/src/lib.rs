//! The Xenstore wire format: bytes to types and back.
//!
//! Everything a client can write into its connection is turned into a checked type here, once: the message header,
//! the strings of a payload, a path, a permission, a domid. A value of [`Path`], [`Permissions`] or [`SpecialPath`]
//! is valid by construction, so the rest of the project never checks again.
//!
//! This crate knows the format (Xen's `xen/include/public/io/xs_wire.h`, `docs/misc/xenstore.txt`) and how C
//! xenstored 4.22 reads its arguments. It does not know rings, the store, connections, or what a request means;
//! it does no I/O and keeps no state.
#![no_std]
#![forbid(unsafe_code)]
#![deny(
    unconditional_recursion,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::todo,
    clippy::unimplemented,
    clippy::unreachable,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
#![cfg_attr(
    test,
    allow(
        clippy::unreachable,
        clippy::string_slice,
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )
)]
#![warn(missing_docs)]

extern crate alloc;

mod domid;
mod error;
mod message;
mod number;
mod path;
mod payload;
mod permission;
mod resolve;
mod special;

pub use domid::{DomId, parse_domid};
pub use error::{Errno, InvalidPath, InvalidPermission};
pub use message::{ABS_PATH_MAX, HEADER_SIZE, Header, MESSAGE_MAX, Message, MessageType, PAYLOAD_MAX, REL_PATH_MAX};
pub use number::{atoi, strtol, strtoul};
pub use path::{Components, Path, PathBuf};
pub use payload::{Strings, first_string, one_string, strings};
pub use permission::{Access, Permission, Permissions};
pub use resolve::{Resolved, Target, resolve, resolve_with_special};
pub use special::{SpecialKind, SpecialPath};
