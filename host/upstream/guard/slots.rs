//! The queue with the tasks that really wait in it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::queue::Queue;
use crate::fair_queue::RequestId;
use crate::message::{Failure, Flow};
use crate::metrics::UpstreamMetrics;

/// What a waiting request is told: it has its turn, or it is refused.
type Call = Result<(), Failure>;

pub(super) struct Slots {
    queue: Mutex<Queue<oneshot::Sender<Call>>>,
    refusals: ArcSwap<Refusals>,
    metrics: UpstreamMetrics,
}

/// What requests are told that have no turn.
struct Refusals {
    /// The queue is full, or another request took its place there.
    full: Failure,
    /// It has waited too long.
    late: Failure,
}

/// A slot. Dropping it passes it on.
pub(super) struct Slot<'a>(&'a Slots);

impl Slots {
    pub(super) fn new(
        (slots, max_waiting): (usize, usize),
        full: Failure,
        late: Failure,
        metrics: UpstreamMetrics,
    ) -> Self {
        Self {
            queue: Mutex::new(Queue::new(slots, max_waiting)),
            refusals: ArcSwap::from_pointee(Refusals { full, late }),
            metrics,
        }
    }

    /// Takes over the limits of others that have not been used yet. Requests that are under way or wait stay.
    pub(super) fn adopt(&self, fresh: &Self) {
        let (slots, max_waiting) = {
            let fresh = fresh.lock();
            (fresh.slots(), fresh.max_waiting())
        };
        self.refusals.store(fresh.refusals.load_full());
        let mut queue = self.lock();
        queue.change(slots, max_waiting);
        while let Some(caller) = queue.admit() {
            let _ = caller.send(Ok(()));
        }
        self.measure(&queue);
    }

    /// Takes a slot, and waits for it if it must. Dropping the future gives up.
    pub(super) async fn take(&self, flow: Flow, until: Instant) -> Result<Slot<'_>, Failure> {
        let mut waiting = {
            let mut queue = self.lock();
            if queue.try_enter() {
                self.measure(&queue);
                return Ok(Slot(self));
            }
            let (caller, call) = oneshot::channel();
            let Some((id, displaced)) = queue.wait(flow, caller) else {
                self.metrics.refused("max-waiting");
                return Err(self.refusals.load().full.clone());
            };
            if let Some(displaced) = displaced {
                self.metrics.refused("max-waiting");
                // The receiver is there: a request gives up under the same lock.
                let _ = displaced.send(Err(self.refusals.load().full.clone()));
            }
            self.measure(&queue);
            Waiting {
                slots: self,
                id,
                call,
            }
        };
        match timeout_at(until, &mut waiting.call).await {
            Ok(Ok(call)) => call.map(|()| Slot(self)),
            // No waiting request is forgotten, so only the time can have run out.
            Ok(Err(_)) | Err(_) => {
                let mut queue = self.lock();
                if queue.cancel(&waiting.id) {
                    self.metrics.refused("max-wait");
                    self.measure(&queue);
                }
                Err(self.refusals.load().late.clone())
            }
        }
    }

    /// Refuses all requests that wait.
    pub(super) fn send_away(&self, why: &Failure) {
        let mut queue = self.lock();
        for caller in queue.drain() {
            self.metrics.refused("breaker");
            let _ = caller.send(Err(why.clone()));
        }
        self.measure(&queue);
    }

    /// Gives a slot to the next request, or back.
    fn pass_on(&self, queue: &mut Queue<oneshot::Sender<Call>>) {
        if let Some(caller) = queue.leave() {
            let _ = caller.send(Ok(()));
        }
        self.measure(queue);
    }

    fn measure(&self, queue: &Queue<oneshot::Sender<Call>>) {
        self.metrics.under_way.set(queue.under_way() as i64);
        self.metrics.waiting.set(queue.waiting() as i64);
    }

    /// Nothing here leaves the queue half changed, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, Queue<oneshot::Sender<Call>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        self.0.pass_on(&mut queue);
    }
}

/// A request that waits, until this is dropped.
struct Waiting<'a> {
    slots: &'a Slots,
    id: RequestId,
    call: oneshot::Receiver<Call>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut queue = self.slots.lock();
        if queue.cancel(&self.id) {
            self.slots.metrics.abandoned.inc();
            self.slots.measure(&queue);
        } else if let Ok(Ok(())) = self.call.try_recv() {
            // It was called at the very moment when it gave up.
            self.slots.pass_on(&mut queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;
    use crate::message::Class;
    use crate::metrics::Metrics;

    fn slots(slots: usize, max_waiting: usize) -> Slots {
        let [full, late] = ["full", "late"].map(|text| Failure::Overloaded(text.to_owned()));
        let metrics = Metrics::default().upstream("php");
        Slots::new((slots, max_waiting), full, late, metrics)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn flow(id: &str) -> Flow {
        Flow {
            class: Class::Message,
            network: Some([127, 0, 0, 1].into()),
            connection: Some(id.into()),
        }
    }

    #[tokio::test]
    async fn who_waits_is_called_and_who_gives_up_is_not() {
        let slots = slots(1, 9);
        let first = slots.take(flow("a"), soon()).await.ok().unwrap();
        let mut gives_up = Box::pin(slots.take(flow("b"), soon()));
        let mut waits = Box::pin(slots.take(flow("c"), soon()));
        assert!((&mut gives_up).now_or_never().is_none() && (&mut waits).now_or_never().is_none());
        drop(gives_up);
        assert_eq!(
            (slots.metrics.waiting.get(), slots.metrics.abandoned.get()),
            (1, 1)
        );
        drop(first);
        let second = waits.await.ok().unwrap();
        assert_eq!(
            (slots.metrics.waiting.get(), slots.metrics.under_way.get()),
            (0, 1)
        );
        drop(second);
        assert_eq!(slots.metrics.under_way.get(), 0);
    }

    #[tokio::test]
    async fn a_slot_is_not_lost_with_who_was_called_and_gave_up() {
        let slots = slots(1, 9);
        let first = slots.take(flow("a"), soon()).await.ok().unwrap();
        let mut called = Box::pin(slots.take(flow("b"), soon()));
        let mut next = Box::pin(slots.take(flow("c"), soon()));
        assert!((&mut called).now_or_never().is_none() && (&mut next).now_or_never().is_none());
        drop(first);
        drop(called);
        assert!(next.now_or_never().unwrap().is_ok());
        assert_eq!(slots.metrics.abandoned.get(), 0);
    }

    #[tokio::test]
    async fn who_waits_too_long_or_in_vain_is_told() {
        let slots = slots(1, 2);
        let _first = slots.take(flow("a"), soon()).await.ok().unwrap();
        let refusal = |text: &str| Some(Failure::Overloaded(text.to_owned()));
        assert_eq!(slots.take(flow("b"), Instant::now()).await.err(), refusal("late"));
        let mut waits = [0, 1].map(|_| Box::pin(slots.take(flow("b"), soon())));
        assert!(waits.iter_mut().all(|wait| wait.now_or_never().is_none()));
        assert_eq!(slots.take(flow("b"), soon()).await.err(), refusal("full"));
        let why = Failure::Overloaded("open".to_owned());
        slots.send_away(&why);
        for wait in waits {
            assert_eq!(wait.await.err(), Some(why.clone()));
        }
        assert_eq!(slots.metrics.waiting.get(), 0);
    }
}
