//! What time does to a connection: pings, dead peers, idleness, age, and the timers that plugins set. Pure: the time is
//! given.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Heartbeat;

/// Timers of one connection; one more is refused.
const MAX_TIMERS: usize = 64;

/// The deadlines of one connection.
pub(super) struct Deadlines {
    settings: Heartbeat,
    /// Something came from the peer, if only a pong.
    heard: Instant,
    /// A message came or went.
    active: Instant,
    next_ping: Option<Instant>,
    /// The last ping, which may not be answered yet.
    pinged: Option<Instant>,
    ends: Option<Instant>,
    /// By plugin and name.
    timers: BTreeMap<(Arc<str>, Arc<str>), Instant>,
}

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Send a ping.
    Ping,
    /// The peer has not answered one: it is gone.
    Dead,
    /// No message for so long.
    Idle,
    /// It is as old as a connection may be.
    Aged,
    /// A timer has run out.
    Timer {
        /// Of this plugin.
        plugin: Arc<str>,
        name: Arc<str>,
    },
}

impl Deadlines {
    /// A connection that opens now. `chance` between 0 and 1 spreads connections that opened together.
    pub(super) fn new(settings: Heartbeat, now: Instant, chance: f64) -> Self {
        let first_ping = |interval: Duration| now + interval.mul_f64(0.5 + chance / 2.0);
        let end = |age: Duration| now + age.mul_f64(0.9 + chance / 10.0);
        Self {
            heard: now,
            active: now,
            next_ping: settings.ping_interval.map(first_ping),
            pinged: None,
            ends: settings.max_age.map(end),
            timers: BTreeMap::new(),
            settings,
        }
    }

    /// Something came.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// A message came or went.
    pub(super) fn active(&mut self, now: Instant) {
        self.active = now;
    }

    /// Sets a timer, or stops it. False if there are too many.
    pub(super) fn set(
        &mut self,
        plugin: Arc<str>,
        name: Arc<str>,
        delay: Option<Duration>,
        now: Instant,
    ) -> bool {
        let key = (plugin, name);
        match delay {
            None => drop(self.timers.remove(&key)),
            Some(_) if self.timers.len() >= MAX_TIMERS && !self.timers.contains_key(&key) => return false,
            Some(delay) => drop(self.timers.insert(key, now + delay)),
        }
        true
    }

    /// When to look again at the latest. What was heard meanwhile may have put it off.
    pub(super) fn next(&self) -> Option<Instant> {
        let timer = self.timers.values().min().copied();
        [self.heartbeat(), self.idle(), self.ends, timer]
            .into_iter()
            .flatten()
            .min()
    }

    /// The next thing that is due, if there is one. To be asked until there is none.
    pub(super) fn due(&mut self, now: Instant) -> Option<Due> {
        let is_due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        if is_due(self.heartbeat()) {
            if self.awaited().is_some() {
                return Some(Due::Dead);
            }
            self.pinged = Some(now);
            self.next_ping = self.settings.ping_interval.map(|interval| now + interval);
            return Some(Due::Ping);
        }
        if is_due(self.ends) {
            return Some(Due::Aged);
        }
        if is_due(self.idle()) {
            return Some(Due::Idle);
        }
        let (key, deadline) = self.timers.iter().min_by_key(|(_, deadline)| **deadline)?;
        if *deadline > now {
            return None;
        }
        let (plugin, name) = key.clone();
        self.timers.remove(&(plugin.clone(), name.clone()));
        Some(Due::Timer { plugin, name })
    }

    /// The ping that is not answered yet; whatever the peer says is an answer.
    fn awaited(&self) -> Option<Instant> {
        self.pinged.filter(|pinged| self.heard <= *pinged)
    }

    fn heartbeat(&self) -> Option<Instant> {
        match self.awaited() {
            Some(pinged) => Some(pinged + self.settings.pong_timeout),
            None => self.next_ping,
        }
    }

