//! How much may happen in a time: a token bucket that holds as many tokens as a second brings. Pure: the time is given.

use std::time::{Duration, Instant};

pub(crate) struct TokenBucket {
    /// Tokens a second, which is also what the bucket holds.
    rate: f64,
    tokens: f64,
    filled: Instant,
}

impl TokenBucket {
    /// A full one; none if there is no limit.
    pub(crate) fn new(rate: usize, now: Instant) -> Option<Self> {
        (rate > 0).then_some(Self {
            rate: rate as f64,
            tokens: rate as f64,
            filled: now,
        })
    }

    /// From now on another rate counts.
    pub(crate) fn set_rate(&mut self, rate: usize) {
        self.rate = rate as f64;
    }

    /// Takes tokens, even more than there are. Gives how long it takes until the bucket is not in debt any more.
    pub(crate) fn take(&mut self, n: usize, now: Instant) -> Duration {
        self.fill(now);
        self.tokens -= n as f64;
        Duration::from_secs_f64((-self.tokens).max(0.0) / self.rate)
    }

    /// How many tokens there are.
    pub(crate) fn left(&mut self, now: Instant) -> f64 {
        self.fill(now);
        self.tokens
    }

    fn fill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + elapsed * self.rate).min(self.rate);
        self.filled = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_a_second_is_free_and_then_the_rate_counts() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(100, start).unwrap();
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
        assert!(TokenBucket::new(0, start).is_none());
    }

    #[test]
    fn a_second_s_tokens_may_be_taken_at_once_or_one_after_the_other() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(2, start).unwrap();
        let mut take = |n, ms| {
            let now = start + Duration::from_millis(ms);
            bucket.take(n, now);
            bucket.left(now)
        };
        assert_eq!([take(1, 0), take(1, 0), take(0, 500)], [1.0, 0.0, 1.0]);
        assert_eq!(take(0, 10_000), 2.0, "no more than a second's");
    }

    #[test]
    fn another_rate_counts_at_once() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(10, start).unwrap();
        bucket.set_rate(1);
        assert_eq!(bucket.left(start), 1.0);
    }
}
