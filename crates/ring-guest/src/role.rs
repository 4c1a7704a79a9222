//! What the guest does, from its command line.

use core::fmt;

use crate::hostile::Attack;

/// Rounds of a friendly guest's first piece of work, if the command line names no number.
const ROUNDS: u32 = 20;

/// Children that a loading guest keeps in each of its lists, if the command line names no number.
const CHILDREN: u32 = 8;

/// What the guest does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// `idle`: is there, and asks nothing.
    Idle,
    /// `friendly`, `friendly=ROUNDS`: works and checks, then again whenever it is asked to (see the module `friendly`).
    Friendly {
        /// Rounds of the first piece of work.
        rounds: u32,
    },
    /// `load`, `load=CHILDREN`: has many requests under way at once and checks every answer and event (see the module `load`).
    Load {
        /// Children that it keeps in each of its two lists.
        children: u32,
    },
    /// `ping`: one short READ after the other (see the module `ping`).
    Ping,
    /// `bench`: asks between two times, together with others (see the module `bench`).
    Bench,
    /// `attack=NAME`: breaks a rule for ever.
    Hostile(Attack),
    /// `new-port=DOMID`: offers the store domain `DOMID` another event channel in its page.
    NewPort {
        /// Who may bind to it.
        store_domid: u16,
    },
}

impl Role {
    /// Reads the command line; toolstacks add words such as `root=`, which are passed over. Without a role: `idle`. The error is the
    /// word that makes no sense.
    pub fn parse(line: &str) -> Result<Role, &str> {
        let mut role = Role::Idle;
        for word in line.split_ascii_whitespace() {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word, None),
            };
            role = match (name, value) {
                ("idle", None) => Role::Idle,
                ("friendly", None) => Role::Friendly { rounds: ROUNDS },
                ("friendly", Some(rounds)) => Role::Friendly {
                    rounds: rounds.parse().map_err(|_| word)?,
                },
                ("load", None) => Role::Load { children: CHILDREN },
                ("load", Some(children)) => Role::Load {
                    children: children.parse().map_err(|_| word)?,
                },
                ("ping", None) => Role::Ping,
                ("bench", None) => Role::Bench,
                ("attack", Some(name)) => Role::Hostile(Attack::from_name(name).ok_or(word)?),
                ("new-port", Some(domid)) => Role::NewPort {
                    store_domid: domid.parse().map_err(|_| word)?,
                },
                ("root" | "ro" | "rw" | "console", _) => role,
                _ => return Err(word),
            };
        }
        Ok(role)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Role::Idle => f.write_str("idle"),
            Role::Friendly { .. } => f.write_str("friendly"),
            Role::Load { .. } => f.write_str("load"),
            Role::Ping => f.write_str("ping"),
            Role::Bench => f.write_str("bench"),
            Role::Hostile(attack) => write!(f, "attack {}", attack.name()),
            Role::NewPort { .. } => f.write_str("new port"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_names_one_role() {
        assert_eq!(Role::parse(""), Ok(Role::Idle));
        assert_eq!(
            Role::parse(" root=/dev/xvda friendly=3 "),
            Ok(Role::Friendly { rounds: 3 })
        );
        assert_eq!(Role::parse("friendly"), Ok(Role::Friendly { rounds: ROUNDS }));
        assert_eq!(Role::parse("load"), Ok(Role::Load { children: CHILDREN }));
        assert_eq!(Role::parse("ping"), Ok(Role::Ping));
        assert_eq!(Role::parse("bench"), Ok(Role::Bench));
        assert_eq!(Role::parse("new-port=1"), Ok(Role::NewPort { store_domid: 1 }));
        assert_eq!(Role::parse("idle friendly=many"), Err("friendly=many"));
        assert_eq!(Role::parse("attack=kindness"), Err("attack=kindness"));
    }

    #[test]
    fn every_attack_is_reached_by_its_name() {
        for attack in Attack::ALL {
            let line = alloc::format!("attack={}", attack.name());
            assert_eq!(Role::parse(&line), Ok(Role::Hostile(attack)));
        }
    }
}
