//! The instances of one plugin version, and on which thread they are called.
//!
//! The usual plugin is called on the thread that has the event: each thread has a place of its own here, behind a lock
//! that nobody else takes but the listing of `/plugins`. The instances belong to the version, not to the threads, so that
//! they go when the version goes, however idle a thread is.
//!
//! A plugin that is slow by nature would hold up all connections of its thread. It is found out by its calls and then
//! called on threads of its own, behind a bounded queue.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError, Weak};
use std::time::Duration;

use tokio::sync::oneshot;

use super::instance::{CallError, Instance};
use super::version::Version;
use crate::message::{Decision, Event};

/// Threads beyond this number share one place. There is one thread a core, and two for each slow plugin.
const PLACES: usize = 64;

/// Threads of a slow plugin.
const SLOW_THREADS: usize = 2;
/// Events that wait for a slow plugin.
const SLOW_QUEUE: usize = 1024;
/// A call that takes longer counts as slow.
const SLOW_CALL: Duration = Duration::from_millis(1);
/// A slow call weighs as much as this many quick ones: a garbage collection now and then is no slowness.
const SLOW_WEIGHT: u32 = 8;
/// The weight at which a plugin is slow.
const SLOW_MARK: u32 = 64;

/// What a call comes to.
pub type CallResult = Result<Decision, CallError>;

/// A call that was made, or that waits for its turn.
pub enum Call {
    /// Done.
    Done(CallResult),
    /// Its end comes by this channel.
    Queued(oneshot::Receiver<CallResult>),
}

pub(super) struct Pool {
    places: Box<[Mutex<Place>]>,
    spare: Mutex<Place>,
    is_slow: AtomicBool,
    lane: OnceLock<SyncSender<Job>>,
}

/// What one thread keeps for a version.
#[derive(Default)]
pub(super) struct Place {
    pub(super) instance: Option<Instance>,
    /// How long the calls took that the metrics have not been told of. Those are for all threads, which would wait for each
    /// other if they told each call.
    pub(super) untold: Vec<Duration>,
    slowness: u32,
}

struct Job {
    event: Event,
    done: oneshot::Sender<CallResult>,
}

impl Pool {
    /// Begins with the instance that was made to try the version out.
    pub(super) fn new(first: Instance) -> Self {
        let mut places: Vec<_> = (0..PLACES).map(|_| Mutex::default()).collect();
        if let Some(place) = places.first_mut() {
            *place = Mutex::new(Place {
                instance: Some(first),
                ..Place::default()
            });
        }
        Self {
            places: places.into(),
            spare: Mutex::default(),
            is_slow: AtomicBool::new(false),
            lane: OnceLock::new(),
        }
    }

    /// The place of the calling thread.
    pub(super) fn place(&self) -> MutexGuard<'_, Place> {
        lock(self.places.get(thread_index()).unwrap_or(&self.spare))
    }

    /// Whether the version is called on threads of its own.
    pub(super) fn is_slow(&self) -> bool {
        self.is_slow.load(Ordering::Relaxed)
    }

    /// Instances now, and their memory together in bytes.
    pub(super) fn usage(&self) -> (usize, usize) {
        let places = self.places.iter().chain([&self.spare]);
        let memories = places.filter_map(|place| lock(place).instance.as_ref().map(Instance::memory));
        memories.fold((0, 0), |(n, sum), memory| (n + 1, sum + memory))
    }

    /// The places that no call is made in now.
    pub(super) fn at_rest(&self) -> impl Iterator<Item = MutexGuard<'_, Place>> {
        let places = self.places.iter().chain([&self.spare]);
        places.filter_map(|place| match place.try_lock() {
            Ok(place) => Some(place),
            Err(TryLockError::Poisoned(place)) => Some(place.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        })
    }

    /// Calls on the lane of a slow version.
    pub(super) fn queue(&self, version: &Arc<Version>, event: &Event) -> Call {
        let lane = self.lane.get_or_init(|| start_lane(version));
        let (done, result) = oneshot::channel();
        match lane.try_send(Job {
            event: event.clone(),
            done,
        }) {
            Ok(()) => Call::Queued(result),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                Call::Done(Err(CallError::Overloaded(SLOW_QUEUE)))
            }
        }
    }

    /// Learns from a call; true when the version has just been found to be slow.
    pub(super) fn learn(&self, place: &mut Place, took: Duration, result: &CallResult) -> bool {
        if matches!(result, Err(CallError::Time(_))) {
            place.slowness = SLOW_MARK;
        } else if took > SLOW_CALL {
            place.slowness += SLOW_WEIGHT;
        } else {
            place.slowness = place.slowness.saturating_sub(1);
        }
        place.slowness >= SLOW_MARK && !self.is_slow.swap(true, Ordering::Relaxed)
    }
}

/// Threads that end when the version, and with it the sender, is gone.
fn start_lane(version: &Arc<Version>) -> SyncSender<Job> {
    let (sender, receiver) = sync_channel(SLOW_QUEUE);
    let receiver = Arc::new(Mutex::new(receiver));
    // A plugin may start a timer of WASI, which belongs to a runtime, though none may wait for it.
    let runtime = tokio::runtime::Handle::current();
    for _ in 0..SLOW_THREADS {
        let (receiver, runtime) = (receiver.clone(), runtime.clone());
        let version = Arc::downgrade(version);
        let started = std::thread::Builder::new()
            .name("slow-plugin".to_owned())
            .spawn(move || {
                let _entered = runtime.enter();
                while let Some(job) = next_job(&receiver) {
                    run(&version, job)
                }
            });
        if let Err(cause) = started {
            tracing::error!(%cause, "no thread for a slow plugin; its events are dropped");
        }
    }
    sender
}

fn next_job(receiver: &Mutex<Receiver<Job>>) -> Option<Job> {
    lock(receiver).recv().ok()
}

/// The caller of the event holds the version; when it does not any more, nobody waits for the result.
fn run(version: &Weak<Version>, job: Job) {
    if let Some(version) = version.upgrade() {
        let _ = job.done.send(version.call_here(&job.event));
    }
}

/// A panic while the lock was held may have come from inside an instance, which is then dropped by its own error.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A small number for each living thread that calls plugins; the numbers of ended threads are given out again.
fn thread_index() -> usize {
    thread_local!(static INDEX: OnceCell<ThreadIndex> = const { OnceCell::new() });
    INDEX.with(|index| index.get_or_init(ThreadIndex::take).0)
}

static TAKEN: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());

struct ThreadIndex(usize);

impl ThreadIndex {
    fn take() -> Self {
        let mut taken = lock(&TAKEN);
        let free = taken
            .iter()
            .enumerate()
            .find_map(|(n, index)| (n != *index).then_some(n))
            .unwrap_or(taken.len());
        taken.insert(free);
        Self(free)
    }
}

impl Drop for ThreadIndex {
    fn drop(&mut self) {
        lock(&TAKEN).remove(&self.0);
    }
}
