//! What is known of mutants that the model test does not notice. Rows name them by what they change, not by numbers, which move.

use super::changes::{Mutant, folded};
use super::{elsewhere, equivalent};

/// One of those: file, function, kind of change, beginning of the text that is changed (blanks folded), and what is known.
pub struct Row(
    pub &'static str,
    pub &'static str,
    pub &'static str,
    pub &'static str,
    pub &'static str,
);

impl Row {
    fn names(&self, mutant: &Mutant) -> bool {
        mutant.file == self.0
            && mutant.function == self.1
            && mutant.kind == self.2
            && folded(&mutant.original).starts_with(self.3)
    }
}

/// What is known of a mutant.
#[derive(Clone, Copy)]
pub enum Known {
    /// Nobody can notice it, for this reason.
    Equivalent(&'static str),
    /// This test notices it: its program, a blank, its name.
    Elsewhere(&'static str),
}

/// What is known of this mutant, if anything.
pub fn about(mutant: &Mutant) -> Option<Known> {
    let find = |list: &'static [Row]| list.iter().find(|row| row.names(mutant)).map(|row| row.4);
    let elsewhere = || find(elsewhere::LIST).map(Known::Elsewhere);
    find(equivalent::LIST).map(Known::Equivalent).or_else(elsewhere)
}

/// Rows that name no mutant at all.
pub fn unused(all: &[Mutant]) -> Vec<String> {
    let rows = equivalent::LIST.iter().chain(elsewhere::LIST);
    let unused = rows.filter(|row| !all.iter().any(|mutant| row.names(mutant)));
    unused
        .map(|row| format!("{} in {}, {}: `{}`", row.0, row.1, row.2, row.3))
        .collect()
}
