//! Event channels: the two-level ABI (4096 ports), one vCPU. How to bind, send and close; [`crate::events`] takes what comes.
//!
//! Ports are masked when the domain starts; a port that is bound here is unmasked, so only ports that somebody asked for
//! wake the domain. Pending bits, masks and bindings all survive a warm restart: the masks tell it which ports are bound, so
//! that it need not ask Xen about each that there may be. Only where a life ended between a binding and its mask must it, and
//! the mask of port 0, which no domain ever has, tells that.
//!
//! Knows nothing about what a port is for.

use crate::abi::event::{
    EVTCHNOP_ALLOC_UNBOUND, EVTCHNOP_BIND_INTERDOMAIN, EVTCHNOP_BIND_VIRQ, EVTCHNOP_CLOSE, EVTCHNOP_SEND,
    EVTCHNOP_STATUS, EVTCHNSTAT_CLOSED, EVTCHNSTAT_INTERDOMAIN, EVTCHNSTAT_UNBOUND, EVTCHNSTAT_VIRQ,
    EvtchnAllocUnbound, EvtchnBindInterdomain, EvtchnBindVirq, EvtchnPort, EvtchnStatus,
};
use crate::abi::numbers::{DOMID_SELF, hypercall as nr};
use crate::abi::shared::{EVTCHN_2L_NR_CHANNELS, EVTCHN_2L_WORDS};
use crate::error::XenError;
use crate::shared_info;
use crate::{counters, hypercall};
use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Local port of an event channel, below 4096.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Port(pub u32);

/// What a port is bound to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    Closed,
    /// Waits for domain `remote` to bind to it.
    Unbound {
        remote: u16,
    },
    /// Connected to `remote_port` of domain `remote`.
    Interdomain {
        remote: u16,
        remote_port: u32,
    },
    /// Bound to this virtual interrupt.
    Virq(u32),
    /// Something that this domain never asks for; Xen's number.
    Other(u32),
}

fn operate<T>(command: u64, argument: &mut T) -> Result<u64, XenError> {
    // SAFETY: every caller in this module passes the structure that belongs to its command; none changes memory.
    unsafe { hypercall::operate(nr::EVENT_CHANNEL_OP, command, argument) }
}

/// Connects a new local port to `remote_port`, which domain `remote` made for this domain. Unmasked, and pending at once
/// (Xen does so, because an earlier event may have gone nowhere).
pub fn bind_interdomain(remote: u16, remote_port: u32) -> Result<Port, XenError> {
    let mut argument = EvtchnBindInterdomain {
        remote_dom: remote,
        remote_port,
        local_port: 0,
    };
    changing(|| {
        operate(EVTCHNOP_BIND_INTERDOMAIN, &mut argument)?;
        Ok(bound(argument.local_port))
    })
}

/// Makes a local port to which domain `remote` may bind; [`DOMID_SELF`] makes a loop. Unmasked.
pub fn alloc_unbound(remote: u16) -> Result<Port, XenError> {
    changing(|| alloc_masked(remote).map(|port| bound(port.0)))
}

/// Binds a virtual interrupt to vCPU 0. Unmasked. `EEXIST` if it is bound already (after a warm restart: find the port with
/// [`unmasked_ports`]).
pub fn bind_virq(virq: u32) -> Result<Port, XenError> {
    let mut argument = EvtchnBindVirq { virq, vcpu: 0, port: 0 };
    changing(|| {
        operate(EVTCHNOP_BIND_VIRQ, &mut argument)?;
        Ok(bound(argument.port))
    })
}

/// Makes a local port as [`alloc_unbound`] does, and leaves it masked.
pub(crate) fn alloc_masked(remote: u16) -> Result<Port, XenError> {
    let mut argument = EvtchnAllocUnbound {
        dom: DOMID_SELF,
        remote_dom: remote,
        port: 0,
    };
    operate(EVTCHNOP_ALLOC_UNBOUND, &mut argument)?;
    Ok(Port(argument.port))
}

fn bound(port: u32) -> Port {
    reserve_port(Port(port));
    unmask(Port(port));
    Port(port)
}

/// The highest word of the tables in which a port was ever bound.
static HIGHEST_WORD: AtomicUsize = AtomicUsize::new(0);

/// From now on the word of this port is looked at for events.
pub(crate) fn reserve_port(port: Port) {
    if let Some((word, _)) = place(port) {
        HIGHEST_WORD.fetch_max(word, SeqCst);
    }
}

/// The last word that has to be looked at for events.
pub(crate) fn highest_word() -> usize {
    HIGHEST_WORD.load(SeqCst)
}

/// Closes a port; a port that is closed already stays closed.
pub fn close(port: Port) {
    changing(|| {
        mask(port);
        // The only error is EINVAL: there is no such channel, which is what was asked for.
        let _ = operate(EVTCHNOP_CLOSE, &mut EvtchnPort { port: port.0 });
        if let (Some(words), Some((word, bit))) = (shared_info::event_words(), place(port)) {
            words.pending[word].fetch_and(!bit, SeqCst);
        }
    });
}

