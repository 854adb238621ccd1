//! Whether a plugin is slow by nature: then it holds up the threads that the events are on, and gets threads of its own.
//!
//! What counts is the CPU time of a call, and not the time by the clock, in which others may have had the processor; and it
//! counts relative to the size of what the call was handed, because clients decide how long messages are. A slow plugin can
//! recover: once it has been quick for a while, it is called on the usual threads again.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A call that takes longer counts as slow.
const SLOW_CALL: Duration = Duration::from_millis(1);
/// It may take this much longer for each byte that it is handed: 40 milliseconds for a mebibyte, of which the built-in plugins
/// use a fifth where they have a processor to themselves.
const PER_BYTE: Duration = Duration::from_nanos(40);
/// A slow call weighs as much as this many quick ones: a garbage collection now and then does not make a plugin slow.
const WEIGHT: u32 = 8;
/// The weight at which a plugin is slow.
const MARK: u32 = 64;
/// What a plugin that is slow has to make good by quick calls.
const DEBT: u32 = 512;

/// Whether a call is slow that was handed so many bytes.
pub(super) fn is_slow(cpu: Duration, bytes: usize) -> bool {
    // Most calls are far from it.
    cpu > SLOW_CALL && {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        cpu > SLOW_CALL.saturating_add(PER_BYTE.saturating_mul(bytes))
    }
}

/// How slow the latest calls on one thread were.
#[derive(Default)]
pub(super) struct Weight(u32);

impl Weight {
    /// Takes a call into account; one that ran out of time is enough. True: the plugin is slow.
    pub(super) fn count(&mut self, is_slow: bool, is_out_of_time: bool) -> bool {
        self.0 = if is_out_of_time {
            MARK
        } else if is_slow {
            self.0.saturating_add(WEIGHT)
        } else {
            self.0.saturating_sub(1)
        };
        let is_over = self.0 >= MARK;
        if is_over {
            self.0 = 0;
        }
        is_over
    }
}

/// What a version that is slow has to make good; nothing if it is quick.
#[derive(Default)]
pub(super) struct Debt(AtomicU32);

impl Debt {
    pub(super) fn is_owed(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// The plugin is slow. False: it was before.
    pub(super) fn incur(&self) -> bool {
        self.0.swap(DEBT, Ordering::Relaxed) == 0
    }

    /// Takes a call of a slow plugin into account. True: the plugin is quick again.
    pub(super) fn count(&self, is_slow: bool) -> bool {
        let change = |debt: u32| match debt {
            // Another call has paid it meanwhile.
            0 => None,
            debt if is_slow => Some(debt.saturating_add(WEIGHT).min(DEBT)),
            debt => Some(debt - 1),
        };
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
        before == Ok(1) && !is_slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_may_take_longer_for_more_bytes() {
        let milliseconds = Duration::from_millis;
        assert!(!is_slow(milliseconds(1), 0));
        assert!(is_slow(milliseconds(2), 0));
        assert!(!is_slow(milliseconds(40), 1 << 20));
        assert!(is_slow(milliseconds(45), 1 << 20));
        assert!(!is_slow(milliseconds(50), usize::MAX));
    }

    #[test]
    fn a_plugin_is_slow_by_many_slow_calls_or_one_that_runs_out_of_time() {
        let mut weight = Weight::default();
        for _ in 0..100 {
            assert!(!weight.count(true, false), "one among many quick ones");
            for _ in 0..WEIGHT {
                assert!(!weight.count(false, false));
            }
        }
        for _ in 1..MARK / WEIGHT {
            assert!(!weight.count(true, false));
        }
        assert!(weight.count(true, false));
        assert!(Weight::default().count(true, true));
    }

    #[test]
    fn a_slow_plugin_is_quick_again_after_many_quick_calls() {
        let debt = Debt::default();
        assert!(!debt.is_owed());
        assert!(debt.incur());
        assert!(!debt.incur());
        for _ in 0..10 {
            assert!(!debt.count(true));
        }
        for _ in 1..DEBT {
            assert!(!debt.count(false));
            assert!(debt.is_owed());
        }
        assert!(debt.count(false));
        assert!(!debt.is_owed());
        assert!(!debt.count(false), "once");
    }
}
