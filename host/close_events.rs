//! Requests that must arrive: those that plugins forward when a connection has gone. Nobody is left who would notice if one
//! was lost.
//!
//! They wait in a queue that is bounded in length and in bytes, and leave it at a bounded rate, a few at a time, so that ten
//! thousand clients that go at once do not take PHP-FPM away from those that stay. A request that fails is retried with
//! growing pauses, with the same `Idempotency-Key`, until it is answered or given up. The plugin is told the outcome once.
//!
//! The queue is in memory: its contents are lost if the process dies. `/connections` tells who is really connected.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, Semaphore};
use tokio::task::yield_now;

use crate::actions::{self, Actions, Performed};
use crate::backoff::pause;
use crate::config::Closings;
use crate::dispatch::{Dispatch, Step};
use crate::message::{Exchange, Failure, Outcome};

/// Requests under way at a time.
const IN_FLIGHT: usize = 4;
/// The pause after the first try; each of the following is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The queue, and what it takes to empty it.
pub struct CloseEvents {
    actions: Arc<Actions>,
    settings: ArcSwap<Closings>,
    queue: Mutex<Queue>,
    /// Something was added.
    added: Notify,
    /// Nothing is waiting or under way.
    emptied: Notify,
    serial: AtomicU64,
    /// Nobody stays for whom PHP would have to be spared.
    is_unpaced: AtomicBool,
}

/// Something is under way that may add to the queue.
pub struct Expected(Arc<CloseEvents>);

impl Drop for Expected {
    fn drop(&mut self) {
        self.0.one_less();
    }
}

#[derive(Default)]
struct Queue {
    /// The one that is due first is on top.
    waiting: BinaryHeap<Reverse<CloseEvent>>,
    under_way: usize,
    /// Of all that wait or are under way.
    bytes: usize,
}

struct CloseEvent {
    due: Instant,
    since: Instant,
    tries: u32,
    /// The upstream of the connection's route.
    default: usize,
    upstream: usize,
    exchange: Exchange,
    dispatch: Dispatch,
    /// That it holds, the connection that has gone with it.
    bytes: usize,
}

/// What a close event costs beside the bytes in it.
const OVERHEAD: usize = 512;

impl CloseEvents {
    /// An empty queue. Nothing leaves it unless `run` is running.
    pub fn new(actions: Arc<Actions>, settings: Closings) -> Arc<Self> {
        Arc::new(Self {
            actions,
            settings: ArcSwap::from_pointee(settings),
            queue: Mutex::default(),
            added: Notify::new(),
            emptied: Notify::new(),
            serial: AtomicU64::new(0),
            is_unpaced: AtomicBool::new(false),
        })
    }

    /// Applies other limits.
    pub fn change(&self, settings: Closings) {
        self.settings.store(Arc::new(settings));
    }

    /// Does what a dispatch asks for at once, except its requests, which it queues. `default` is the index of the upstream
    /// for those that name none.
    pub fn begin(self: &Arc<Self>, mut dispatch: Dispatch, default: usize) {
        loop {
            match dispatch.step() {
                Step::Act(action) => match self.actions.act(&dispatch, action) {
                    Performed::Now(effect) => dispatch.note(effect),
                    Performed::Later(effect) => {
                        return self.go_on_after(default, async move {
                            dispatch.note(effect.await);
                            dispatch
                        });
                    }
                },
                Step::Ask(exchange) => match self.add(dispatch, default, exchange) {
                    Some(refused) => dispatch = refused,
                    None => return,
                },
                Step::Wait(result) => {
                    return self.go_on_after(default, async move {
                        dispatch.decided(result.await.ok());
                        dispatch
                    });
                }
                Step::Yield => {
                    return self.go_on_after(default, async move {
                        yield_now().await;
                        dispatch
                    });
                }
                Step::Done => return,
            }
        }
    }

    fn go_on_after(
        self: &Arc<Self>,
        default: usize,
        before: impl Future<Output = Dispatch> + Send + 'static,
    ) {
        let (close_events, expected) = (self.clone(), self.expect_one());
        tokio::spawn(async move {
            close_events.begin(before.await, default);
            drop(expected);
        });
    }

    /// Something is under way that may add to the queue: `drained` waits until this is dropped.
    pub fn expect_one(self: &Arc<Self>) -> Expected {
        self.lock().under_way += 1;
        Expected(self.clone())
    }

    /// Queues a request. If that is impossible, gives the dispatch back, which has been told why.
    fn add(&self, mut dispatch: Dispatch, default: usize, mut exchange: Exchange) -> Option<Dispatch> {
        let upstream = match actions::find(
            &self.actions.upstreams.load(),
            default,
            exchange.upstream.as_deref(),
        ) {
            Ok(upstream) => upstream,
            Err(failure) => {
                dispatch.answered(exchange.context, Err(failure));
                return Some(dispatch);
            }
        };
        let bytes = exchange.size() + dispatch.size() + OVERHEAD;
        let Closings {
            max_waiting,
            max_bytes,
            ..
        } = **self.settings.load();
        let mut queue = self.lock();
        let reached = if queue.waiting.len() >= max_waiting {
            Some("max-waiting")
        } else {
            (queue.bytes + bytes > max_bytes).then_some("max-bytes")
        };
        if let Some(key) = reached {
            let waiting = queue.waiting.len();
            drop(queue);
            self.actions.metrics.close_event("lost");
            tracing::error!(
                waiting,
                "a close event is lost: too many wait already ([closings] {key})"
            );
            let text = format!("{waiting} requests wait already ({key})");
            dispatch.answered(exchange.context, Err(Failure::Overloaded(text)));
            return Some(dispatch);
        }
        queue.bytes += bytes;
        exchange
            .request
            .headers
            .push(("idempotency-key".to_owned(), self.key()));
        let now = Instant::now();
        queue.waiting.push(Reverse(CloseEvent {
            due: now,
            since: now,
            tries: 0,
            default,
            upstream,
            exchange,
            dispatch,
            bytes,
        }));
        self.actions
            .metrics
            .close_events_waiting
            .set(queue.waiting.len() as i64);
        drop(queue);
        self.added.notify_one();
        None
    }

