//! Who is connected, and who has subscribed to what. The only part that names dashmap; no guard of a map leaves it, so no
//! lock is held for longer than a look-up.
//!
//! Locks are taken in one order: a connection's memberships, the turn to make room in histories, a topic, its presence
//! topic, and then a send queue or the places of the histories. Nothing here waits for a client: what is sent goes into the
//! clients' queues.

mod envelope;
mod fan_out;
mod histories;
mod history;
mod position;
mod relief;
mod subscribers;
mod topic;
mod topics;

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use tokio::sync::{Notify, watch};

use crate::budget::Budget;
use crate::config::SlowClients;
use crate::message::{Connection, ConnectionId, Payload};
use crate::send_queue::{Outgoing, Refused, SendQueue, TimerChange};
use fan_out::Accepted;
pub use fan_out::Publishing;
use histories::Histories;
pub use history::Retention;
pub use position::Position;
pub use relief::Relief;
use subscribers::Subscriber;
use topic::Topic;

/// The topic that everyone is in.
pub const EVERYONE: &str = "*";
/// What hears of a topic's joins and leaves is called like the topic with this behind it.
pub const PRESENCE: &str = ":presence";
/// The longest name of a topic, in bytes.
const MAX_NAME: usize = 255;

/// The bounds of what is registered.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The longest message that is taken for a client, in bytes.
    pub message: usize,
    /// Topics of one connection.
    pub topics: usize,
    /// All attributes of one connection, in bytes.
    pub attributes: usize,
    /// All histories together, in bytes.
    pub history: usize,
    /// Topics with a history and without subscribers.
    pub idle_topics: usize,
    /// The queue of one connection, in bytes.
    pub queue: usize,
    /// All queues together, in bytes.
    pub queues: usize,
    /// All that comes in and is not done with, in bytes.
    pub inbound: usize,
    /// What becomes of a subscriber whose queue is full.
    pub slow_clients: SlowClients,
}

/// Topics that keep a history.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The topic, or with a `*` at its end all that begin so.
    pub name: String,
    /// How much, and for how long.
    pub retention: Retention,
}

/// What an operator may change while connections are open.
struct Rules {
    limits: Limits,
    kept: Vec<Kept>,
}

/// All open connections by id, and all topics by name.
pub struct Registry {
    connections: DashMap<ConnectionId, Arc<Entry>>,
    topics: DashMap<Arc<str>, Arc<Topic>>,
    rules: ArcSwap<Rules>,
    /// The topic that everyone is in.
    everyone: Arc<Topic>,
    outgoing: Arc<Outgoing>,
    inbound: Arc<Budget>,
    histories: Histories,
    /// When this registry began; with a number it makes the epochs of its topics unlike those of any other run.
    started: SystemTime,
    epochs: AtomicU64,
    /// Makes of numbers what nobody can guess.
    secret: RandomState,
    clients: AtomicU64,
    closing: AtomicBool,
    emptied: Notify,
    /// Nobody waits for answers any more.
    hurrying: watch::Sender<bool>,
}

/// A connection as the registry sees it.
struct Entry {
    connection: Arc<Connection>,
    send_queue: Arc<SendQueue>,
    /// Bytes that have come in from it and are not done with.
    inbound: AtomicUsize,
    memberships: Mutex<Memberships>,
}

impl Entry {
    /// What its client is called in histories.
    fn client(&self) -> u64 {
        self.connection.client.get().copied().unwrap_or_default()
    }
}

/// A connection's part in a topic.
struct Membership {
    topic: Arc<Topic>,
    subscriber: Arc<Subscriber>,
}

/// The topics of one connection.
#[derive(Default)]
struct Memberships {
    topics: Vec<Membership>,
    /// Where the client left off before, by topic; each is good for one subscription.
    resume: Vec<(String, Position)>,
    /// The connection has gone: it joins nothing any more.
    gone: bool,
}

/// Keeps a connection registered. Dropping it ends that, and its place in all topics.
pub struct Registration {
    registry: Arc<Registry>,
    entry: Arc<Entry>,
    everyone: Membership,
}

/// Why something was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No connection has this id now.
    #[error("there is no such connection")]
    NotFound,
    /// Its queue is full: the client reads more slowly than it is sent to.
    #[error("the connection's outbound queue is full (max-queue)")]
    Congested,
    /// No queue would take it.
    #[error("the message is over max-message")]
    TooLarge,
    /// A name that no topic or attribute can have.
    #[error("a name has 1 to 255 bytes, none of them a control character; `*` is everyone")]
    Name,
    /// Only the gateway publishes there.
    #[error("topics that end in `:presence` say who comes and goes; only the gateway publishes to them")]
    Presence,
    /// The connection has as many topics as it may.
    #[error("the connection has as many topics as it may (max-topics)")]
    Topics,
    /// The connection's attributes would be too long.
    #[error("the connection's attributes would be over max-attributes")]
    Attributes,
}

