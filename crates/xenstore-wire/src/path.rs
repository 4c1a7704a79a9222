//! Absolute paths as types: [`Path`] borrows, [`PathBuf`] owns.
//!
//! Who holds one of them holds a valid path: "/" or "/a/b", each name one or more of `A-Z a-z 0-9 - _ @`. Lengths are
//! not part of it: how long a path may be depends on who uses it, see [`crate::resolve`]. Special paths ("@...") are
//! another type, [`crate::SpecialPath`].
//!
//! Ordering and hashing are those of the text, so that maps keyed by [`PathBuf`] can be asked with a `&str`. In this
//! order a subtree is not contiguous: "/a" < "/a-b" < "/a/b".

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::borrow::Borrow;
use core::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{DomId, InvalidPath};

/// Whether a byte may stand in a path. The slash is included.
pub(crate) const fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'/' | b'_' | b'@')
}

/// [`is_path_byte`] of each byte.
#[allow(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, where an index out of bounds is a compile error"
)]
static PATH_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0u8;
    loop {
        table[byte as usize] = is_path_byte(byte);
        if byte == u8::MAX {
            break table;
        }
        byte = byte.wrapping_add(1);
    }
};

/// Whether a text is well formed behind its first byte: allowed bytes, no empty name, no slash at the end.
pub(crate) fn is_well_formed(text: &str) -> bool {
    // In one pass and by a table: every request comes through here.
    let mut before = 0;
    for byte in text.bytes() {
        let allowed = PATH_BYTES.get(usize::from(byte)).copied().unwrap_or(false);
        if !allowed || (byte == b'/' && before == b'/') {
            return false;
        }
        before = byte;
    }
    before != b'/'
}

/// Where the homes of domains are.
pub(crate) const HOMES: &str = "/local/domain/";

/// "/local/domain/N", with room for so many bytes more. The number as the formatter of the standard library writes it, at a tenth of its
/// cost: most requests name a path below their home.
pub(crate) fn home(domid: DomId, more: usize) -> String {
    let mut rest = domid.0;
    let digits: [u8; 5] = core::array::from_fn(|_| {
        let digit = u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        digit
    });
    let leading = digits.iter().rev().take(4).take_while(|digit| **digit == 0).count();
    // Exactly, so that nothing is left over when it becomes a path.
    let length = HOMES.len().saturating_add(digits.len()).saturating_sub(leading);
    let mut text = String::with_capacity(length.saturating_add(more));
    text.push_str(HOMES);
    for digit in digits.iter().rev().skip(leading) {
        text.push(char::from(b'0'.wrapping_add(*digit)));
    }
    text
}

/// A valid absolute path, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Path<'a>(&'a str);

impl<'a> Path<'a> {
    /// "/".
    pub const ROOT: Path<'static> = Path("/");

    /// Checks a text that must be an absolute path. A relative path is an error here; see [`crate::resolve`].
    pub fn new(text: &'a str) -> Result<Path<'a>, InvalidPath> {
        let absolute = text == "/" || (text.starts_with('/') && is_well_formed(text));
        if absolute { Ok(Path(text)) } else { Err(InvalidPath) }
    }

    /// The text, starting with a slash.
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// The text without its first `prefix` bytes: how a client sees a path that it named relative to its home (see
    /// [`crate::Resolved::prefix_len`]). The whole text if there are fewer bytes.
    pub fn without_prefix(self, prefix: usize) -> &'a str {
        self.0.get(prefix..).unwrap_or(self.0)
    }

