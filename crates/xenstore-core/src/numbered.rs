//! Things by the numbers that the server or the hypervisor gave them: connections, domains, ports.
//!
//! Each request looks for its connection and domain a score of times, and the way down a tree of a thousand of them leads through memory
//! that nobody has used lately. So there is a hash table to find them, and the order beside it for whoever wants all. The numbers are
//! not chosen by clients, so the hash needs no secret.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use core::fmt;
use core::hash::{BuildHasherDefault, Hash, Hasher};

use hashbrown::HashMap;
use serde::ser::{Serialize, Serializer};

/// A map with small numbers as keys.
#[derive(Clone)]
pub struct Numbered<K, T> {
    known: HashMap<K, Box<T>, BuildHasherDefault<Spread>>,
    order: BTreeSet<K>,
}

/// Spreads one number over 64 bits.
#[derive(Clone, Copy, Default)]
pub struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u16(&mut self, number: u16) {
        self.write_u32(u32::from(number));
    }

    fn write_u32(&mut self, number: u32) {
        let product = (self.0 ^ u64::from(number)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        // The high bits of a product are the best ones, and the table takes its places from the low ones.
        let again = (product ^ product >> 32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = again.rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl<K, T> Default for Numbered<K, T> {
    fn default() -> Self {
        Self {
            known: HashMap::default(),
            order: BTreeSet::new(),
        }
    }
}

impl<K: Copy + Ord + Hash, T> Numbered<K, T> {
    /// The thing with this number.
    pub fn get(&self, number: &K) -> Option<&T> {
        self.known.get(number).map(Box::as_ref)
    }

    /// The thing with this number, to change it.
    pub fn get_mut(&mut self, number: &K) -> Option<&mut T> {
        self.known.get_mut(number).map(Box::as_mut)
    }

    /// Puts it in the place of what had the number.
    pub fn insert(&mut self, number: K, thing: T) -> Option<T> {
        self.order.insert(number);
        self.known.insert(number, Box::new(thing)).map(|before| *before)
    }

    /// Takes it away.
    pub fn remove(&mut self, number: &K) -> Option<T> {
        self.order.remove(number);
        self.known.remove(number).map(|thing| *thing)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The numbers, least first.
    pub fn keys(&self) -> impl Iterator<Item = &K> + Clone {
        self.order.iter()
    }

    /// All of them, the one with the least number first.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &T)> + Clone {
        self.order.iter().filter_map(|number| Some((number, self.get(number)?)))
    }

    /// As [`Numbered::iter`], without the numbers.
    pub fn values(&self) -> impl Iterator<Item = &T> + Clone {
        self.order.iter().filter_map(|number| self.get(number))
    }

    /// Calls `change` with each of them, the one with the least number first.
    pub fn each_mut(&mut self, mut change: impl FnMut(K, &mut T)) {
        for number in &self.order {
            if let Some(thing) = self.known.get_mut(number) {
                change(*number, thing);
            }
        }
    }
}

impl<K: Copy + Ord + Hash, T> FromIterator<(K, T)> for Numbered<K, T> {
    fn from_iter<I: IntoIterator<Item = (K, T)>>(things: I) -> Self {
        let mut all = Self::default();
        for (number, thing) in things {
            all.insert(number, thing);
        }
        all
    }
}

impl<K: Copy + Ord + Hash + fmt::Debug, T: fmt::Debug> fmt::Debug for Numbered<K, T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Copy + Ord + Hash + Serialize, T: Serialize> Serialize for Numbered<K, T> {
    /// As any map in order.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;

        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (number, thing) in self.iter() {
            map.serialize_entry(number, thing)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_in_a_row_and_numbers_with_the_same_low_bits_are_spread() {
        for step in [1u32, 64, 1 << 16] {
            let hashes = (0..1024u32).map(|number| {
                let mut spread = Spread::default();
                spread.write_u32(number.wrapping_mul(step));
                spread.finish()
            });
            let places: BTreeSet<u64> = hashes.map(|hash| hash % 2048).collect();
            // 1,024 at random take about 806 of them.
            assert!(places.len() > 700, "{} places for steps of {step}", places.len());
        }
    }

    proptest! {
        #[test]
        fn it_is_a_map_in_order(steps in proptest::collection::vec((0u32..40, any::<Option<u8>>()), 0..200)) {
            let (mut numbered, mut plain) = (Numbered::default(), BTreeMap::new());
            for (number, thing) in steps {
                match thing {
                    Some(thing) => prop_assert_eq!(numbered.insert(number, thing), plain.insert(number, thing)),
                    None => prop_assert_eq!(numbered.remove(&number), plain.remove(&number)),
                }
                prop_assert_eq!(numbered.get(&number), plain.get(&number));
                prop_assert!(numbered.iter().eq(plain.iter()));
                prop_assert_eq!((numbered.len(), numbered.is_empty()), (plain.len(), plain.is_empty()));
            }
            let bytes = postcard::to_allocvec(&numbered).unwrap();
            prop_assert_eq!(&bytes, &postcard::to_allocvec(&plain).unwrap());
            numbered.each_mut(|number, thing| *thing = thing.wrapping_add(number as u8));
            plain.iter_mut().for_each(|(number, thing)| *thing = thing.wrapping_add(*number as u8));
            prop_assert!(numbered.values().eq(plain.values()));
            prop_assert!(numbered.keys().eq(plain.keys()));
            let again: Numbered<u32, u8> = plain.clone().into_iter().collect();
            prop_assert!(again.iter().eq(plain.iter()));
        }
    }
}
