//! From a publication to the send queues of its subscribers.
//!
//! The publications of a topic are delivered one after the other, each to those who were in the topic when it was accepted,
//! so that all get them in the same order. No lock of the topic is held meanwhile. A small one is delivered here and now; a
//! large one by tasks on all workers, which let others have a turn after each chunk.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::{JoinSet, yield_now};

use super::subscribers::{Chunk, Snapshot, Subscriber};
use super::{Entry, Position, Published, lock};
use crate::send_queue::{Outgoing, Publication, Refused};

/// Subscribers to whom the publisher delivers by itself, if that is no more than `INLINE_BYTES`.
const INLINE: usize = 256;
const INLINE_BYTES: usize = 1024 * 1024;
/// Bytes that are delivered before others have a turn.
const TURN_BYTES: usize = 256 * 1024;

/// The publications of a topic that wait for the one that is being delivered.
#[derive(Default)]
pub(super) struct Line {
    waiting: VecDeque<Box<Job>>,
    is_running: bool,
}

/// A topic, as far as it is delivered in.
pub(super) trait Source: Send + Sync {
    /// What is to be delivered next; none ends the run.
    fn next_job(&self) -> Option<Box<Job>>;
}

/// A publication, and who gets it.
pub(super) struct Job {
    pub(super) publication: Publication,
    pub(super) subscribers: Snapshot,
    /// Those who do not get it, sorted by their keys.
    pub(super) except: Vec<Arc<Entry>>,
    pub(super) policy: Policy,
    pub(super) outgoing: Arc<Outgoing>,
    next_chunk: AtomicUsize,
    result: Mutex<Published>,
    done: Option<oneshot::Sender<Published>>,
}

/// What becomes of a subscriber whose queue is full.
#[derive(Clone, Copy)]
pub(super) struct Policy {
    /// Older publications of topics without a history go first.
    pub(super) makes_room: bool,
    /// If it is closed, what the close says.
    pub(super) closes: Option<&'static str>,
}

/// What became of a publication, or will.
pub enum Publishing {
    /// It is in the queues.
    Done(Published),
    /// It will be, behind others or because it goes to many. Nothing comes if the runtime ends first.
    Later(oneshot::Receiver<Published>),
}

/// A publication that has its place in the order of its topic. It must be run, for all that come behind it.
#[must_use]
pub(super) enum Accepted {
    /// It is the first: nobody delivers in this topic now.
    Run(Arc<dyn Source>, Box<Job>),
    /// It waits for others.
    Waits(oneshot::Receiver<Published>),
}

/// The close code for a client that is too slow (RFC 6455 section 7.4.1: policy violation).
pub(super) const TOO_SLOW: u16 = 1008;

impl Line {
    /// Gives a publication its place. Called under the lock of the topic.
    pub(super) fn accept(&mut self, topic: &Arc<impl Source + 'static>, mut job: Box<Job>) -> Accepted {
        if self.is_running {
            let (done, later) = oneshot::channel();
            job.done = Some(done);
            self.waiting.push_back(job);
            return Accepted::Waits(later);
        }
        self.is_running = true;
        Accepted::Run(topic.clone(), job)
    }

    /// The next one; none ends the run. Called under the lock of the topic.
    pub(super) fn next(&mut self) -> Option<Box<Job>> {
        let next = self.waiting.pop_front();
        self.is_running = next.is_some();
        if !self.is_running {
            self.waiting = VecDeque::new();
        }
        next
    }
}

impl Accepted {
    /// Delivers, here or elsewhere. Not to be called under the lock of a topic.
    pub(super) fn run(self) -> Publishing {
        let (topic, mut job) = match self {
            Self::Run(topic, job) => (topic, job),
            Self::Waits(later) => return Publishing::Later(later),
        };
        let runtime = Handle::try_current().ok().filter(|_| job.is_large());
        if let Some(runtime) = runtime {
            let (done, later) = oneshot::channel();
            job.done = Some(done);
            runtime.spawn(deliver_all(topic, job));
            return Publishing::Later(later);
        }
        let published = job.deliver();
        run_waiting(topic, job.subscribers.count);
        Publishing::Done(published)
    }
}

