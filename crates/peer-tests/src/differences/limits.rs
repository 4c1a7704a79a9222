//! How the two are started, so that both allow equally much: then the difference is exactly the values in this table.

use native_rings::packages::Product;
use xenstore_core::{Configuration, ConflictLimits, Limit, Quotas};

/// A limit: ours, its value here, the peers' options with their values there.
struct Alike {
    limit: Limit,
    /// Reaching it is refused, as in C 4.22; 0 is none.
    ours: u32,
    /// Words of the command line of C xenstored until 4.21.
    c: &'static [&'static str],
    /// A line of oxenstored.conf.
    ocaml: Option<&'static str>,
    /// Ours, where oxenstored counts something else or nothing.
    ours_with_ocaml: u32,
}

const LIMITS: [Alike; 6] = [
    // C: at 300 no further one is made. Ours: reaching 301 is refused. oxenstored: at 300, and counted to who owns the
    // nearest node above, so that random traces must not come near.
    Alike {
        limit: Limit::Nodes,
        ours: 301,
        c: &["-E", "300"],
        ocaml: Some("quota-maxentity = 300"),
        ours_with_ocaml: 301,
    },
    // C and oxenstored: more than 12 is refused before one is added, so 13 are allowed. Ours: reaching 14 is refused.
    Alike {
        limit: Limit::Watches,
        ours: 14,
        c: &["-W", "12"],
        ocaml: Some("quota-maxwatch = 12"),
        ours_with_ocaml: 14,
    },
    // C and oxenstored: with more than 4 open none is started, so 5 are allowed. Ours: reaching 6 is refused.
    Alike {
        limit: Limit::Transactions,
        ours: 6,
        c: &["-t", "4"],
        ocaml: Some("quota-transaction = 4"),
        ours_with_ocaml: 6,
    },
    // C: more than 5 entries are refused. Ours: 6 or more. oxenstored knows no such limit.
    Alike {
        limit: Limit::NodePermissions,
        ours: 6,
        c: &["-A", "5"],
        ocaml: None,
        ours_with_ocaml: 0,
    },
    // C and oxenstored: more than 2048 bytes are refused. Ours: 2049 or more.
    Alike {
        limit: Limit::PathMax,
        ours: 2049,
        c: &["-M", "2048"],
        ocaml: Some("quota-path-max = 2048"),
        ours_with_ocaml: 2049,
    },
    // oxenstored counts the value alone, and dom0's too; C and ours count the whole node, and not dom0's.
    Alike {
        limit: Limit::NodeSize,
        ours: 2048,
        c: &[],
        ocaml: Some("quota-maxsize = 4096"),
        ours_with_ocaml: 0,
    },
];

/// How ours is started beside this peer. A client that nobody interferes with notices neither credit nor leases; where others do,
/// both show (test `credit`): C pays for conflicts in another way, and knows no leases.
pub fn our_configuration(product: Product) -> Configuration {
    let mut quotas = Quotas::default();
    for alike in LIMITS {
        let value = match product {
            Product::C417 | Product::C420 => alike.ours,
            Product::OCaml417 => alike.ours_with_ocaml,
        };
        quotas.set(alike.limit, value);
    }
    Configuration {
        quotas,
        conflicts: ConflictLimits::NONE,
        event_timeout: 0,
        ..Configuration::default()
    }
}

/// How the peer is started.
pub fn options(product: Product) -> Vec<String> {
    let words = |alike: &Alike| -> Vec<String> {
        match product {
            Product::C417 | Product::C420 => alike.c.iter().map(|word| (*word).to_owned()).collect(),
            Product::OCaml417 => alike.ocaml.iter().map(|line| (*line).to_owned()).collect(),
        }
    };
    LIMITS.iter().flat_map(words).collect()
}
