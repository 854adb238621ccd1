//! Threads of its own for a plugin that is slow by nature: on the usual threads it would hold up all their connections.
//!
//! Calls wait there by turns: each connection has one in a round, however many of its calls wait.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::message::Flow;

/// The most calls that wait and could be refused.
pub(super) const LENGTH: usize = 10_000;

/// Hands jobs to its threads. They end when it is dropped.
pub(super) struct Lane<J>(Arc<Shared<J>>);

struct Shared<J> {
    queue: Mutex<Queue<J>>,
    added: Condvar,
}

/// A call that waits.
pub(super) struct Waiting<J> {
    pub(super) flow: Flow,
    pub(super) job: J,
    /// Whether it may be refused if there are too many.
    pub(super) is_refusable: bool,
}

/// What waits, by flows. Pure: no threads.
struct Queue<J> {
    flows: HashMap<Flow, VecDeque<(J, bool)>>,
    /// The flows in the order of their turns.
    round: VecDeque<Flow>,
    refusable: usize,
    limit: usize,
    is_closed: bool,
}

impl<J: Send + 'static> Lane<J> {
    /// Starts a thread for each processor. None if there cannot be any.
    pub(super) fn start(run: impl Fn(J) + Clone + Send + 'static) -> Option<Self> {
        let lane = Self(Arc::new(Shared {
            queue: Mutex::new(Queue::new(LENGTH)),
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

    /// Puts a job into the queue. Gives the one that is refused instead, if there are too many: this one, or the newest of the
    /// flow that has the most.
    pub(super) fn push(&self, waiting: Waiting<J>) -> Option<J> {
        let refused = self.0.lock().push(waiting);
        self.0.added.notify_one();
        refused
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
        let mut queue = self.lock();
        loop {
            if queue.is_closed {
                return None;
            }
            if let Some(job) = queue.pop() {
                return Some(job);
            }
            queue = self.added.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Nothing here leaves the queue half changed, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, Queue<J>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J> Queue<J> {
    fn new(limit: usize) -> Self {
        Self {
            flows: HashMap::new(),
            round: VecDeque::new(),
            refusable: 0,
            limit,
            is_closed: false,
        }
    }

    fn push(&mut self, waiting: Waiting<J>) -> Option<J> {
        let Waiting {
            flow,
            job,
            is_refusable,
        } = waiting;
        let mut refused = None;
        if is_refusable && self.refusable >= self.limit {
            match self.displace(&flow) {
                None => return Some(job),
                displaced => refused = displaced,
            }
        }
        self.refusable += usize::from(is_refusable);
        let jobs = self.flows.entry(flow.clone()).or_default();
        if jobs.is_empty() {
            self.round.push_back(flow);
        }
        jobs.push_back((job, is_refusable));
        refused
    }

    /// Takes the newest job that may be refused out of the flow with the most, unless this one would then have more.
    fn displace(&mut self, own: &Flow) -> Option<J> {
        let size = self.flows.get(own).map_or(0, VecDeque::len) + 1;
        let (_, jobs) = self.flows.iter_mut().max_by_key(|(_, jobs)| jobs.len())?;
        if jobs.len() <= size {
            return None;
        }
        let newest = jobs.iter().rposition(|(_, is_refusable)| *is_refusable)?;
        self.refusable -= 1;
        // There is another one, so the flow keeps its turn.
        jobs.remove(newest).map(|(job, _)| job)
    }

    fn pop(&mut self) -> Option<J> {
        let flow = self.round.pop_front()?;
        let jobs = self.flows.get_mut(&flow)?;
        let (job, is_refusable) = jobs.pop_front()?;
        self.refusable -= usize::from(is_refusable);
        if jobs.is_empty() {
            self.flows.remove(&flow);
        } else {
            self.round.push_back(flow);
        }
        Some(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(flow: &str, job: u32) -> Waiting<u32> {
        Waiting {
            flow: Flow::Connection(flow.into(), [127, 0, 0, 1].into()),
            job,
            is_refusable: true,
        }
    }

    #[test]
    fn each_flow_has_a_turn_in_the_round() {
        let mut queue = Queue::new(10);
        for (flow, job) in [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("c", 5), ("b", 6)] {
            assert_eq!(queue.push(waiting(flow, job)), None);
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [1, 4, 5, 2, 6, 3]);
        assert!(queue.flows.is_empty() && queue.round.is_empty());
        assert_eq!(queue.refusable, 0);
    }

    #[test]
    fn who_has_the_most_makes_room_and_what_must_not_be_refused_never_is() {
        let mut queue = Queue::new(3);
        for job in 1..=3 {
            assert_eq!(queue.push(waiting("a", job)), None);
        }
        assert_eq!(queue.push(waiting("a", 4)), Some(4), "it has the most itself");
        assert_eq!(queue.push(waiting("b", 5)), Some(3));
        assert_eq!(queue.push(waiting("b", 6)), Some(6), "they have as many");
        for job in 7..20 {
            let close = Waiting {
                flow: Flow::Kind("close"),
                job,
                is_refusable: false,
            };
            assert_eq!(queue.push(close), None);
        }
        assert_eq!(
            queue.push(waiting("c", 20)),
            Some(20),
            "of close events none goes"
        );
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order.len(), 3 + 13);
    }
}
