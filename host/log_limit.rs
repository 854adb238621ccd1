//! Log lines that strangers can cause as often as they like: at most one per second for each cause, with the count.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The least time between two lines of a cause.
const PAUSE: Duration = Duration::from_secs(1);

/// Counts what is not logged.
#[derive(Debug, Default)]
pub struct LogLimit(Mutex<HashMap<&'static str, Cause>>);

#[derive(Debug)]
struct Cause {
    told: Instant,
    untold: usize,
}

impl LogLimit {
    /// Whether a cause has to be logged now, and if so, how often it has occurred since the last time.
    pub fn count(&self, cause: &'static str) -> Option<usize> {
        self.count_at(cause, Instant::now())
    }

    fn count_at(&self, cause: &'static str, now: Instant) -> Option<usize> {
        // Nothing below leaves the counts half changed, so a panic elsewhere does not spoil them.
        let mut causes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match causes.get_mut(cause) {
            Some(known) if now.duration_since(known.told) < PAUSE => {
                known.untold += 1;
                None
            }
            Some(known) => {
                known.told = now;
                Some(std::mem::take(&mut known.untold) + 1)
            }
            None => {
                causes.insert(cause, Cause { told: now, untold: 0 });
                Some(1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once_a_second_with_its_count() {
        let log_limit = LogLimit::default();
        let start = Instant::now();
        let count = |cause, ms| log_limit.count_at(cause, start + Duration::from_millis(ms));
        assert_eq!(count("a", 0), Some(1));
        assert_eq!(count("a", 10), None);
        assert_eq!(count("b", 10), Some(1));
        assert_eq!(count("a", 999), None);
        assert_eq!(count("a", 1000), Some(3));
        assert_eq!(count("a", 1500), None);
        assert_eq!(count("a", 5000), Some(2));
    }
}
