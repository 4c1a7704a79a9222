//! What four indices mean: the one place where the state of a ring is judged.
//!
//! Pure: the indices have been read, each once. Knows which moves are possible and what a reset looks like from the
//! moment when it begins; does not read or write the page.

use crate::fault::RingFault;
use crate::indices::Indices;
use crate::layout::RING_SIZE;
use crate::queue::distance;

/// What a visit found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Visit {
    /// Nothing unusual.
    Open {
        /// Bytes of requests that can be read.
        readable: u32,
        /// Bytes of replies that fit.
        writable: u32,
    },
    /// The client has set all indices to zero, without being asked and without telling (hvmloader and OVMF do so
    /// before they hand over to the next system, if reconnection is not offered). It may have written requests since.
    /// To go on: begin a new epoch at zero with [`crate::ServerRing::resume`]; nothing needs to be written to the page.
    Reset,
    /// The client is just doing that: some indices are zero, some not yet. There is nothing to read and no room, and
    /// nothing to do either: the next visit will see more. A client that stays like this harms only itself.
    Resetting,
    /// The client asks for a reconnect, which the server offered. To go on: begin a new epoch at zero, then
    /// [`crate::ServerRing::finish_reconnect`].
    Reconnect,
    /// An impossible move. [`crate::ServerRing::write_error`], and nothing is read or written any more; the client
    /// may still ask for a reconnect, which later visits tell.
    Misbehaved(RingFault),
}

/// What four indices in a page mean to a server whose own are `own`.
pub(crate) fn judge(own: Indices, found: Indices, req_prod: u32, rsp_cons: u32) -> Visit {
    let readable = distance(req_prod, own.req_cons);
    let used = distance(own.rsp_prod, rsp_cons);
    if found == own {
        if let (Some(readable), Some(used)) = (readable, used) {
            return Visit::Open {
                readable,
                writable: RING_SIZE.saturating_sub(used),
            };
        }
    }
    // The reset itself sends no event, so it is mostly seen together with the first request of the next system.
    if found == Indices::ZERO && own != Indices::ZERO && rsp_cons == 0 && req_prod <= RING_SIZE {
        return Visit::Reset;
    }
    let is_or_was_zeroed = |ours, found| found == ours || found == 0;
    if is_or_was_zeroed(own.req_cons, found.req_cons)
        && is_or_was_zeroed(own.rsp_prod, found.rsp_prod)
        && (readable.is_some() || req_prod == 0)
        && (used.is_some() || rsp_cons == 0)
    {
        return Visit::Resetting;
    }
    Visit::Misbehaved(if found.req_cons != own.req_cons {
        RingFault::RequestIndexChanged {
            ours: own.req_cons,
            found: found.req_cons,
        }
    } else if found.rsp_prod != own.rsp_prod {
        RingFault::ResponseIndexChanged {
            ours: own.rsp_prod,
            found: found.rsp_prod,
        }
    } else if readable.is_none() {
        RingFault::RequestDistance {
            consumed: own.req_cons,
            produced: req_prod,
        }
    } else {
        RingFault::ResponseDistance {
            consumed: rsp_cons,
            produced: own.rsp_prod,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_impossible_move_is_named() {
        let own = Indices {
            req_cons: 5000,
            rsp_prod: 7000,
        };
        let judge = |found, req_prod, rsp_cons| match judge(own, found, req_prod, rsp_cons) {
            Visit::Misbehaved(fault) => Some(fault),
            _ => None,
        };
        assert_eq!(
            judge(own, 6025, 7000),
            Some(RingFault::RequestDistance {
                consumed: 5000,
                produced: 6025
            })
        );
        assert_eq!(
            judge(own, 4999, 7000),
            Some(RingFault::RequestDistance {
                consumed: 5000,
                produced: 4999
            })
        );
        assert_eq!(
            judge(own, 5000, 7001),
            Some(RingFault::ResponseDistance {
                consumed: 7001,
                produced: 7000
            })
        );
        assert_eq!(
            judge(own, 5000, 5975),
            Some(RingFault::ResponseDistance {
                consumed: 5975,
                produced: 7000
            })
        );
        let moved = Indices { req_cons: 5001, ..own };
        assert_eq!(
            judge(moved, 5001, 7000),
            Some(RingFault::RequestIndexChanged {
                ours: 5000,
                found: 5001
            })
        );
        let moved = Indices { rsp_prod: 6999, ..own };
        assert_eq!(
            judge(moved, 5000, 6999),
            Some(RingFault::ResponseIndexChanged {
                ours: 7000,
                found: 6999
            })
        );
        // Our indices at zero, but the client's are not those of a reset.
        assert!(judge(Indices::ZERO, 1025, 0).is_some());
        assert!(judge(Indices::ZERO, 0, 7).is_some());
    }
}
