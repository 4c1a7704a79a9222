//! What is due: events that nobody took are dropped, conflict credit comes back, leases end.

use alloc::format;
use alloc::vec::Vec;

use crate::decide::simple;
use crate::input::Time;
use crate::record::{Action, Change, Record};
use crate::server::Server;
use crate::tree::Memory;

pub(crate) fn decide<M: Memory>(server: &Server<M>, now: Time) -> Record {
    let (mut changes, lines) = expired(server, now);
    let limits = &server.configuration.conflicts;
    let returned = server.conflicts.returned(&server.domains, now, limits);
    changes.extend(returned.map(|(points, next)| Change::CreditReturned { points, next }));
    if server.leases.due().is_some_and(|due| due <= now) {
        changes.push(Change::LeasesEnded);
    }
    simple(now, changes, lines)
}

fn expired<M: Memory>(server: &Server<M>, now: Time) -> (Vec<Change>, Vec<Action>) {
    let due = server.deadlines.iter().take_while(|(deadline, _)| *deadline <= now);
    let mut expired = Vec::new();
    let mut lines = Vec::new();
    for (_, id) in due {
        let Some(connection) = server.connections.get(id) else {
            continue;
        };
        let before = expired.len();
        expired.extend(connection.queue.expired(now).map(|number| Change::EventExpired {
            connection: *id,
            number,
        }));
        let (domid, dropped) = (connection.domid, expired.len().saturating_sub(before));
        lines.push(Action::Log {
            about: Some(domid),
            line: format!(
                "domain {domid}: {dropped} events dropped that it did not take within {} s",
                server.configuration.event_timeout
            ),
        });
    }
    (expired, lines)
}
