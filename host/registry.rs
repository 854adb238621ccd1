//! Who is connected. The only file that names dashmap; no guard of the map leaves it, so no lock is held for longer than
//! a look-up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dashmap::DashMap;
use tokio::sync::Notify;

use crate::message::{ConnectionId, Payload, Peer};
use crate::outbox::{Outbound, Outbox};

/// All open connections by id.
#[derive(Default)]
pub struct Registry {
    connections: DashMap<ConnectionId, Arc<Entry>>,
    closing: AtomicBool,
    emptied: Notify,
}

struct Entry {
    peer: Arc<Peer>,
    outbox: Arc<Outbox>,
}

/// Keeps a connection registered. Dropping it ends that.
pub struct Registration {
    registry: Arc<Registry>,
    entry: Arc<Entry>,
}

/// Why a frame was not put into a connection's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No connection has this id now.
    #[error("there is no such connection")]
    NotFound,
    /// Its queue is full: the client reads more slowly than it is sent to.
    #[error("the connection's outbound queue is full (max-queue)")]
    Congested,
}

impl Registry {
    /// Adds a connection. If its id is an address that an older connection had, which is not known to be gone yet, the
    /// newer one gets the name: the peer's system has given the port out again.
    pub fn register(self: &Arc<Self>, peer: Arc<Peer>, outbox: Arc<Outbox>) -> Registration {
        let entry = Arc::new(Entry { peer, outbox });
        self.connections.insert(entry.peer.id.clone(), entry.clone());
        if self.is_closing() {
            entry.outbox.close(GOING_AWAY, SHUTDOWN);
        }
        Registration {
            registry: self.clone(),
            entry,
        }
    }

    /// Puts a frame into a connection's queue.
    pub fn send(&self, id: &str, message: Payload) -> Result<(), SendError> {
        let entry = self.entry(id).ok_or(SendError::NotFound)?;
        entry
            .outbox
            .push(Outbound::Message(message))
            .map_err(|_| SendError::Congested)
    }

    /// Closes a connection behind what is in its queue. False if there is none.
    pub fn close(&self, id: &str, code: u16, reason: &str) -> bool {
        let entry = self.entry(id);
        entry.inspect(|entry| entry.outbox.close(code, reason)).is_some()
    }

    /// The connection of an id, and whether its queue is full.
    pub fn find(&self, id: &str) -> Option<(Arc<Peer>, bool)> {
        let entry = self.entry(id)?;
        Some((entry.peer.clone(), entry.outbox.is_full()))
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.connections.len()
    }

    /// Closes all connections, also those that are yet to come, and waits until they have gone.
    pub async fn close_all(&self) {
        self.closing.store(true, Ordering::SeqCst);
        for entry in &self.connections {
            entry.outbox.close(GOING_AWAY, SHUTDOWN);
        }
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

    fn entry(&self, id: &str) -> Option<Arc<Entry>> {
        self.connections.get(id).map(|entry| entry.value().clone())
    }
}

/// RFC 6455 section 7.4.1: the server goes down.
const GOING_AWAY: u16 = 1001;
const SHUTDOWN: &str = "the gateway is shutting down";

impl Drop for Registration {
    fn drop(&mut self) {
        let registry = &self.registry;
        registry
            .connections
            .remove_if(&self.entry.peer.id, |_, entry| Arc::ptr_eq(entry, &self.entry));
        if registry.is_closing() && registry.connections.is_empty() {
            registry.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn connect(registry: &Arc<Registry>, id: &str) -> (Registration, Arc<Outbox>) {
        let peer = Peer {
            id: id.into(),
            remote_address: ([127, 0, 0, 1], 1).into(),
            path: "/".into(),
            query: "".into(),
            headers: "".into(),
            subprotocol: None,
        };
        let outbox = Arc::new(Outbox::new(10));
        (registry.register(Arc::new(peer), outbox.clone()), outbox)
    }

    #[test]
    fn a_name_belongs_to_who_took_it_last() {
        let registry = Arc::new(Registry::default());
        let (old, _) = connect(&registry, "a");
        let (new, outbox) = connect(&registry, "a");
        drop(old);
        assert_eq!(registry.count(), 1, "the older one's end is not the newer one's");
        assert_eq!(registry.send("a", Payload::Text("x".into())), Ok(()));
        assert_eq!(
            outbox.try_next(),
            Some(Outbound::Message(Payload::Text("x".into())))
        );
        drop(new);
        assert_eq!(
            registry.send("a", Payload::Text("x".into())),
            Err(SendError::NotFound)
        );
        assert_eq!(registry.count(), 0);
    }

    #[tokio::test]
    async fn closing_all_reaches_those_who_come_late_and_ends_with_the_last() {
        let registry = Arc::new(Registry::default());
        let (first, outbox) = connect(&registry, "a");
        let mut all = Box::pin(registry.close_all());
        assert!((&mut all).now_or_never().is_none());
        assert!(matches!(
            outbox.try_next(),
            Some(Outbound::Close { code: GOING_AWAY, .. })
        ));
        let (late, outbox) = connect(&registry, "b");
        assert!(matches!(
            outbox.try_next(),
            Some(Outbound::Close { code: GOING_AWAY, .. })
        ));
        drop(first);
        assert!((&mut all).now_or_never().is_none());
        drop(late);
        all.await;
    }
}
