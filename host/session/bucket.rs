//! How much a client may send in a time: a token bucket that holds what comes in a second. Pure: the time is given.

use std::time::{Duration, Instant};

pub(super) struct Bucket {
    /// Tokens a second, which is also what the bucket holds.
    rate: f64,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    /// A full one; none if there is no limit.
    pub(super) fn new(rate: usize, now: Instant) -> Option<Self> {
        (rate > 0).then_some(Self {
            rate: rate as f64,
            tokens: rate as f64,
            filled: now,
        })
    }

    /// Takes tokens, even more than there are. Gives how long it takes until the bucket is not in debt any more.
    pub(super) fn take(&mut self, n: usize, now: Instant) -> Duration {
        let elapsed = now.duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + elapsed * self.rate).min(self.rate) - n as f64;
        self.filled = now;
        Duration::from_secs_f64((-self.tokens).max(0.0) / self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_a_second_is_free_and_then_the_rate_counts() {
        let start = Instant::now();
        let mut bucket = Bucket::new(100, start).unwrap();
        assert_eq!(bucket.take(100, start), Duration::ZERO);
        assert_eq!(bucket.take(50, start), Duration::from_millis(500));
        assert_eq!(
            bucket.take(0, start + Duration::from_millis(200)),
            Duration::from_millis(300)
        );
        assert_eq!(bucket.take(0, start + Duration::from_secs(100)), Duration::ZERO);
        assert_eq!(
            bucket.take(101, start + Duration::from_secs(100)),
            Duration::from_millis(10),
            "it holds a second"
        );
        assert!(Bucket::new(0, start).is_none());
    }
}
