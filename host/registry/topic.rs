//! One topic: its subscribers, who is behind them, and what it keeps. Everything happens under its lock, so that all
//! subscribers get its messages in the same order.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::history::{History, Retention};
use super::position::Position;
use super::{Entry, Published, envelope, lock};
use crate::config::SlowClients;
use crate::message::{Connection, Payload, Utf8Bytes};
use crate::send_queue::{Outbound, SendQueue};

pub(super) struct Topic {
    pub(super) name: Arc<str>,
    state: Mutex<State>,
}

struct State {
    /// By the address of the entry, which is its own for as long as it is here.
    subscribers: HashMap<usize, Subscriber>,
    /// Connections of each who has a name of their own, which is the attribute `user`.
    members: HashMap<Arc<str>, usize>,
    history: Option<History>,
    /// Nobody needed it any more; a new one may have its name.
    gone: bool,
}

struct Subscriber {
    entry: Arc<Entry>,
    /// None: the connection's id is its name.
    member: Option<Arc<str>>,
}

/// What became of an attempt to add a subscriber.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Added {
    Done,
    /// The topic is gone: take it out of the map and look again.
    Gone,
}

/// Whether a topic is still needed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Removed {
    Needed,
    /// It is gone now: take it out of the map.
    Empty,
}

/// The close code for a client that is too slow for a topic with a history (RFC 6455 section 7.4.1: policy violation).
const TOO_SLOW: u16 = 1008;
pub(super) const TOO_SLOW_REASON: &str = "too slow: more than max-queue waits";
const TOO_SLOW_RESUME: &str = "too slow for a topic with a history; connect again and resume";

/// Puts a publication into a queue, or does what the policy says.
pub(super) fn deliver(
    send_queue: &SendQueue,
    outbound: &Outbound,
    policy: SlowClients,
    reason: &str,
    published: &mut Published,
) {
    let result = match policy {
        SlowClients::DropOldest => send_queue.push_over(outbound.clone()),
        SlowClients::Skip | SlowClients::Close => send_queue.push(outbound.clone()).map(|()| 0),
    };
    match result {
        Ok(dropped) => {
            published.recipients += 1;
            published.dropped += dropped;
        }
        // A queue that has ended already is no slow one.
        Err(_) if send_queue.is_closed() => {}
        Err(_) => {
            published.congested += 1;
            if policy == SlowClients::Close {
                published.closed += 1;
                send_queue.abort(TOO_SLOW, reason);
            }
        }
    }
}

impl Topic {
    /// Without subscribers. With a history, if a retention and an epoch are given.
    pub(super) fn new(name: Arc<str>, history: Option<(Retention, String)>) -> Self {
        let history = history.map(|(retention, epoch)| History::new(retention, epoch, Instant::now()));
        Self {
            name,
            state: Mutex::new(State {
                subscribers: HashMap::new(),
                members: HashMap::new(),
                history,
                gone: false,
            }),
        }
    }

    /// Adds a subscriber, and tells it what it has missed since a position. `tell` hears of a join.
    pub(super) fn add(&self, entry: &Arc<Entry>, resume: Option<&Position>, tell: impl Fn(&str)) -> Added {
        let mut state = lock(&self.state);
        if state.gone {
            return Added::Gone;
        }
        if let Some(history) = &mut state.history {
            history.touch(Instant::now());
            let frames = self.beginning(history, resume, entry);
            // A full queue closes the connection, as a message that does not fit would.
            if entry.send_queue.push_all(frames).is_err() {
                entry.send_queue.abort(TOO_SLOW, TOO_SLOW_RESUME);
            }
        }
        let member = entry.connection.attribute("user").map(Arc::<str>::from);
        let has_joined = match &member {
            Some(name) => {
                let connections = state.members.entry(name.clone()).or_insert(0);
                *connections += 1;
                *connections == 1
            }
            None => true,
        };
        if has_joined {
            tell(&envelope::presence(
                &self.name,
                "join",
                member.as_deref().unwrap_or(&entry.connection.id),
            ));
        }
        let subscriber = Subscriber {
            entry: entry.clone(),
            member,
        };
        state.subscribers.insert(key(entry), subscriber);
        Added::Done
    }

    /// What a new subscriber is told first.
    fn beginning(&self, history: &History, resume: Option<&Position>, entry: &Entry) -> Vec<Outbound> {
        let missed = resume.and_then(|position| {
            let missed: Vec<_> = history.after(position)?.cloned().map(message).collect();
            // More than the queue takes counts as lost: the client shall know, rather than be closed again and again.
            entry
                .send_queue
                .has_room_for(&missed)
                .then_some((position, missed))
        });
        match missed {
            Some((position, missed)) => {
                let first = envelope::subscribed(&self.name, position, Some(true));
                std::iter::once(message(first.into())).chain(missed).collect()
            }
            None => {
                let recovered = resume.map(|_| false);
                let first = envelope::subscribed(&self.name, &history.position(), recovered);
                vec![message(first.into())]
            }
        }
    }

