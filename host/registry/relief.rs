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
            while budget.excess() > 0
                && let Some(entry) = self.largest(|entry| entry.send_queue.bytes())
            {
                tell(Relief::Outgoing, &entry.connection);
                entry.send_queue.abort(TOO_SLOW, OUTGOING_REASON);
                if entry.send_queue.bytes() > FREE {
                    entry.send_queue.cut(TOO_SLOW, OUTGOING_REASON);
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Makes room whenever sessions ask for it because they may not read. Never ends. `tell` hears of each who is closed.
    pub async fn relieve_inbound(&self, tell: impl Fn(Relief, &Connection)) {
        loop {
            self.inbound.exceeded().await;
            if let Some(entry) = self.largest(|entry| entry.inbound.load(Ordering::Relaxed)) {
                tell(Relief::Inbound, &entry.connection);
                entry.send_queue.abort(TRY_AGAIN_LATER, INBOUND_REASON);
                // It is not to be found again while it goes.
                entry.inbound.store(0, Ordering::Relaxed);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Who holds most, beyond what is free.
    fn largest(&self, bytes: impl Fn(&Entry) -> usize) -> Option<Arc<Entry>> {
        let sizes = self.connections.iter().map(|entry| (bytes(&entry), entry));
        let (most, entry) = sizes.max_by_key(|(bytes, _)| *bytes)?;
        (most > FREE).then(|| entry.value().clone())
    }
}