    fn idle(&self) -> Option<Instant> {
        self.settings.idle_timeout.map(|timeout| self.active + timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn settings() -> Heartbeat {
        Heartbeat {
            ping_interval: Some(30 * SECOND),
            pong_timeout: 10 * SECOND,
            idle_timeout: None,
            max_age: None,
        }
    }

    fn all_due(deadlines: &mut Deadlines, now: Instant) -> Vec<Due> {
        std::iter::from_fn(|| deadlines.due(now)).take(5).collect()
    }

    #[test]
    fn a_peer_that_answers_is_pinged_again_and_one_that_does_not_is_dead() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(settings(), start, 1.0);
        assert_eq!(deadlines.next(), Some(start + 30 * SECOND));
        assert_eq!(all_due(&mut deadlines, start + 29 * SECOND), []);
        assert_eq!(all_due(&mut deadlines, start + 30 * SECOND), [Due::Ping]);
        assert_eq!(deadlines.next(), Some(start + 40 * SECOND));
        deadlines.heard(start + 31 * SECOND);
        assert_eq!(deadlines.next(), Some(start + 60 * SECOND));
        assert_eq!(all_due(&mut deadlines, start + 40 * SECOND), []);
        assert_eq!(all_due(&mut deadlines, start + 60 * SECOND), [Due::Ping]);
        assert_eq!(deadlines.due(start + 70 * SECOND), Some(Due::Dead));
    }

    #[test]
    fn messages_keep_a_connection_from_being_idle_and_pongs_do_not() {
        let start = Instant::now();
        let settings = Heartbeat {
            idle_timeout: Some(60 * SECOND),
            ping_interval: None,
            ..settings()
        };
        let mut deadlines = Deadlines::new(settings, start, 0.0);
        deadlines.heard(start + 50 * SECOND);
        deadlines.active(start + 20 * SECOND);
        assert_eq!(deadlines.due(start + 79 * SECOND), None);
        assert_eq!(deadlines.due(start + 80 * SECOND), Some(Due::Idle));
    }

    #[test]
    fn a_connection_ends_with_age() {
        let start = Instant::now();
        let settings = Heartbeat {
            ping_interval: None,
            max_age: Some(100 * SECOND),
            ..settings()
        };
        let mut deadlines = Deadlines::new(settings, start, 0.5);
        assert_eq!(deadlines.next(), Some(start + 95 * SECOND));
        assert_eq!(deadlines.due(start + 95 * SECOND), Some(Due::Aged));
    }

    #[test]
    fn timers_run_out_once_in_their_order_unless_they_are_stopped_or_set_anew() {
        let start = Instant::now();
        let settings = Heartbeat {
            ping_interval: None,
            ..settings()
        };
        let mut deadlines = Deadlines::new(settings, start, 0.0);
        let mut set = |name: &str, seconds: Option<u32>| {
            let delay = seconds.map(|n| n * SECOND);
            assert!(deadlines.set("p".into(), name.into(), delay, start));
        };
        set("late", Some(9));
        set("early", Some(2));
        set("stopped", Some(1));
        set("anew", Some(1));
        set("stopped", None);
        set("anew", Some(20));
        assert_eq!(deadlines.next(), Some(start + 2 * SECOND));
        let names: Vec<_> = all_due(&mut deadlines, start + 10 * SECOND)
            .into_iter()
            .map(|due| match due {
                Due::Timer { name, .. } => name.to_string(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(names, ["early", "late"]);
        assert_eq!(deadlines.next(), Some(start + 20 * SECOND));
    }

    #[test]
    fn timers_are_bounded() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(settings(), start, 0.0);
        let mut set = |n: usize| deadlines.set("p".into(), n.to_string().into(), Some(SECOND), start);
        assert!((0..MAX_TIMERS).all(&mut set));
        assert!(!set(MAX_TIMERS));
        assert!(set(0), "one that is there is set anew");
    }
}
