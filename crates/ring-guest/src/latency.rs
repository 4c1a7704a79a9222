//! How long requests took: all of them are kept, so that percentiles are exact.

use alloc::vec::Vec;
use core::fmt;

/// The most times that are kept; later ones are only counted. 256 KiB.
const KEPT: usize = 65_536;

/// Times of requests, microseconds.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    micros: Vec<u32>,
    requests: u64,
}

impl Latencies {
    /// One request took so many nanoseconds.
    pub fn add(&mut self, nanoseconds: u64) {
        self.requests = self.requests.saturating_add(1);
        if self.micros.len() < KEPT {
            self.micros.push(u32::try_from(nanoseconds / 1000).unwrap_or(u32::MAX));
        }
    }

    /// One more request, of which nobody knows how long it took.
    pub fn count(&mut self) {
        self.requests = self.requests.saturating_add(1);
    }

    /// The time that `hundredths` of a hundred requests did not exceed; 0 without requests.
    fn percentile(sorted: &[u32], hundredths: usize) -> u32 {
        let rank = (sorted.len() * hundredths).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or(0)
    }
}

/// `requests=N p50=Nus p99=Nus max=Nus`.
impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.micros.clone();
        sorted.sort_unstable();
        write!(
            f,
            "requests={} p50={}us p99={}us max={}us",
            self.requests,
            Self::percentile(&sorted, 50),
            Self::percentile(&sorted, 99),
            sorted.last().copied().unwrap_or(0)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let mut times = Latencies::default();
        for milliseconds in (1..=200).rev() {
            times.add(milliseconds * 1_000_000);
        }
        assert_eq!(times.to_string(), "requests=200 p50=100000us p99=198000us max=200000us");
    }

    #[test]
    fn without_requests_all_is_zero() {
        assert_eq!(Latencies::default().to_string(), "requests=0 p50=0us p99=0us max=0us");
    }
}
