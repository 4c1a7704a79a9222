//! Requests that are not asked, because a peer does not survive them, or because afterwards the two are no longer alike for
//! good, so that there is nothing left to compare.

use native_rings::packages::Product::{self, C417, C420, OCaml417};
use xenstore_wire::MessageType::{self, *};
use xenstore_wire::{atoi, one_string};

use super::answers::{first, plain_number};
use crate::duel::domains::Domains;
use crate::trace::STRANGER;

/// One reason not to ask.
pub struct LeftOut {
    /// What.
    pub what: &'static str,
    /// The peers to whom it is not put.
    pub peers: &'static [Product],
    /// Why.
    pub why: &'static str,
    applies: fn(&Asking<'_>) -> bool,
}

/// A request that somebody wants to send.
pub struct Asking<'a> {
    /// Who.
    pub domid: u16,
    /// The number of its type.
    pub kind: u32,
    /// What it carries.
    pub payload: &'a [u8],
    /// It is sent inside a transaction.
    pub inside: bool,
    /// What is known of the domains.
    pub domains: &'a Domains,
}

impl Asking<'_> {
    fn is(&self, kinds: &[MessageType]) -> bool {
        kinds.iter().any(|kind| *kind as u32 == self.kind)
    }

    fn strings(&self) -> impl Iterator<Item = &[u8]> {
        self.payload.split(|byte| *byte == 0)
    }

    fn second(&self) -> &[u8] {
        self.strings().nth(1).unwrap_or_default()
    }

    /// What follows the letter in each permission.
    fn named_in_permissions(&self) -> impl Iterator<Item = &[u8]> {
        self.strings().skip(1).filter_map(|entry| entry.get(1..))
    }
}

/// The domain that the first string of a payload names, as the servers read it.
pub fn named_domain(payload: &[u8]) -> Option<u16> {
    u16::try_from(atoi(payload)).ok()
}

