//! The checksum of a block: CRC-32C (Castagnoli, reflected), eight bytes at a time.
//!
//! Every block carries one, written once with the block and checked when the tree is opened after a crash. It is own
//! code and not a crate's because each update writes several blocks: this form needs about one step for eight bytes,
//! and no instruction that not every processor has. A machine that has one for it offers that ([`super::Memory::crc32c`]).

const POLYNOMIAL: u32 = 0x82F6_3B78;

type Table = [[u32; 256]; 8];

static TABLE: Table = table();

#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "evaluated by the compiler, where an index out of bounds is a compile error"
)]
const fn table() -> Table {
    let mut table = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 {
                (sum >> 1) ^ POLYNOMIAL
            } else {
                sum >> 1
            };
            bit += 1;
        }
        table[0][byte] = sum;
        byte += 1;
    }
    let mut row = 1;
    while row < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = table[row - 1][byte];
            table[row][byte] = (before >> 8) ^ table[0][(before & 0xFF) as usize];
            byte += 1;
        }
        row += 1;
    }
    table
}

/// Continues a CRC-32C with more bytes: from that of what came before them, 0 for nothing, to that of both.
pub type Crc32c = fn(u32, &[u8]) -> u32;

/// [`Crc32c`] on any processor.
pub fn crc32c(before: u32, bytes: &[u8]) -> u32 {
    Checksum(!before).add(bytes).value()
}

/// The state between two pieces of a message.
#[derive(Clone, Copy)]
struct Checksum(u32);

impl Checksum {
    /// Continues with the next bytes.
    fn add(self, bytes: &[u8]) -> Self {
        let [t0, t1, t2, t3, t4, t5, t6, t7] = &TABLE;
        let mut sum = self.0;
        let mut rest = bytes;
        while let Some((&[a, b, c, d, e, f, g, h], tail)) = rest.split_first_chunk::<8>() {
            let [a, b, c, d] = (sum ^ u32::from_le_bytes([a, b, c, d])).to_le_bytes();
            sum = at(t7, a) ^ at(t6, b) ^ at(t5, c) ^ at(t4, d) ^ at(t3, e) ^ at(t2, f) ^ at(t1, g) ^ at(t0, h);
            rest = tail;
        }
        for &byte in rest {
            let [low, ..] = sum.to_le_bytes();
            sum = (sum >> 8) ^ at(t0, low ^ byte);
        }
        Self(sum)
    }

    const fn value(self) -> u32 {
        !self.0
    }
}

// The compiler knows that a byte is a valid index of 256 elements: no branch remains.
fn at(row: &[u32; 256], byte: u8) -> u32 {
    row.get(usize::from(byte)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_catalogue_comes_out() {
        assert_eq!(crc32c(0, b"123456789"), 0xE306_9283);
    }

    #[test]
    fn pieces_give_the_same_sum_as_the_whole() {
        let bytes: [u8; 61] = core::array::from_fn(|i| (i * 37) as u8);
        let whole = crc32c(0, &bytes);
        for cut in 0..bytes.len() {
            let (front, back) = bytes.split_at(cut);
            assert_eq!(crc32c(crc32c(0, front), back), whole);
        }
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let mut bytes = [0x5Au8; 40];
        let sum = crc32c(0, &bytes);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(crc32c(0, &bytes), sum);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