    /// The names from the root down; none for "/".
    pub fn components(self) -> Components<'a> {
        Components(self.0.get(1..).unwrap_or_default())
    }

    /// The path above; `None` for "/".
    pub fn parent(self) -> Option<Path<'a>> {
        match split_at_last_slash(self.0) {
            Some((_, "")) | None => None,
            Some(("", _)) => Some(Path::ROOT),
            Some((above, _)) => Some(Path(above)),
        }
    }

    /// The last name; "" for "/".
    pub fn name(self) -> &'a str {
        split_at_last_slash(self.0).map_or("", |(_, name)| name)
    }

    /// This path, the one above, and so on up to "/".
    pub fn ancestors(self) -> impl Iterator<Item = Path<'a>> {
        core::iter::successors(Some(self), |path| path.parent())
    }

    /// The number of names; 0 for "/".
    pub fn depth(self) -> usize {
        self.components().count()
    }

    /// Whether `other` is this path or lies below it.
    pub fn contains(self, other: Path<'_>) -> bool {
        if self == Path::ROOT {
            return true;
        }
        other
            .0
            .strip_prefix(self.0)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// A copy that owns its text.
    pub fn to_owned(self) -> PathBuf {
        PathBuf(Box::from(self.0))
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What stands before the last slash and behind it. Names are short, and this is done for every request: byte by byte is faster than
/// a search for a character.
fn split_at_last_slash(text: &str) -> Option<(&str, &str)> {
    let at = text.bytes().rposition(|byte| byte == b'/')?;
    Some((text.get(..at)?, text.get(at.saturating_add(1)..)?))
}

/// The names of a path; see [`Path::components`]. Holds those that are still to come, with slashes between them.
#[derive(Clone, Debug)]
pub struct Components<'a>(&'a str);

impl<'a> Iterator for Components<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.0.is_empty() {
            return None;
        }
        let end = self.0.bytes().position(|byte| byte == b'/');
        let (name, rest) = match end {
            Some(at) => (self.0.get(..at)?, self.0.get(at.saturating_add(1)..)?),
            None => (self.0, ""),
        };
        self.0 = rest;
        Some(name)
    }
}

impl<'a> DoubleEndedIterator for Components<'a> {
    fn next_back(&mut self) -> Option<&'a str> {
        if self.0.is_empty() {
            return None;
        }
        let (rest, name) = split_at_last_slash(self.0).unwrap_or(("", self.0));
        self.0 = rest;
        Some(name)
    }
}

/// A valid absolute path, owned.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PathBuf(Box<str>);

impl PathBuf {
    /// Borrows the path.
    pub fn as_path(&self) -> Path<'_> {
        Path(&self.0)
    }

    /// The text, starting with a slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path of a child: `name` must be one name, not empty and without a slash.
    pub fn join(path: Path<'_>, name: &str) -> Result<PathBuf, InvalidPath> {
        if name.is_empty() || !name.bytes().all(|byte| byte != b'/' && is_path_byte(byte)) {
            return Err(InvalidPath);
        }
        let above = if path == Path::ROOT { "" } else { path.0 };
        Ok(PathBuf(format!("{above}/{name}").into_boxed_str()))
    }

    /// The home of a domain, "/local/domain/N": where its relative paths begin, and the answer to GET_DOMAIN_PATH.
    pub fn of_domain(domid: DomId) -> PathBuf {
        PathBuf(home(domid, 0).into_boxed_str())
    }
}

impl TryFrom<Box<str>> for PathBuf {
    type Error = InvalidPath;

    fn try_from(text: Box<str>) -> Result<PathBuf, InvalidPath> {
        Path::new(&text)?;
        Ok(PathBuf(text))
    }
}

impl From<Path<'_>> for PathBuf {
    fn from(path: Path<'_>) -> PathBuf {
        path.to_owned()
    }
}

impl Borrow<str> for PathBuf {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PathBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// Written out so that reading a path back checks it: a `PathBuf` is valid wherever it comes from.
impl Serialize for PathBuf {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PathBuf {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        let text = Box::<str>::deserialize(deserializer)?;
        PathBuf::try_from(text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn path(text: &str) -> Path<'_> {
        Path::new(text).unwrap()
    }

