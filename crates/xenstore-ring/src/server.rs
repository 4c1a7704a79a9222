//! The server's side of a ring.
//!
//! A [`ServerRing`] holds what must not be read back from the page: how far requests were read and replies written.
//! It also remembers what the last visit found, so that nothing is read or written beyond it. It is small and can be
//! rebuilt after a crash from two numbers; see [`ServerRing::recover`].

use crate::indices::Indices;
use crate::layout::{ConnectionError, RING_SIZE, connection, feature, offset};
use crate::notify::freed_space_needs_notify;
use crate::page::SharedPage;
use crate::queue::{at_most, copy_in, copy_out, distance};
use crate::visit::{Visit, judge};

/// The server's side of one ring.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerRing {
    /// Ours. The page has copies of them, which the peer can change.
    own: Indices,
    /// The client's index of requests as the last visit accepted it: at most [`RING_SIZE`] beyond `own.req_cons`.
    req_prod: u32,
    /// The client's index of replies as the last visit accepted it: at most [`RING_SIZE`] behind `own.rsp_prod`.
    rsp_cons: u32,
    /// What was offered to the client.
    features: u32,
    /// `req_cons` when the client was last notified, or when it was last certain that it need not be.
    told_req_cons: u32,
    /// Something changed that the client must hear of in any case.
    notify: bool,
}

impl ServerRing {
    /// A ring with these private indices, as if it had never been interrupted. The page is not touched. A notify is
    /// due, because nobody knows whether the last one was sent.
    pub fn resume(own: Indices, features: u32) -> ServerRing {
        let mut ring = ServerRing {
            own,
            req_prod: 0,
            rsp_cons: 0,
            features,
            told_req_cons: own.req_cons,
            notify: true,
        };
        ring.close_window();
        ring
    }

    /// Takes over a ring that is in use, at the start of the server: what the client has already written stays
    /// readable. Our own indices are whatever the page says, this once. If the client is waiting for a reconnect, it
    /// gets one, as in [`ServerRing::fresh`].
    pub fn adopt(page: &impl SharedPage, features: u32) -> ServerRing {
        if page.load(offset::CONNECTION) == connection::RECONNECT {
            return ServerRing::fresh(page, features);
        }
        let own = Indices {
            req_cons: page.load(offset::REQ_CONS),
            rsp_prod: page.load(offset::RSP_PROD),
        };
        page.store(offset::SERVER_FEATURES, features);
        ServerRing::resume(own, features)
    }

    /// Starts a ring at zero (INTRODUCE, also of a domain that was introduced before): empties it, offers
    /// `features`, clears the error, and lets a client go on that waits for a connection. Doing it twice does no harm,
    /// so after a crash in the middle it is done again.
    pub fn fresh(page: &impl SharedPage, features: u32) -> ServerRing {
        page.store(offset::SERVER_FEATURES, features);
        let mut ring = ServerRing::resume(Indices::ZERO, features);
        ring.finish_reconnect(page);
        ring
    }

    /// After a crash. `after` are the indices that the durable state asks for, `before` those of the state before it:
    /// each index in the page can be the one or the other, depending on how far the last round came.
    ///
    /// Consuming is caught up on here. Publishing is not, because the bytes are the caller's: if [`Self::indices`]
    /// still says `before.rsp_prod`, the bytes from there on must be published (again); otherwise the client has seen
    /// them. If the page has neither the one nor the other, the next [`Self::visit`] says what happened.
    pub fn recover(page: &impl SharedPage, before: Indices, after: Indices, features: u32) -> ServerRing {
        if before.req_cons != after.req_cons && page.load(offset::REQ_CONS) == before.req_cons {
            page.store(offset::REQ_CONS, after.req_cons);
        }
        let unpublished = page.load(offset::RSP_PROD) == before.rsp_prod;
        let rsp_prod = if unpublished { before.rsp_prod } else { after.rsp_prod };
        ServerRing::resume(
            Indices {
                req_cons: after.req_cons,
                rsp_prod,
            },
            features,
        )
    }

    /// Our own indices: how far requests were read and replies written.
    pub fn indices(&self) -> Indices {
        self.own
    }

    /// What was offered to the client.
    pub fn features(&self) -> u32 {
        self.features
    }

    /// Bytes of requests that the last visit found and that were not consumed since.
    pub fn readable(&self) -> u32 {
        distance(self.req_prod, self.own.req_cons).unwrap_or(0)
    }

