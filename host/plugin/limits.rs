//! What one call of a plugin may take. The configuration may change it while plugins serve; a call goes by what holds when it
//! begins.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::config;

/// The limits that hold now.
pub(super) struct Limits {
    time: AtomicU64,
    memory: AtomicUsize,
}

/// The limits of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CallLimits {
    /// CPU time in nanoseconds of a call that is handed nothing. (A division less for each call than `Duration`.)
    time: u64,
    /// Linear memory and tables of the instance, in bytes.
    pub(super) memory: usize,
}

const MIB: u64 = 1024 * 1024;

/// Far above the CPU time: a call that waits without using CPU time is stopped too.
const CLOCK_FACTOR: u32 = 20;
const CLOCK_SLACK: Duration = Duration::from_secs(1);

impl Limits {
    pub(super) fn new(plugins: &config::Plugins) -> Self {
        let limits = Self {
            time: AtomicU64::new(0),
            memory: AtomicUsize::new(0),
        };
        limits.change(plugins);
        limits
    }

    pub(super) fn change(&self, plugins: &config::Plugins) {
        let nanoseconds = u64::try_from(plugins.time_limit.as_nanos()).unwrap_or(u64::MAX);
        self.time.store(nanoseconds, Ordering::Relaxed);
        self.memory.store(plugins.memory_limit, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> CallLimits {
        CallLimits {
            time: self.time.load(Ordering::Relaxed),
            memory: self.memory.load(Ordering::Relaxed),
        }
    }
}

impl CallLimits {
    /// CPU time of a call that is handed so many bytes, in nanoseconds: `time-limit`, and as much again for each mebibyte, since
    /// even the quickest plugin takes longer for a longer message.
    pub(super) fn time(&self, bytes: usize) -> u64 {
        self.time
            .saturating_add((self.time / MIB).saturating_mul(bytes as u64))
    }

    /// The most bytes that one call may hand over to the host. What it hands over is in its memory, so only one that names the
    /// same bytes again and again gets here; the host's own lists of it are a little larger than those of the plugin.
    pub(super) fn transfer(&self) -> usize {
        self.memory.saturating_mul(2)
    }
}

/// How long a call of so much CPU time may take by the clock.
pub(super) fn by_the_clock(nanoseconds: u64) -> Duration {
    Duration::from_nanos(nanoseconds)
        .saturating_mul(CLOCK_FACTOR)
        .saturating_add(CLOCK_SLACK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_more_time_for_more_bytes() {
        let limits = CallLimits {
            time: 50 << 20,
            memory: 0,
        };
        assert_eq!(limits.time(0), 50 << 20);
        assert_eq!(limits.time(1 << 20), 100 << 20);
        assert_eq!(limits.time(4 << 20), 250 << 20);
    }
}
