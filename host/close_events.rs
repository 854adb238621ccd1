//! Requests that must arrive: those that plugins forward when a connection has gone. Nobody is left who would notice if one
//! was lost.
//!
//! They wait in a queue that is bounded in length and in bytes, and leave it at a bounded rate, a few at a time, so that ten
//! thousand clients that go at once do not take PHP-FPM away from those that stay. Clients take turns by their network. A
//! request that fails is retried with growing pauses, with the same `Idempotency-Key`, until it is answered or given up. The
//! plugin is told the outcome once.
//!
//! The queue is in memory: its contents are lost if the process dies. `/connections` tells who is really connected.

mod queue;
mod retry;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::task::yield_now;

use crate::actions::{self, Actions, Performed};
use crate::backoff::pause;
use crate::config::Closings;
use crate::dispatch::{Dispatch, Step};
use crate::message::{Exchange, Failure, network};
use queue::{Bounds, Entry, Queue};
use retry::failure;

/// The pause after the first try; each of the following is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The queue, and what it takes to empty it.
pub struct CloseEvents {
    actions: Arc<Actions>,
    settings: ArcSwap<Closings>,
    state: Mutex<State>,
    /// There may be something to send now.
    changed: Notify,
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
struct State {
    queue: Queue<CloseEvent>,
    /// Requests, and what may lead to some.
    under_way: usize,
}

struct CloseEvent {
    serial: u64,
    since: Instant,
    tries: u32,
    /// The upstream of the connection's route.
    default: usize,
    exchange: Exchange,
    dispatch: Dispatch,
}

/// What a close event costs beside the bytes in it.
const OVERHEAD: usize = 512;

impl CloseEvents {
    /// An empty queue. Nothing leaves it unless `run` is running.
    pub fn new(actions: Arc<Actions>, settings: Closings) -> Arc<Self> {
        Arc::new(Self {
            actions,
            settings: ArcSwap::from_pointee(settings),
            state: Mutex::default(),
            changed: Notify::new(),
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
    fn add(
        self: &Arc<Self>,
        mut dispatch: Dispatch,
        default: usize,
        mut exchange: Exchange,
    ) -> Option<Dispatch> {
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
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        exchange
            .request
            .headers
            .push(("idempotency-key".to_owned(), self.key(serial)));
        let client = dispatch
            .client_address()
            .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let entry = Entry {
            upstream,
            network: network(client),
            bytes,
            item: CloseEvent {
                serial,
                since: Instant::now(),
                tries: 0,
                default,
                exchange,
                dispatch,
            },
        };
        let settings = self.settings.load();
        let bounds = Bounds {
            entries: settings.max_waiting,
            bytes: settings.max_bytes,
        };
        let mut state = self.lock();
        let lost = state.queue.add(entry, bounds);
        self.show(&state);
        let waiting = state.queue.waiting();
        drop(state);
        self.changed.notify_one();
        let mut own = None;
        for (lost, key) in lost {
            let is_own = lost.serial == serial;
            let (dispatch, default) = self.lose(lost, key, waiting);
            if is_own {
                own = Some(dispatch);
            } else {
                // Not here: it could go on with the next one that is lost, and so on.
                self.go_on_after(default, std::future::ready(dispatch));
            }
        }
        own
    }

    /// A close event finds no room any more. Its plugin is told.
    fn lose(&self, lost: CloseEvent, key: &'static str, waiting: usize) -> (Dispatch, usize) {
        let CloseEvent {
            mut dispatch,
            default,
            exchange,
            ..
        } = lost;
        self.actions.metrics.close_event("lost");
        tracing::error!(
            waiting,
            "a close event is lost: too many wait already ([closings] {key})"
        );
        let text = format!("{waiting} requests wait already ({key})");
        dispatch.answered(exchange.context, Err(Failure::Overloaded(text)));
        (dispatch, default)
    }

    /// A key that differs from those of any other run of the gateway.
    fn key(&self, serial: u64) -> String {
        let began = self.actions.registry.started();
        let began = began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        format!("close-{:x}-{serial:x}", began.as_millis())
    }

    /// From now on the rate does not count: the gateway shuts down.
    pub fn stop_pacing(&self) {
        self.is_unpaced.store(true, Ordering::Relaxed);
    }

    /// Delivers close events, forever.
    pub async fn run(self: Arc<Self>) {
        let mut next = Instant::now();
        loop {
            let close_event = self.next().await;
            if !self.is_unpaced.load(Ordering::Relaxed) {
                tokio::time::sleep_until(next.into()).await;
            }
            next = next.max(Instant::now()) + Duration::from_secs(1) / self.settings.load().rate;
            let close_events = self.clone();
            tokio::spawn(async move {
                close_events.deliver(close_event).await;
                close_events.one_less();
                // Its upstream has a place for another.
                close_events.changed.notify_one();
            });
        }
    }

    /// Waits for the next one that may be sent.
    async fn next(&self) -> Entry<CloseEvent> {
        loop {
            let changed = self.changed.notified();
            let due = {
                let mut state = self.lock();
                match state.queue.next(Instant::now()) {
                    Ok(entry) => {
                        state.under_way += 1;
                        self.show(&state);
                        return entry;
                    }
                    Err(due) => due,
                }
            };
            match due {
                None => changed.await,
                Some(due) => {
                    let _ = tokio::time::timeout_at(due.into(), changed).await;
                }
            }
        }
    }

    async fn deliver(self: &Arc<Self>, mut entry: Entry<CloseEvent>) {
        let close_event = &mut entry.item;
        // Cloned, since it may have to be sent again.
        let request = close_event.exchange.request.clone();
        let client = close_event.dispatch.connection().cloned();
        let flow = close_event.dispatch.flow();
        let upstreams = self.actions.upstreams.load_full();
        let outcome = upstreams.send(entry.upstream, flow, request, client).await;
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
                let mut state = self.lock();
                state.queue.add_again(entry, Instant::now() + pause);
                self.show(&state);
                return;
            }
        }
        self.lock().queue.done(entry.upstream, entry.bytes);
        let CloseEvent {
            mut dispatch,
            exchange,
            default,
            ..
        } = entry.item;
        dispatch.answered(exchange.context, outcome);
        self.begin(dispatch, default);
    }

    fn show(&self, state: &State) {
        let waiting = state.queue.waiting() as i64;
        self.actions.metrics.close_events_waiting.set(waiting);
    }

    /// How many are waiting or under way.
    pub fn count(&self) -> usize {
        let state = self.lock();
        state.queue.waiting() + state.under_way
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
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
