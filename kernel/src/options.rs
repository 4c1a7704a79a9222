//! The command line. `init-xenstore-domain` puts `--event <port>` first and then what its `--param` says, which cannot hold
//! spaces when it comes from the xencommons settings: so options may also be joined by commas.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use xenstore_core::options::{self, Expected};
use xenstore_core::{ConflictLimits, Legacy, Quotas, TraceSwitch};
use xenstore_ring::feature;
use xenstore_wire::DomId;

/// The bits of the ring page that this server honours.
const FEATURES: u32 = feature::RECONNECTION | feature::ERROR | feature::WATCHDEPTH | feature::DOMID_ANY;

/// What the command line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// dom0's (or the privileged domain's) event channel, `--event N`.
    pub event: Option<u32>,
    /// The domain that may do everything, `--priv-domid N`. If not given: the first that controls others (Xen 4.21), else 0.
    pub privileged: Option<DomId>,
    /// Seconds until an event that nobody takes is dropped, `--watch-event-timeout=N`; 20 if not given, 0 = never.
    pub event_timeout: u32,
    /// Bits of `server_features` that domains are offered, `--features=N`; all that there are if not given.
    pub features: u32,
    /// What a domain with a target may do, `--target-rights=union` (what one of both may) or `=first-match` (as in C
    /// xenstored); union if not given.
    pub policy: Legacy,
    /// The limits of domains, `--quota=NAME=N`.
    pub quotas: Quotas,
    /// How those pay who make others' commits fail: `--conflict-burst-limit=N`, `--conflict-history-ms=N`,
    /// `--conflict-rate-limit-is-aggregate=true|false`, by oxenstored's names; and `--lease-after-losses=N` for those who lose.
    pub conflicts: ConflictLimits,
    /// `xenstore-control crash` is allowed, `--debug-crash`.
    pub debug_crash: bool,
    /// Seconds that the server may work without waiting for events before that counts as a hang and it is restarted in place,
    /// `--hang-limit=N`; 10 if not given, 0 = never.
    pub hang_limit: u32,
    /// Seconds without a round after which Xen ends the domain, `--watchdog=N`. The outermost ring of defence: a hang is noticed long
    /// before. Never if 0 or not given: nothing can make the domain anew yet, and Xen counts the time for which it is paused, too.
    pub watchdog: u32,
    /// Trace switches that are on from the start, `--trace=io`, `--trace=obj`.
    pub trace: Vec<TraceSwitch>,
    /// What was not understood.
    pub unknown: Vec<Unknown>,
}

/// A word that is ignored, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// No option has this name.
    Option(String),
    /// The option is known and its value is not one it takes.
    Value {
        /// The option.
        option: &'static str,
        /// What was given.
        given: String,
        /// What would do.
        expected: &'static str,
    },
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unknown::Option(word) => write!(f, "unknown option {word} is ignored"),
            Unknown::Value {
                option,
                given,
                expected,
            } => {
                write!(f, "option {option} takes {expected}, not '{given}': ignored")
            }
        }
    }
}

const EVENT: &str = "--event";
const PRIVILEGED: &str = "--priv-domid";
const TIMEOUT: &str = "--watch-event-timeout";
const QUOTA: &str = "--quota";
const OFFER: &str = "--features";
const TARGET_RIGHTS: &str = "--target-rights";
const TRACE: &str = "--trace";
const BURST: &str = "--conflict-burst-limit";
const HISTORY: &str = "--conflict-history-ms";
const AGGREGATE: &str = "--conflict-rate-limit-is-aggregate";
const HANG_LIMIT: &str = "--hang-limit";
const WATCHDOG: &str = "--watchdog";
const LOSSES: &str = "--lease-after-losses";
const DEBUG_CRASH: &str = "--debug-crash";

