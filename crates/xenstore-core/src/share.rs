//! Who may still grow when memory gets short: the less is left, the smaller the account must be.
//!
//! Memory of one kind (the tree's room, or the heap) is shared by all domains that limits hold for. [`largest`] says how
//! large an account may become: while more than nine tenths are free, half of the whole; with every further tenth that is
//! taken, half of that. So whoever has least is refused last, and nobody has to be told how many domains there will be.
//!
//! **The guarantee**: of N domains that share a memory each can have 1/2ⁿ of it, where 2ⁿ is the first power of two that is not
//! below 10 N, whatever the others do and in whatever order they come, up to N = 102. So one beside 2 others can always have
//! 1/32, beside 11 others 1/128, beside 101 others 1/1024: never less than a twentieth of an equal share.
//! *Proof.* It is refused an account of at most 1/2ⁿ only when n tenths are taken. Since the last time when less than n - 1
//! tenths were taken, only accounts grew that had at most 1/2ⁿ afterwards, and together they grew by a tenth at least. So there
//! are at least (1/10) / (1/2ⁿ) = 2ⁿ/10 of them, itself counted, and more than that, since it has less than 1/2ⁿ. No account
//! counts for less than it takes: what it is charged with is rounded up ([`crate::Account`]).

/// Into so many parts the whole is divided; each that is taken halves the largest account that may grow.
const PARTS: u64 = 10;

/// The largest account that may still grow, in bytes, where `room` bytes are left and all accounts together hold `held`.
pub(crate) fn largest(room: u64, held: u64) -> u64 {
    let whole = room.saturating_add(held);
    let taken = held.saturating_mul(PARTS).checked_div(whole).unwrap_or(0);
    let halvings = taken.min(PARTS.saturating_sub(1)).saturating_add(1);
    whole.wrapping_shr(u32::try_from(halvings).unwrap_or(u32::MAX))
}

/// An account of `account` bytes may grow by `more`, where `room` bytes are left and all accounts together hold `held`.
pub(crate) fn may_grow(account: u64, more: u64, room: u64, held: u64) -> bool {
    let after = room.checked_sub(more);
    after.is_some_and(|after| account.saturating_add(more) <= largest(after, held.saturating_add(more)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    /// Everyone takes what it can get, one step at a time, in this order. What each has in the end, and what is left.
    fn greedy(whole: u64, step: u64, order: impl Iterator<Item = usize>, accounts: usize) -> (Vec<u64>, u64) {
        let (mut has, mut room) = (vec![0; accounts], whole);
        for one in order {
            let Some(account) = has.get_mut(one) else { continue };
            if may_grow(*account, step, room, whole - room) {
                *account += step;
                room -= step;
            }
        }
        (has, room)
    }

    fn guaranteed(whole: u64, others: u64) -> u64 {
        let n = (1..=10).find(|n| (others + 1) * 10 <= 1 << n);
        n.map_or(0, |n| whole >> n)
    }

    #[test]
    fn the_largest_account_that_may_grow_halves_with_each_tenth_taken() {
        let at = |taken: u64| largest(1000 - taken, taken);
        assert_eq!([at(0), at(99), at(100), at(200)], [500, 500, 250, 125]);
        assert_eq!([at(899), at(900), at(1000)], [1, 0, 0]);
        assert_eq!(largest(0, 0), 0);
        assert!(!may_grow(0, 2, 1, 0) && may_grow(0, 1, 10, 0));
    }

    #[test]
    fn one_after_the_other_takes_all_it_can_and_the_next_one_still_gets_its_share() {
        let whole = 1 << 21;
        for others in [0, 2, 5, 11, 24, 50, 101] {
            let turns = (0..=others).flat_map(|one| core::iter::repeat_n(one, 40_000));
            let (has, _) = greedy(whole, 64, turns, others + 1);
            let share = guaranteed(whole, others as u64);
            assert!(has[others] + 64 > share, "{} of {share} beside {others}", has[others]);
        }
        assert_eq!(guaranteed(whole, 2), whole / 32);
        assert_eq!(guaranteed(whole, 101), whole / 1024);
    }

    proptest! {
        #[test]
        fn whatever_the_others_do_a_newcomer_gets_its_share(
            others in 1usize..102,
            whole in (1u64 << 20)..(1 << 24),
            steps in proptest::collection::vec((0usize..102, 1u64..40_000), 0..4000),
            back in proptest::collection::vec((0usize..102, 0u64..100), 0..50),
            step in 1u64..256,
        ) {
            let mut has = vec![0u64; others];
            let mut room = whole;
            let giving_back = steps.len() / (back.len() + 1) + 1;
            for (turn, (one, more)) in steps.iter().enumerate() {
                if turn % giving_back == giving_back - 1 && let Some((one, percent)) = back.get(turn / giving_back) {
                    let account = &mut has[one % others];
                    let less = *account * percent / 100;
                    *account -= less;
                    room += less;
                }
                let account = &mut has[one % others];
                // As much of what it asks for as it can get, by halving.
                let mut more = *more;
                while more > 0 && !may_grow(*account, more, room, whole - room) {
                    more /= 2;
                }
                *account += more;
                room -= more;
            }
            let mut own = 0;
            while may_grow(own, step, room, whole - room) {
                own += step;
                room -= step;
            }
            let share = guaranteed(whole, others as u64);
            prop_assert!(own + 2 * step >= share, "{own} of {share} beside {others} others");
        }
    }
}