/// Sends an event to the other end. Failures (the other end is gone) are counted, not returned: death is reported elsewhere.
pub fn notify(port: Port) {
    counters::notify(operate(EVTCHNOP_SEND, &mut EvtchnPort { port: port.0 }).is_ok());
}

/// What `port` is bound to.
pub fn status(port: Port) -> Result<Status, XenError> {
    let mut argument = EvtchnStatus {
        dom: DOMID_SELF,
        port: port.0,
        ..Default::default()
    };
    operate(EVTCHNOP_STATUS, &mut argument)?;
    let remote = argument.u_first as u16;
    Ok(match argument.status {
        EVTCHNSTAT_CLOSED => Status::Closed,
        EVTCHNSTAT_UNBOUND => Status::Unbound { remote },
        EVTCHNSTAT_INTERDOMAIN => Status::Interdomain {
            remote,
            remote_port: argument.u_second,
        },
        EVTCHNSTAT_VIRQ => Status::Virq(argument.u_first),
        other => Status::Other(other),
    })
}

/// Port 0 is nobody's, and its mask means something else: it is unmasked while bindings and masks may differ.
const NOBODYS: Port = Port(0);

/// Binds or closes a port. Where the life ends meanwhile, the masks do not tell the next one which ports are bound.
fn changing<T>(change: impl FnOnce() -> T) -> T {
    unmask(NOBODYS);
    let done = change();
    agree();
    done
}

/// From now on the masks tell which ports are bound: nothing was bound yet, or whoever began a life has looked at all ports.
pub fn agree() {
    mask(NOBODYS);
}

/// The masks tell which ports are bound: the last life did not end in the middle of a change.
#[must_use]
pub fn masks_agree() -> bool {
    shared_info::event_words().is_some_and(|words| words.mask[0].load(SeqCst) & 1 != 0)
}

/// The ports that this module bound and has not closed, in growing order, if [`masks_agree`].
pub fn unmasked_ports() -> impl Iterator<Item = Port> {
    let words = shared_info::event_words();
    let words = words.into_iter().flat_map(|words| words.mask.iter().zip(0..));
    words.flat_map(|(word, index): (_, u32)| unmasked_in(word.load(SeqCst), index))
}

/// The ports of word `index` of the masks that are not masked.
fn unmasked_in(word: u64, index: u32) -> impl Iterator<Item = Port> {
    let mut left = !word;
    if index == 0 {
        left &= !1;
    }
    core::iter::from_fn(move || {
        (left != 0).then(|| {
            let bit = left.trailing_zeros();
            left &= left - 1;
            Port(index * 64 + bit)
        })
    })
}

/// All ports that are not closed, with what they are bound to. Ends where Xen says that the domain has no such port yet. Asks Xen
/// about every port before that: some milliseconds, where a hypercall takes some microseconds.
pub fn bound_ports() -> impl Iterator<Item = (Port, Status)> {
    (1..EVTCHN_2L_NR_CHANNELS)
        .map(Port)
        .map_while(|port| Some((port, status(port).ok()?)))
        .filter(|(_, status)| *status != Status::Closed)
}

/// Word and bit of a port in the pending and mask arrays.
fn place(port: Port) -> Option<(usize, u64)> {
    (port.0 < EVTCHN_2L_NR_CHANNELS).then(|| ((port.0 / 64) as usize, 1 << (port.0 % 64)))
}

/// Lets events of `port` through; one that came meanwhile is pending and will be seen.
pub fn unmask(port: Port) {
    if let (Some(words), Some((word, bit))) = (shared_info::event_words(), place(port)) {
        words.mask[word].fetch_and(!bit, SeqCst);
    }
}

/// Holds events of `port` back: they stay pending and wake nobody.
pub fn mask(port: Port) {
    if let (Some(words), Some((word, bit))) = (shared_info::event_words(), place(port)) {
        words.mask[word].fetch_or(bit, SeqCst);
    }
}

const _: () = assert!(EVTCHN_2L_WORDS * 64 == EVTCHN_2L_NR_CHANNELS as usize);

/// This domain's own identifier: a port that waits for its own domain tells who that is.
pub fn own_domid() -> Result<u16, XenError> {
    let port = alloc_masked(DOMID_SELF)?;
    let status = status(port);
    close(port);
    match status? {
        Status::Unbound { remote } => Ok(remote),
        _ => Err(XenError::EINVAL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmasked_ports_are_found_by_their_masks_and_port_0_is_none() {
        let ports = |word, index| unmasked_in(word, index).map(|port| port.0).sum::<u32>();
        assert_eq!(ports(u64::MAX, 0), 0);
        assert_eq!(ports(!1, 0), 0);
        assert_eq!(ports(!(1 | 1 << 5 | 1 << 63), 0), 5 + 63);
        assert_eq!(ports(!(1 | 1 << 63), 2), 128 + 191);
    }

    #[test]
    fn a_port_beyond_the_table_has_no_place() {
        assert_eq!(place(Port(4096)), None);
        assert_eq!(place(Port(4095)), Some((63, 1 << 63)));
    }
}
