//! What time does to a connection: pings, clients that are gone, idleness, age, the timers that plugins set, and the bounds
//! of what is under way. Pure: the time is given.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Heartbeat;

/// Timers of one connection; one more is refused.
const MAX_TIMERS: usize = 64;

/// A client that takes nothing of what is to be written is given up after so long.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);
/// How long a client may take to answer a close frame (RFC 6455 section 7.1.1 leaves it to us).
pub(super) const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// The deadlines of one connection.
pub(super) struct Deadlines {
    settings: Heartbeat,
    /// Something came from the client, if only a pong.
    heard: Instant,
    /// A message came or went.
    active: Instant,
    next_ping: Option<Instant>,
    /// The last ping, which may not be answered yet.
    pinged: Option<Instant>,
    /// Since when nothing is read, or nothing can be written: that nothing is heard says nothing about the client.
    deaf: Option<Instant>,
    /// How long a message may take from its first byte to its last.
    message_timeout: Option<Duration>,
    /// When the message that has begun must be there.
    message: Option<Instant>,
    /// It has got more time already.
    is_extended: bool,
    /// When the client must have taken something.
    write: Option<Instant>,
    /// When the client must have answered the close frame.
    close: Option<Instant>,
    /// When it is worth another look whether more may be read or handled.
    retry: Option<Instant>,
    ends: Option<Instant>,
    /// By plugin and name.
    timers: BTreeMap<(Arc<str>, Arc<str>), Instant>,
}

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Send a ping.
    Ping,
    /// The client has not answered one: it is gone.
    Dead,
    /// A message has not come to its end.
    Message,
    /// The client has taken nothing for so long.
    Write,
    /// The client has not answered the close frame.
    Close,
    /// Something that was refused may be tried again.
    Retry,
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
    pub(super) fn new(
        settings: Heartbeat,
        message_timeout: Option<Duration>,
        now: Instant,
        chance: f64,
    ) -> Self {
        let first_ping = |interval: Duration| now + interval.mul_f64(0.5 + chance / 2.0);
        let end = |age: Duration| now + age.mul_f64(0.9 + chance / 10.0);
        Self {
            heard: now,
            active: now,
            next_ping: settings.ping_interval.map(first_ping),
            pinged: None,
            deaf: None,
            message_timeout,
            message: None,
            is_extended: false,
            write: None,
            close: None,
            retry: None,
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
    pub(super) fn active(&mut self, at: Instant) {
        self.active = self.active.max(at);
    }

    /// Whether the client cannot be heard now. What it was silent meanwhile does not count. True if there is a new deadline.
    pub(super) fn set_deaf(&mut self, is_deaf: bool, now: Instant) -> bool {
        if is_deaf {
            self.deaf.get_or_insert(now);
            return false;
        }
        let Some(since) = self.deaf.take() else {
            return false;
        };
        self.pinged = self.awaited().map(|_| now);
        self.message = self.message.map(|end| end + now.duration_since(since));
        true
    }

    /// Whether a message has begun and is not whole. True if there is a new deadline.
    pub(super) fn set_in_message(&mut self, is_in_message: bool, now: Instant) -> bool {
        let is_new = is_in_message && self.message.is_none() && self.message_timeout.is_some();
        if is_new {
            self.message = self.message_end(now);
        } else if !is_in_message {
            self.message = None;
        }
        is_new
    }

    /// A message is whole; another one may begin.
    pub(super) fn message_ended(&mut self) {
        self.message = None;
        self.is_extended = false;
    }

    /// Gives a message that is late a little more time, once.
    pub(super) fn extend_message(&mut self, now: Instant) -> bool {
        const LITTLE: Duration = Duration::from_secs(1);
        let is_first = !std::mem::replace(&mut self.is_extended, true);
        if is_first {
            self.message = Some(now + LITTLE);
        }
        is_first
    }

    /// Whether something waits that the client does not take. True if there is a new deadline.
    pub(super) fn set_blocked(&mut self, is_blocked: bool, has_written: bool, now: Instant) -> bool {
        let is_new = is_blocked && (self.write.is_none() || has_written);
        if is_new {
            self.write = Some(now + WRITE_PATIENCE);
        } else if !is_blocked {
            self.write = None;
        }
        is_new
    }

    /// A close frame is on its way.
    pub(super) fn closing(&mut self, now: Instant) {
        self.close = Some(now + CLOSE_PATIENCE);
    }

    /// Something is worth another look after a while.
    pub(super) fn retry_after(&mut self, wait: Duration, now: Instant) {
        let retry = now + wait;
        self.retry = Some(self.retry.map_or(retry, |earlier| earlier.min(retry)));
    }

    fn message_end(&self, now: Instant) -> Option<Instant> {
        self.message_timeout.map(|timeout| now + timeout)
    }

    /// It is being closed for its age, once.
    pub(super) fn rejuvenate(&mut self) {
        self.ends = None;
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
        let [message, heartbeat] = [self.message_due(), self.heartbeat()];
        if let Some(close) = self.close {
            // Nothing else matters any more.
            return Some(close);
        }
        [
            heartbeat,
            message,
            self.write,
            self.retry,
            self.idle(),
            self.ends,
            timer,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The next thing that is due, if there is one. To be asked until there is none.
    pub(super) fn due(&mut self, now: Instant) -> Option<Due> {
        let is_due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        if self.close.is_some() {
            return is_due(self.close).then_some(Due::Close);
        }
        if is_due(self.retry) {
            self.retry = None;
            return Some(Due::Retry);
        }
        if is_due(self.write) {
            return Some(Due::Write);
        }
        if is_due(self.message_due()) {
            return Some(Due::Message);
        }
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

    /// The ping that is not answered yet; whatever the client says is an answer.
    fn awaited(&self) -> Option<Instant> {
        self.pinged.filter(|pinged| self.heard <= *pinged)
    }

    fn heartbeat(&self) -> Option<Instant> {
        match self.awaited() {
            Some(_) if self.deaf.is_some() => None,
            Some(pinged) => Some(pinged + self.settings.pong_timeout),
            None => self.next_ping,
        }
    }

    fn message_due(&self) -> Option<Instant> {
        self.message.filter(|_| self.deaf.is_none())
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
    fn a_client_that_answers_is_pinged_again_and_one_that_does_not_is_dead() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(settings(), None, start, 1.0);
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
    fn silence_does_not_count_while_nothing_can_be_heard() {
        let start = Instant::now();
        let timeout = Some(20 * SECOND);
        let mut deadlines = Deadlines::new(settings(), timeout, start, 1.0);
        assert!(deadlines.set_in_message(true, start + 25 * SECOND));
        assert!(!deadlines.set_in_message(true, start + 29 * SECOND));
        assert_eq!(all_due(&mut deadlines, start + 30 * SECOND), [Due::Ping]);
        deadlines.set_deaf(true, start + 31 * SECOND);
        assert_eq!(all_due(&mut deadlines, start + 1000 * SECOND), []);
        assert_eq!(deadlines.next(), None);
        deadlines.set_deaf(false, start + 1000 * SECOND);
        assert_eq!(deadlines.due(start + 1009 * SECOND), None);
        assert_eq!(deadlines.due(start + 1010 * SECOND), Some(Due::Dead));
        deadlines.heard(start + 1011 * SECOND);
        assert_eq!(deadlines.due(start + 1012 * SECOND), Some(Due::Ping));
        deadlines.heard(start + 1013 * SECOND);
        assert_eq!(deadlines.due(start + 1013 * SECOND), None);
        assert_eq!(
            deadlines.due(start + 1014 * SECOND),
            Some(Due::Message),
            "14 seconds were left"
        );
        deadlines.message_ended();
        assert_ne!(deadlines.due(start + 1014 * SECOND), Some(Due::Message));
    }

    #[test]
    fn a_client_that_takes_something_now_and_then_is_not_given_up() {
        let start = Instant::now();
        let settings = Heartbeat {
            ping_interval: None,
            ..settings()
        };
        let mut deadlines = Deadlines::new(settings, None, start, 1.0);
        assert!(deadlines.set_blocked(true, false, start));
        assert!(deadlines.set_blocked(true, true, start + 29 * SECOND));
        assert!(!deadlines.set_blocked(true, false, start + 30 * SECOND));
        assert_eq!(deadlines.due(start + 58 * SECOND), None);
        assert_eq!(deadlines.due(start + 59 * SECOND), Some(Due::Write));
        deadlines.closing(start + 59 * SECOND);
        assert_eq!(
            deadlines.due(start + 63 * SECOND),
            None,
            "a close has its own time"
        );
        assert_eq!(deadlines.due(start + 64 * SECOND), Some(Due::Close));
    }

    #[test]
    fn messages_keep_a_connection_from_being_idle_and_pongs_do_not() {
        let start = Instant::now();
        let settings = Heartbeat {
            idle_timeout: Some(60 * SECOND),
            ping_interval: None,
            ..settings()
        };
        let mut deadlines = Deadlines::new(settings, None, start, 0.0);
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
        let mut deadlines = Deadlines::new(settings, None, start, 0.5);
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
        let mut deadlines = Deadlines::new(settings, None, start, 0.0);
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
        let mut deadlines = Deadlines::new(settings(), None, start, 0.0);
        let mut set = |n: usize| deadlines.set("p".into(), n.to_string().into(), Some(SECOND), start);
        assert!((0..MAX_TIMERS).all(&mut set));
        assert!(!set(MAX_TIMERS));
        assert!(set(0), "one that is there is set anew");
    }
}
