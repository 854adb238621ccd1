//! The clock that interrupts guests: an OS thread that advances the engine's epoch every millisecond (a guest that never
//! yields would starve a timer of the async runtime). It rests while no plugin is called.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use wasmtime::EngineWeak;

use super::limits::by_the_clock;

/// How often running code is interrupted to look at its budget.
const TICK: Duration = Duration::from_millis(1);
/// While at rest, it checks now and then whether the engine is gone.
const REST: Duration = Duration::from_secs(1);
/// It goes on for longer than a call may take, since the call measures that from its first tick.
const SLACK: Duration = Duration::from_secs(1);

/// Starts ticking at the first call.
#[derive(Default)]
pub(super) struct Clock {
    /// A call has begun since the last tick.
    is_wanted: AtomicBool,
    /// The most CPU time that any call so far was allowed, in nanoseconds.
    longest: AtomicU64,
    thread: OnceLock<Thread>,
}

impl Clock {
    /// Starts the thread, which ends with the engine. It rests when no call has begun for longer than a call may take.
    pub(super) fn start(self: &Arc<Self>, engine: EngineWeak) -> std::io::Result<()> {
        let clock = self.clone();
        let ticking = thread::Builder::new().name("epoch".to_owned()).spawn(move || {
            let mut wanted = Instant::now();
            while let Some(engine) = engine.upgrade() {
                engine.increment_epoch();
                drop(engine);
                if clock.is_wanted.swap(false, Ordering::Relaxed) {
                    wanted = Instant::now();
                }
                let longest = clock.longest.load(Ordering::Relaxed);
                if wanted.elapsed() < by_the_clock(longest) + SLACK {
                    thread::sleep(TICK);
                } else {
                    thread::park_timeout(REST);
                }
            }
        })?;
        self.thread.get_or_init(|| ticking.thread().clone());
        Ok(())
    }

    /// A call begins that may take so much CPU time in nanoseconds, and has to be interrupted from now on.
    pub(super) fn call_begins(&self, time: u64) {
        if time > self.longest.load(Ordering::Relaxed) {
            self.longest.fetch_max(time, Ordering::Relaxed);
        }
        if !self.is_wanted.load(Ordering::Relaxed) {
            self.is_wanted.store(true, Ordering::Relaxed);
            if let Some(thread) = self.thread.get() {
                thread.unpark();
            }
        }
    }
}
