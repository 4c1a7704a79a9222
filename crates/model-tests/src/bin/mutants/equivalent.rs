//! Mutants that no client and no administrator can tell from the server, each with the reason.

use super::listed::Row;

/// File, function, kind, beginning of the text that is changed, reason.
#[rustfmt::skip]
pub const LIST: &[Row] = &[
];