/// Delivers what has come to wait meanwhile, unless that is much.
fn run_waiting(topic: Arc<dyn Source>, mut delivered: usize) {
    while let Some(job) = topic.next_job() {
        delivered += job.subscribers.count;
        match Handle::try_current() {
            Ok(runtime) if delivered > INLINE || job.is_large() => {
                runtime.spawn(deliver_all(topic, job));
                return;
            }
            _ => {
                let published = job.deliver();
                job.tell(published);
            }
        }
    }
}

/// Delivers one publication after the other on all workers.
async fn deliver_all(topic: Arc<dyn Source>, first: Box<Job>) {
    let mut next = Some(first);
    while let Some(job) = next {
        let job: Arc<Job> = job.into();
        let lanes = Handle::current()
            .metrics()
            .num_workers()
            .min(job.subscribers.chunks.len());
        let mut others = JoinSet::new();
        for _ in 1..lanes {
            others.spawn(deliver_chunks(job.clone()));
        }
        deliver_chunks(job.clone()).await;
        while others.join_next().await.is_some() {}
        let published = lock(&job.result).clone();
        if let Some(job) = Arc::into_inner(job) {
            job.tell(published);
        }
        next = topic.next_job();
    }
}

async fn deliver_chunks(job: Arc<Job>) {
    while let Some(chunk) = job.next_chunk() {
        let size = job.publication.len().max(1);
        for part in chunk.chunks((TURN_BYTES / size).max(1)) {
            job.deliver_to(part);
            yield_now().await;
        }
    }
}

impl Job {
    pub(super) fn new(
        publication: Publication,
        subscribers: Snapshot,
        except: Vec<Arc<Entry>>,
        policy: Policy,
        position: Option<Position>,
        outgoing: Arc<Outgoing>,
    ) -> Self {
        let result = Published {
            position,
            ..Published::default()
        };
        Self {
            publication,
            subscribers,
            except,
            policy,
            outgoing,
            next_chunk: AtomicUsize::new(0),
            result: Mutex::new(result),
            done: None,
        }
    }

    /// To everyone, here and now.
    fn deliver(&self) -> Published {
        while let Some(chunk) = self.next_chunk() {
            self.deliver_to(chunk);
        }
        lock(&self.result).clone()
    }

    /// Whether it goes to so many, or is so long, that it would keep a worker from others.
    fn is_large(&self) -> bool {
        let count = self.subscribers.count;
        count > INLINE || count.saturating_mul(self.publication.len()) > INLINE_BYTES
    }

    fn tell(self, published: Published) {
        if let Some(done) = self.done {
            // Whoever has published need not wait.
            let _ = done.send(published);
        }
    }

    /// Each chunk is given out once.
    fn next_chunk(&self) -> Option<&Chunk> {
        let next = self.next_chunk.fetch_add(1, Ordering::Relaxed);
        self.subscribers.chunks.get(next)
    }

    fn deliver_to(&self, subscribers: &[Arc<Subscriber>]) {
        let mut part = Published::default();
        for subscriber in subscribers {
            let is_excepted = || self.except.binary_search_by_key(&key(&subscriber.entry), key);
            if self.except.is_empty() || is_excepted().is_err() {
                self.deliver_one(subscriber, &mut part);
            }
        }
        self.outgoing.count(part.recipients as u64);
        lock(&self.result).add(&part);
    }

    fn deliver_one(&self, subscriber: &Subscriber, part: &mut Published) {
        let queue = &subscriber.send_queue;
        match queue.publish(&self.publication, self.policy.makes_room, &subscriber.is_active) {
            Ok(dropped) => {
                part.recipients += 1;
                part.dropped += dropped;
            }
            // A queue that has ended already is not a slow one.
            Err(Refused::Closed) => {}
            Err(Refused::Full) => {
                part.congested += 1;
                if let Some(reason) = self.policy.closes {
                    part.closed += 1;
                    queue.abort(TOO_SLOW, reason);
                }
            }
        }
    }
}

impl Published {
    fn add(&mut self, part: &Self) {
        self.recipients += part.recipients;
        self.congested += part.congested;
        self.closed += part.closed;
        self.dropped += part.dropped;
    }
}

/// Names an entry: its address is its own for as long as it is held.
pub(super) fn key(entry: &Arc<Entry>) -> usize {
    Arc::as_ptr(entry).addr()
}
