//! The values of those options that every machine's command line has: how they are written, and what is said of others.

use core::fmt;

use crate::policy::TargetRights;
use crate::quota::Limit;
use crate::settings::TraceSwitch;

/// What an option takes, for whoever gave it something else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expected(pub &'static str);

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl core::error::Error for Expected {}

/// The value of `--quota`: `NAME=N` with a name of [`Limit::name`]; 0 means no limit.
pub fn quota(value: &str) -> Result<(Limit, u32), Expected> {
    let expected = Expected("NAME=N with a name that `xenstore-control quota` shows");
    let (name, amount) = value.split_once('=').ok_or(expected)?;
    let limit = Limit::from_name(name.as_bytes()).ok_or(expected)?;
    let amount = amount.parse().map_err(|_| expected)?;
    Ok((limit, amount))
}

/// The value of `--trace`: the name of a switch.
pub fn trace(value: &str) -> Result<TraceSwitch, Expected> {
    let switch = TraceSwitch::ALL.into_iter().find(|switch| switch.name() == value);
    switch.ok_or(Expected("io or obj"))
}

/// The value of `--target-rights`: `union` or `first-match`.
pub fn target_rights(value: &str) -> Result<TargetRights, Expected> {
    match value {
        "union" => Ok(TargetRights::Union),
        "first-match" => Ok(TargetRights::FirstMatch),
        _ => Err(Expected("union or first-match")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_taken_whole_or_not_at_all() {
        assert_eq!(quota("nodes=5000"), Ok((Limit::Nodes, 5000)));
        assert_eq!(quota("soft-memory=0"), Ok((Limit::SoftMemory, 0)));
        for wrong in ["nodes", "nodes=", "nodes=-1", "nodes=5k", "apples=5", "=5"] {
            assert!(quota(wrong).is_err(), "{wrong}");
        }
        assert_eq!(trace("io"), Ok(TraceSwitch::InputOutput));
        assert_eq!(trace("obj,io"), Err(Expected("io or obj")));
    }
}
