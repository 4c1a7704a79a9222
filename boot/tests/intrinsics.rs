//! The image's memory functions against the standard library's, for every length around the places where they change their way.
//!
//! The assembly is the image's own text; here its symbols get a prefix, so that this program keeps the functions of its C library.

use std::arch::global_asm;

global_asm!(
    include_str!(concat!(env!("OUT_DIR"), "/intrinsics_for_tests.s")),
    options(att_syntax)
);

unsafe extern "sysv64" {
    fn ours_memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8;
    fn ours_memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8;
    fn ours_memset(to: *mut u8, byte: i32, length: usize) -> *mut u8;
    fn ours_memcmp(a: *const u8, b: *const u8, length: usize) -> i32;
    fn ours_bcmp(a: *const u8, b: *const u8, length: usize) -> i32;
    fn ours_strlen(text: *const u8) -> usize;
}

const LENGTHS: [usize; 26] = [
    0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 511, 512, 513, 1000, 4096,
];
/// Bytes before and behind every target, which must stay as they are.
const MARGIN: usize = 24;

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 + index / 256 + 7) as u8).collect()
}

#[test]
fn copies_are_exact_and_stay_within_their_target() {
    for length in LENGTHS {
        for shift in 0..9 {
            let from = pattern(length + shift);
            let mut to = vec![0xee; length + 2 * MARGIN];
            // SAFETY: both ranges are `length` bytes within their vectors.
            let returned = unsafe { ours_memcpy(to[MARGIN..].as_mut_ptr(), from[shift..].as_ptr(), length) };
            assert_eq!(returned, to[MARGIN..].as_mut_ptr());
            assert_eq!(to[MARGIN..MARGIN + length], from[shift..], "{length} bytes");
            assert!(
                to[..MARGIN]
                    .iter()
                    .chain(&to[MARGIN + length..])
                    .all(|&byte| byte == 0xee),
                "{length} bytes"
            );
        }
    }
}

#[test]
fn overlapping_moves_are_exact_in_both_directions() {
    for length in LENGTHS {
        for distance in [0, 1, 2, 7, 8, 15, 16, 17, 31, 33, 100, 600] {
            for (from, to) in [(MARGIN, MARGIN + distance), (MARGIN + distance, MARGIN)] {
                let mut ours = pattern(length + distance + 2 * MARGIN);
                let mut expected = ours.clone();
                expected.copy_within(from..from + length, to);
                let base = ours.as_mut_ptr();
                // SAFETY: both ranges are `length` bytes within the vector.
                let returned = unsafe { ours_memmove(base.add(to), base.add(from), length) };
                assert_eq!(returned as usize, base as usize + to);
                assert_eq!(ours, expected, "{length} bytes from {from} to {to}");
            }
        }
    }
}

#[test]
fn fills_are_exact_and_stay_within_their_target() {
    for length in LENGTHS {
        let mut to = vec![0xee; length + 2 * MARGIN];
        // SAFETY: the range is `length` bytes within the vector.
        let returned = unsafe { ours_memset(to[MARGIN..].as_mut_ptr(), 0x1_5a, length) };
        assert_eq!(returned, to[MARGIN..].as_mut_ptr());
        assert!(
            to[MARGIN..MARGIN + length].iter().all(|&byte| byte == 0x5a),
            "{length} bytes"
        );
        assert!(
            to[..MARGIN]
                .iter()
                .chain(&to[MARGIN + length..])
                .all(|&byte| byte == 0xee),
            "{length} bytes"
        );
    }
}

#[test]
fn comparisons_have_the_sign_of_the_first_difference() {
    for length in LENGTHS {
        let a = pattern(length);
        // SAFETY (both): the ranges are `length` bytes.
        assert_eq!(unsafe { ours_memcmp(a.as_ptr(), a.clone().as_ptr(), length) }, 0);
        for at in 0..length {
            for (mine, theirs) in [(0, 255), (255, 0), (1, 0), (127, 128)] {
                let (mut a, mut b) = (a.clone(), a.clone());
                (a[at], b[at]) = (mine, theirs);
                // A later difference of the other sign must not count.
                if at + 1 < length {
                    (a[at + 1], b[at + 1]) = (theirs, mine);
                }
                // SAFETY: as above.
                let (order, equal) = unsafe {
                    (
                        ours_memcmp(a.as_ptr(), b.as_ptr(), length),
                        ours_bcmp(a.as_ptr(), b.as_ptr(), length),
                    )
                };
                assert_eq!(
                    order.signum(),
                    if mine < theirs { -1 } else { 1 },
                    "byte {at} of {length}"
                );
                assert_ne!(equal, 0);
            }
        }
    }
}

#[test]
fn lengths_end_at_the_first_nul() {
    for length in [0, 1, 7, 8, 100] {
        let mut text = vec![b'x'; length];
        text.extend(b"\0yyy\0");
        // SAFETY: the text ends with NUL.
        assert_eq!(unsafe { ours_strlen(text.as_ptr()) }, length);
    }
}
