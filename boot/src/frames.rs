//! Page frames that nobody uses yet: a short list of ranges, taken from the lowest on and never given back.
//!
//! Knows nothing about where the ranges come from, nor what a frame is used for.

/// Ranges a list can hold; memory maps of guests have two or three.
pub const MAX_RANGES: usize = 16;

/// Frames from `start` up to, not including, `end`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Range {
    pub start: u64,
    pub end: u64,
}

/// Free frames.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Frames {
    ranges: [Range; MAX_RANGES],
    used: usize,
}

impl Frames {
    #[must_use]
    pub const fn new() -> Self {
        Self {
            ranges: [Range { start: 0, end: 0 }; MAX_RANGES],
            used: 0,
        }
    }

    /// Adds a range. Empty ones, and those that find the list full, are left out.
    pub fn add(&mut self, start: u64, end: u64) {
        if start < end
            && let Some(slot) = self.ranges.get_mut(self.used)
        {
            *slot = Range { start, end };
            self.used += 1;
        }
    }

    /// The ranges, in the order in which they were added.
    pub fn ranges(&self) -> impl Iterator<Item = Range> + '_ {
        self.ranges.iter().take(self.used).copied()
    }

    /// Frames left.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.ranges().map(|range| range.end.saturating_sub(range.start)).sum()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the next frame.
    pub fn take(&mut self) -> Option<u64> {
        let range = self
            .ranges
            .iter_mut()
            .take(self.used)
            .find(|range| range.start < range.end)?;
        let frame = range.start;
        range.start += 1;
        Some(frame)
    }

    /// Leaves out the frames from `start` up to `end`.
    #[must_use]
    pub fn without(&self, start: u64, end: u64) -> Self {
        let mut rest = Self::new();
        for range in self.ranges() {
            rest.add(range.start, range.end.min(start));
            rest.add(range.start.max(end), range.end);
        }
        rest
    }

    /// Splits after the first `count` frames.
    #[must_use]
    pub fn split(&self, count: u64) -> (Self, Self) {
        let (mut first, mut rest, mut left) = (Self::new(), Self::new(), count);
        for range in self.ranges() {
            let here = left.min(range.end - range.start);
            first.add(range.start, range.start + here);
            rest.add(range.start + here, range.end);
            left -= here;
        }
        (first, rest)
    }
}

impl Default for Frames {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn frames(ranges: &[(u64, u64)]) -> Frames {
        let mut frames = Frames::new();
        for &(start, end) in ranges {
            frames.add(start, end);
        }
        frames
    }

    fn all(mut frames: Frames) -> Vec<u64> {
        std::iter::from_fn(|| frames.take()).collect()
    }

    #[test]
    fn every_frame_is_given_out_once() {
        assert_eq!(all(frames(&[(1, 3), (5, 5), (7, 9)])), [1, 2, 7, 8]);
    }

    #[test]
    fn the_image_is_cut_out_of_memory() {
        let memory = frames(&[(0, 10), (20, 30)]);
        assert_eq!(all(memory.without(3, 25)), [0, 1, 2, 25, 26, 27, 28, 29]);
        assert_eq!(memory.without(12, 15).len(), 20);
    }

    #[test]
    fn what_is_not_populated_is_split_off() {
        let (first, rest) = frames(&[(0, 4), (10, 14)]).split(6);
        assert_eq!(all(first), [0, 1, 2, 3, 10, 11]);
        assert_eq!(all(rest), [12, 13]);
    }

    #[test]
    fn too_many_ranges_are_left_out_not_written_elsewhere() {
        let many: Vec<_> = (0..20).map(|index| (index * 2, index * 2 + 1)).collect();
        assert_eq!(frames(&many).len(), MAX_RANGES as u64);
    }
}