impl Options {
    /// Reads a command line. Options may be separated by blanks or commas, and values by `=` or a blank.
    pub fn parse(line: &str) -> Options {
        let mut options = Options {
            event: None,
            privileged: None,
            event_timeout: 20,
            features: FEATURES,
            policy: Legacy::default(),
            quotas: Quotas::default(),
            conflicts: ConflictLimits::default(),
            debug_crash: false,
            hang_limit: 10,
            watchdog: 0,
            trace: Vec::new(),
            unknown: Vec::new(),
        };
        let mut words = line.split([' ', '\t', ',']).filter(|word| !word.is_empty());
        while let Some(word) = words.next() {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word, None),
            };
            if word == DEBUG_CRASH {
                options.debug_crash = true;
                continue;
            }
            // The short forms are those of C xenstored.
            let known = match name {
                EVENT | "-e" => EVENT,
                PRIVILEGED | "-p" => PRIVILEGED,
                TIMEOUT => TIMEOUT,
                QUOTA | "-Q" => QUOTA,
                OFFER => OFFER,
                HANG_LIMIT => HANG_LIMIT,
                WATCHDOG => WATCHDOG,
                TARGET_RIGHTS => TARGET_RIGHTS,
                TRACE => TRACE,
                BURST => BURST,
                HISTORY => HISTORY,
                AGGREGATE => AGGREGATE,
                LOSSES => LOSSES,
                _ => {
                    options.unknown.push(Unknown::Option(word.to_string()));
                    continue;
                }
            };
            let value = value.or_else(|| words.next()).unwrap_or_default();
            if let Err(expected) = options.set(known, value) {
                options.unknown.push(Unknown::Value {
                    option: known,
                    given: value.to_string(),
                    expected,
                });
            }
        }
        options
    }

    fn set(&mut self, option: &'static str, value: &str) -> Result<(), &'static str> {
        match option {
            EVENT => {
                let expected = "an event channel port above 0";
                self.event = Some(value.parse().ok().filter(|port| *port > 0).ok_or(expected)?);
            }
            PRIVILEGED => {
                let domid = value.parse().ok().filter(|domid| *domid < DomId::FIRST_RESERVED.0);
                self.privileged = Some(DomId(domid.ok_or("a domain number below 32752")?));
            }
            TIMEOUT => self.event_timeout = value.parse().map_err(|_| "a number of seconds")?,
            HANG_LIMIT => self.hang_limit = value.parse().map_err(|_| "a number of seconds")?,
            WATCHDOG => {
                let seconds = value.parse().ok().filter(|seconds| matches!(seconds, 0 | 10..=86_400));
                self.watchdog = seconds.ok_or("0, or a number of seconds from 10 to 86400")?;
            }
            OFFER => {
                let features = value.parse().ok().filter(|bits: &u32| bits & !FEATURES == 0);
                self.features = features.ok_or("a sum of 1, 2, 4 and 8")?;
            }
            TARGET_RIGHTS => {
                self.policy.target_rights = options::target_rights(value).map_err(|Expected(what)| what)?;
            }
            QUOTA => {
                let (limit, amount) = options::quota(value).map_err(|Expected(what)| what)?;
                self.quotas.set(limit, amount);
            }
            BURST => self.conflicts.burst = value.parse().map_err(|_| "a number of conflicts, 0 for no limit")?,
            HISTORY => {
                let time = value.parse().ok().filter(|time| (1..=60_000).contains(time));
                self.conflicts.history_ms = time.ok_or("a time from 1 to 60000")?;
            }
            LOSSES => self.conflicts.losses = value.parse().map_err(|_| "a number of commits, 0 for no leases")?,
            AGGREGATE => self.conflicts.aggregate = value.parse().map_err(|_| "true or false")?,
            _ => self.trace.push(options::trace(value).map_err(|Expected(what)| what)?),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xenstore_core::Limit;
    use xenstore_core::TargetRights;

    #[test]
    fn what_init_xenstore_domain_writes_is_understood() {
        let options = Options::parse(
            "--event 7 --quota=nodes=5000,--trace=io,--watch-event-timeout=0,--features=14,--target-rights=first-match,--hang-limit=3,--watchdog=30",
        );
        assert_eq!(options.event, Some(7));
        assert_eq!(options.quotas.get(Limit::Nodes), 5000);
        assert_eq!(options.trace, [TraceSwitch::InputOutput]);
        assert_eq!(options.event_timeout, 0);
        assert_eq!(options.features, 14);
        assert_eq!(options.hang_limit, 3);
        assert_eq!(options.watchdog, 30);
        assert_eq!(options.policy.target_rights, TargetRights::FirstMatch);
        assert!(options.unknown.is_empty());
    }

    #[test]
    fn what_conflicts_cost_can_be_set() {
        let line = "--conflict-burst-limit=2,--conflict-history-ms=80,--conflict-rate-limit-is-aggregate=false";
        let options = Options::parse(line);
        let conflicts = options.conflicts;
        assert_eq!(
            (conflicts.burst, conflicts.history_ms, conflicts.aggregate),
            (2, 80, false)
        );
        assert!(options.unknown.is_empty());
        assert_eq!(Options::parse("--conflict-history-ms=0").unknown.len(), 1);
    }

    #[test]
    fn unknown_words_are_named_and_the_rest_holds() {
        let options = Options::parse(
            "--internal-db -e 3 --priv-domid=x --event=0 --features=16 --target-rights=none --watchdog=1",
        );
        assert_eq!(options.event, Some(3));
        let said: Vec<String> = options.unknown.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "unknown option --internal-db is ignored",
                "option --priv-domid takes a domain number below 32752, not 'x': ignored",
                "option --event takes an event channel port above 0, not '0': ignored",
                "option --features takes a sum of 1, 2, 4 and 8, not '16': ignored",
                "option --target-rights takes union or first-match, not 'none': ignored",
                "option --watchdog takes 0, or a number of seconds from 10 to 86400, not '1': ignored",
            ]
        );
    }
}
