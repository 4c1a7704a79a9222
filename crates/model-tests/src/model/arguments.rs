//! How a payload holds arguments: strings that end with NUL, numbers as the C library reads them, paths, permissions.

use super::tree::Entry;

/// The strings of a payload that end with NUL; what follows the last NUL is no argument.
pub fn strings(payload: &[u8]) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = payload.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    all.pop();
    all
}

/// The only argument: one NUL, and it is the last byte.
pub fn only(payload: &[u8]) -> Option<Vec<u8>> {
    let nuls = payload.iter().filter(|byte| **byte == 0).count();
    (nuls == 1 && payload.ends_with(&[0])).then(|| payload[..payload.len() - 1].to_vec())
}

/// The first string and all bytes behind its NUL.
pub fn first_and_rest(payload: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let end = payload.iter().position(|byte| *byte == 0)?;
    Some((payload[..end].to_vec(), payload[end + 1..].to_vec()))
}

/// White space, a sign, digits of the base; how many bytes were used, 0 if there was no digit. The value without bounds.
fn integer(text: &[u8], base: Option<u32>) -> (i128, usize) {
    let blank = |byte: &u8| b" \t\n\x0b\x0c\r".contains(byte);
    let mut at = text.iter().take_while(|byte| blank(byte)).count();
    let negative = text.get(at) == Some(&b'-');
    if matches!(text.get(at), Some(b'-' | b'+')) {
        at += 1;
    }
    let mut base_is = base.unwrap_or(10);
    if base.is_none() && text.get(at) == Some(&b'0') {
        let hexadecimal = matches!(text.get(at + 1), Some(b'x' | b'X'));
        if hexadecimal && text.get(at + 2).is_some_and(u8::is_ascii_hexdigit) {
            base_is = 16;
            at += 2;
        } else {
            base_is = 8;
        }
    }
    let digits: Vec<u32> = text[at..]
        .iter()
        .map_while(|byte| char::from(*byte).to_digit(base_is))
        .collect();
    if digits.is_empty() {
        return (0, 0);
    }
    // No payload has a number whose cut-off makes a difference above 2 to the 100.
    let value = digits.iter().fold(0i128, |sum, digit| {
        (sum * i128::from(base_is) + i128::from(*digit)).min(1 << 100)
    });
    (if negative { -value } else { value }, at + digits.len())
}

/// `atoi`: a long, saturated, cut to 32 bits; 0 for what is no number.
pub fn atoi(text: &[u8]) -> i32 {
    let (value, _) = integer(text, Some(10));
    value.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64 as i32
}

/// A domain's number: decimal, nothing behind it, at most 65535. Nothing at all is 0, as for `strtoul`.
pub fn domid(text: &[u8]) -> Option<u16> {
    let (value, used) = integer(text, Some(10));
    // `-1` wraps to the largest number there is, so of the negative ones only those near -2^64 would be small again.
    (used == text.len())
        .then_some(value)
        .and_then(|value| u16::try_from(value).ok())
}

/// `r5`: a letter and a number in any of C's notations, nothing behind it.
pub fn permission(text: &[u8]) -> Option<Entry> {
    let (letter, number) = text.split_first()?;
    let letter = char::from(*letter);
    let (value, used) = integer(number, None);
    if !"nrwb".contains(letter) || number.is_empty() || used != number.len() {
        return None;
    }
    Some(Entry {
        letter,
        domid: u16::try_from(value).ok()?,
        ignored: false,
    })
}

/// What a client names by a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Named {
    /// The whole path, or `@…`.
    pub path: String,
    /// So many bytes of it the client did not write.
    pub added: usize,
}

impl Named {
    /// `@releaseDomain` and its like.
    pub fn is_special(&self) -> bool {
        self.path.starts_with('@')
    }
}

/// The path that a client means; none if it cannot be one. `limit` is for the part below any domain's home.
pub fn path(text: &[u8], domid: u16, limit: Option<usize>, special: bool) -> Option<Named> {
    let text = std::str::from_utf8(text).ok()?;
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-/_@".contains(letter);
    if text.is_empty() || !text.chars().all(allowed) || text.contains("//") {
        return None;
    }
    if text.ends_with('/') && text != "/" || text.starts_with('@') && !special {
        return None;
    }
    let relative = !text.starts_with(['/', '@']);
    let home = format!("/local/domain/{domid}/");
    let path = if relative {
        format!("{home}{text}")
    } else {
        text.to_owned()
    };
    let counted = path.len() - home_of_any(&path);
    if limit.is_some_and(|limit| counted >= limit) {
        return None;
    }
    Some(Named {
        path,
        added: if relative { home.len() } else { 0 },
    })
}

/// The length of `/local/domain/N/` at the beginning of a path: at most five letters, a number or a negative one.
fn home_of_any(path: &str) -> usize {
    let mut parts = path.splitn(5, '/');
    let beginning = [parts.next(), parts.next(), parts.next()] == [Some(""), Some("local"), Some("domain")];
    let (Some(number), Some(_)) = (parts.next(), parts.next()) else {
        return 0;
    };
    let digits = number.strip_prefix('-').unwrap_or(number);
    let is_number = !digits.is_empty() && number.len() <= 5 && digits.chars().all(|digit| digit.is_ascii_digit());
    if beginning && is_number {
        "/local/domain/".len() + number.len() + 1
    } else {
        0
    }
}