/// Why this is not put to the peer; `None`: it is.
pub fn reason(product: Product, asking: &Asking<'_>) -> Option<&'static LeftOut> {
    let mut rows = TABLE.iter().filter(|row| row.peers.contains(&product));
    rows.find(|row| (row.applies)(asking))
}

const C: &[Product] = &[C417, C420];
const OCAML: &[Product] = &[OCaml417];
const ALL: &[Product] = &[C417, C420, OCaml417];

/// All of them.
pub const TABLE: &[LeftOut] = &[
    LeftOut {
        what: "DIRECTORY, READ, GET_PERMS, MKDIR, RM with a payload that is not one string",
        peers: &[C417],
        why: "it forgets to set an error and takes the last one; if there was none it answers nothing and aborts",
        applies: |asking| asking.is(&[Directory, Read, GetPerms, Mkdir, Rm]) && one_string(asking.payload).is_none(),
    },
    LeftOut {
        what: "SET_PERMS of a special name that is none, or not by dom0",
        peers: ALL,
        why: "4.17 aborts as above, oxenstored takes any name that starts with @; not looked into with 4.20",
        applies: |asking| {
            let path = first(asking.payload);
            let known = path == b"@releaseDomain" || path == b"@introduceDomain";
            asking.is(&[SetPerms]) && path.starts_with(b"@") && !(known && asking.domid == 0)
        },
    },
    LeftOut {
        what: "SET_PERMS of / or a special node that gives it to a domain that may end",
        peers: ALL,
        why: "C removes the root with the domain that owns it; oxenstored too",
        applies: |asking| {
            let path = first(asking.payload);
            let whole = path == b"/" || path == b"@releaseDomain" || path == b"@introduceDomain";
            // Domains 0 to 2 do not end here.
            let stays = matches!(asking.second().get(1..), Some(b"0" | b"1" | b"2"));
            asking.is(&[SetPerms]) && whole && !stays
        },
    },
    LeftOut {
        what: "SET_PERMS that names a domain that has ended and not come back",
        peers: C,
        why: "C takes the old permission for the domain's next life",
        applies: |asking| {
            let mut named = asking.named_in_permissions().filter_map(named_domain);
            asking.is(&[SetPerms]) && named.any(|domid| asking.domains.has_ended(domid))
        },
    },
    LeftOut {
        what: "INTRODUCE of dom0, or of no number",
        peers: ALL,
        why: "what dom0 gets when its own ring starts anew in the middle of a request is nothing to compare",
        applies: |asking| {
            let named = first(asking.payload);
            asking.is(&[Introduce]) && (!plain_number(named) || named == b"0")
        },
    },
    LeftOut {
        what: "RELEASE, RESUME, SET_TARGET of something that begins like a number",
        peers: ALL,
        why: "4.17 and oxenstored take it for that number",
        applies: |asking| {
            let begins = |text: &[u8]| !plain_number(text) && atoi(text) != 0;
            asking.is(&[Release, Resume]) && begins(first(asking.payload))
                || asking.is(&[SetTarget]) && (!plain_number(first(asking.payload)) || !plain_number(asking.second()))
        },
    },
    LeftOut {
        what: "SET_TARGET of a domain that has a transaction open",
        peers: ALL,
        why: "targets are outside transactions: what was refused before may be granted when one is repeated",
        applies: |asking| {
            let named = named_domain(asking.payload);
            asking.is(&[SetTarget]) && named.is_some_and(|domid| asking.domains.is_in_transaction(domid))
        },
    },
    LeftOut {
        what: "RELEASE of a domain that is another's target",
        peers: ALL,
        why: "the target lives on, unreachable, until the domain that has it ends",
        applies: |asking| {
            let named = named_domain(asking.payload);
            asking.is(&[Release]) && named.is_some_and(|domid| asking.domains.is_target(domid))
        },
    },
    LeftOut {
        what: "RELEASE, or the end, of a domain that permissions name which were set in a transaction that is open",
        peers: OCAML,
        why: "when it is committed they are there again, for the next domain with that number (XSA-322; here they are not)",
        applies: |asking| {
            let named = named_domain(asking.payload);
            asking.is(&[Release]) && named.is_some_and(|domid| asking.domains.is_named_inside(domid))
        },
    },
    LeftOut {
        what: "RM of / , or SET_PERMS of it by a guest",
        peers: OCAML,
        why: "who may write / may remove everything and give / away (here EINVAL and EACCES, as in C)",
        applies: |asking| {
            let guest = asking.domid != 0;
            first(asking.payload) == b"/" && (asking.is(&[Rm]) || guest && asking.is(&[SetPerms]))
        },
    },
    LeftOut {
        what: "WRITE, MKDIR, RM of special names",
        peers: OCAML,
        why: "they are nodes below /, which it makes and removes (here EINVAL, as in C)",
        applies: |asking| asking.is(&[Write, Mkdir, Rm]) && asking.payload.starts_with(b"@"),
    },
    LeftOut {
        what: "SET_PERMS of a special node inside a transaction",
        peers: &[C420, OCaml417],
        why: "it takes effect with the commit; here, as in 4.17, at once",
        applies: |asking| asking.is(&[SetPerms]) && asking.inside && asking.payload.starts_with(b"@"),
    },
    LeftOut {
        what: "SET_PERMS that names a domain that is not there, or a number in another form than decimal",
        peers: OCAML,
        why: "it takes any domain (README: chmod for dead domains), and other forms of numbers than C's strtol",
        applies: |asking| {
            let odd = |number: &[u8]| {
                if number.is_empty() || number.iter().any(|byte| !byte.is_ascii_digit()) {
                    number.first().is_some_and(|byte| b" -+0".contains(byte))
                } else {
                    !named_domain(number).is_some_and(|domid| domid == STRANGER || asking.domains.is_connected(domid))
                }
            };
            asking.is(&[SetPerms]) && asking.named_in_permissions().any(odd)
        },
    },
    LeftOut {
        what: "INTRODUCE of a domain that is connected, or with a port that is none",
        peers: OCAML,
        why: "it keeps watches and transactions (here they end, as in C); it binds any port",
        applies: |asking| {
            let named = named_domain(asking.payload);
            let port = asking
                .strings()
                .nth(2)
                .is_none_or(|port| plain_number(port) && port != b"0");
            asking.is(&[Introduce]) && (named.is_some_and(|domid| asking.domains.is_connected(domid)) || !port)
        },
    },
    LeftOut {
        what: "RELEASE of dom0, or with more than one string",
        peers: OCAML,
        why: "it lets dom0 go; it refuses more than one string",
        applies: |asking| {
            asking.is(&[Release]) && (first(asking.payload) == b"0" || one_string(asking.payload).is_none())
        },
    },
    LeftOut {
        what: "WATCH or UNWATCH with bytes behind the last string",
        peers: OCAML,
        why: "it refuses them (here they are ignored, as in C)",
        applies: |asking| asking.is(&[Watch, Unwatch]) && !asking.payload.ends_with(b"\0"),
    },
    LeftOut {
        what: "SET_TARGET whose target is not connected",
        peers: OCAML,
        why: "it takes any (here ENOENT, as in C)",
        applies: |asking| {
            let target = named_domain(asking.second());
            asking.is(&[SetTarget]) && !target.is_some_and(|domid| asking.domains.is_connected(domid))
        },
    },
];
