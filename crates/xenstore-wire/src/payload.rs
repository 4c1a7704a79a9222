//! How a payload holds strings, read as C xenstored reads them.
//!
//! Knows only where NUL bytes are. Whether a request needs one string or several is the caller's knowledge.

use core::iter::FusedIterator;

/// The argument of a request that takes exactly one (`onearg()` in C xenstored): the payload has exactly one NUL and
/// it is the last byte. The string is returned without it, and may be empty. `None` is EINVAL.
pub fn one_string(payload: &[u8]) -> Option<&[u8]> {
    match first_string(payload)? {
        (string, []) => Some(string),
        _ => None,
    }
}

/// Splits the first string off a payload, without its NUL: `(string, what follows the NUL)`. `None`: there is no NUL.
/// This is how WRITE is read: the path, and then a value of any bytes.
pub fn first_string(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = payload.iter().position(|&byte| byte == 0)?;
    let (string, rest) = payload.split_at_checked(end)?;
    let (_nul, rest) = rest.split_first()?;
    Some((string, rest))
}

/// The NUL-terminated strings of a payload, without their NULs. Bytes behind the last NUL are ignored, as in C.
/// `strings(payload).count()` is what C's `get_strings()` and `xenstore_count_strings()` return.
pub fn strings(payload: &[u8]) -> Strings<'_> {
    Strings { rest: payload }
}

/// See [`strings`].
#[derive(Clone, Debug)]
pub struct Strings<'a> {
    rest: &'a [u8],
}

impl<'a> Strings<'a> {
    /// What has not been read yet, including bytes behind the last NUL.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (string, rest) = first_string(self.rest)?;
        self.rest = rest;
        Some(string)
    }
}

impl FusedIterator for Strings<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    #[test]
    fn one_string_wants_exactly_one_nul_at_the_end() {
        assert_eq!(one_string(b"/a\0"), Some(&b"/a"[..]));
        assert_eq!(one_string(b"\0"), Some(&b""[..]));
        assert_eq!(one_string(b""), None);
        assert_eq!(one_string(b"/a"), None);
        assert_eq!(one_string(b"/a\0\0"), None);
        assert_eq!(one_string(b"/a\0x"), None);
    }

    #[test]
    fn bytes_behind_the_last_nul_do_not_count() {
        let all: Vec<&[u8]> = strings(b"a\0\0bc\0tail").collect();
        assert_eq!(all, [&b"a"[..], b"", b"bc"]);
        assert_eq!(strings(b"no nul").count(), 0);
        assert_eq!(strings(b"").count(), 0);
    }

    #[test]
    fn a_value_may_hold_any_bytes() {
        assert_eq!(first_string(b"/a\0v\0w"), Some((&b"/a"[..], &b"v\0w"[..])));
        assert_eq!(first_string(b"/a\0"), Some((&b"/a"[..], &b""[..])));
    }

    proptest! {
        #[test]
        fn there_are_as_many_strings_as_nuls(payload in proptest::collection::vec(0u8..3, 0..40)) {
            prop_assert_eq!(strings(&payload).count(), payload.iter().filter(|&&byte| byte == 0).count());
            let mut again = Vec::new();
            let mut all = strings(&payload);
            for string in all.by_ref() {
                again.extend(string);
                again.push(0);
            }
            again.extend(all.rest());
            prop_assert_eq!(again, payload);
        }
    }
}
