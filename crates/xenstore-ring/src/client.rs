//! The client's side of a ring: what a guest does.
//!
//! For our own test guest and for test harnesses. It sends as few events as Linux does (since 4.11), because a server
//! that gets along with those gets along with more. It trusts the server no more than it must.

use crate::fault::RingFault;
use crate::layout::{RING_SIZE, connection, feature, offset};
use crate::page::SharedPage;
use crate::queue::{at_most, copy_in, copy_out, distance};

/// What a visit found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientVisit {
    /// Nothing unusual.
    Open {
        /// Bytes of replies and events that can be read.
        readable: u32,
        /// Bytes of requests that fit.
        writable: u32,
    },
    /// The server has not yet finished the reconnect that was asked for.
    Reconnecting,
    /// The server has given the connection up and left this number in the error field.
    GivenUp(u32),
    /// The indices are impossible.
    Misbehaved(RingFault),
}

/// The client's side of one ring.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientRing {
    /// Ours: requests written.
    req_prod: u32,
    /// Ours: replies read.
    rsp_cons: u32,
    /// The server's, as the last visit accepted it: requests read.
    req_cons: u32,
    /// The server's, as the last visit accepted it: replies written.
    rsp_prod: u32,
    /// A reconnect was found in progress; the indices must be read anew when it is done.
    reconnecting: bool,
    /// A request was written that the server may not notice by itself, or reply space freed that it waits for.
    notify: bool,
}

impl ClientRing {
    /// Takes over the ring as it is in the page: a guest must not assume that it begins at zero.
    pub fn adopt(page: &impl SharedPage) -> ClientRing {
        let req_prod = page.load(offset::REQ_PROD);
        let rsp_cons = page.load(offset::RSP_CONS);
        let mut ring = ClientRing {
            req_prod,
            rsp_cons,
            req_cons: 0,
            rsp_prod: 0,
            reconnecting: false,
            notify: false,
        };
        ring.close_window();
        ring
    }

    /// Looks at the page and remembers what it found.
    pub fn visit(&mut self, page: &impl SharedPage) -> ClientVisit {
        self.close_window();
        if page.load(offset::CONNECTION) == connection::RECONNECT {
            self.reconnecting = true;
            return ClientVisit::Reconnecting;
        }
        if self.reconnecting {
            *self = ClientRing::adopt(page);
        }
        let error = page.load(offset::ERROR);
        if error != 0 && Self::features(page) & feature::ERROR != 0 {
            return ClientVisit::GivenUp(error);
        }
        let req_cons = page.load(offset::REQ_CONS);
        let rsp_prod = page.load(offset::RSP_PROD);
        let Some(used) = distance(self.req_prod, req_cons) else {
            let fault = RingFault::RequestDistance {
                consumed: req_cons,
                produced: self.req_prod,
            };
            return ClientVisit::Misbehaved(fault);
        };
        let Some(readable) = distance(rsp_prod, self.rsp_cons) else {
            let fault = RingFault::ResponseDistance {
                consumed: self.rsp_cons,
                produced: rsp_prod,
            };
            return ClientVisit::Misbehaved(fault);
        };
        self.req_cons = req_cons;
        self.rsp_prod = rsp_prod;
        ClientVisit::Open {
            readable,
            writable: RING_SIZE.saturating_sub(used),
        }
    }

    /// Bytes of replies that the last visit found and that were not received since.
    pub fn readable(&self) -> u32 {
        distance(self.rsp_prod, self.rsp_cons).unwrap_or(0)
    }

    /// Bytes of requests that fit, by the last visit and what was sent since.
    pub fn writable(&self) -> u32 {
        let used = distance(self.req_prod, self.req_cons).unwrap_or(RING_SIZE);
        RING_SIZE.saturating_sub(used)
    }

    /// Writes as many bytes of requests as fit. Returns how many.
    pub fn send(&mut self, page: &impl SharedPage, bytes: &[u8]) -> usize {
        let count = at_most(self.writable(), bytes.len());
        let Some(bytes) = bytes.get(..count as usize).filter(|bytes| !bytes.is_empty()) else {
            return 0;
        };
        copy_in(page, offset::REQUESTS, self.req_prod, bytes);
        let before = self.req_prod;
        self.req_prod = self.req_prod.wrapping_add(count);
        page.store(offset::REQ_PROD, self.req_prod);
        // If the server had not read up to here when it looks again, it will read on without an event.
        self.notify |= page.load(offset::REQ_CONS) == before;
        bytes.len()
    }

    /// Copies as many bytes of replies as there are and fit into `out`, and frees their space. Returns how many.
    pub fn receive(&mut self, page: &impl SharedPage, out: &mut [u8]) -> usize {
        let count = at_most(self.readable(), out.len());
        let Some(out) = out.get_mut(..count as usize).filter(|out| !out.is_empty()) else {
            return 0;
        };
        copy_out(page, offset::RESPONSES, self.rsp_cons, out);
        let before = self.rsp_cons;
        self.rsp_cons = self.rsp_cons.wrapping_add(count);
        page.store(offset::RSP_CONS, self.rsp_cons);
        // Only a full ring makes the server wait.
        self.notify |= page.load(offset::RSP_PROD).wrapping_sub(before) >= RING_SIZE;
        out.len()
    }

    /// Whether the server must get an event. After a `true` the caller sends one.
    pub fn take_notify(&mut self) -> bool {
        core::mem::take(&mut self.notify)
    }

    /// The features that the server offers, see [`feature`].
    pub fn features(page: &impl SharedPage) -> u32 {
        page.load(offset::SERVER_FEATURES)
    }

    /// Asks the server to forget everything about this connection. `false`: it does not offer that. A notify is then
    /// due; [`Self::visit`] tells when it is done.
    pub fn request_reconnect(&mut self, page: &impl SharedPage) -> bool {
        if Self::features(page) & feature::RECONNECTION == 0 {
            return false;
        }
        page.store(offset::CONNECTION, connection::RECONNECT);
        self.reconnecting = true;
        self.notify = true;
        self.close_window();
        true
    }

    /// What hvmloader and OVMF do where reconnection is not offered: overwrite both rings with 0xff and set all four
    /// indices to zero, without an event. Allowed only while no request is outstanding.
    pub fn reset_silently(&mut self, page: &impl SharedPage) {
        let rubbish = [0xff; RING_SIZE as usize];
        page.write(offset::REQUESTS, &rubbish);
        page.write(offset::RESPONSES, &rubbish);
        for index in [offset::REQ_PROD, offset::REQ_CONS, offset::RSP_PROD, offset::RSP_CONS] {
            page.store(index, 0);
        }
        *self = ClientRing::adopt(page);
    }

    /// Nothing to read and no room, until the next visit finds otherwise.
    fn close_window(&mut self) {
        self.rsp_prod = self.rsp_cons;
        self.req_cons = self.req_prod.wrapping_sub(RING_SIZE);
    }
}