    #[test]
    fn only_well_formed_absolute_paths_are_paths() {
        for text in ["/", "/a", "/a/b", "/-_@09azAZ", "/@releaseDomain", "/local/domain/0"] {
            assert_eq!(Path::new(text).map(Path::as_str), Ok(text));
        }
        for text in [
            "", "a", "//", "/a/", "//a", "/a//b", "@a", "/a b", "/a.b", "/a\0", "/ä", "/a/b/",
        ] {
            assert_eq!(Path::new(text), Err(InvalidPath), "{text:?}");
        }
    }

    #[test]
    fn the_root_has_no_name_no_parent_and_no_components() {
        assert_eq!(Path::ROOT.components().count(), 0);
        assert_eq!(Path::ROOT.parent(), None);
        assert_eq!(Path::ROOT.name(), "");
        assert_eq!(Path::ROOT.depth(), 0);
        assert_eq!(Path::ROOT.ancestors().count(), 1);
    }

    #[test]
    fn ancestors_go_up_to_the_root() {
        let all: Vec<&str> = path("/a/b/c").ancestors().map(Path::as_str).collect();
        assert_eq!(all, ["/a/b/c", "/a/b", "/a", "/"]);
        assert_eq!(path("/a/b/c").name(), "c");
    }

    #[test]
    fn a_path_contains_itself_and_what_is_below_but_no_longer_name() {
        assert!(path("/a").contains(path("/a")));
        assert!(path("/a").contains(path("/a/b")));
        assert!(!path("/a").contains(path("/ab")));
        assert!(!path("/a/b").contains(path("/a")));
        assert!(Path::ROOT.contains(path("/a")));
        assert!(Path::ROOT.contains(Path::ROOT));
        assert!(!path("/a").contains(Path::ROOT));
    }

    #[test]
    fn a_name_that_is_joined_must_be_one_name() {
        assert_eq!(PathBuf::join(Path::ROOT, "a").unwrap().as_str(), "/a");
        assert_eq!(PathBuf::join(path("/a"), "b").unwrap().as_str(), "/a/b");
        for name in ["", "/", "a/b", "a b"] {
            assert_eq!(PathBuf::join(path("/a"), name), Err(InvalidPath), "{name:?}");
        }
    }

    #[test]
    fn a_stored_path_that_is_not_valid_is_refused() {
        let bytes = postcard::to_allocvec("/a//b").unwrap();
        assert!(postcard::from_bytes::<PathBuf>(&bytes).is_err());
    }

    /// Valid paths, written from the rules and not with the code under test.
    fn any_path() -> impl Strategy<Value = String> {
        prop_oneof![Just(String::from("/")), "(/[A-Za-z0-9_@-]{1,6}){1,6}"]
    }

    proptest! {
        #[test]
        fn a_path_is_the_sum_of_its_components(text in any_path()) {
            let whole = path(&text);
            let mut built = Path::ROOT.to_owned();
            for name in whole.components() {
                built = PathBuf::join(built.as_path(), name).unwrap();
            }
            prop_assert_eq!(built.as_path(), whole);
            prop_assert_eq!(whole.depth(), whole.ancestors().count() - 1);
            prop_assert_eq!(whole.components().next_back().unwrap_or(""), whole.name());
            for above in whole.ancestors() {
                prop_assert!(above.contains(whole));
                prop_assert_eq!(Path::new(above.as_str()), Ok(above));
            }
        }

        #[test]
        fn containment_is_a_common_beginning_of_components(one in any_path(), other in "(/[ab]{1,2}){1,4}", short in "(/[ab]{1,2}){1,2}") {
            for (above, below) in [(path(&one), path(&other)), (path(&short), path(&other))] {
                let names: Vec<&str> = above.components().collect();
                let expected = below.components().take(names.len()).eq(names.iter().copied());
                prop_assert_eq!(above.contains(below), expected);
            }
        }

        #[test]
        fn paths_survive_serialization(text in any_path()) {
            let stored = path(&text).to_owned();
            let bytes = postcard::to_allocvec(&stored).unwrap();
            prop_assert_eq!(postcard::from_bytes::<PathBuf>(&bytes).unwrap(), stored);
        }
    }
}
