//! Which outcomes each request has had, and which it must have had.

use std::collections::BTreeMap;
use std::fmt;

use xenstore_wire::MessageType;

use crate::model::Errno;

/// The outcomes that the description lists for each request, in the order of their numbers. Left out is what cannot be reached
/// from outside: ENOMEM where it means that the server's own memory is used up, and errors of mapping that are not EINVAL.
/// ENOENT of requests that are about no node is that of a transaction that is not open.
pub const EXPECTED: [(MessageType, &[Errno]); 27] = [
    (MessageType::Control, &["OK", "EACCES", "EINVAL", "ENOENT"]),
    (
        MessageType::Directory,
        &["OK", "EINVAL", "ENOENT", "EACCES", "ENOSPC", "E2BIG", "ENOMEM"],
    ),
    (
        MessageType::Read,
        &["OK", "EINVAL", "ENOENT", "EACCES", "ENOSPC", "ENOMEM"],
    ),
    (
        MessageType::GetPerms,
        &["OK", "EINVAL", "ENOENT", "EACCES", "ENOSPC", "ENOMEM"],
    ),
    (MessageType::Watch, &["OK", "EINVAL", "EEXIST", "ENOSPC", "ENOMEM"]),
    (MessageType::Unwatch, &["OK", "EINVAL", "ENOENT"]),
    (MessageType::TransactionStart, &["OK", "EBUSY", "ENOENT", "ENOSPC"]),
    (
        MessageType::TransactionEnd,
        &["OK", "EINVAL", "ENOENT", "EAGAIN", "ENOMEM", "ENOSPC"],
    ),
    (MessageType::Introduce, &["OK", "EACCES", "EINVAL", "ENOENT"]),
    (MessageType::Release, &["OK", "EACCES", "EINVAL", "ENOENT"]),
    (MessageType::GetDomainPath, &["OK", "EINVAL", "ENOENT"]),
    (
        MessageType::Write,
        &["OK", "EINVAL", "ENOENT", "EACCES", "ENOSPC", "ENOMEM"],
    ),
    (
        MessageType::Mkdir,
        &["OK", "EINVAL", "ENOENT", "EACCES", "ENOSPC", "ENOMEM"],
    ),
    (
        MessageType::Rm,
        &["OK", "EINVAL", "ENOENT", "EACCES", "ENOSPC", "ENOMEM"],
    ),
    (
        MessageType::SetPerms,
        &["OK", "EINVAL", "ENOENT", "EACCES", "EPERM", "ENOSPC", "ENOMEM"],
    ),
    (MessageType::WatchEvent, &["ENOSYS"]),
    (MessageType::Error, &["ENOSYS"]),
    (MessageType::IsDomainIntroduced, &["OK", "EACCES", "EINVAL", "ENOENT"]),
    (MessageType::Resume, &["OK", "EACCES", "EINVAL", "ENOENT"]),
    (MessageType::SetTarget, &["OK", "EACCES", "EINVAL", "ENOENT"]),
    (MessageType::Restrict, &["ENOSYS"]),
    (MessageType::ResetWatches, &["OK", "ENOENT"]),
    (
        MessageType::DirectoryPart,
        &["OK", "EINVAL", "ENOENT", "EACCES", "ENOSPC", "ENOMEM"],
    ),
    (MessageType::GetFeature, &["OK", "EACCES", "EINVAL", "ENOENT"]),
    (MessageType::SetFeature, &["OK", "EACCES", "EINVAL", "ENOENT", "EBUSY"]),
    (MessageType::GetQuota, &["OK", "EACCES", "EINVAL", "ENOENT"]),
    (MessageType::SetQuota, &["OK", "EACCES", "EINVAL", "ENOENT"]),
];

/// How often each outcome was met.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Coverage {
    outcomes: BTreeMap<(u32, Errno), u64>,
    /// Watch events that clients have seen.
    pub events: u64,
}

impl Coverage {
    /// One more.
    pub fn count(&mut self, kind: u32, outcome: Errno) {
        // All types without a meaning are one.
        let kind = kind.min(MessageType::ALL.len() as u32);
        *self.outcomes.entry((kind, outcome)).or_default() += 1;
    }

    /// Those of another run too.
    pub fn add(&mut self, other: &Coverage) {
        for (outcome, count) in &other.outcomes {
            *self.outcomes.entry(*outcome).or_default() += count;
        }
        self.events += other.events;
    }

    /// How often a type was answered so.
    pub fn times(&self, kind: MessageType, outcome: Errno) -> u64 {
        self.outcomes.get(&(kind as u32, outcome)).copied().unwrap_or(0)
    }

    /// Requests in all.
    pub fn requests(&self) -> u64 {
        self.outcomes.values().sum()
    }

    /// What should have been met and was not; what was met and is in no list.
    pub fn gaps(&self) -> Vec<String> {
        let mut gaps = Vec::new();
        for (kind, expected) in EXPECTED {
            for outcome in expected {
                if !self.outcomes.contains_key(&(kind as u32, outcome)) {
                    gaps.push(format!("{kind} was never answered {outcome}"));
                }
            }
        }
        for (kind, outcome) in self.outcomes.keys() {
            let expected = EXPECTED.iter().find(|(known, _)| *known as u32 == *kind);
            if expected.is_some_and(|(_, expected)| !expected.contains(outcome)) {
                gaps.push(format!(
                    "type {kind} was answered {outcome}, which the table does not know"
                ));
            }
        }
        gaps
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} requests, {} events", self.requests(), self.events)?;
        for number in 0..=MessageType::ALL.len() as u32 {
            let name = MessageType::from_wire(number).map_or("(no type)", MessageType::name);
            write!(f, "{number:3} {name:<20}")?;
            for ((kind, outcome), count) in &self.outcomes {
                if *kind == number {
                    write!(f, " {outcome} {count}")?;
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
