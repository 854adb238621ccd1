//! One topic: its subscribers, who is behind them, and what it keeps. Who is in it and what is published changes under its
//! lock, which gives both an order; the delivery to the subscribers happens outside of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::fan_out::{Accepted, Job, Line, Policy, Source, TOO_SLOW};
use super::histories::{Account, Histories};
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
    /// How the history is counted.
    account: Account,
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
    pub(super) histories: &'a Histories,
    /// What becomes of subscribers whose queues are full.
    pub(super) policy: SlowClients,
    pub(super) outgoing: &'a Arc<Outgoing>,
}

/// Who does not get a publication.
#[derive(Clone, Default)]
pub(super) struct Except {
    /// Those who are connected, sorted by their keys.
    pub(super) entries: Vec<Arc<Entry>>,
    /// All of them, as they will call themselves when they resume; sorted.
    pub(super) clients: Box<[u64]>,
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
        member: Option<Arc<str>>,
        resume: Option<&Position>,
        histories: &Histories,
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
        let subscriber = Subscriber::new(entry.clone(), member);
        let has_joined = subscriber
            .member
            .as_ref()
            .is_none_or(|name| state.member_joined(name));
        let told = has_joined
            .then(|| tell(&envelope::presence(&self.name, "join", subscriber.name())))
            .flatten();
        state.subscribers.add(subscriber.clone());
        state.count(&self.name, histories);
        Added::Done(subscriber, told)
    }

    /// Adds a subscriber of whom nobody is told. For the topic that everyone is in, which is never gone.
    pub(super) fn enter(&self, subscriber: Arc<Subscriber>) {
        lock(&self.state).subscribers.add(subscriber);
    }

    /// What a new subscriber is told first.
    fn beginning(&self, history: &History, resume: Option<&Position>, entry: &Entry) -> Vec<Frame> {
        let client = entry.client();
        let missed = resume.and_then(|position| {
            let missed = history.after(position, client)?;
            let missed: Vec<_> = missed.cloned().map(Frame::text).collect();
            // More than the queue takes counts as lost: the client shall know, rather than be closed again and again.
            entry
                .send_queue
                .has_room_for(&missed)
                .then_some((position, missed))
        });
        match missed {
            Some((position, missed)) => {
                let first = envelope::subscribed(&self.name, position, Some(true), client);
                std::iter::once(Frame::text(first.into())).chain(missed).collect()
            }
            None => {
                let recovered = resume.map(|_| false);
                let first = envelope::subscribed(&self.name, &history.position(), recovered, client);
                vec![Frame::text(first.into())]
            }
        }
    }

    /// Removes a subscriber, which is sent nothing of this topic any more. `tell` accepts what is published about a leave.
    /// Gives that, and whether the topic is not needed any more: it is gone then, and to be taken out of the map.
    pub(super) fn remove(
        &self,
        subscriber: &Arc<Subscriber>,
        histories: &Histories,
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
        state.count(&self.name, histories);
        (told, state.end_if_unneeded())
    }

    /// Takes in a message for those who are subscribers now. None if the topic is gone.
    pub(super) fn accept(
        self: &Arc<Self>,
        payload: &Payload,
        except: Except,
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
                let closes = (terms.policy == SlowClients::Close).then_some(TOO_SLOW_REASON);
                let publication = ready.unwrap_or_else(|| Publication::new(payload.clone().into()));
                job(&state, publication, except.entries, closes, None, terms)
            }
            Some(history) => {
                let now = Instant::now();
                let text = history.append(&self.name, payload, except.clients, now);
                history.trim(now);
                let position = history.position();
                state.count(&self.name, terms.histories);
                // Where there is a history, a gap is not to be hidden: the client shall resume.
                let closes = Some(TOO_SLOW_RESUME);
                let publication = Publication::kept(Frame::text(text));
                job(&state, publication, except.entries, closes, Some(position), terms)
            }
        };
        Some(state.line.accept(self, Box::new(job)))
    }

    /// Forgets what is too old. Whether the topic is not needed any more: it is gone then.
    pub(super) fn expire(&self, now: Instant, histories: &Histories) -> bool {
        let mut state = lock(&self.state);
        let is_gone = state.gone;
        let Some(history) = state.history.as_mut().filter(|_| !is_gone) else {
            return false;
        };
        history.trim(now);
        if history.is_over(now) && state.subscribers.is_empty() {
            state.end(&self.name, histories);
        } else {
            state.count(&self.name, histories);
        }
        state.gone
    }

    /// Drops the oldest messages, because all topics together hold too much.
    pub(super) fn shrink(&self, excess: usize, histories: &Histories) {
        let mut state = lock(&self.state);
        if state.gone {
            return;
        }
        let size = state.account.size();
        // It may hold less than it did when it got its place, and another one most.
        if let Some(history) = state.history.as_mut().filter(|history| history.bytes() >= size) {
            histories.note_trimmed(history.shrink(excess));
        }
        state.place(&self.name, histories);
    }

    /// Ends it, because there are too many without subscribers. False: somebody has used it since that time.
    pub(super) fn evict(&self, used: Instant, histories: &Histories) -> bool {
        let mut state = lock(&self.state);
        if state.gone || !state.subscribers.is_empty() {
            return false;
        }
        if state
            .history
            .as_ref()
            .is_some_and(|history| history.active() > used)
        {
            state.place(&self.name, histories);
            return false;
        }
        state.end(&self.name, histories);
        histories.note_forgotten();
        true
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
    closes: Option<&'static str>,
    position: Option<Position>,
    terms: &Terms<'_>,
) -> Job {
    let subscribers = state.subscribers.snapshot();
    let policy = Policy {
        makes_room: terms.policy == SlowClients::DropOldest,
        closes,
    };
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

    /// Has what it keeps counted. To be called after each change.
    fn count(&mut self, name: &Arc<str>, histories: &Histories) {
        if let Some((size, used)) = self.kept() {
            histories.update(name, &mut self.account, size, used);
        }
    }

    /// The same, and gives it its exact place.
    fn place(&mut self, name: &Arc<str>, histories: &Histories) {
        if let Some((size, used)) = self.kept() {
            histories.place(name, &mut self.account, size, used);
        }
    }

    /// What its messages cost, and when it was last used, if it has no subscribers. None without a history.
    fn kept(&self) -> Option<(usize, Option<Instant>)> {
        let history = self.history.as_ref()?;
        let used = self.subscribers.is_empty().then(|| history.active());
        Some((history.bytes(), used))
    }

    /// Nobody needs it any more, and nothing of it is counted.
    fn end(&mut self, name: &Arc<str>, histories: &Histories) {
        self.gone = true;
        histories.remove(name, &mut self.account);
    }

    /// A topic with a history waits for those who come back; `expire` ends it.
    fn end_if_unneeded(&mut self) -> bool {
        self.gone = self.subscribers.is_empty() && self.history.is_none() && !self.is_permanent;
        self.gone
    }
}
