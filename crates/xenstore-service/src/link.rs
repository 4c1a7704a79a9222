//! How one client is reached: a stream of requests in, a stream of replies out.

use xenstore_core::{Connection, Epoch, Fault};
use xenstore_ring::{ConnectionError, Indices, RING_SIZE, ServerRing, SharedPage, Visit, connection, feature, offset};

/// What a look at a client's channel found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkState {
    /// In use.
    Open {
        /// Bytes of requests that can be taken.
        readable: u32,
        /// Bytes of replies that fit.
        writable: u32,
    },
    /// The client started anew without a word.
    Reset,
    /// The client asks to start anew.
    Reconnect,
    /// The client broke the rules.
    Broken(Fault),
    /// The client is gone (sockets only; a domain's end is told by the hypervisor).
    Closed,
}

/// One client's channel.
pub trait Link {
    /// Where its streams begin, before anything was taken or published.
    fn epoch(&self) -> Epoch;

    /// The machine was told that the client did something since the last look.
    fn stirred(&mut self) {}

    /// Looks what there is to do. The amounts stay valid until the next look, whatever the client does.
    fn look(&mut self) -> LinkState;

    /// Copies request bytes, beginning `skip` bytes after those already consumed; says how many.
    fn peek(&self, skip: u32, out: &mut [u8]) -> usize;

    /// Lets the client see that `count` request bytes are taken.
    fn consume(&mut self, count: u32);

    /// Lets the client see as many of these bytes as fit; says how many.
    fn publish(&mut self, bytes: &[u8]) -> usize;

    /// [`Link::publish`], which calls `between` when the bytes are written and the client cannot see them yet, if there is such a
    /// time.
    fn publish_in_steps(&mut self, bytes: &[u8], between: &mut dyn FnMut()) -> usize {
        let _no_such_time = between;
        self.publish(bytes)
    }

    /// Begins anew after [`LinkState::Reset`], [`LinkState::Reconnect`] or a new INTRODUCE.
    fn restart(&mut self, why: LinkState);

    /// Tells the client why it is ignored.
    fn set_error(&mut self, fault: Fault);

    /// Whether the client must be notified of what was done since the last call. `lacking`: bytes of the one message that
    /// has begun to arrive and is not complete, if that is all that was consumed.
    fn take_notify(&mut self, lacking: Option<u32>) -> bool;
}

/// A ring in a page shared with a domain.
#[derive(Debug)]
pub struct RingLink<P> {
    page: P,
    ring: ServerRing,
}

impl<P: SharedPage> RingLink<P> {
    /// Takes over a ring as it is: what the client has queued is kept.
    pub fn adopt(page: P, features: u32) -> Self {
        let ring = ServerRing::adopt(&page, features);
        RingLink { page, ring }
    }

    /// Starts a ring from zero.
    pub fn fresh(page: P, features: u32) -> Self {
        let ring = ServerRing::fresh(&page, features);
        RingLink { page, ring }
    }

    /// Takes a ring up again after a crash. Its indices must be those that the connection's offsets ask for; what was
    /// committed as taken is shown as taken here. Also says whether the `publishing` bytes beyond `bytes_out` are visible.
    pub fn recover(page: P, state: &Connection, publishing: u32, features: u32) -> (Self, bool) {
        if begins_anew(&page, state, publishing, features) {
            return (RingLink::fresh(page, features), false);
        }
        let at = |base: u32, offset: u64| base.wrapping_add(u32::try_from(offset & u64::from(u32::MAX)).unwrap_or(0));
        let req_cons = at(state.epoch.base_in, state.bytes_in);
        let rsp_prod = at(state.epoch.base_out, state.bytes_out);
        let in_page = page.load(offset::REQ_CONS);
        // The last round may have ended anywhere between committing requests and showing them as taken. It had shown no reply then, and
        // the client's own index is where it was: a page with other indices is one that the client begins anew.
        let behind = req_cons.wrapping_sub(in_page) <= RING_SIZE
            && page.load(offset::RSP_PROD) == rsp_prod
            && page.load(offset::REQ_PROD).wrapping_sub(req_cons) <= RING_SIZE;
        let before = Indices {
            req_cons: if behind { in_page } else { req_cons },
            rsp_prod,
        };
        let after = Indices {
            req_cons,
            rsp_prod: rsp_prod.wrapping_add(publishing),
        };
        let ring = ServerRing::recover(&page, before, after, features);
        let published = publishing != 0 && ring.indices().rsp_prod == after.rsp_prod;
        (RingLink { page, ring }, published)
    }

    /// The page, to unmap it.
    pub fn into_page(self) -> P {
        self.page
    }
}

/// The last life ended between the record of a new stream and the end of the ring's restart: nothing was taken or shown since,
/// and the page still has the indices of the old stream, or its error, or has not let the client go. (A client that asks once more
/// before it has sent anything gets what it asks for, too: there is nothing to forget.)
fn begins_anew(page: &impl SharedPage, state: &Connection, publishing: u32, features: u32) -> bool {
    let untouched = state.bytes_in == 0 && state.bytes_out == 0 && publishing == 0;
    let restarted = state.epoch == Epoch::default() && state.ignored.is_none();
    let in_page = [offset::REQ_CONS, offset::RSP_PROD, offset::ERROR].map(|word| page.load(word));
    let waits = features & feature::RECONNECTION != 0 && page.load(offset::CONNECTION) == connection::RECONNECT;
    restarted && untouched && (waits || in_page != [0; 3])
}

impl<P: SharedPage> Link for RingLink<P> {
    fn epoch(&self) -> Epoch {
        let Indices { req_cons, rsp_prod } = self.ring.indices();
        Epoch {
            base_in: req_cons,
            base_out: rsp_prod,
        }
    }

    fn look(&mut self) -> LinkState {
        match self.ring.visit(&self.page) {
            Visit::Open { readable, writable } => LinkState::Open { readable, writable },
            Visit::Reset => LinkState::Reset,
            Visit::Resetting => LinkState::Open {
                readable: 0,
                writable: 0,
            },
            Visit::Reconnect => LinkState::Reconnect,
            Visit::Misbehaved(_) => LinkState::Broken(Fault::RingIndex),
        }
    }

    fn peek(&self, skip: u32, out: &mut [u8]) -> usize {
        self.ring.peek(&self.page, skip, out)
    }

    fn consume(&mut self, count: u32) {
        self.ring.consume(&self.page, count);
    }

    fn publish(&mut self, bytes: &[u8]) -> usize {
        self.ring.publish(&self.page, bytes)
    }

    fn publish_in_steps(&mut self, bytes: &[u8], between: &mut dyn FnMut()) -> usize {
        self.ring.publish_in_steps(&self.page, bytes, between)
    }

    fn restart(&mut self, why: LinkState) {
        if why == LinkState::Reset {
            // The client zeroed the indices itself and may have queued requests since.
            self.ring = ServerRing::resume(Indices::ZERO, self.ring.features());
        } else {
            self.ring.finish_reconnect(&self.page);
        }
    }

    fn set_error(&mut self, fault: Fault) {
        let error = match fault {
            Fault::RingIndex => ConnectionError::RingIndex,
            Fault::Protocol | Fault::Poison => ConnectionError::Protocol,
        };
        self.ring.write_error(&self.page, error);
    }

    fn take_notify(&mut self, lacking: Option<u32>) -> bool {
        self.ring.take_notify(lacking)
    }
}
