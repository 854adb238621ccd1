//! When to ask an application that fails again and again: the circuit breaker, with half-open probes. Pure: no I/O, and time
//! and chance are arguments.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::backoff::pause;

/// The longest time for which nothing is asked, unless the first is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

pub(super) struct Breaker {
    /// Consecutive failures that open it, see [`Sign`]; 0 for never.
    max_failures: usize,
    first_pause: Duration,
    state: State,
    /// The networks of the clients whose requests have failed since there was a sign of life; none for those of nobody.
    clients: HashSet<Option<IpAddr>>,
    /// How often it has opened since it was closed.
    openings: u32,
    /// Grows with each opening: failures of what was let through before it no longer count.
    era: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed { failures: usize },
    Open { until: Instant },
    Probing,
}

/// Lets one request through. It is given back with the outcome.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Permit {
    era: u64,
}

/// Why nothing is let through.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// For this long.
    Open(Duration),
    /// Until the one request that was let through has ended.
    Probing,
}

/// What the end of a request says about the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    Life,
    /// It is not there.
    Absent,
    /// It was there, and failed on what it got from this network. Perhaps only that client makes it fail, so it counts once.
    Broken(Option<IpAddr>),
    Nothing,
}

/// What the end of a request changes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    Opened {
        pause: Duration,
        /// The request was a probe.
        again: bool,
    },
    Closed,
}

impl Breaker {
    pub(super) fn new(max_failures: usize, first_pause: Duration) -> Self {
        Self {
            max_failures,
            first_pause,
            state: State::Closed { failures: 0 },
            clients: HashSet::new(),
            openings: 0,
            era: 0,
        }
    }

    /// Whether something may be let through now.
    pub(super) fn check(&self, now: Instant) -> Result<(), Denied> {
        match self.state {
            State::Open { until } if now < until => Err(Denied::Open(until - now)),
            State::Probing => Err(Denied::Probing),
            State::Open { .. } | State::Closed { .. } => Ok(()),
        }
    }

    /// Lets a request through. The first one after a pause is the probe: no other goes until it has ended.
    pub(super) fn admit(&mut self, now: Instant) -> Result<Permit, Denied> {
        self.check(now)?;
        if matches!(self.state, State::Open { .. }) {
            self.state = State::Probing;
        }
        Ok(Permit { era: self.era })
    }

    /// Takes a permit back. `chance` is from 0 to 1.
    pub(super) fn settle(
        &mut self,
        permit: &Permit,
        sign: Sign,
        now: Instant,
        chance: f64,
    ) -> Option<Change> {
        let is_current = permit.era == self.era;
        match (sign, self.state) {
            (Sign::Life, before) => {
                self.state = State::Closed { failures: 0 };
                self.clients.clear();
                self.openings = 0;
                (!matches!(before, State::Closed { .. })).then_some(Change::Closed)
            }
            (Sign::Absent | Sign::Broken(_), State::Closed { failures }) if is_current => {
                let is_counted = match sign {
                    // As many clients as would open it are enough to remember.
                    Sign::Broken(client) => {
                        self.clients.len() < self.max_failures && self.clients.insert(client)
                    }
                    _ => true,
                };
                let failures = failures + usize::from(is_counted);
                self.state = State::Closed { failures };
                let opens = self.max_failures > 0 && failures >= self.max_failures;
                opens.then(|| self.open(false, now, chance))
            }
            (Sign::Absent | Sign::Broken(_), State::Probing) if is_current => {
                Some(self.open(true, now, chance))
            }
            // The probe proved nothing; the next request becomes one.
            (Sign::Nothing, State::Probing) if is_current => {
                self.state = State::Open { until: now };
                None
            }
            (Sign::Absent | Sign::Broken(_) | Sign::Nothing, _) => None,
        }
    }

    fn open(&mut self, again: bool, now: Instant, chance: f64) -> Change {
        let longest = LONGEST_PAUSE.max(self.first_pause);
        let pause = pause(self.first_pause, self.openings, longest, chance);
        self.state = State::Open { until: now + pause };
        self.openings = self.openings.saturating_add(1);
        self.era += 1;
        Change::Opened { pause, again }
    }

    /// As the metric shows it: 0 closed, 1 half-open, 2 open.
    pub(super) fn level(&self) -> i64 {
        match self.state {
            State::Closed { .. } => 0,
            State::Probing => 1,
            State::Open { .. } => 2,
        }
    }
}

#[cfg(test)]
mod tests;
