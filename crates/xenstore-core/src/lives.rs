//! The lives of the server: how often it began again, why, and what it was doing then.
//!
//! An administrator who comes later finds here what the console has scrolled away. All texts are cut to a length, and of the
//! restarts only the last [`RESTARTS_KEPT`] are kept, so that a checkpoint finds room for them.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use core::fmt::Write as _;

use serde::{Deserialize, Serialize};
use xenstore_wire::{DomId, HEADER_SIZE, Header, PAYLOAD_MAX};

use crate::decision::Decision;
use crate::input::{Time, World};
use crate::poison::{InHand, described};
use crate::record::{Action, Change, Record};
use crate::server::Server;
use crate::tree::Memory;

/// Restarts that are remembered.
pub const RESTARTS_KEPT: usize = 8;
/// Bytes of a reason.
pub const REASON_MOST: usize = 200;
/// Bytes of the words for what was in hand.
const IN_HAND_MOST: usize = 240;
/// Bytes of the words for the last records. Only the newest restart keeps them.
const RECORDS_MOST: usize = 300;
/// Bytes of a restart in the reply to `status`, which has room for 4096 in all.
const STATUS_LINE: usize = 120;

/// One restart.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Restart {
    /// Its number, from 1 on.
    pub number: u32,
    /// When the new life began.
    pub at: Time,
    /// The same as unix time, nanoseconds.
    pub wall_clock: u64,
    /// Why the life before had ended, as far as its machine could tell.
    pub reason: String,
    /// What it had been deciding, or had decided last.
    pub in_hand: String,
    /// Its last records.
    pub records: String,
}

/// What is known of all lives.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Lives {
    /// The number of this life: restarts so far.
    pub number: u32,
    /// When the first life made its first record.
    pub first: Option<Time>,
    /// When this one began.
    pub began: Time,
    /// Requests that were set aside because they ended lives.
    pub set_aside: u64,
    /// The last restarts, the newest last.
    pub restarts: VecDeque<Restart>,
}

impl Lives {
    pub(crate) fn note_time(&mut self, time: Time) {
        if self.first.is_none() {
            self.first = Some(time);
            self.began = time;
        }
    }

    pub(crate) fn restarted(&mut self, restart: &Restart) {
        self.number = restart.number;
        self.began = restart.at;
        if let Some(last) = self.restarts.back_mut() {
            last.records = String::new();
        }
        if self.restarts.len() >= RESTARTS_KEPT {
            self.restarts.pop_front();
        }
        self.restarts.push_back(restart.clone());
    }
}

impl<M: Memory> Server<M> {
    /// The lives so far.
    pub fn lives(&self) -> &Lives {
        &self.lives
    }
}

/// A life begins where another ended.
pub(crate) fn restarted<M: Memory>(
    server: &Server<M>,
    now: Time,
    world: &dyn World,
    reason: &str,
    in_hand: Option<InHand<'_>>,
    records: &str,
) -> Record {
    let mut decision = Decision::new(server, now, world);
    let blamed = server.to_blame(in_hand);
    let restart = Restart {
        number: server.lives.number.saturating_add(1),
        at: now,
        wall_clock: world.wall_clock(),
        reason: cut(reason, REASON_MOST),
        in_hand: cut(&words_for(server, in_hand, blamed.is_some()), IN_HAND_MOST),
        records: cut(records, RECORDS_MOST),
    };
    let number = restart.number;
    let lines = [
        (!restart.reason.is_empty()).then(|| format!("restart {number}: {}", restart.reason)),
        (!restart.in_hand.is_empty()).then(|| format!("restart {number}: {}", restart.in_hand)),
        (!restart.records.is_empty()).then(|| format!("restart {number}: last records {}", restart.records)),
    ];
    decision.change(Change::Restarted(restart));
    if let Some(connection) = blamed {
        decision.change(Change::Killed { connection });
    }
    if server.has_struck() {
        decision.change(Change::CrashArmed { armed: None });
    }
    for line in lines.into_iter().flatten() {
        decision.actions.push(Action::Log { about: None, line });
    }
    decision.finish()
}

fn words_for<M: Memory>(server: &Server<M>, in_hand: Option<InHand<'_>>, blamed: bool) -> String {
    let Some(in_hand) = in_hand.filter(|mark| mark.life == server.lives.number) else {
        return String::new();
    };
    let domid = server.connections.get(&in_hand.connection).map(|state| state.domid);
    message_in_words(domid, in_hand.message, blamed)
}