/// What became of a publication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Into how many queues it was put.
    pub recipients: usize,
    /// Whose queues were full.
    pub congested: usize,
    /// Of these, who was closed.
    pub closed: usize,
    /// Older publications that made room.
    pub dropped: usize,
    /// Its place, where the topic keeps a history.
    pub position: Option<Position>,
}

impl Default for Registry {
    /// Without topics that keep a history, and hardly bounded.
    fn default() -> Self {
        let limits = Limits {
            message: usize::MAX,
            topics: 128,
            attributes: 16 * 1024,
            history: 0,
            idle_topics: 0,
            queue: usize::MAX,
            queues: usize::MAX,
            inbound: usize::MAX,
            slow_clients: SlowClients::Skip,
        };
        Self::new(limits, Vec::new())
    }
}

impl Registry {
    /// Empty. Of several names in `kept` that fit a topic, the first counts.
    pub fn new(limits: Limits, kept: Vec<Kept>) -> Self {
        Self {
            connections: DashMap::new(),
            topics: DashMap::new(),
            everyone: Arc::new(Topic::permanent(EVERYONE)),
            outgoing: Outgoing::new(limits.queues),
            inbound: Budget::new(limits.inbound),
            rules: ArcSwap::from_pointee(Rules { limits, kept }),
            histories: Histories::default(),
            started: SystemTime::now(),
            epochs: AtomicU64::new(0),
            secret: RandomState::new(),
            clients: AtomicU64::new(0),
            closing: AtomicBool::new(false),
            emptied: Notify::new(),
            hurrying: watch::Sender::new(false),
        }
    }

    /// Takes over other bounds. A topic keeps the history that it has for as long as it lives.
    pub fn change(&self, limits: Limits, kept: Vec<Kept>) {
        self.outgoing.budget.set_limit(limits.queues);
        self.inbound.set_limit(limits.inbound);
        self.rules.store(Arc::new(Rules { limits, kept }));
        self.make_room();
    }

    /// An empty queue for a connection.
    pub fn send_queue(&self) -> Arc<SendQueue> {
        let limit = self.rules.load().limits.queue;
        Arc::new(SendQueue::new(limit, self.outgoing.clone()))
    }

    /// What all queues share.
    pub fn outgoing(&self) -> &Outgoing {
        &self.outgoing
    }

    /// What has come in from clients, and is not done with.
    pub fn inbound(&self) -> &Arc<Budget> {
        &self.inbound
    }

    /// Adds a connection. If its id is an address that an older connection had, which is not known to be gone yet, the
    /// newer one gets the name: the peer's system has given the port out again.
    pub fn register(
        self: &Arc<Self>,
        connection: Arc<Connection>,
        send_queue: Arc<SendQueue>,
    ) -> Registration {
        let client = position::client(&connection.query);
        let unknown = || self.secret.hash_one(self.clients.fetch_add(1, Ordering::Relaxed));
        connection.client.get_or_init(|| client.unwrap_or_else(unknown));
        let memberships = Memberships {
            resume: self.positions(&connection.query),
            ..Memberships::default()
        };
        let entry = Arc::new(Entry {
            connection,
            send_queue,
            inbound: AtomicUsize::new(0),
            memberships: Mutex::new(memberships),
        });
        self.connections
            .insert(entry.connection.id.clone(), entry.clone());
        let everyone = Membership {
            topic: self.everyone.clone(),
            subscriber: Subscriber::new(entry.clone(), None),
        };
        everyone.topic.enter(everyone.subscriber.clone());
        if self.is_closing() {
            entry.send_queue.close_patiently(GOING_AWAY, SHUTDOWN);
        }
        Registration {
            registry: self.clone(),
            entry,
            everyone,
        }
    }

    /// Puts a frame into a connection's queue.
    pub fn send(&self, id: &str, message: Payload) -> Result<(), SendError> {
        if message.len() > self.rules.load().limits.message {
            return Err(SendError::TooLarge);
        }
        let entry = self.entry(id).ok_or(SendError::NotFound)?;
        Ok(entry.send_queue.push(message.into())?)
    }

    /// Sets or stops a timer of a connection.
    pub fn set_timer(
        &self,
        id: &str,
        plugin: &Arc<str>,
        name: &str,
        delay: Option<Duration>,
    ) -> Result<(), SendError> {
        let timer = TimerChange {
            plugin: plugin.clone(),
            name: name.into(),
            delay,
        };
        let entry = self.entry(id).ok_or(SendError::NotFound)?;
        Ok(entry.send_queue.set_timer(timer)?)
    }

    /// Closes a connection behind what is in its queue. False if there is none.
    pub fn close(&self, id: &str, code: u16, reason: &str) -> bool {
        let entry = self.entry(id);
        entry
            .inspect(|entry| entry.send_queue.close(code, reason))
            .is_some()
    }

