//! Postcard into a buffer that is used again. Whole pieces are copied at once, which postcard's own way into something that can be
//! extended does byte by byte.

use alloc::vec::Vec;

use postcard::Result;
use postcard::ser_flavors::Flavor;
use serde::Serialize;

/// The bytes so far.
struct Buffer(Vec<u8>);

impl Flavor for Buffer {
    type Output = Vec<u8>;

    #[inline]
    fn try_extend(&mut self, data: &[u8]) -> Result<()> {
        match *data {
            // Most numbers take one byte.
            [one] => self.0.push(one),
            _ => self.0.extend_from_slice(data),
        }
        Ok(())
    }

    #[inline]
    fn try_push(&mut self, data: u8) -> Result<()> {
        self.0.push(data);
        Ok(())
    }

    fn finalize(self) -> Result<Vec<u8>> {
        Ok(self.0)
    }
}

/// A value as bytes, in the place of whatever `buffer` held. Empty if it cannot be written so: of what is kept here, all can.
pub(crate) fn encoded<T: Serialize>(value: &T, mut buffer: Vec<u8>) -> Vec<u8> {
    buffer.clear();
    postcard::serialize_with_flavor(value, Buffer(buffer)).unwrap_or_default()
}
