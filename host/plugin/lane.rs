//! Threads of its own for a plugin that is slow by nature: on the usual threads it would hold up all their connections.
//! Calls take turns there.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::fair_queue::FairQueue;
use crate::message::Flow;

/// The most calls that wait and could be refused.
pub(super) const LENGTH: usize = 10_000;

/// Hands jobs to its threads. They end when it is dropped.
pub(super) struct Lane<J>(Arc<Shared<J>>);

struct Shared<J> {
    state: Mutex<State<J>>,
    added: Condvar,
}

struct State<J> {
    waiting: FairQueue<J>,
    is_closed: bool,
}

impl<J: Send + 'static> Lane<J> {
    /// Starts a thread for each processor. None if there cannot be any.
    pub(super) fn start(run: impl Fn(J) + Clone + Send + 'static) -> Option<Self> {
        let lane = Self(Arc::new(Shared {
            state: Mutex::new(State {
                waiting: FairQueue::new(LENGTH),
                is_closed: false,
            }),
            added: Condvar::new(),
        }));
        // A plugin may start a timer of WASI, which belongs to a runtime, though none may wait for it.
        let runtime = tokio::runtime::Handle::current();
        let mut started = 0;
        for _ in 0..thread::available_parallelism().map_or(1, Into::into) {
            let (shared, runtime, run) = (lane.0.clone(), runtime.clone(), run.clone());
            let thread = thread::Builder::new()
                .name("slow-plugin".to_owned())
                .spawn(move || {
                    let _entered = runtime.enter();
                    while let Some(job) = shared.next() {
                        run(job);
                    }
                });
            match thread {
                Ok(_) => started += 1,
                Err(cause) => tracing::error!(%cause, "a thread for a slow plugin cannot be started"),
            }
        }
        (started > 0).then_some(lane)
    }

    /// Puts a job into the queue. Gives the one that is refused instead, if there are too many: this one, or the newest of
    /// those who have most waiting.
    pub(super) fn push(&self, flow: Flow, job: J, is_refusable: bool) -> Option<J> {
        let pushed = self.0.lock().waiting.push(flow, job, is_refusable);
        self.0.added.notify_one();
        match pushed {
            Ok((_, displaced)) => displaced,
            Err(refused) => Some(refused),
        }
    }
}

impl<J> Drop for Lane<J> {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.added.notify_all();
    }
}

impl<J> Shared<J> {
    /// Waits for the next job. None: there are no more.
    fn next(&self) -> Option<J> {
        let mut state = self.lock();
        loop {
            if state.is_closed {
                return None;
            }
            if let Some(job) = state.waiting.pop() {
                return Some(job);
            }
            state = self.added.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Nothing here leaves the queue half changed, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
