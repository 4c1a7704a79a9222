//! Mutants of what the model does not know (time-outs of its own making, lines of the log, the memory of the server itself),
//! each with the test of the workspace that notices it.

use super::listed::Row;

/// File, function, kind, beginning of the text that is changed, and the test: package, test binary (`lib` for the unit tests),
/// and the test's name.
#[rustfmt::skip]
pub const LIST: &[Row] = &[
];
