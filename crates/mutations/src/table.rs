//! The form of a table: plain lines, so that a person can read and write it.
//!
//! ```text
//! test: PACKAGE TEST        which tests are run, for all that follows
//!
//! fails: NAME               the test that must fail
//! also: NAME                tests that may fail with it; the beginning of a name will do
//! in: FILE                  where, from the root of the project
//! - LINE                    what stands there exactly once: one line, or several that follow each other
//! + LINE                    what takes its place
//! ```
//! Lines that begin with `#` are for people. Blanks at the beginning of a line of source do not count.

/// One text that takes the place of another.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Change {
    /// The file, from the root of the project.
    pub file: String,
    /// Consecutive lines, without the blanks around them.
    pub old: Vec<String>,
    /// What stands there instead.
    pub new: Vec<String>,
}

/// One way to break the server.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mutation {
    /// The package whose tests are run.
    pub package: String,
    /// The test target of that package.
    pub target: String,
    /// The test that must fail, without its modules.
    pub fails: String,
    /// Beginnings of the names of tests that may fail, too.
    pub also: Vec<String>,
    /// All are made together.
    pub changes: Vec<Change>,
}

/// What a file of mutations says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Table(pub Vec<Mutation>);

impl Change {
    /// The text with this change made. The error says how often the old text is there, if not once.
    pub fn make(&self, text: &str) -> Result<String, usize> {
        let lines: Vec<&str> = text.lines().collect();
        let here = |window: &[&str]| window.iter().zip(&self.old).all(|(line, old)| line.trim() == old);
        let places: Vec<usize> = lines
            .windows(self.old.len().max(1))
            .enumerate()
            .filter_map(|(at, window)| here(window).then_some(at))
            .collect();
        let &[at] = places.as_slice() else {
            return Err(places.len());
        };
        let (before, rest) = lines.split_at(at);
        let new = self.new.iter().map(String::as_str);
        let changed: Vec<&str> = before
            .iter()
            .copied()
            .chain(new)
            .chain(rest[self.old.len()..].iter().copied())
            .collect();
        Ok(changed.join("\n") + "\n")
    }
}

impl Table {
    /// Reads a table. The error names the line that is not understood.
    pub fn parse(text: &str) -> Result<Table, String> {
        let (mut package, mut target) = (String::new(), String::new());
        let mut table: Vec<Mutation> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            let wrong = || format!("line {}: {line}", number + 1);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (word, rest) = line.split_once(' ').ok_or_else(wrong)?;
            let rest = rest.trim().to_string();
            if word == "test:" {
                let (of, named) = rest.split_once(' ').ok_or_else(wrong)?;
                (package, target) = (of.into(), named.into());
                continue;
            }
            if word == "fails:" {
                table.push(Mutation {
                    package: package.clone(),
                    target: target.clone(),
                    fails: rest,
                    ..Mutation::default()
                });
                continue;
            }
            let mutation = table.last_mut().ok_or_else(wrong)?;
            match word {
                "also:" => mutation.also.push(rest),
                "in:" => mutation.changes.push(Change {
                    file: rest,
                    ..Change::default()
                }),
                "-" => mutation.changes.last_mut().ok_or_else(wrong)?.old.push(rest),
                "+" => mutation.changes.last_mut().ok_or_else(wrong)?.new.push(rest),
                _ => return Err(wrong()),
            }
        }
        let whole = |mutation: &Mutation| {
            !mutation.package.is_empty()
                && !mutation.changes.is_empty()
                && mutation.changes.iter().all(|change| !change.old.is_empty())
        };
        match table.iter().find(|mutation| !whole(mutation)) {
            Some(mutation) => Err(format!("{}: nothing to change, or no test to run", mutation.fails)),
            None => Ok(Table(table)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "# people\ntest: p t\n\nfails: a_test\nalso: other_\nin: x.rs\n- one\n- two\n+ three\nin: y.rs\n- four\n";

    #[test]
    fn a_table_is_read_and_its_changes_are_made_where_the_text_is_once() {
        let Table(mutations) = Table::parse(TEXT).unwrap();
        assert_eq!((mutations.len(), mutations[0].fails.as_str()), (1, "a_test"));
        let change = &mutations[0].changes[0];
        assert_eq!(
            change.make("zero\n  one\n  two\nlast\n"),
            Ok("zero\nthree\nlast\n".into())
        );
        assert_eq!(change.make("one\nzero\ntwo\n"), Err(0));
        assert_eq!(change.make("one\ntwo\none\ntwo\n"), Err(2));
        assert_eq!(mutations[0].changes[1].make("four\n"), Ok("\n".into()));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        assert_eq!(Table::parse("fail: x").unwrap_err(), "line 1: fail: x");
        assert!(Table::parse("fails: x\nin: y\n- z").is_err(), "no test to run");
        assert!(Table::parse("test: p t\nfails: x").is_err(), "nothing to change");
    }
}
