//! CONTROL: an administrator's way in (`xenstore-control`). Replies are text with a NUL.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

use xenstore_wire::{DomId, Errno, MessageType, atoi, strings};

use crate::decision::{Answer, Decision, Outcome};
use crate::domain::Maxima;
use crate::quota::Limit;
use crate::record::Change;
use crate::settings::TraceSwitch;
use crate::tree::Memory;

/// The commands with their arguments, as `help` shows them.
const COMMANDS: [(&str, &str); 7] = [
    ("check", ""),
    ("help", ""),
    ("log", "[on|off|+<switch>|-<switch>]"),
    ("print", "<string>"),
    ("quota", "[set <name> <val>|<domid>|max [-r]]"),
    ("quota-soft", "[set <name> <val>]"),
    ("status", "[restarts]"),
];

/// A reply that is a text.
pub(crate) fn text(mut text: String) -> Outcome {
    text.push('\0');
    Ok(Answer::Reply(text.into_bytes()))
}

impl<M: Memory> Decision<'_, M> {
    pub fn control(&mut self, payload: &[u8]) -> Outcome {
        let mut words = strings(payload);
        let command = words.next().ok_or(Errno::EINVAL)?;
        let arguments: Vec<&[u8]> = words.collect();
        match (command, arguments.as_slice()) {
            (b"help", []) => self.help(),
            (b"print", [line]) => {
                self.log(format!("control: {}", String::from_utf8_lossy(line)));
                Ok(Answer::ok())
            }
            (b"log", []) => self.log_settings(),
            (b"log", [switch]) => self.set_log(switch),
            (b"quota", []) => self.default_limits(false),
            (b"quota", [b"set", name, value]) => self.set_default_limit(name, value, false),
            (b"quota", [b"max"]) => maxima(&self.server.maxima),
            (b"quota", [b"max", b"-r"]) => {
                self.change(Change::MaximaReset);
                maxima(&Maxima::default())
            }
            (b"quota", [domid]) => self.limits_of(domid),
            (b"quota-soft", []) => self.default_limits(true),
            (b"quota-soft", [b"set", name, value]) => self.set_default_limit(name, value, true),
            (b"check", []) => self.check(),
            (b"status", []) => self.status(),
            (b"status", [b"restarts"]) => text(self.restarts()),
            (b"crash", arguments) => self.crash(arguments),
            _ => Err(Errno::EINVAL),
        }
    }

    fn help(&self) -> Outcome {
        let mut out = String::new();
        let crash = self.server.configuration.debug_crash.then_some(("crash", "help"));
        for (command, arguments) in COMMANDS.into_iter().chain(crash) {
            let _infallible = writeln!(out, "{command:<15} {arguments}");
        }
        text(out)
    }

    fn log_settings(&self) -> Outcome {
        let mut out = String::from("Log switch settings:\n");
        for switch in TraceSwitch::ALL {
            let on = if self.server.settings.trace(switch) {
                "on"
            } else {
                "off"
            };
            let _infallible = writeln!(out, "{:<8}: {on}", switch.name());
        }
        text(out)
    }

    /// `on` and `off` set all switches; the log itself is the console and always open.
    fn set_log(&mut self, word: &[u8]) -> Outcome {
        let (on, named) = match word {
            b"on" => (true, None),
            b"off" => (false, None),
            [b'+', name @ ..] => (true, Some(name)),
            [b'-', name @ ..] => (false, Some(name)),
            _ => return Err(Errno::EINVAL),
        };
        let mut found = false;
        for switch in TraceSwitch::ALL {
            if named.is_none_or(|name| name == switch.name().as_bytes()) {
                found = true;
                self.change(Change::Trace { switch, on });
            }
        }
        if found { Ok(Answer::ok()) } else { Err(Errno::EINVAL) }
    }

    fn default_limits(&self, soft: bool) -> Outcome {
        let mut out = String::from("Quota settings:\n");
        for limit in Limit::ALL.into_iter().filter(|limit| limit.is_soft() == soft) {
            let value = self.server.settings.quotas.get(limit);
            let _infallible = writeln!(out, "{:<17}: {value:8} {}", limit.control_name(), limit.description());
        }
        text(out)
    }

    /// Sets the limit of domains that become known later; those that are known keep theirs, as in C.
    fn set_default_limit(&mut self, name: &[u8], value: &[u8], soft: bool) -> Outcome {
        let value = u32::try_from(atoi(value))
            .ok()
            .filter(|value| *value > 0)
            .ok_or(Errno::EINVAL)?;
        let limit = Limit::ALL
            .into_iter()
            .find(|limit| limit.is_soft() == soft && limit.control_name().as_bytes() == name)
            .ok_or(Errno::EINVAL)?;
        self.change(Change::DefaultLimit { limit, value });
        Ok(Answer::ok())
    }

    fn limits_of(&self, domid: &[u8]) -> Outcome {
        let domid = u16::try_from(atoi(domid)).map(DomId).map_err(|_| Errno::ENOENT)?;
        self.about(MessageType::Control, domid)?;
        let domain = self.domain(domid).ok_or(Errno::ENOENT)?;
        let connection = domain.connection.and_then(|id| self.server.connections.get(&id));
        let mut out = format!("Domain {domid}:\n");
        let rows = [
            (Limit::Nodes, domain.account.node_count(), domain.maxima.nodes),
            (
                Limit::Watches,
                connection.map_or(0, |c| c.watches.len() as u64),
                domain.maxima.watches,
            ),
            (
                Limit::Outstanding,
                connection.map_or(0, |c| c.outstanding() as u64),
                domain.maxima.outstanding,
            ),
            (Limit::Memory, domain.account.memory(), domain.maxima.memory),
            (
                Limit::Transactions,
                connection.map_or(0, |c| c.transactions.len() as u64),
                domain.maxima.transactions,
            ),
        ];
        for (limit, value, most) in rows {
            let _infallible = writeln!(out, "{:<17}: {value:8} (max {most:8})", limit.name());
        }
        text(out)
    }

    /// Walks the whole store and compares what is derived from it; what does not agree is logged.
    fn check(&mut self) -> Outcome {
        let charges = self.server.charges();
        let wrong = self.server.discrepancies(&charges);
        let agrees = wrong.is_empty();
        for line in wrong {
            self.log(line);
        }
        let nodes: i64 = charges
            .values()
            .map(|account| account.nodes)
            .fold(0, i64::saturating_add);
        if agrees {
            self.log(format!("check: {nodes} nodes, all accounts agree"));
        }
        Ok(Answer::ok())
    }

    fn status(&self) -> Outcome {
        let server = self.server;
        let tree = server.tree.figures();
        let transactions: usize = server
            .connections
            .values()
            .map(|c| c.transactions.len())
            .fold(0, usize::saturating_add);
        let resets = server.connections.values().map(|c| u64::from(c.resets));
        let resets = resets.fold(0, u64::saturating_add);
        let nodes = server.domains.values().map(|domain| domain.account.node_count());
        let nodes = nodes.fold(0, u64::saturating_add);
        let mut out = String::new();
        let _infallible = writeln!(
            out,
            "nodes: {nodes}\nrequests: {}\nconnections: {}\ndomains: {}\nwatches: {}\ntransactions: {transactions}\nring-resets: {resets}\ngeneration: {}\n\
             tree-blocks: {}\ntree-live-bytes: {}\ntree-dead-bytes: {}\nevents-queued: {}\nevents-expired: {}\nevents-merged: {}\nevents-dropped: {}\n\
             heap-held-bytes: {}\nsaved-bytes: {}",
            server.requests,
            server.connections.len(),
            server.domains.len(),
            server.watches.len(),
            server.generation,
            tree.blocks,
            tree.live_bytes,
            tree.dead_bytes,
            server.events.queued,
            server.events.expired,
            server.events.merged,
            server.events.dropped,
            server.heap_held(),
            server.saved_held(),
        );
        self.conflicts(&mut out);
        let _infallible = self.world.report(&mut out);
        self.lives_in_short(&mut out);
        text(out)
    }

    fn conflicts(&self, out: &mut String) {
        let server = self.server;
        let limits = &server.configuration.conflicts;
        let figures = server.conflict_figures();
        let paused = server.domains.values().filter(|domain| limits.pauses(domain.lacking));
        let _infallible = writeln!(
            out,
            "conflicts: {}\nconflicts-without-culprit: {}\nconflicts-by-lease: {}\nconflict-points-taken: {}\n\
             conflict-burst-limit: {}\nconflict-history-ms: {}\nconflict-rate-limit-is-aggregate: {}\ndomains-paused: {}\n\
             leases-given: {}",
            figures.lost,
            figures.without_culprit,
            figures.by_lease,
            figures.points,
            limits.burst,
            limits.history_ms,
            limits.aggregate,
            paused.count(),
            figures.leases,
        );
    }
}

/// The largest values of all domains for which limits hold, in the order of C xenstored.
fn maxima(seen: &Maxima) -> Outcome {
    let mut out = String::from("Max. seen accounting values:\n");
    let rows = [
        (Limit::Nodes, seen.nodes),
        (Limit::Watches, seen.watches),
        (Limit::Outstanding, seen.outstanding),
        (Limit::Memory, seen.memory),
        (Limit::Transactions, seen.transactions),
    ];
    for (limit, value) in rows {
        let _infallible = writeln!(out, "{:<17}: {value:8}", limit.name());
    }
    text(out)
}
