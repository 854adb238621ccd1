//! One topic: its subscribers, who is behind them, and what it keeps. Who is in it and what is published changes under its
//! lock, which gives both an order; the delivery to the subscribers happens outside of it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::fan_out::{Accepted, Job, Line, Source, TOO_SLOW};
use super::history::{History, Retention};
use super::position::Position;
use super::subscribers::{Subscriber, Subscribers};
use super::{Entry, envelope, lock};
use crate::config::SlowClients;
use crate::message::{Connection, Payload};
use crate::send_queue::{Outgoing, Publication};
use crate::websocket::Frame;

pub(super) struct Topic {
    pub(super) name: Arc<str>,
    keeps_history: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    subscribers: Subscribers,
    /// Connections of each who has a name of their own, which is the attribute `user`.
    members: HashMap<Arc<str>, usize>,
    history: Option<History>,
    /// What is being delivered.
    line: Line,
    /// Nobody needed it any more; a new one may have its name.
    gone: bool,
    /// It stays, whoever is in it.
    is_permanent: bool,
}

/// What became of an attempt to add a subscriber.
pub(super) enum Added {
    /// It is in. Whoever hears of joins is still to be told.
    Done(Arc<Subscriber>, Option<Accepted>),
    /// The topic is gone: take it out of the map and look again.
    Gone,
}

/// What a publication needs to know of the registry.
pub(super) struct Terms<'a> {
    /// Bytes in all histories.
    pub(super) kept: &'a AtomicUsize,
    /// How many these may be; then the oldest messages of this topic go.
    pub(super) limit: usize,
    /// What becomes of subscribers whose queues are full.
    pub(super) policy: SlowClients,
    pub(super) outgoing: &'a Arc<Outgoing>,
}

const TOO_SLOW_REASON: &str = "too slow: more than max-queue waits";
const TOO_SLOW_RESUME: &str = "too slow for a topic with a history; connect again and resume";

impl Topic {
    /// Without subscribers. With a history, if a retention and an epoch are given.
    pub(super) fn new(name: Arc<str>, history: Option<(Retention, String)>) -> Self {
        let history = history.map(|(retention, epoch)| History::new(retention, epoch, Instant::now()));
        Self {
            name,
            keeps_history: history.is_some(),
            state: Mutex::new(State {
                history,
                ..State::default()
            }),
        }
    }

    /// One that stays when its last subscriber has left.
    pub(super) fn permanent(name: &str) -> Self {
        let topic = Self::new(name.into(), None);
        lock(&topic.state).is_permanent = true;
        topic
    }

    /// Adds a subscriber, and tells it what it has missed since a position. `tell` accepts what is published about a join.
    pub(super) fn add(
        &self,
        entry: &Arc<Entry>,
        resume: Option<&Position>,
        tell: impl FnOnce(&str) -> Option<Accepted>,
    ) -> Added {
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
        let subscriber = Subscriber::new(
            entry.clone(),
            entry.connection.attribute("user").map(Arc::<str>::from),
        );
        let has_joined = subscriber
            .member
            .as_ref()
            .is_none_or(|name| state.member_joined(name));
        let told = has_joined
            .then(|| tell(&envelope::presence(&self.name, "join", subscriber.name())))
            .flatten();
        state.subscribers.add(subscriber.clone());
        Added::Done(subscriber, told)
    }

    /// Adds a subscriber of whom nobody is told. For the topic that everyone is in, which is never gone.
    pub(super) fn enter(&self, subscriber: Arc<Subscriber>) {
        lock(&self.state).subscribers.add(subscriber);
    }

    /// What a new subscriber is told first.
    fn beginning(&self, history: &History, resume: Option<&Position>, entry: &Entry) -> Vec<Frame> {
        let missed = resume.and_then(|position| {
            let missed: Vec<_> = history.after(position)?.cloned().map(Frame::text).collect();
            // More than the queue takes counts as lost: the client shall know, rather than be closed again and again.
            entry
                .send_queue
                .has_room_for(&missed)
                .then_some((position, missed))
        });
        match missed {
            Some((position, missed)) => {
                let first = envelope::subscribed(&self.name, position, Some(true));
                std::iter::once(Frame::text(first.into())).chain(missed).collect()
            }
            None => {
                let recovered = resume.map(|_| false);
                let first = envelope::subscribed(&self.name, &history.position(), recovered);
                vec![Frame::text(first.into())]
            }
        }
    }

