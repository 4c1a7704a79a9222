//! When freed request space is worth an event.
//!
//! The ring has no field with which a peer could say that it waits, and the specification asks for an event after
//! every change. C xenstored obeys and sends two or more per request. One is enough: a reply needs an event, and one
//! that is sent after the request was consumed also tells a peer that there is space. What remains is the question
//! whether space that was freed *without* a reply can be what a peer sleeps for:
//!
//! * A peer that has written part of a message waits only if the rest did not fit when it looked. Linux and hvmloader
//!   write what fits and wait for more; hvmloader leaves the last byte of the ring unused; others wait until all that
//!   they have left fits. In each case: if the rest of the message fitted with a byte to spare, nobody waits.
//! * A peer that waits with only whole messages in the ring (MiniOS waits for room for the whole next message) gets
//!   a reply to each of them, so there the event comes with the reply. If the reply does not come in the same round,
//!   it must be told now.

use crate::layout::RING_SIZE;

/// Whether a peer that got no reply in this round could be asleep until it hears of the request space just freed.
///
/// `consumed` is the number of bytes that were consumed since the client was last told.
///
/// `lacking`: `Some(n)` if all of them belong to one message of which the header is complete and `n` bytes were not
/// consumed yet; `None` in all other cases (a whole request was consumed and its reply is still to come, or a header
/// is incomplete, so that nobody knows what is lacking).
///
/// So the two together are what the message takes of the ring, for a client that has not seen anything of it consumed.
/// Whatever else the client has written since are messages that the next visit finds and answers.
pub fn freed_space_needs_notify(consumed: u32, lacking: Option<u32>) -> bool {
    match lacking {
        None => true,
        Some(lacking) => consumed.saturating_add(lacking) >= RING_SIZE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_came_ahead_of_a_short_payload_costs_no_event() {
        assert!(!freed_space_needs_notify(16, Some(100)));
    }

    #[test]
    fn a_message_that_did_not_fit_costs_one() {
        assert!(freed_space_needs_notify(1024, Some(16)));
        // hvmloader regards 1023 bytes as full.
        assert!(freed_space_needs_notify(1023, Some(1)));
        // Waits for room for a whole payload behind a header.
        assert!(freed_space_needs_notify(16, Some(1020)));
        assert!(freed_space_needs_notify(16, Some(u32::MAX)));
    }

    #[test]
    fn a_request_whose_reply_is_late_costs_one() {
        assert!(freed_space_needs_notify(16, None));
    }
}
