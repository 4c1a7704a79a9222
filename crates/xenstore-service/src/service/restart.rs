//! Going on where an earlier life stopped.

use alloc::vec::Vec;

use xenstore_core::{Action, Channel, Connection, ConnectionId, InHand, Input, Step};
use xenstore_recovery::{Mark, Pages, Recovered};

use super::Service;
use crate::link::Link;
use crate::machine::Machine;

/// A connection whose channel must be found again after a restart.
pub struct Reach<'s> {
    /// Which.
    pub connection: ConnectionId,
    /// What is known of it: domain, channel, epoch and offsets.
    pub state: &'s Connection,
    /// So many bytes were being published: they are visible or not.
    pub publishing: u32,
    /// The feature bits that its page was given.
    pub features: u32,
}

/// A channel that was found again.
pub struct Reached<M: Machine> {
    /// The channel.
    pub link: M::Link,
    /// The bytes that were being published are visible.
    pub published: bool,
}

impl<M: Machine, P: Pages> Service<M, P> {
    /// A service that goes on where an earlier life stopped. `reach` finds the channel of each connection again, brings its
    /// ring in line with the server's offsets, and says whether the bytes that were being published (their number is given)
    /// are visible. A ring that cannot be reached is left alone until its domain's end is told; a socket is forgotten.
    pub fn resume(
        machine: M,
        recovered: Recovered<P>,
        mut reach: impl FnMut(&mut M, Reach<'_>) -> Option<Reached<M>>,
    ) -> Self {
        let Recovered {
            store,
            publishing,
            last_records,
            mark,
        } = recovered;
        let mut service = Service::over(machine, store);
        service.restarted(mark.as_ref().and_then(Mark::in_hand), &last_records);
        let known: Vec<ConnectionId> = service.store.server().connections().map(|(id, _)| id).collect();
        for connection in known {
            let server = service.store.server();
            let Some(state) = server.connection(connection) else {
                continue;
            };
            let open = publishing
                .iter()
                .find(|(id, _)| *id == connection)
                .map_or(0, |(_, bytes)| *bytes);
            let wanted = Reach {
                connection,
                state,
                publishing: open,
                features: server.features_of(state.domid),
            };
            let (channel, ignored) = (state.channel, state.ignored);
            let Some(Reached { mut link, published }) = reach(&mut service.machine, wanted) else {
                // A socket is gone with the life that had it, and with it what it watched and had begun.
                if channel == Channel::Socket {
                    service.take(Input::Disconnected { connection });
                }
                continue;
            };
            if let Some(fault) = ignored {
                link.set_error(fault);
            }
            if published {
                service.store.published(connection, open);
            }
            service.insert(connection, link, channel);
            service.touched.insert(connection);
        }
        service.repeat_actions();
        service
    }

    /// First of all: why the last life ended, and whose request was in hand.
    fn restarted(&mut self, in_hand: Option<InHand<'_>>, records: &str) {
        let reason = self.machine.last_end();
        let strikes = self.store.server().strikes_at(Step::Recovered);
        self.take(Input::Restarted {
            reason: &reason,
            in_hand,
            records,
        });
        // Not before: what was ordered must not strike again while it is being crossed out.
        self.store.set_end(M::reached);
        if strikes {
            M::reached(Step::Recovered);
        }
    }

    /// Requests that waited for an action when the last life ended: the action is done (again).
    fn repeat_actions(&mut self) {
        let server = self.store.server();
        let waiting: Vec<Action> = server
            .connections()
            .filter_map(|(requester, state)| {
                let waiting = state.waiting.as_ref()?;
                Some(waiting.action(requester, server.features_of(waiting.domid)))
            })
            .collect();
        let durable = self.store.seal();
        for action in waiting {
            self.perform(&durable, action);
        }
    }
}