/// A message that was in hand, or had been, in words.
pub fn message_in_words(domid: Option<DomId>, message: &[u8], undone: bool) -> String {
    let mut words = String::from(if undone {
        "request in hand: "
    } else {
        "last request, which was done: "
    });
    match domid {
        Some(domid) => {
            let _infallible = write!(words, "domain {domid} ");
        }
        None => words.push_str("a client that is not known, "),
    }
    let Some((head, payload)) = message.split_first_chunk::<HEADER_SIZE>() else {
        words.push_str("the beginning of a header");
        return words;
    };
    let header = Header::parse(head);
    let kind = described(header, &[]);
    let _infallible = write!(
        words,
        "{kind} request {} transaction {} length {} \"{}\"",
        header.request_id,
        header.transaction_id,
        header.length,
        payload.escape_ascii()
    );
    words
}

/// At most so many bytes of a text, in one line.
fn cut(text: &str, most: usize) -> String {
    let mut short = String::new();
    for character in text.trim().chars() {
        let shown = if character.is_control() { ' ' } else { character };
        if short.len().saturating_add(shown.len_utf8()) > most {
            break;
        }
        short.push(shown);
    }
    short
}

impl<M: Memory> Decision<'_, M> {
    /// The lives, as `status` shows them.
    pub fn lives_in_short(&self, out: &mut String) {
        let lives = &self.server.lives;
        let since = |from: Time| self.now.0.saturating_sub(from.0) / 1_000_000_000;
        let _infallible = writeln!(
            out,
            "restarts-recorded: {}\nseconds-since-first-start: {}\nseconds-since-restart: {}\nrequests-set-aside: {}",
            lives.number,
            since(lives.first.unwrap_or(self.now)),
            since(lives.began),
            lives.set_aside
        );
        for restart in &lives.restarts {
            let line = format!("restart-{}: {}", restart.number, what(restart));
            let _infallible = writeln!(out, "{}", cut(&line, STATUS_LINE));
        }
    }

    /// All that is known of the last restarts, the newest first, as far as a reply has room.
    pub fn restarts(&self) -> String {
        let mut out = String::new();
        for restart in self.server.lives.restarts.iter().rev() {
            let mut report = format!("restart {} at {}\n", restart.number, what(restart));
            for more in [&restart.in_hand, &restart.records] {
                if !more.is_empty() {
                    let _infallible = writeln!(report, "  {more}");
                }
            }
            // One byte is for the NUL.
            if out.len().saturating_add(report.len()) >= PAYLOAD_MAX {
                break;
            }
            out.push_str(&report);
        }
        if out.is_empty() {
            out.push_str("no restart so far\n");
        }
        out
    }
}

/// When and why.
fn what(restart: &Restart) -> String {
    let reason = if restart.reason.is_empty() {
        "not known"
    } else {
        restart.reason.as_str()
    };
    format!("{} {reason}", Utc(restart.wall_clock / 1_000_000_000))
}

/// A unix time in seconds, written as date and time.
struct Utc(u64);

impl core::fmt::Display for Utc {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (days, second) = (self.0 / 86_400, self.0 % 86_400);
        // Years begin in March, so that the day that may be missing is the last one.
        let shifted = days.saturating_add(719_468);
        let (era, of_era) = (shifted / 146_097, shifted % 146_097);
        let leap_days = (of_era / 1460).saturating_add(of_era / 146_096);
        let year_of_era = of_era
            .saturating_sub(leap_days)
            .saturating_add(of_era / 36_524)
            .checked_div(365)
            .unwrap_or(0);
        let before = year_of_era
            .saturating_mul(365)
            .saturating_add(year_of_era / 4)
            .saturating_sub(year_of_era / 100);
        let of_year = of_era.saturating_sub(before);
        let from_march = of_year.saturating_mul(5).saturating_add(2) / 153;
        let day = of_year
            .saturating_sub(from_march.saturating_mul(153).saturating_add(2) / 5)
            .saturating_add(1);
        let month = if from_march < 10 {
            from_march.saturating_add(3)
        } else {
            from_march.saturating_sub(9)
        };
        let year = era
            .saturating_mul(400)
            .saturating_add(year_of_era)
            .saturating_add(u64::from(month <= 2));
        let (hour, minute) = (second / 3600, second / 60 % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z",
            second % 60
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn times_are_written_as_dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_795_203_496, "2026-11-20T19:38:16Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(Utc(seconds).to_string(), text);
        }
    }

    #[test]
    fn texts_are_cut_to_their_length_and_to_one_line() {
        assert_eq!(
            cut("\npanicked at a.rs:1:2:\nbroken\n", 100),
            "panicked at a.rs:1:2: broken"
        );
        assert_eq!(cut("äää", 5), "ää");
    }
}
