//! Keeps PHP-FPM from being overloaded: a limit on requests under way, a fair and bounded queue of those that wait, and a
//! circuit breaker for when it does not answer at all. Each refusal says why, and by which key.
//!
//! `queue` and `breaker` decide, without I/O; `slots` and `circuit` put them to use.

mod breaker;
mod circuit;
mod queue;
mod slots;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Unanswered;
use crate::message::{Failure, Flow, Response};
use crate::metrics::UpstreamMetrics;
use breaker::Permit;
use circuit::Circuit;
use slots::{Slot, Slots};

/// How a request ended.
type End = Result<Response, Unanswered>;

/// The limits of one upstream.
pub(super) struct Settings<'a> {
    /// Of the upstream.
    pub(super) name: &'a str,
    /// Requests under way at a time, and the key that sets this.
    pub(super) slots: usize,
    pub(super) slots_key: &'static str,
    pub(super) max_waiting: usize,
    pub(super) max_wait: Duration,
    /// For the whole request.
    pub(super) timeout: Duration,
    pub(super) breaker_failures: usize,
    pub(super) breaker_pause: Duration,
}

pub(super) struct Guard {
    slots: Arc<Slots>,
    circuit: Circuit,
    patience: Duration,
}

/// Allows a request to be under way. Dropping it gives the slot back; if it is told the end before, the circuit learns
/// from it.
pub(super) struct Pass<'a> {
    guard: &'a Guard,
    /// Of the client.
    network: Option<IpAddr>,
    permit: Permit,
    is_settled: bool,
    _slot: Slot<'a>,
}

impl Guard {
    pub(super) fn new(settings: &Settings<'_>, metrics: &UpstreamMetrics) -> Self {
        let Settings {
            name,
            slots,
            slots_key,
            max_waiting,
            max_wait,
            timeout,
            breaker_failures,
            breaker_pause,
        } = *settings;
        let full = Failure::Overloaded(format!(
            "{slots} requests are under way and {max_waiting} wait ({slots_key}, max-waiting); the newest request of \
             whoever has most waiting is refused"
        ));
        Self {
            slots: Arc::new(Slots::new(
                (slots, max_waiting),
                full,
                late(settings),
                metrics.clone(),
            )),
            circuit: Circuit::new(name, breaker_failures, breaker_pause, metrics.clone()),
            patience: max_wait.min(timeout),
        }
    }

    /// Takes the place of another one: requests that it has let through count, and those that wait there go on waiting.
    pub(super) fn replace(&mut self, before: &Self) {
        before.slots.adopt(&self.slots);
        self.slots = before.slots.clone();
    }

    /// Waits for a turn. Dropping the future gives up.
    pub(super) async fn enter(&self, flow: Flow) -> Result<Pass<'_>, Failure> {
        self.circuit.check()?;
        let until = Instant::now() + self.patience;
        let network = flow.network;
        let slot = self.slots.take(flow, until).await?;
        // Checked again, since it may have opened meanwhile; and only a request with a slot may be the probe.
        let permit = self.circuit.admit()?;
        Ok(Pass {
            guard: self,
            network,
            permit,
            is_settled: false,
            _slot: slot,
        })
    }
}

/// The failure of a request that has waited until the first of the two limits.
fn late(settings: &Settings<'_>) -> Failure {
    let Settings {
        slots,
        slots_key,
        max_wait,
        timeout,
        ..
    } = settings;
    let why = format!("{slots} requests at a time are under way ({slots_key})");
    if max_wait < timeout {
        Failure::Overloaded(format!("waited {max_wait:?} for its turn (max-wait): {why}"))
    } else {
        Failure::Timeout(format!("waited {timeout:?} for its turn (timeout): {why}"))
    }
}

impl Pass<'_> {
    /// The request has ended.
    pub(super) fn end(mut self, end: &End) {
        self.settle(Some(end));
    }

    fn settle(&mut self, end: Option<&End>) {
        self.is_settled = true;
        if let Some(why) = self.guard.circuit.settle(&self.permit, self.network, end) {
            self.guard.slots.send_away(&why);
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if !self.is_settled {
            self.settle(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::message::Class;
    use crate::metrics::Metrics;

    fn settings(timeout: u64) -> Settings<'static> {
        Settings {
            name: "php",
            slots: 2,
            slots_key: "max-requests",
            max_waiting: 1,
            max_wait: Duration::from_secs(5),
            timeout: Duration::from_secs(timeout),
            breaker_failures: 1,
            breaker_pause: Duration::from_secs(3600),
        }
    }

    fn flow(id: &str) -> Flow {
        Flow {
            class: Class::Message,
            network: Some([127, 0, 0, 1].into()),
            connection: Some(id.into()),
        }
    }

    #[tokio::test]
    async fn who_waits_is_sent_away_when_the_circuit_opens() {
        let guard = Guard::new(&settings(10), &Metrics::default().upstream("php"));
        let fails = guard.enter(flow("a")).await.ok().unwrap();
        let _other = guard.enter(flow("a")).await.ok().unwrap();
        let mut waits = Box::pin(guard.enter(flow("b")));
        assert!((&mut waits).now_or_never().is_none());
        let failure = Failure::Unreachable("nobody there".to_owned());
        fails.end(&Err(failure.into()));
        for refused in [waits.await, guard.enter(flow("c")).await] {
            assert!(
                matches!(refused, Err(Failure::Overloaded(text)) if text.contains("is open for")
                    && text.ends_with("unreachable: nobody there"))
            );
        }
    }

    #[test]
    fn the_time_that_ends_first_is_named() {
        let text = |timeout| late(&settings(timeout)).to_string();
        assert!(text(10).starts_with("overloaded: waited 5s for its turn (max-wait)"));
        assert!(text(2).starts_with("timeout: waited 2s for its turn (timeout)"));
    }
}
