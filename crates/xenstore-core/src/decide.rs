//! Deciding: from the state and one input to a record. Every input comes through here.

use alloc::format;
use alloc::vec::Vec;

use crate::connection::{Connection, ConnectionId, Fault};
use crate::decision::Decision;
use crate::input::{Channel, Input, Time, World};
use crate::record::{Action, Change, Record};
use crate::server::Server;
use crate::tree::Memory;

/// Decides one input.
pub(crate) fn decide<'s, M: Memory>(
    server: &'s Server<M>,
    now: Time,
    world: &'s dyn World,
    input: Input<'_>,
) -> Record {
    match input {
        Input::Request {
            connection,
            consumed,
            header,
            payload,
        } => {
            let Some(mut decision) = Decision::of(server, now, world, connection) else {
                return Record {
                    time: now,
                    ..Record::default()
                };
            };
            decision.keep(Change::Consumed {
                connection,
                bytes: consumed,
            });
            if decision.requester.is_some_and(|(_, state)| state.is_set_aside()) {
                return decision.set_aside(connection, header, payload, 0);
            }
            decision.request(connection, header, payload)
        }
        Input::Partial { connection, bytes } => {
            let whole = || {
                let bytes = bytes.to_vec();
                simple(now, [Change::Partial { connection, bytes }], [])
            };
            crate::poison::decide_partial(server, now, world, connection, bytes).unwrap_or_else(whole)
        }
        Input::Skipped { connection, bytes } => simple(now, [Change::Skipped { connection, bytes }], []),
        Input::Restarted {
            reason,
            in_hand,
            records,
        } => crate::lives::restarted(server, now, world, reason, in_hand, records),
        Input::Strike => crate::crash::strike(server, now),
        Input::Published { connection, bytes } => simple(now, [Change::Published { connection, bytes }], []),
        Input::Misbehaved { connection, fault } => misbehaved(server, now, connection, fault),
        Input::Reset { connection } => {
            let changes = server
                .connections
                .get(&connection)
                .map(|known| Change::ConnectionReset {
                    connection,
                    channel: known.channel,
                });
            simple(now, changes, [])
        }
        Input::Connected { domid, channel, epoch } => {
            let mut decision = Decision::new(server, now, world);
            decision.connect(domid, channel, epoch);
            decision.finish()
        }
        Input::Disconnected { connection } => simple(
            now,
            [Change::Disconnected { connection }],
            [Action::Disconnect { connection }],
        ),
        Input::ActionDone { requester, outcome } => {
            let Some(decision) = Decision::of(server, now, world, requester) else {
                return Record {
                    time: now,
                    ..Record::default()
                };
            };
            decision.action_done(requester, outcome)
        }
        Input::DomainsChanged(states) => {
            let mut decision = Decision::new(server, now, world);
            decision.domains_changed(states);
            decision.finish()
        }
        Input::Options {
            quotas,
            trace,
            debug_crash,
        } => {
            let quotas = quotas.iter().map(|(limit, value)| Change::DefaultLimit {
                limit: *limit,
                value: *value,
            });
            let trace = trace.iter().map(|switch| Change::Trace {
                switch: *switch,
                on: true,
            });
            let crash = Change::DebugCrash { allowed: debug_crash };
            simple(now, quotas.chain(trace).chain([crash]), [])
        }
        Input::Nested {
            connection,
            transaction,
            step,
        } => simple(now, server.nested(connection, transaction, step), []),
        Input::Shortage => shortage(server, now),
        Input::Timeout => crate::timeouts::decide(server, now),
    }
}

pub(crate) fn simple(
    time: Time,
    changes: impl IntoIterator<Item = Change>,
    actions: impl IntoIterator<Item = Action>,
) -> Record {
    Record {
        time,
        changes: changes.into_iter().collect(),
        outputs: Vec::new(),
        actions: actions.into_iter().collect(),
    }
}

/// The oldest snapshot of a domain for which limits hold is given up: what changed since is kept for it alone.
fn shortage<M: Memory>(server: &Server<M>, now: Time) -> Record {
    let Some((connection, id, domid)) = server.oldest_snapshot() else {
        return simple(now, [], []);
    };
    let line = format!("domain {domid}: its transaction {id} had to give up its snapshot for want of room");
    let about = Some(domid);
    simple(
        now,
        [Change::TransactionLost { connection, id }],
        [Action::Log { about, line }],
    )
}

/// A ring client is ignored but stays known, so that its death is still told (XSA-325); a socket client is cut off.
pub(crate) fn misbehaved<M: Memory>(server: &Server<M>, now: Time, connection: ConnectionId, fault: Fault) -> Record {
    match server.connections.get(&connection) {
        Some(Connection {
            channel: Channel::Ring { .. },
            domid,
            ..
        }) => simple(
            now,
            [Change::Ignored { connection, fault }],
            [
                Action::SetError { connection, fault },
                Action::Log {
                    about: Some(*domid),
                    line: format!("domain {domid} is ignored from now on: {fault:?} fault on its ring"),
                },
            ],
        ),
        Some(Connection {
            channel: Channel::Socket,
            ..
        }) => simple(
            now,
            [Change::Disconnected { connection }],
            [Action::Disconnect { connection }],
        ),
        None => Record {
            time: now,
            ..Record::default()
        },
    }
}