    /// Removes a subscriber, which is sent nothing of this topic any more. `tell` accepts what is published about a leave.
    /// Gives that, and whether the topic is not needed any more: it is gone then, and to be taken out of the map.
    pub(super) fn remove(
        &self,
        subscriber: &Arc<Subscriber>,
        tell: impl FnOnce(&str) -> Option<Accepted>,
    ) -> (Option<Accepted>, bool) {
        subscriber.send_queue.deactivate(&subscriber.is_active);
        let mut state = lock(&self.state);
        if !state.subscribers.remove(subscriber) {
            return (None, false);
        }
        let has_left = subscriber
            .member
            .as_ref()
            .is_none_or(|name| state.member_left(name));
        let told = has_left
            .then(|| tell(&envelope::presence(&self.name, "leave", subscriber.name())))
            .flatten();
        if let Some(history) = &mut state.history {
            history.touch(Instant::now());
        }
        (told, state.end_if_unneeded())
    }

    /// Takes in a message for those who are subscribers now, except for those with these keys. None if the topic is gone.
    pub(super) fn accept(
        self: &Arc<Self>,
        payload: &Payload,
        except: Vec<Arc<Entry>>,
        terms: &Terms<'_>,
    ) -> Option<Accepted> {
        // Outside of the lock where that can be: it may be long.
        let ready = (!self.keeps_history).then(|| Publication::new(payload.clone().into()));
        let mut state = lock(&self.state);
        if state.gone {
            return None;
        }
        let job = match &mut state.history {
            None => {
                let policy = (terms.policy, TOO_SLOW_REASON);
                let publication = ready.unwrap_or_else(|| Publication::new(payload.clone().into()));
                job(&state, publication, except, policy, None, terms)
            }
            Some(history) => {
                let now = Instant::now();
                let text = history.append(&self.name, payload, now);
                let all = terms.kept.fetch_add(text.len(), Ordering::Relaxed) + text.len();
                let dropped = history.trim(now, |dropped| all.saturating_sub(dropped) > terms.limit);
                terms.kept.fetch_sub(dropped, Ordering::Relaxed);
                let position = history.position();
                // Where there is a history, a gap is not to be hidden: the client shall resume.
                let policy = (SlowClients::Close, TOO_SLOW_RESUME);
                let publication = Publication::new(Frame::text(text));
                job(&state, publication, except, policy, Some(position), terms)
            }
        };
        Some(state.line.accept(self, Box::new(job)))
    }

    /// Forgets what is too old. Whether the topic is not needed any more: it is gone then.
    pub(super) fn expire(&self, now: Instant, kept: &AtomicUsize) -> bool {
        let mut state = lock(&self.state);
        let Some(history) = &mut state.history else {
            return false;
        };
        kept.fetch_sub(history.trim(now, |_| false), Ordering::Relaxed);
        let is_over = history.is_over(now) && state.subscribers.is_empty();
        state.gone |= is_over;
        is_over
    }

    pub(super) fn count(&self) -> usize {
        lock(&self.state).subscribers.len()
    }

    pub(super) fn subscribers(&self, limit: usize) -> Vec<Arc<Connection>> {
        let snapshot = lock(&self.state).subscribers.snapshot();
        let all = snapshot.chunks.iter().flat_map(|chunk| chunk.iter());
        all.take(limit).map(|one| one.entry.connection.clone()).collect()
    }

    pub(super) fn members(&self, limit: usize) -> Vec<(Arc<str>, usize)> {
        let (mut members, snapshot) = {
            let state = lock(&self.state);
            let named = state.members.iter().map(|(name, n)| (name.clone(), *n));
            (
                named.take(limit).collect::<Vec<_>>(),
                state.subscribers.snapshot(),
            )
        };
        let all = snapshot.chunks.iter().flat_map(|chunk| chunk.iter());
        let unnamed = all
            .filter(|subscriber| subscriber.member.is_none())
            .map(|subscriber| (subscriber.name().clone(), 1));
        members.extend(unnamed.take(limit - members.len()));
        members
    }
}

impl Source for Topic {
    fn next_job(&self) -> Option<Box<Job>> {
        lock(&self.state).line.next()
    }
}

fn job(
    state: &State,
    publication: Publication,
    except: Vec<Arc<Entry>>,
    policy: (SlowClients, &'static str),
    position: Option<Position>,
    terms: &Terms<'_>,
) -> Job {
    let subscribers = state.subscribers.snapshot();
    Job::new(
        publication,
        subscribers,
        except,
        policy,
        position,
        terms.outgoing.clone(),
    )
}

impl State {
    /// Counts one connection of a name more; true if it is the first.
    fn member_joined(&mut self, name: &Arc<str>) -> bool {
        let connections = self.members.entry(name.clone()).or_insert(0);
        *connections += 1;
        *connections == 1
    }

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
    fn end_if_unneeded(&mut self) -> bool {
        self.gone = self.subscribers.is_empty() && self.history.is_none() && !self.is_permanent;
        self.gone
    }
}
