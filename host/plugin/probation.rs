//! The trial of a version that has just taken over: do too many of its first calls fail?
//!
//! It costs each call an atomic addition while it lasts, and reading a flag when it is over.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use tokio::sync::Notify;

use super::instance::CallResult;
use crate::config;

/// Fewer calls than this are not conclusive.
const HANDFUL: u32 = 10;

const CALL: u64 = 1;
const FAILURE: u64 = 1 << 32;

/// A probation that is under way or over.
pub(super) struct Probation {
    rules: config::Probation,
    /// The number of calls in the lower half, and of failed calls in the upper half: they are only meaningful together.
    counts: AtomicU64,
    last_error: Mutex<String>,
    verdict: OnceLock<Verdict>,
    /// Notified when there is a verdict.
    concluded: Arc<Notify>,
}

/// How a probation ended.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    Passed,
    Failed(Failure),
}

/// What was wrong, and when that was found.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) error: String,
    pub(super) at: SystemTime,
}

impl Probation {
    pub(super) fn new(rules: config::Probation, concluded: Arc<Notify>) -> Self {
        Self {
            rules,
            counts: AtomicU64::new(0),
            last_error: Mutex::default(),
            verdict: OnceLock::new(),
            concluded,
        }
    }

    /// None while it lasts.
    pub(super) fn verdict(&self) -> Option<&Verdict> {
        self.verdict.get()
    }

    /// Takes a call into account.
    pub(super) fn count(&self, result: &CallResult) {
        if self.verdict.get().is_some() {
            return;
        }
        let mut one = CALL;
        if let Err(error) = result {
            *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = error.to_string();
            one += FAILURE;
        }
        let counts = self.counts.fetch_add(one, Ordering::Relaxed) + one;
        let (calls, failures) = (counts % FAILURE, counts / FAILURE);
        let verdict = match judge(self.rules, calls, failures) {
            None => return,
            Some(true) => Verdict::Passed,
            Some(false) => Verdict::Failed(self.failure(calls, failures)),
        };
        if self.verdict.set(verdict).is_ok() {
            self.concluded.notify_one();
        }
    }

    fn failure(&self, calls: u64, failures: u64) -> Failure {
        let last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        let most = self.rules.failures;
        Failure {
            error: format!(
                "{failures} of its first {calls} calls failed (probation-failures = {most} percent); the last error: {last}"
            ),
            at: SystemTime::now(),
        }
    }
}

/// Whether this share of failures is good enough; none while it is too early to tell.
fn judge(rules: config::Probation, calls: u64, failures: u64) -> Option<bool> {
    let is_telling = calls >= u64::from(HANDFUL.min(rules.events));
    if is_telling && failures * 100 > calls * u64::from(rules.failures) {
        Some(false)
    } else {
        (calls >= u64::from(rules.events)).then_some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::CallError;

    fn rules(events: u32, failures: u32) -> config::Probation {
        config::Probation { events, failures }
    }

    #[test]
    fn a_version_fails_by_its_share_of_failures_and_passes_by_its_number_of_calls() {
        let table = [
            (rules(200, 50), 9, 9, None, "too few calls to tell"),
            (rules(200, 50), 10, 6, Some(false), "more than half of a handful"),
            (rules(200, 50), 10, 5, None, "half is not more than half"),
            (rules(200, 50), 199, 99, None, "not yet over"),
            (rules(200, 50), 200, 100, Some(true), "over"),
            (rules(200, 50), 200, 101, Some(false), "with the last call"),
            (rules(200, 0), 10, 1, Some(false), "no failure is allowed"),
            (rules(200, 0), 200, 0, Some(true), "none happened"),
            (rules(200, 100), 200, 200, Some(true), "every failure is allowed"),
            (rules(3, 50), 3, 2, Some(false), "shorter than a handful"),
            (rules(3, 50), 2, 2, None, "shorter than a handful, not yet over"),
        ];
        for (rules, calls, failures, expected, name) in table {
            assert_eq!(judge(rules, calls, failures), expected, "{name}");
        }
    }

    #[test]
    fn the_verdict_is_told_once_and_names_the_last_error() {
        let probation = Probation::new(rules(200, 50), Arc::new(Notify::new()));
        for n in 1..=20 {
            probation.count(&Err(CallError::Trap(format!("number {n}"))));
        }
        let Some(Verdict::Failed(failure)) = probation.verdict() else {
            panic!("it has not failed");
        };
        assert!(
            failure.error.starts_with("10 of its first 10 calls"),
            "{failure:?}"
        );
        assert!(failure.error.ends_with("it trapped: number 10"), "{failure:?}");
    }
}
