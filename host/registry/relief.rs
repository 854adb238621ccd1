//! Who makes room when clients hold more than the process may: those who hold most.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::fan_out::TOO_SLOW;
use super::{Entry, Registry};
use crate::budget::FREE;
use crate::message::Connection;

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

impl Registry {
    /// Makes room whenever the queues hold more than `max-queues`. Never ends. `tell` hears of each who is closed.
    pub async fn relieve_outgoing(&self, tell: impl Fn(Relief, &Connection)) {
        let budget = &self.outgoing.budget;
        loop {
            budget.exceeded().await;
            let mut queues = self.holders(|entry| entry.send_queue.bytes());
            queues.sort_unstable_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
            for (_, entry) in queues {
                if budget.excess() == 0 {
                    break;
                }
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
                let holders = self.holders(|entry| entry.inbound.load(Ordering::Relaxed));
                let open = holders
                    .into_iter()
                    .filter(|(_, entry)| !entry.send_queue.is_closed());
                if let Some((_, entry)) = open.max_by_key(|(bytes, _)| *bytes) {
                    tell(Relief::Inbound, &entry.connection);
                    entry.send_queue.abort(TRY_AGAIN_LATER, INBOUND_REASON);
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// All who hold more than what is free, with their bytes.
    fn holders(&self, bytes: impl Fn(&Entry) -> usize) -> Vec<(usize, Arc<Entry>)> {
        let sizes = self.connections.iter().map(|entry| (bytes(&entry), entry));
        sizes
            .filter(|(bytes, _)| *bytes > FREE)
            .map(|(bytes, entry)| (bytes, entry.value().clone()))
            .collect()
    }
}