    /// Removes a subscriber. `tell` hears of a leave.
    pub(super) fn remove(&self, entry: &Arc<Entry>, tell: impl Fn(&str)) -> Removed {
        let mut state = lock(&self.state);
        let Some(subscriber) = state.subscribers.remove(&key(entry)) else {
            return Removed::Needed;
        };
        let has_left = match &subscriber.member {
            Some(name) => state.member_left(name),
            None => true,
        };
        if has_left {
            let name = subscriber.member.as_deref().unwrap_or(&entry.connection.id);
            tell(&envelope::presence(&self.name, "leave", name));
        }
        if let Some(history) = &mut state.history {
            history.touch(Instant::now());
        }
        state.end_if_unneeded()
    }

    /// Puts a message into the queues of all subscribers. None if the topic is gone. `kept` counts the bytes of all
    /// histories, which are to be at most `limit`: then the oldest messages of this topic go. `policy` is for those whose
    /// queues are full.
    pub(super) fn publish(
        &self,
        payload: &Payload,
        except: &[Arc<Entry>],
        kept: &AtomicUsize,
        limit: usize,
        policy: SlowClients,
    ) -> Option<Published> {
        let mut state = lock(&self.state);
        if state.gone {
            return None;
        }
        let mut published = Published::default();
        let outbound = match &mut state.history {
            Some(history) => {
                let now = Instant::now();
                let frame = history.append(&self.name, payload, now);
                let all = kept.fetch_add(frame.len(), Ordering::Relaxed) + frame.len();
                let dropped = history.trim(now, |dropped| all.saturating_sub(dropped) > limit);
                kept.fetch_sub(dropped, Ordering::Relaxed);
                published.position = Some(history.position());
                Outbound::Published(Payload::Text(frame))
            }
            None => Outbound::Published(payload.clone()),
        };
        // Where there is a history, a gap is not to be hidden: the client shall resume.
        let (policy, reason) = match published.position {
            Some(_) => (SlowClients::Close, TOO_SLOW_RESUME),
            None => (policy, TOO_SLOW_REASON),
        };
        for (place, subscriber) in &state.subscribers {
            if except.iter().any(|entry| key(entry) == *place) {
                continue;
            }
            deliver(
                &subscriber.entry.send_queue,
                &outbound,
                policy,
                reason,
                &mut published,
            );
        }
        Some(published)
    }

    /// Forgets what is too old.
    pub(super) fn expire(&self, now: Instant, kept: &AtomicUsize) -> Removed {
        let mut state = lock(&self.state);
        let Some(history) = &mut state.history else {
            return Removed::Needed;
        };
        kept.fetch_sub(history.trim(now, |_| false), Ordering::Relaxed);
        if history.is_over(now) && state.subscribers.is_empty() {
            state.gone = true;
            return Removed::Empty;
        }
        Removed::Needed
    }

    pub(super) fn count(&self) -> usize {
        lock(&self.state).subscribers.len()
    }

    pub(super) fn subscribers(&self, limit: usize) -> Vec<Arc<Connection>> {
        let state = lock(&self.state);
        let subscribers = state.subscribers.values().take(limit);
        subscribers
            .map(|subscriber| subscriber.entry.connection.clone())
            .collect()
    }

    pub(super) fn members(&self, limit: usize) -> Vec<(Arc<str>, usize)> {
        let state = lock(&self.state);
        let named = state.members.iter().map(|(name, n)| (name.clone(), *n));
        let unnamed = state
            .subscribers
            .values()
            .filter(|subscriber| subscriber.member.is_none())
            .map(|subscriber| (subscriber.entry.connection.id.clone(), 1));
        named.chain(unnamed).take(limit).collect()
    }
}

impl State {
    /// Counts one connection of a name less; true if it was the last.
    fn member_left(&mut self, name: &Arc<str>) -> bool {
        let connections = self.members.get_mut(name);
        let is_last = connections.is_none_or(|n| {
            *n -= 1;
            *n == 0
        });
        if is_last {
            self.members.remove(name);
        }
        is_last
    }

    /// A topic with a history waits for those who come back; `expire` ends it.
    fn end_if_unneeded(&mut self) -> Removed {
        if self.subscribers.is_empty() && self.history.is_none() {
            self.gone = true;
            return Removed::Empty;
        }
        Removed::Needed
    }
}

fn key(entry: &Arc<Entry>) -> usize {
    Arc::as_ptr(entry).addr()
}

fn message(frame: Utf8Bytes) -> Outbound {
    Outbound::Message(Payload::Text(frame))
}
