//! The circuit breaker as the operator sees it: what is logged, what refusals say.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::End;
use super::breaker::{Breaker, Change, Denied, Permit, Sign};
use crate::message::Failure;
use crate::metrics::UpstreamMetrics;

pub(super) struct Circuit {
    /// Of the upstream.
    name: String,
    state: Mutex<State>,
    metrics: UpstreamMetrics,
}

struct State {
    breaker: Breaker,
    /// The last failure before it opened.
    cause: String,
}

impl Circuit {
    pub(super) fn new(name: &str, failures: usize, pause: Duration, metrics: UpstreamMetrics) -> Self {
        Self {
            name: name.to_owned(),
            state: Mutex::new(State {
                breaker: Breaker::new(failures, pause),
                cause: String::new(),
            }),
            metrics,
        }
    }

    /// Refuses while it is open.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let state = self.lock();
        let result = state.breaker.check(Instant::now());
        result.map_err(|denied| self.refuse(&state, &denied))
    }

    /// Lets a request through.
    pub(super) fn admit(&self) -> Result<Permit, Failure> {
        let mut state = self.lock();
        let result = state.breaker.admit(Instant::now());
        self.metrics.circuit.set(state.breaker.level());
        result.map_err(|denied| self.refuse(&state, &denied))
    }

    /// Takes a permit back, with the network of the client and the end of the request; none if it was abandoned. If that opens the circuit, gives the
    /// failure for the requests that wait.
    pub(super) fn settle(
        &self,
        permit: &Permit,
        network: Option<IpAddr>,
        end: Option<&End>,
    ) -> Option<Failure> {
        let mut state = self.lock();
        let now = Instant::now();
        let change = state
            .breaker
            .settle(permit, sign(network, end), now, fastrand::f64())?;
        self.metrics.circuit.set(state.breaker.level());
        let upstream = &*self.name;
        match change {
            Change::Closed => {
                tracing::info!(upstream, "circuit closed: the upstream answers again");
                None
            }
            Change::Opened { pause, again } => {
                state.cause = match end {
                    Some(Err(unanswered)) => unanswered.failure.to_string(),
                    _ => String::new(),
                };
                let (cause, pause) = (&*state.cause, rounded(pause));
                if again {
                    tracing::warn!(upstream, cause, ?pause, "circuit still open: the probe failed");
                } else {
                    tracing::error!(
                        upstream,
                        cause,
                        ?pause,
                        "circuit opened: too many failures in a row (breaker-failures); requests are refused, after a \
                         pause (breaker-pause) one is let through as a probe"
                    );
                }
                Some(self.text(&state, &Denied::Open(pause)))
            }
        }
    }

    fn refuse(&self, state: &State, denied: &Denied) -> Failure {
        self.metrics.refused("breaker");
        self.text(state, denied)
    }

    fn text(&self, state: &State, denied: &Denied) -> Failure {
        let (name, cause) = (&self.name, &state.cause);
        let how_long = match denied {
            Denied::Open(left) => format!("for {:?} more", rounded(*left)),
            Denied::Probing => "until the probe that is under way is answered".to_owned(),
        };
        Failure::Overloaded(format!(
            "the circuit of the upstream `{name}` is open {how_long} (breaker-failures, breaker-pause); the last failure \
             was {cause}"
        ))
    }

    /// Nothing here leaves the state half changed, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An application that is not there or does not answer fails; one that answers, whatever it says, lives. Other errors say
/// nothing about it, and neither does an abandoned request.
fn sign(network: Option<IpAddr>, end: Option<&End>) -> Sign {
    let unanswered = match end {
        Some(Ok(_)) => return Sign::Life,
        Some(Err(unanswered)) => unanswered,
        None => return Sign::Nothing,
    };
    match unanswered.failure {
        Failure::TooLarge(_) => Sign::Life,
        Failure::Unreachable(_) if unanswered.is_unsent => Sign::Absent,
        Failure::Unreachable(_) | Failure::Timeout(_) => Sign::Broken(network),
        Failure::Overloaded(_) | Failure::Other(..) => Sign::Nothing,
    }
}

/// For people.
fn rounded(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn a_refusal_says_why_and_for_how_long() {
        let metrics = Metrics::default().upstream("php");
        let circuit = Circuit::new("php", 1, Duration::from_secs(3600), metrics);
        circuit.check().unwrap();
        let permit = circuit.admit().unwrap();
        let failure = Failure::Timeout("no answer within 10s".to_owned());
        assert!(
            circuit
                .settle(&permit, None, Some(&Err(failure.into())))
                .is_some()
        );
        let Err(Failure::Overloaded(text)) = circuit.check() else {
            panic!("it is open");
        };
        assert!(
            text.starts_with("the circuit of the upstream `php` is open for "),
            "{text}"
        );
        assert!(
            text.ends_with("the last failure was timeout: no answer within 10s"),
            "{text}"
        );
        assert_eq!(circuit.metrics.circuit.get(), 2);
    }

    #[test]
    fn durations_are_rounded_for_people() {
        for (micros, text) in [(0, "1ms"), (1_234_567, "1.234s"), (30_000_000, "30s")] {
            assert_eq!(format!("{:?}", rounded(Duration::from_micros(micros))), text);
        }
    }
}
