//! From what a client wrote to a path: relative paths are completed, lengths are checked.
//!
//! Follows `canonicalize()` of C xenstored (`tools/xenstored/core.c`, Xen 4.22). Knows the caller's domid and limit as
//! arguments; does not know whether the node exists or who may use it.

use alloc::boxed::Box;

use crate::path::{HOMES, home};
use crate::{DomId, InvalidPath, Path, PathBuf, SpecialPath};

/// A path as the server uses it, and how to show it to the client again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resolved {
    /// The absolute path.
    pub path: PathBuf,
    /// Bytes of "/local/domain/N/" that were put in front because the client wrote a relative path; 0: it was
    /// absolute. A watch event shows the path without them.
    pub prefix_len: usize,
}

/// What WATCH, UNWATCH, GET_PERMS and SET_PERMS can name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// A node of the tree.
    Node(Resolved),
    /// A special path; it is never relative.
    Special(SpecialPath),
}

/// Resolves a path of the tree. `own` is the caller's domid, where relative paths begin.
///
/// `limit` is the caller's quota `path-max`: the path, without "/local/domain/N/" if it begins with that for any N,
/// must be *shorter* than `limit` bytes. `None` is a privileged caller, who is bounded by the payload alone.
pub fn resolve(bytes: &[u8], own: DomId, limit: Option<usize>) -> Result<Resolved, InvalidPath> {
    match resolve_with_special(bytes, own, limit)? {
        Target::Node(resolved) => Ok(resolved),
        Target::Special(_) => Err(InvalidPath),
    }
}

/// Like [`resolve`], and accepts special paths ("@...") as well.
pub fn resolve_with_special(bytes: &[u8], own: DomId, limit: Option<usize>) -> Result<Target, InvalidPath> {
    if bytes.is_empty() {
        return Err(InvalidPath);
    }
    let text = core::str::from_utf8(bytes).map_err(|_| InvalidPath)?;
    let fits = |absolute: &str| {
        let counted = absolute.len().saturating_sub(home_prefix(absolute));
        if limit.is_none_or(|limit| counted < limit) {
            Ok(())
        } else {
            Err(InvalidPath)
        }
    };
    if text.starts_with('@') {
        fits(text)?;
        return SpecialPath::new(text).map(Target::Special);
    }
    if text.starts_with('/') {
        let path = Path::new(text)?;
        fits(text)?;
        return Ok(Target::Node(Resolved {
            path: path.to_owned(),
            prefix_len: 0,
        }));
    }
    let mut absolute = home(own, text.len().saturating_add(1));
    absolute.push('/');
    let prefix_len = absolute.len();
    absolute.push_str(text);
    fits(&absolute)?;
    let path = PathBuf::try_from(Box::<str>::from(absolute))?;
    Ok(Target::Node(Resolved { path, prefix_len }))
}

