//! The server's own indices, and the epochs in which they count.

/// The two indices that belong to the server. They count bytes modulo 2^32.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Indices {
    /// Requests read.
    pub req_cons: u32,
    /// Replies written.
    pub rsp_prod: u32,
}

impl Indices {
    /// After a reset.
    pub const ZERO: Indices = Indices {
        req_cons: 0,
        rsp_prod: 0,
    };
}

/// Where a connection's byte streams began to be counted. A new epoch begins when the ring is taken over, introduced,
/// reset or reconnected; within one, offsets are 64-bit numbers that never wrap.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Epoch {
    /// `req_cons` at the start of the epoch.
    pub base_in: u32,
    /// `rsp_prod` at the start of the epoch.
    pub base_out: u32,
}

impl Epoch {
    /// The epoch that begins where the indices are now.
    pub const fn starting_at(indices: Indices) -> Epoch {
        Epoch {
            base_in: indices.req_cons,
            base_out: indices.rsp_prod,
        }
    }

    /// The indices after so many bytes of requests and of replies in this epoch.
    #[allow(clippy::cast_possible_truncation, reason = "an index is an offset modulo 2^32")]
    pub const fn indices(self, bytes_in: u64, bytes_out: u64) -> Indices {
        Indices {
            req_cons: self.base_in.wrapping_add(bytes_in as u32),
            rsp_prod: self.base_out.wrapping_add(bytes_out as u32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_become_indices_modulo_two_to_the_32() {
        let epoch = Epoch::starting_at(Indices {
            req_cons: u32::MAX,
            rsp_prod: 7,
        });
        assert_eq!(
            epoch.indices(2, 1 << 32),
            Indices {
                req_cons: 1,
                rsp_prod: 7
            }
        );
        assert_eq!(
            epoch.indices(0, (1 << 33) + 3),
            Indices {
                req_cons: u32::MAX,
                rsp_prod: 10
            }
        );
    }
}
