//! Numbers in payloads, read exactly as glibc's `strtol`, `strtoul` and `atoi` read them on a 64-bit host.
//!
//! C xenstored hands arguments straight to these functions, so their corner cases are part of what clients can see:
//! leading white space, signs, octal and hexadecimal where the base is 0, saturation. Written from the C standard's
//! description (C17 7.22.1.4) and glibc's manual.

/// C's `isspace` in the "C" locale.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// The value of a digit in any base up to 36.
fn digit(byte: u8) -> Option<u32> {
    char::from(byte).to_digit(36)
}

/// Sign, magnitude and the rest of the text; `None` for the magnitude means that it does not fit 64 bits.
/// A text without a number gives 0 and is returned whole as the rest, white space included.
fn integer(text: &[u8], base: u32) -> (bool, Option<u64>, &[u8]) {
    let start = text.iter().position(|&byte| !is_space(byte)).unwrap_or(text.len());
    let mut rest = text.get(start..).unwrap_or_default();
    let negative = match rest {
        [b'-', after @ ..] => {
            rest = after;
            true
        }
        [b'+', after @ ..] => {
            rest = after;
            false
        }
        _ => false,
    };
    // "0x" counts as a prefix only when a hexadecimal digit follows; otherwise the number is the "0" alone.
    let base = match (base, rest) {
        (0 | 16, [b'0', b'x' | b'X', after @ ..]) if after.first().is_some_and(u8::is_ascii_hexdigit) => {
            rest = after;
            16
        }
        (0, [b'0', ..]) => 8,
        (0, _) => 10,
        (given, _) => given,
    };
    let mut magnitude = Some(0u64);
    let mut seen = false;
    while let [byte, after @ ..] = rest {
        let Some(value) = digit(*byte).filter(|&value| value < base) else {
            break;
        };
        magnitude = magnitude
            .and_then(|sum| sum.checked_mul(u64::from(base)))
            .and_then(|sum| sum.checked_add(u64::from(value)));
        seen = true;
        rest = after;
    }
    if seen {
        (negative, magnitude, rest)
    } else {
        (false, Some(0), text)
    }
}

/// C `strtoul` on a 64-bit host: the value and the text behind it. `base` is 0 (decide by prefix) or 2..=36.
///
/// Too large gives `u64::MAX`; a minus sign negates modulo 2^64. A NUL inside the text ends the number like any other
/// byte that is not a digit.
pub fn strtoul(text: &[u8], base: u32) -> (u64, &[u8]) {
    let (negative, magnitude, rest) = integer(text, base);
    let value = match magnitude {
        None => u64::MAX,
        Some(magnitude) if negative => magnitude.wrapping_neg(),
        Some(magnitude) => magnitude,
    };
    (value, rest)
}

/// C `strtol` on a 64-bit host: the value, saturated to the range of `i64`, and the text behind it.
pub fn strtol(text: &[u8], base: u32) -> (i64, &[u8]) {
    let (negative, magnitude, rest) = integer(text, base);
    let value = match (negative, magnitude) {
        (false, magnitude) => magnitude
            .and_then(|value| i64::try_from(value).ok())
            .unwrap_or(i64::MAX),
        (true, magnitude) => magnitude
            .and_then(|value| 0i64.checked_sub_unsigned(value))
            .unwrap_or(i64::MIN),
    };
    (value, rest)
}

/// C `atoi` as glibc implements it: decimal [`strtol`], of which the low 32 bits count. No error: text that is not a
/// number gives 0, "4294967295" gives -1, and anything beyond 64 bits gives -1 (0 when negative).
pub fn atoi(text: &[u8]) -> i32 {
    let [a, b, c, d, ..] = strtol(text, 10).0.to_le_bytes();
    i32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    #[test]
    fn atoi_truncates_like_glibc() {
        for (text, want) in [
            ("", 0),
            ("x", 0),
            ("12ab", 12),
            (" -7", -7),
            ("+-7", 0),
            ("4294967295", -1),
            ("4294967296", 0),
            ("2147483648", i32::MIN),
            ("9223372036854775807", -1),
            ("99999999999999999999", -1),
            ("-99999999999999999999", 0),
        ] {
            assert_eq!(atoi(text.as_bytes()), want, "{text:?}");
        }
    }

    #[test]
    fn base_zero_knows_octal_and_hexadecimal() {
        let cases: [(&str, i64, &str); 10] = [
            ("0x1F", 31, ""),
            ("010", 8, ""),
            ("08", 0, "8"),
            ("0x", 0, "x"),
            ("0xg", 0, "xg"),
            ("-0x10", -16, ""),
            ("10 ", 10, " "),
            (" ", 0, " "),
            ("-", 0, "-"),
            ("-9223372036854775808", i64::MIN, ""),
        ];
        for (text, want, rest) in cases {
            assert_eq!(strtol(text.as_bytes(), 0), (want, rest.as_bytes()), "{text:?}");
        }
    }

    #[test]
    fn strtoul_negates_modulo_two_to_the_64() {
        assert_eq!(strtoul(b"-1", 10), (u64::MAX, &b""[..]));
        assert_eq!(strtoul(b"-18446744073709551615", 10), (1, &b""[..]));
        assert_eq!(strtoul(b"18446744073709551616", 10), (u64::MAX, &b""[..]));
        assert_eq!(strtoul(b"-18446744073709551616", 10), (u64::MAX, &b""[..]));
    }

    proptest! {
        #[test]
        fn every_i64_is_read_back(value: i64) {
            let text = value.to_string();
            prop_assert_eq!(strtol(text.as_bytes(), 10), (value, &b""[..]));
            prop_assert_eq!(atoi(text.as_bytes()), value as i32);
        }

        #[test]
        fn any_bytes_leave_a_suffix_as_rest(bytes: alloc::vec::Vec<u8>, base in prop_oneof![Just(0u32), 2u32..=36]) {
            let (_, rest) = strtol(&bytes, base);
            prop_assert!(bytes.ends_with(rest));
            prop_assert_eq!(strtoul(&bytes, base).1, rest);
        }
    }
}