    /// Bytes of replies that fit, by the last visit and what was published since.
    pub fn writable(&self) -> u32 {
        let used = distance(self.own.rsp_prod, self.rsp_cons).unwrap_or(RING_SIZE);
        RING_SIZE.saturating_sub(used)
    }

    /// Looks at the page and remembers what it found. Each index in the page is read exactly once.
    pub fn visit(&mut self, page: &impl SharedPage) -> Visit {
        self.close_window();
        if self.features & feature::RECONNECTION != 0 && page.load(offset::CONNECTION) == connection::RECONNECT {
            return Visit::Reconnect;
        }
        let found = Indices {
            req_cons: page.load(offset::REQ_CONS),
            rsp_prod: page.load(offset::RSP_PROD),
        };
        let req_prod = page.load(offset::REQ_PROD);
        let rsp_cons = page.load(offset::RSP_CONS);
        let visit = judge(self.own, found, req_prod, rsp_cons);
        if let Visit::Open { .. } = visit {
            self.req_prod = req_prod;
            self.rsp_cons = rsp_cons;
        }
        visit
    }

    /// Copies requests into `out`, beginning `skip` bytes behind what was consumed, and moves nothing. Returns the
    /// number of bytes: as many as there are and fit.
    pub fn peek(&self, page: &impl SharedPage, skip: u32, out: &mut [u8]) -> usize {
        let there = at_most(self.readable().saturating_sub(skip), out.len());
        match out.get_mut(..there as usize) {
            Some(out) => {
                copy_out(page, offset::REQUESTS, self.own.req_cons.wrapping_add(skip), out);
                out.len()
            }
            None => 0,
        }
    }

    /// Moves on by `count` bytes of requests (at most [`Self::readable`]), for the client to see. Between a `peek` and
    /// the `consume` of what it gave there is no other visit: a client may take back what it had claimed to write.
    ///
    /// If the client has meanwhile changed the index (a reset), the page is left alone; the next visit tells.
    pub fn consume(&mut self, page: &impl SharedPage, count: u32) {
        let count = count.min(self.readable());
        if count == 0 {
            return;
        }
        let untouched = page.load(offset::REQ_CONS) == self.own.req_cons;
        self.own.req_cons = self.own.req_cons.wrapping_add(count);
        if untouched {
            page.store(offset::REQ_CONS, self.own.req_cons);
        } else {
            self.close_window();
        }
    }

    /// Writes replies: as many of `bytes` as fit, also half a message, and shows them to the client in one step.
    /// Returns the number of bytes. Writing what fits is a duty: Linux tells us of freed space only if the ring had
    /// been filled to the last byte.
    ///
    /// If the client has meanwhile changed the index (a reset), nothing is written; the next visit tells.
    pub fn publish(&mut self, page: &impl SharedPage, bytes: &[u8]) -> usize {
        self.publish_in_steps(page, bytes, || {})
    }

    /// [`ServerRing::publish`], which calls `between` when the bytes are in the ring and the index does not say so yet.
    pub fn publish_in_steps(&mut self, page: &impl SharedPage, bytes: &[u8], between: impl FnOnce()) -> usize {
        let count = at_most(self.writable(), bytes.len());
        let Some(bytes) = bytes.get(..count as usize).filter(|bytes| !bytes.is_empty()) else {
            return 0;
        };
        if page.load(offset::RSP_PROD) != self.own.rsp_prod {
            self.close_window();
            return 0;
        }
        copy_in(page, offset::RESPONSES, self.own.rsp_prod, bytes);
        between();
        self.own.rsp_prod = self.own.rsp_prod.wrapping_add(count);
        page.store(offset::RSP_PROD, self.own.rsp_prod);
        self.notify = true;
        bytes.len()
    }

    /// At the end of a round: whether the client must get an event. After a `true` the caller sends one; the question
    /// is then settled until something changes.
    ///
    /// `lacking` matters only if requests were consumed and nothing was published: see [`freed_space_needs_notify`].
    pub fn take_notify(&mut self, lacking: Option<u32>) -> bool {
        let consumed = self.own.req_cons.wrapping_sub(self.told_req_cons);
        let due = self.notify || (consumed != 0 && freed_space_needs_notify(consumed, lacking));
        // If no event is due, the client saw enough room at every index up to now; what counts is the next one.
        self.told_req_cons = self.own.req_cons;
        self.notify = false;
        due
    }

