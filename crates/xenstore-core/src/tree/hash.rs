//! The hash by which a directory finds a child: SipHash-1-3 with a secret seed, folded to 32 bits.
//!
//! Names come from guests. Without the seed they cannot choose names that collide; two names of 10⁵ collide by chance
//! now and then, so whoever looks up a hash compares the whole name too.

/// The function from names to hashes, for one seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NameHash {
    seed: u64,
    /// All ones. Tests clear bits to force collisions.
    mask: u32,
}

struct State([u64; 4]);

impl State {
    fn round(&mut self) {
        let [a, b, c, d] = &mut self.0;
        *a = a.wrapping_add(*b);
        *b = b.rotate_left(13) ^ *a;
        *a = a.rotate_left(32);
        *c = c.wrapping_add(*d);
        *d = d.rotate_left(16) ^ *c;
        *a = a.wrapping_add(*d);
        *d = d.rotate_left(21) ^ *a;
        *c = c.wrapping_add(*b);
        *b = b.rotate_left(17) ^ *c;
        *c = c.rotate_left(32);
    }

    fn absorb(&mut self, word: u64) {
        let [.., d] = &mut self.0;
        *d ^= word;
        self.round();
        let [a, ..] = &mut self.0;
        *a ^= word;
    }
}

impl NameHash {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { seed, mask: u32::MAX }
    }

    #[cfg(test)]
    pub(super) const fn with_mask(seed: u64, mask: u32) -> Self {
        Self { seed, mask }
    }

    /// A hash of any text that is wide enough to stand for it. Kept in the heap alone.
    pub(super) fn wide(self, text: &str) -> u64 {
        let second_key = self.seed.rotate_left(32) ^ 0x9E37_79B9_7F4A_7C15;
        sip(text.as_bytes(), self.seed, second_key)
    }

    /// The hash of one name.
    pub(crate) fn of(self, name: &str) -> u32 {
        let [a, b, c, d, e, f, g, h] = self.wide(name).to_le_bytes();
        (u32::from_le_bytes([a, b, c, d]) ^ u32::from_le_bytes([e, f, g, h])) & self.mask
    }
}

/// A fingerprint of any bytes, to find equal ones among many. It needs no secret: with 64 bits nobody finds so many bytes of one
/// fingerprint that looking at each of them would matter.
pub(crate) fn fingerprint(bytes: &[u8]) -> u64 {
    sip(bytes, 0, 0)
}

fn sip(bytes: &[u8], key0: u64, key1: u64) -> u64 {
    let mut state = State([
        key0 ^ 0x736f_6d65_7073_6575,
        key1 ^ 0x646f_7261_6e64_6f6d,
        key0 ^ 0x6c79_6765_6e65_7261,
        key1 ^ 0x7465_6462_7974_6573,
    ]);
    let mut rest = bytes;
    while let Some((word, tail)) = rest.split_first_chunk::<8>() {
        state.absorb(u64::from_le_bytes(*word));
        rest = tail;
    }
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    let [.., length_byte] = &mut last;
    // The low eight bits of the length, as the algorithm wants them.
    [*length_byte, ..] = bytes.len().to_le_bytes();
    state.absorb(u64::from_le_bytes(last));
    let [_, _, c, _] = &mut state.0;
    *c ^= 0xFF;
    state.round();
    state.round();
    state.round();
    let [a, b, c, d] = state.0;
    a ^ b ^ c ^ d
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::hash::Hasher;

    #[test]
    #[allow(deprecated)]
    fn it_is_siphash_1_3() {
        // The standard library's `DefaultHasher` is SipHash-1-3 with both keys 0.
        extern crate std;
        for length in 0..40u8 {
            let bytes: alloc::vec::Vec<u8> = (0..length).collect();
            let mut hasher = std::collections::hash_map::DefaultHasher::new();
            hasher.write(&bytes);
            assert_eq!(sip(&bytes, 0, 0), hasher.finish());
        }
    }

    #[test]
    fn the_seed_matters() {
        assert_ne!(NameHash::new(1).of("device"), NameHash::new(2).of("device"));
    }
}