    /// Sets or removes an attribute of a connection.
    pub fn set_attribute(&self, id: &str, name: &str, value: Option<&str>) -> Result<(), SendError> {
        let entry = self.entry(id).ok_or(SendError::NotFound)?;
        self.set_attribute_of(&entry.connection, name, value)
    }

    /// The same for a connection that is not open yet.
    pub fn set_attribute_of(
        &self,
        connection: &Connection,
        name: &str,
        value: Option<&str>,
    ) -> Result<(), SendError> {
        if !is_name(name) {
            return Err(SendError::Name);
        }
        connection
            .set_attribute(name, value, self.rules.load().limits.attributes)
            .map_err(|_| SendError::Attributes)
    }

    /// The connection of an id, and whether its queue is full.
    pub fn find(&self, id: &str) -> Option<(Arc<Connection>, bool)> {
        let entry = self.entry(id)?;
        Some((entry.connection.clone(), entry.send_queue.is_full()))
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.connections.len()
    }

    /// All connections, in no order.
    pub fn connections(&self) -> Vec<Arc<Connection>> {
        self.connections
            .iter()
            .map(|entry| entry.connection.clone())
            .collect()
    }

    /// When this gateway began to serve.
    pub fn started(&self) -> SystemTime {
        self.started
    }

    /// Closes all connections, also those that are yet to come, and waits until they have gone. Frames that are being
    /// handled are answered first, if that takes no longer than the patience. The closes are spread over a time, so that
    /// not everyone comes back at once.
    pub async fn close_all(&self, spread: Duration, patience: Duration) {
        self.closing.store(true, Ordering::SeqCst);
        let entries: Vec<_> = self
            .connections
            .iter()
            .map(|entry| entry.value().clone())
            .collect();
        let pause = spread / u32::try_from(entries.len() / BATCH + 1).unwrap_or(u32::MAX);
        for (n, batch) in entries.chunks(BATCH).enumerate() {
            if n > 0 {
                tokio::time::sleep(pause).await;
            }
            for entry in batch {
                entry.send_queue.close_patiently(GOING_AWAY, SHUTDOWN);
            }
        }
        drop(entries);
        if tokio::time::timeout(patience, self.emptied()).await.is_err() {
            self.hurry();
            for entry in &self.connections {
                entry.send_queue.hurry(GOING_AWAY, SHUTDOWN);
            }
            self.emptied().await;
        }
    }

    /// Ends all connections that are left, without waiting for their clients. Returns when all are gone.
    pub async fn cut_all(&self) {
        for entry in &self.connections {
            entry.send_queue.cut(GOING_AWAY, SHUTDOWN);
        }
        self.emptied().await;
    }

    async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.connections.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// Whether all connections are being closed.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Gives up what is still being handled for those who have gone.
    pub fn hurry(&self) {
        self.hurrying.send_replace(true);
    }

    /// Waits until the patience of a shutdown is over: what is still being handled is given up.
    pub async fn hurried(&self) {
        let mut hurrying = self.hurrying.subscribe();
        // The sender lives as long as this.
        let _ = hurrying.wait_for(|is_hurrying| *is_hurrying).await;
    }

    fn entry(&self, id: &str) -> Option<Arc<Entry>> {
        self.connections.get(id).map(|entry| entry.value().clone())
    }
}

/// Connections that are closed together at a shutdown.
const BATCH: usize = 100;
/// RFC 6455 section 7.4.1: the server goes down.
const GOING_AWAY: u16 = 1001;
const SHUTDOWN: &str = "the gateway is shutting down";

impl From<Refused> for SendError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full => Self::Congested,
            // It is on its way out, and takes nothing any more.
            Refused::Closed => Self::NotFound,
        }
    }
}

impl Registration {
    /// So many bytes have come in from the connection that are not done with: who holds most goes first when there is no
    /// room for more.
    pub fn set_inbound(&self, bytes: usize) {
        self.entry.inbound.store(bytes, Ordering::Relaxed);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let registry = &self.registry;
        let topics = {
            let mut memberships = lock(&self.entry.memberships);
            memberships.gone = true;
            std::mem::take(&mut memberships.topics)
        };
        for membership in &topics {
            registry.leave(membership).map(Accepted::run);
        }
        registry.make_room();
        self.everyone
            .topic
            .remove(&self.everyone.subscriber, &registry.histories, |_| None);
        registry
            .connections
            .remove_if(&self.entry.connection.id, |_, entry| {
                Arc::ptr_eq(entry, &self.entry)
            });
        if registry.is_closing() && registry.connections.is_empty() {
            registry.emptied.notify_waiters();
        }
    }
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && !name.chars().any(char::is_control)
}

/// Nothing here leaves data half changed, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