    /// Offers features in addition to those offered before. Features are never taken back.
    pub fn write_features(&mut self, page: &impl SharedPage, bits: u32) {
        self.features |= bits;
        page.store(offset::SERVER_FEATURES, self.features);
        self.notify = true;
    }

    /// Tells the client why its connection is given up, if the error field was offered.
    pub fn write_error(&mut self, page: &impl SharedPage, error: ConnectionError) {
        if self.features & feature::ERROR != 0 {
            page.store(offset::ERROR, error.code());
            self.notify = true;
        }
    }

    /// Empties both queues, clears the error, and tells the client that it is connected (again). The caller has
    /// dropped everything that belonged to the connection. Doing it twice does no harm as long as the client waits.
    ///
    /// Our own indices are zeroed last, so that zeroes there mean that the others are done; then the client is let
    /// go. Until that moment it must not look at the indices.
    pub fn finish_reconnect(&mut self, page: &impl SharedPage) {
        for index in [offset::REQ_PROD, offset::RSP_CONS, offset::REQ_CONS, offset::RSP_PROD] {
            page.store(index, 0);
        }
        page.store(offset::ERROR, ConnectionError::None.code());
        page.store(offset::CONNECTION, connection::CONNECTED);
        *self = ServerRing::resume(Indices::ZERO, self.features);
    }

