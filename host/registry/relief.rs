//! Who makes room when clients hold more than the process may: the networks that hold most, and there the connections.

use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::fan_out::TOO_SLOW;
use super::{Entry, Registry};
use crate::budget::FREE;
use crate::message::{Connection, network};

/// After somebody was closed, so that what it held can be given back.
const PAUSE: Duration = Duration::from_millis(50);
/// RFC 6455's registry of close codes (section 11.7): try again later.
const TRY_AGAIN_LATER: u16 = 1013;
const OUTGOING_REASON: &str = "too slow: all queues together are over max-queues";
const INBOUND_REASON: &str = "too much has come in (max-inbound); connect again later";

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relief {
    /// Most waits to be sent to it.
    Outgoing,
    /// It has sent most of what is not done with.
    Inbound,
}

/// Connections by the network of their client, each with its bytes, and those that hold most last.
struct Holders {
    networks: Vec<Vec<(usize, Arc<Entry>)>>,
    /// What each of the networks holds, with its place.
    totals: BinaryHeap<(usize, usize)>,
}

impl Registry {
    /// Makes room whenever the queues hold more than `max-queues`. Never ends. `tell` hears of each who is closed.
    pub async fn relieve_outgoing(&self, tell: impl Fn(Relief, &Connection)) {
        let budget = &self.outgoing.budget;
        loop {
            budget.exceeded().await;
            let mut queues = self.holders(|entry| entry.send_queue.bytes());
            while budget.excess() > 0
                && let Some(entry) = queues.take_largest()
            {
                tell(Relief::Outgoing, &entry.connection);
                entry.send_queue.abort(TOO_SLOW, OUTGOING_REASON);
                if entry.send_queue.bytes() > FREE {
                    entry.send_queue.cut(TOO_SLOW, OUTGOING_REASON);
                }
                tokio::task::yield_now().await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Makes room whenever sessions ask for it because they may not read. Never ends. `tell` hears of each who is closed.
    pub async fn relieve_inbound(&self, tell: impl Fn(Relief, &Connection)) {
        loop {
            self.inbound.exceeded().await;
            // Whoever asked may have got room meanwhile.
            if self.inbound.used() > self.inbound.limit() / 2 {
                let inbound = |entry: &Entry| {
                    let is_open = !entry.send_queue.is_closed();
                    is_open.then(|| entry.inbound.load(Ordering::Relaxed))
                };
                if let Some(entry) = self.holders(|entry| inbound(entry).unwrap_or(0)).take_largest() {
                    tell(Relief::Inbound, &entry.connection);
                    entry.send_queue.abort(TRY_AGAIN_LATER, INBOUND_REASON);
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// All who hold more than what is free.
    fn holders(&self, bytes: impl Fn(&Entry) -> usize) -> Holders {
        let mut by_network: HashMap<_, Vec<_>> = HashMap::new();
        for entry in &self.connections {
            let bytes = bytes(&entry);
            if bytes > FREE {
                let network = network(entry.connection.client_address);
                let holders = by_network.entry(network).or_default();
                holders.push((bytes, entry.value().clone()));
            }
        }
        let mut networks: Vec<_> = by_network.into_values().collect();
        for holders in &mut networks {
            holders.sort_unstable_by_key(|(bytes, _)| *bytes);
        }
        let total = |holders: &Vec<(usize, _)>| holders.iter().map(|(bytes, _)| bytes).sum();
        let totals = networks.iter().map(total).zip(0..).collect();
        Holders { networks, totals }
    }
}

impl Holders {
    /// Takes the one that holds most of those in the network that holds most.
    fn take_largest(&mut self) -> Option<Arc<Entry>> {
        let (total, place) = self.totals.pop()?;
        let (bytes, entry) = self.networks.get_mut(place)?.pop()?;
        if total > bytes {
            self.totals.push((total - bytes, place));
        }
        Some(entry)
    }
}
