//! Threads of its own for a plugin that is slow by nature, behind a bounded queue: on the usual threads it would hold up all
//! their connections.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Threads of a lane.
const THREADS: usize = 2;
/// The most jobs that wait in a lane.
pub(super) const LENGTH: usize = 1024;
/// A call that takes longer counts as slow.
const SLOW_CALL: Duration = Duration::from_millis(1);
/// A slow call weighs as much as this many quick ones: a garbage collection now and then does not make a plugin slow.
const WEIGHT: u32 = 8;
/// The weight at which a plugin is slow.
const MARK: u32 = 64;

/// How slow the latest calls were.
#[derive(Default)]
pub(super) struct Slowness(u32);

impl Slowness {
    /// Takes a call into account; one that ran out of time is enough. True: the plugin is slow.
    pub(super) fn count(&mut self, took: Duration, is_out_of_time: bool) -> bool {
        self.0 = if is_out_of_time {
            MARK
        } else if took > SLOW_CALL {
            self.0.saturating_add(WEIGHT)
        } else {
            self.0.saturating_sub(1)
        };
        self.0 >= MARK
    }
}

/// Hands jobs to its threads. They end when it is dropped.
pub(super) struct Lane<J>(SyncSender<J>);

impl<J: Send + 'static> Lane<J> {
    /// Starts the threads, which do each job by `run`.
    pub(super) fn start(run: impl Fn(J) + Clone + Send + 'static) -> Self {
        let (sender, receiver) = sync_channel(LENGTH);
        let receiver = Arc::new(Mutex::new(receiver));
        // A plugin may start a timer of WASI, which belongs to a runtime, though none may wait for it.
        let runtime = tokio::runtime::Handle::current();
        for _ in 0..THREADS {
            let (receiver, runtime, run) = (receiver.clone(), runtime.clone(), run.clone());
            let started = std::thread::Builder::new()
                .name("slow-plugin".to_owned())
                .spawn(move || {
                    let _entered = runtime.enter();
                    while let Some(job) = next_job(&receiver) {
                        run(job);
                    }
                });
            if let Err(cause) = started {
                tracing::error!(%cause, "no thread for a slow plugin; its events are dropped");
            }
        }
        Self(sender)
    }

    /// Puts a job into the queue. False: the queue is full.
    pub(super) fn push(&self, job: J) -> bool {
        match self.0.try_send(job) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}

fn next_job<J>(receiver: &Mutex<Receiver<J>>) -> Option<J> {
    let receiver = receiver.lock().unwrap_or_else(PoisonError::into_inner);
    receiver.recv().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_slow_by_many_slow_calls_or_one_that_runs_out_of_time() {
        let (quick, slow) = (Duration::from_micros(10), Duration::from_millis(2));
        let mut slowness = Slowness::default();
        for _ in 0..100 {
            assert!(!slowness.count(slow, false), "one among many quick ones");
            for _ in 0..WEIGHT {
                assert!(!slowness.count(quick, false));
            }
        }
        for _ in 1..MARK / WEIGHT {
            assert!(!slowness.count(slow, false));
        }
        assert!(slowness.count(slow, false));
        assert!(Slowness::default().count(slow, true));
    }
}