    /// A key that differs from those of any other run of the gateway.
    fn key(&self) -> String {
        let began = self.actions.registry.started();
        let began = began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        format!("close-{:x}-{serial:x}", began.as_millis())
    }

    /// From now on the rate does not count: the gateway shuts down.
    pub fn stop_pacing(&self) {
        self.is_unpaced.store(true, Ordering::Relaxed);
    }

    /// Delivers close events, forever.
    pub async fn run(self: Arc<Self>) {
        let permits = Arc::new(Semaphore::new(IN_FLIGHT));
        let mut next = Instant::now();
        loop {
            let Ok(permit) = permits.clone().acquire_owned().await else {
                return;
            };
            let close_event = self.next().await;
            if !self.is_unpaced.load(Ordering::Relaxed) {
                tokio::time::sleep_until(next.into()).await;
            }
            next = next.max(Instant::now()) + Duration::from_secs(1) / self.settings.load().rate;
            let close_events = self.clone();
            tokio::spawn(async move {
                close_events.deliver(close_event).await;
                close_events.one_less();
                drop(permit);
            });
        }
    }

    /// Waits for the first one that is due.
    async fn next(&self) -> CloseEvent {
        loop {
            let added = self.added.notified();
            let due = {
                let mut queue = self.lock();
                let due = queue.waiting.peek().map(|Reverse(close_event)| close_event.due);
                if due.is_some_and(|due| due <= Instant::now())
                    && let Some(Reverse(close_event)) = queue.waiting.pop()
                {
                    queue.under_way += 1;
                    self.actions
                        .metrics
                        .close_events_waiting
                        .set(queue.waiting.len() as i64);
                    return close_event;
                }
                due
            };
            match due {
                None => added.await,
                Some(due) => {
                    let _ = tokio::time::timeout_at(due.into(), added).await;
                }
            }
        }
    }

    async fn deliver(self: &Arc<Self>, mut close_event: CloseEvent) {
        // Cloned, since it may have to be sent again.
        let request = close_event.exchange.request.clone();
        let flow = close_event.dispatch.flow();
        let upstreams = self.actions.upstreams.load_full();
        let outcome = upstreams.send(close_event.upstream, flow, request).await;
        let is_late = close_event.since.elapsed() >= self.settings.load().retry_for;
        match failure(&outcome) {
            None => self.actions.metrics.close_event("delivered"),
            Some(cause) if is_late => {
                self.actions.metrics.close_event("lost");
                tracing::error!(
                    cause,
                    tries = close_event.tries + 1,
                    "a close event is lost: not delivered in time ([closings] retry-for)"
                );
            }
            Some(cause) => {
                let pause = pause(FIRST_PAUSE, close_event.tries, LONGEST_PAUSE, fastrand::f64());
                tracing::debug!(cause, ?pause, "a close event will be sent again");
                self.actions.metrics.close_event("retried");
                close_event.tries += 1;
                close_event.due = Instant::now() + pause;
                self.lock().waiting.push(Reverse(close_event));
                self.added.notify_one();
                return;
            }
        }
        let CloseEvent {
            mut dispatch,
            exchange,
            default,
            bytes,
            ..
        } = close_event;
        self.lock().bytes -= bytes;
        dispatch.answered(exchange.context, outcome);
        self.begin(dispatch, default);
    }

    /// How many are waiting or under way.
    pub fn count(&self) -> usize {
        let queue = self.lock();
        queue.waiting.len() + queue.under_way
    }

    /// Waits until nothing is waiting or under way.
    pub async fn drained(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.count() == 0 {
                return;
            }
            emptied.await;
        }
    }

    fn one_less(&self) {
        self.lock().under_way -= 1;
        if self.count() == 0 {
            self.emptied.notify_waiters();
        }
    }

    /// Nothing here leaves the queue half changed, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a request must be sent again. A status below 500 counts as an answer, whatever it says; a request that cannot be sent
/// at all will not do better the next time.
fn failure(outcome: &Outcome) -> Option<String> {
    match outcome {
        Ok(response) if response.status >= 500 => Some(format!("status {}", response.status)),
        Ok(_) | Err(Failure::TooLarge(_)) => None,
        Err(Failure::Other(kind, _)) if kind == "bad-request" => None,
        Err(failure) => Some(failure.to_string()),
    }
}

impl PartialEq for CloseEvent {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for CloseEvent {}

impl PartialOrd for CloseEvent {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for CloseEvent {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.due.cmp(&other.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Payload, Response};

    #[test]
    fn what_php_has_answered_is_not_sent_again() {
        let status = |status| {
            Ok(Response {
                status,
                headers: Vec::new(),
                body: Payload::Text("".into()),
            })
        };
        for outcome in [
            status(200),
            status(404),
            Err(Failure::TooLarge(String::new())),
            Err(Failure::Other("bad-request".to_owned(), String::new())),
        ] {
            assert_eq!(failure(&outcome), None, "{outcome:?}");
        }
        for outcome in [
            status(500),
            status(503),
            Err(Failure::Timeout(String::new())),
            Err(Failure::Unreachable(String::new())),
            Err(Failure::Other("bad-answer".to_owned(), String::new())),
        ] {
            assert!(failure(&outcome).is_some(), "{outcome:?}");
        }
    }
}