    /// Nothing to read and no room, until the next visit finds otherwise.
    fn close_window(&mut self) {
        self.req_prod = self.own.req_cons;
        self.rsp_cons = self.own.rsp_prod.wrapping_sub(RING_SIZE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ClientRing;
    use crate::fault::RingFault;
    use crate::memory_page::MemoryPage;

    const ALL: u32 = feature::RECONNECTION | feature::ERROR;

    /// A page whose four indices are these.
    fn page_with(indices: Indices, req_prod: u32, rsp_cons: u32) -> MemoryPage {
        let page = MemoryPage::new();
        page.store(offset::REQ_CONS, indices.req_cons);
        page.store(offset::RSP_PROD, indices.rsp_prod);
        page.store(offset::REQ_PROD, req_prod);
        page.store(offset::RSP_CONS, rsp_cons);
        page
    }

    /// A ring in the middle of its life, visited once, with its page.
    fn busy() -> (MemoryPage, ServerRing) {
        let own = Indices {
            req_cons: 5000,
            rsp_prod: 7000,
        };
        let page = page_with(own, 5040, 6990);
        let mut ring = ServerRing::resume(own, 0);
        assert_eq!(
            ring.visit(&page),
            Visit::Open {
                readable: 40,
                writable: 1014
            }
        );
        (page, ring)
    }

    #[test]
    fn a_ring_that_is_taken_over_keeps_what_the_client_has_queued() {
        let page = MemoryPage::new();
        page.store(offset::REQ_CONS, 70);
        page.store(offset::REQ_PROD, 70);
        let mut client = ClientRing::adopt(&page);
        client.visit(&page);
        client.send(&page, b"queued");
        let mut server = ServerRing::adopt(&page, ALL);
        assert_eq!(
            server.visit(&page),
            Visit::Open {
                readable: 6,
                writable: 1024
            }
        );
        let mut out = [0; 6];
        assert_eq!(server.peek(&page, 0, &mut out), 6);
        assert_eq!(&out, b"queued");
        assert_eq!(ClientRing::features(&page), ALL);
    }

    #[test]
    fn peeking_moves_nothing_and_sees_any_part() {
        let (page, ring) = busy();
        page.write(offset::REQUESTS + 5000 % 1024, b"abcdef");
        let mut out = [0; 3];
        assert_eq!(ring.peek(&page, 2, &mut out), 3);
        assert_eq!(&out, b"cde");
        assert_eq!(ring.peek(&page, 39, &mut out), 1);
        for skip in [40, 41, u32::MAX] {
            assert_eq!(ring.peek(&page, skip, &mut out), 0);
        }
        assert_eq!(page.load(offset::REQ_CONS), 5000);
    }

    #[test]
    fn a_full_ring_is_legal_in_both_directions() {
        let own = Indices {
            req_cons: u32::MAX - 5,
            rsp_prod: 3,
        };
        let page = page_with(own, own.req_cons.wrapping_add(1024), own.rsp_prod.wrapping_sub(1024));
        let mut ring = ServerRing::resume(own, 0);
        assert_eq!(
            ring.visit(&page),
            Visit::Open {
                readable: 1024,
                writable: 0
            }
        );
        assert_eq!(ring.publish(&page, b"x"), 0);
        ring.consume(&page, 2000);
        assert_eq!(ring.indices().req_cons, 1018);
        assert_eq!(page.load(offset::REQ_CONS), 1018);
    }

    #[test]
    fn nothing_is_read_or_written_before_the_first_visit() {
        let (page, mut ring) = busy();
        ring = ServerRing::resume(ring.indices(), 0);
        assert_eq!((ring.readable(), ring.writable()), (0, 0));
        assert_eq!(ring.peek(&page, 0, &mut [0; 9]), 0);
        assert_eq!(ring.publish(&page, b"x"), 0);
        ring.consume(&page, 1);
        assert_eq!(
            ring.indices(),
            Indices {
                req_cons: 5000,
                rsp_prod: 7000
            }
        );
    }

    #[test]
    fn replies_beyond_the_room_wait() {
        let (page, mut ring) = busy();
        assert_eq!(ring.publish(&page, &[1; 1000]), 1000);
        assert_eq!(ring.publish(&page, &[2; 1000]), 14);
        assert_eq!(ring.publish(&page, &[3; 1000]), 0);
        assert_eq!(page.load(offset::RSP_PROD), 6990 + 1024);
    }

    #[test]
    fn the_error_field_is_written_only_if_it_was_offered() {
        let page = MemoryPage::new();
        let mut server = ServerRing::fresh(&page, 0);
        server.write_error(&page, ConnectionError::Protocol);
        assert_eq!(page.load(offset::ERROR), 0);
        server.write_features(&page, feature::ERROR);
        server.write_error(&page, ConnectionError::Protocol);
        assert_eq!(page.load(offset::ERROR), 3);
    }

    #[test]
    fn after_a_crash_the_page_is_before_or_after_the_last_round() {
        let before = Indices {
            req_cons: 100,
            rsp_prod: 200,
        };
        let after = Indices {
            req_cons: 140,
            rsp_prod: 260,
        };
        for (req_cons, rsp_prod) in [(100, 200), (140, 200), (140, 260), (100, 260)] {
            let page = page_with(Indices { req_cons, rsp_prod }, 150, 200);
            let mut ring = ServerRing::recover(&page, before, after, 0);
            assert_eq!(
                ring.indices(),
                Indices {
                    req_cons: 140,
                    rsp_prod
                }
            );
            let used = rsp_prod - 200;
            assert_eq!(
                ring.visit(&page),
                Visit::Open {
                    readable: 10,
                    writable: 1024 - used
                }
            );
            assert!(ring.take_notify(None));
        }
    }

    #[test]
    fn after_a_crash_a_page_that_is_neither_is_reset_or_a_fault() {
        let before = Indices {
            req_cons: 100,
            rsp_prod: 200,
        };
        let after = Indices {
            req_cons: 140,
            rsp_prod: 260,
        };
        let page = page_with(Indices::ZERO, 30, 0);
        assert_eq!(ServerRing::recover(&page, before, after, 0).visit(&page), Visit::Reset);
        let page = page_with(
            Indices {
                req_cons: 140,
                rsp_prod: 259,
            },
            140,
            200,
        );
        let visit = ServerRing::recover(&page, before, after, 0).visit(&page);
        assert_eq!(
            visit,
            Visit::Misbehaved(RingFault::ResponseIndexChanged { ours: 260, found: 259 })
        );
    }

    #[test]
    fn a_lone_request_costs_one_notify_also_if_its_header_comes_first() {
        let page = MemoryPage::new();
        let mut server = ServerRing::fresh(&page, 0);
        assert!(server.take_notify(None), "introduction");
        let mut client = ClientRing::adopt(&page);
        let mut notifies = 0;
        for (part, lacking, reply) in [(&[0; 16][..], Some(20), &b""[..]), (&[0; 20][..], None, &[0; 30][..])] {
            client.visit(&page);
            client.send(&page, part);
            server.visit(&page);
            server.consume(&page, part.len() as u32);
            server.publish(&page, reply);
            notifies += u32::from(server.take_notify(lacking));
            assert!(!server.take_notify(None), "nothing has changed since");
        }
        assert_eq!(notifies, 1);
    }
}