/// Bytes of "/local/domain/N/" at the beginning, 0 if there is no such beginning.
///
/// N is what C's `sscanf` conversion `%5u` takes: at most five bytes, digits that may follow a minus sign.
fn home_prefix(absolute: &str) -> usize {
    let Some((number, _)) = absolute.strip_prefix(HOMES).and_then(|rest| rest.split_once('/')) else {
        return 0;
    };
    let digits = number.strip_prefix('-').unwrap_or(number);
    let is_number = number.len() <= 5 && !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_number {
        HOMES.len().saturating_add(number.len()).saturating_add(1)
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::REL_PATH_MAX;
    use alloc::format;
    use alloc::string::String;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    const GUEST: DomId = DomId(12);

    fn shown(bytes: &[u8]) -> Result<(String, usize), InvalidPath> {
        resolve(bytes, GUEST, Some(REL_PATH_MAX)).map(|it| (it.path.as_str().into(), it.prefix_len))
    }

    #[test]
    fn a_home_is_written_as_any_number_is() {
        for domid in 0..=u16::MAX {
            let resolved = resolve(b"x", DomId(domid), None).unwrap();
            let home = format!("/local/domain/{domid}/");
            assert_eq!(resolved.path.as_str(), format!("{home}x"));
            assert_eq!(resolved.prefix_len, home.len());
        }
    }

    #[test]
    fn a_relative_path_begins_at_home() {
        assert_eq!(shown(b"device/vif"), Ok(("/local/domain/12/device/vif".into(), 17)));
        assert_eq!(shown(b"/device"), Ok(("/device".into(), 0)));
        assert_eq!(shown(b"/"), Ok(("/".into(), 0)));
    }

    #[test]
    fn malformed_paths_are_refused() {
        for bytes in [
            &b""[..],
            b"a/",
            b"/a/",
            b"a//b",
            b"//",
            b"a b",
            b"a\0",
            b"\xff",
            b"@releaseDomain",
            b"../a",
        ] {
            assert_eq!(shown(bytes), Err(InvalidPath), "{bytes:?}");
        }
        // XSA-481: the prefix without a domid must be refused like any other path with a slash at the end.
        assert_eq!(shown(b"/local/domain/"), Err(InvalidPath));
    }

    #[test]
    fn special_paths_are_targets_only_where_allowed() {
        let target = resolve_with_special(b"@releaseDomain/3", GUEST, None).unwrap();
        assert_eq!(target, Target::Special(SpecialPath::new("@releaseDomain/3").unwrap()));
        assert_eq!(resolve_with_special(b"@a/", GUEST, None), Err(InvalidPath));
        assert_eq!(resolve_with_special(b"@abc", GUEST, Some(4)), Err(InvalidPath));
    }

    #[test]
    fn the_limit_counts_what_is_below_any_domains_home() {
        let resolve = |text: &str| resolve(text.as_bytes(), GUEST, Some(4)).is_ok();
        assert!(resolve("abc"));
        assert!(!resolve("abcd"));
        assert!(resolve("/abc") == resolve("abcd"));
        assert!(resolve("/ab"));
        for home in [
            "/local/domain/0/",
            "/local/domain/65535/",
            "/local/domain/99999/",
            "/local/domain/-1/",
        ] {
            assert!(resolve(&format!("{home}abc")), "{home}");
            assert!(!resolve(&format!("{home}abcd")), "{home}");
        }
        for other in [
            "/local/domain/123456/a",
            "/local/domain/x/a",
            "/local/domain/-/a",
            "/local/domain/5",
        ] {
            assert!(!resolve(other), "{other}");
        }
    }

    #[test]
    fn a_privileged_caller_has_no_limit_but_the_payload() {
        let long = [b'a'; 4000];
        assert!(resolve(&long, DomId::DOM0, None).is_ok());
        assert_eq!(resolve(&long, DomId::DOM0, Some(REL_PATH_MAX)), Err(InvalidPath));
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_error_or_a_valid_path(
            bytes in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..40),
                "[/@a0_-]{0,12}".prop_map(String::into_bytes),
                "/local/domain/[-0-9/]{0,8}".prop_map(String::into_bytes),
            ],
            own: u16,
            limit in proptest::option::of(0usize..64),
        ) {
            let own = DomId(own);
            match resolve_with_special(&bytes, own, limit) {
                Ok(Target::Node(Resolved { path, prefix_len })) => {
                    prop_assert_eq!(Path::new(path.as_str()), Ok(path.as_path()));
                    prop_assert_eq!(path.as_path().without_prefix(prefix_len).as_bytes(), &bytes[..]);
                    if prefix_len > 0 {
                        let home: Vec<u8> = format!("/local/domain/{own}/").into_bytes();
                        prop_assert_eq!(&path.as_str().as_bytes()[..prefix_len], &home[..]);
                    }
                    prop_assert!(PathBuf::of_domain(own).as_path().contains(path.as_path()) || prefix_len == 0);
                }
                Ok(Target::Special(special)) => {
                    prop_assert_eq!(special.as_str().as_bytes(), &bytes[..]);
                    prop_assert_eq!(resolve(&bytes, own, limit), Err(InvalidPath));
                }
                Err(InvalidPath) => prop_assert!(resolve(&bytes, own, limit).is_err()),
            }
        }
    }
}
