//! How byte strings are written into records and checkpoints: in one piece, where serde by itself writes a list, number by number. In
//! postcard's form both are the same, the length and then the bytes, so what was written as a list is read as well.
//!
//! For `#[serde(with = "crate::bytes")]` on fields that are `Vec<u8>` or `Box<[u8]>`.

use alloc::vec::Vec;
use core::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};

pub(crate) fn serialize<T: AsRef<[u8]>, S: Serializer>(bytes: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes.as_ref())
}

pub(crate) fn deserialize<'de, T: From<Vec<u8>>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_bytes(Bytes).map(T::from)
}

struct Bytes;

impl<'de> Visitor<'de> for Bytes {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use alloc::boxed::Box;
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct AsLists {
        before: u32,
        vector: Vec<u8>,
        boxed: Box<[u8]>,
        after: u32,
    }

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct InOnePiece {
        before: u32,
        #[serde(with = "super")]
        vector: Vec<u8>,
        #[serde(with = "super")]
        boxed: Box<[u8]>,
        after: u32,
    }

    #[test]
    fn what_is_written_in_one_piece_lies_there_as_a_list_does() {
        for length in [0, 1, 127, 128, 300, 4096, 20_000] {
            let vector: Vec<u8> = (0..length).map(|number: u32| (number * 7) as u8).collect();
            let boxed: Box<[u8]> = vector.iter().rev().copied().collect();
            let lists = AsLists {
                before: 77,
                vector: vector.clone(),
                boxed: boxed.clone(),
                after: 99,
            };
            let pieces = InOnePiece {
                before: 77,
                vector,
                boxed,
                after: 99,
            };
            let written = postcard::to_allocvec(&pieces).unwrap();
            assert_eq!(written, postcard::to_allocvec(&lists).unwrap());
            assert_eq!(postcard::from_bytes::<InOnePiece>(&written).unwrap(), pieces);
            assert_eq!(postcard::from_bytes::<AsLists>(&written).unwrap(), lists);
            for cut in [0, 1, written.len() / 2, written.len() - 1] {
                assert!(postcard::from_bytes::<InOnePiece>(&written[..cut]).is_err());
            }
        }
    }
}
