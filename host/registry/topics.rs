//! What the registry does with topics: who subscribes, what is published, who is in them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

use super::fan_out::{Accepted, Publishing, key};
use super::histories::{Bounds, Candidate};
use super::history::Retention;
use super::position::Position;
use super::topic::{Added, Except, Terms, Topic};
use super::{
    EVERYONE, Entry, Kept, Membership, Memberships, PRESENCE, Published, Registry, SendError, is_name, lock,
};
use crate::message::{Connection, Payload};

/// The parameter of the handshake's query by which a client resumes a topic: `resume=TOPIC:EPOCH:OFFSET`.
const RESUME: &str = "resume";

impl Registry {
    /// Makes a connection a subscriber of a topic. What it missed of the topic's history, if it resumes, is put into its
    /// queue before anything newer. Nothing happens to one that is already. Gives what becomes of telling those who want to
    /// know of it.
    pub fn subscribe(&self, id: &str, name: &str) -> Result<Publishing, SendError> {
        if !is_name(name) || name == EVERYONE {
            return Err(SendError::Name);
        }
        let entry = self.entry(id).ok_or(SendError::NotFound)?;
        let mut memberships = lock(&entry.memberships);
        if memberships.gone {
            return Err(SendError::NotFound);
        }
        if memberships.topics.iter().any(|one| *one.topic.name == *name) {
            return Ok(Publishing::Done(Published::default()));
        }
        if memberships.topics.len() >= self.rules.load().limits.topics {
            return Err(SendError::Topics);
        }
        let resumed = memberships.resume.iter().position(|(topic, _)| topic == name);
        let position = resumed.map(|place| memberships.resume.swap_remove(place).1);
        let member = memberships.member(&entry);
        let told = loop {
            let topic = self.topic(name);
            let tell = |event: &str| self.tell_presence(name, event);
            let (member, resume) = (member.clone(), position.as_ref());
            match topic.add(&entry, member, resume, &self.histories, tell) {
                Added::Done(subscriber, told) => {
                    memberships.topics.push(Membership { topic, subscriber });
                    break told;
                }
                // It was left by its last subscriber between the two lines.
                Added::Gone => self.forget(&topic),
            }
        };
        drop(memberships);
        self.make_room();
        Ok(told.map_or(Publishing::Done(Published::default()), Accepted::run))
    }

    /// Undoes `subscribe`. One that is not a subscriber is no error.
    pub fn unsubscribe(&self, id: &str, name: &str) -> Result<Publishing, SendError> {
        let entry = self.entry(id).ok_or(SendError::NotFound)?;
        let mut memberships = lock(&entry.memberships);
        let found = memberships.topics.iter().position(|one| *one.topic.name == *name);
        let told = found.and_then(|place| self.leave(&memberships.topics.swap_remove(place)));
        drop(memberships);
        self.make_room();
        Ok(told.map_or(Publishing::Done(Published::default()), Accepted::run))
    }

    /// Puts a message into the queues of all subscribers except for those whose ids are in `except`. What becomes of one
    /// whose queue is full is in the limits. `sender` is whose message it comes from, if it comes from one: it may be left
    /// out even when it has gone.
    pub fn publish(
        &self,
        name: &str,
        message: &Payload,
        except: &[String],
        sender: Option<&Connection>,
    ) -> Result<Publishing, SendError> {
        let rules = self.rules.load();
        if message.len() > rules.limits.message {
            return Err(SendError::TooLarge);
        }
        if !is_name(name) {
            return Err(SendError::Name);
        }
        let except = self.except(except, sender);
        loop {
            let Some(topic) = self.published_in(name) else {
                return Ok(Publishing::Done(Published::default()));
            };
            match topic.accept(message, except.clone(), &self.terms()) {
                Some(accepted) => {
                    self.make_room();
                    return Ok(accepted.run());
                }
                None => self.forget(&topic),
            }
        }
    }

    fn except(&self, ids: &[String], sender: Option<&Connection>) -> Except {
        if ids.is_empty() {
            return Except::default();
        }
        let mut entries: Vec<_> = ids.iter().filter_map(|id| self.entry(id)).collect();
        entries.sort_unstable_by_key(key);
        let mut clients: Vec<_> = entries.iter().map(|entry| entry.client()).collect();
        let sender = sender.filter(|sender| ids.iter().any(|id| **id == *sender.id));
        clients.extend(sender.and_then(|sender| sender.client.get()));
        clients.sort_unstable();
        clients.dedup();
        Except {
            entries,
            clients: clients.into(),
        }
    }

    /// The topic of a name, if a publication has any effect there.
    fn published_in(&self, name: &str) -> Option<Arc<Topic>> {
        if name == EVERYONE {
            return Some(self.everyone.clone());
        }
        match self.retention(name) {
            Some(_) => Some(self.topic(name)),
            None => self.existing(name),
        }
    }

    fn terms(&self) -> Terms<'_> {
        let rules = self.rules.load();
        let limits = &rules.limits;
        Terms {
            histories: &self.histories,
            policy: limits.slow_clients,
            outgoing: &self.outgoing,
        }
    }

    /// Forgets what histories hold beyond their time, and topics that nobody needs any more. To be called now and then.
    pub fn expire(&self, now: Instant) {
        let topics: Vec<_> = self.topics.iter().map(|topic| topic.value().clone()).collect();
        for topic in topics {
            if topic.expire(now, &self.histories) {
                self.forget(&topic);
            }
        }
    }

    /// Has histories give way as long as all together are too much. Not to be called under the lock of a topic.
    pub(super) fn make_room(&self) {
        let limits = &self.rules.load().limits;
        let bounds = Bounds {
            bytes: limits.history,
            idle: limits.idle_topics,
        };
        if !self.histories.is_over(bounds) {
            return;
        }
        let _turn = self.histories.turn();
        while let Some(candidate) = self.histories.candidate(bounds) {
            match candidate {
                Candidate::Largest(name, excess) => {
                    if let Some(topic) = self.existing(&name) {
                        topic.shrink(excess, &self.histories);
                    }
                }
                Candidate::Unused(name, used) => {
                    if let Some(topic) = self.existing(&name)
                        && topic.evict(used, &self.histories)
                    {
                        self.forget(&topic);
                    }
                }
            }
        }
    }

    /// The topics of a connection, sorted.
    pub fn topics_of(&self, id: &str) -> Vec<String> {
        let Some(entry) = self.entry(id) else {
            return Vec::new();
        };
        let names: BTreeSet<_> = lock(&entry.memberships)
            .topics
            .iter()
            .map(|one| one.topic.name.to_string())
            .collect();
        names.into_iter().collect()
    }

    /// All topics with the number of their subscribers, in no order.
    pub fn topics(&self) -> Vec<(Arc<str>, usize)> {
        let topics: Vec<_> = self.topics.iter().map(|topic| topic.value().clone()).collect();
        topics
            .iter()
            .map(|topic| (topic.name.clone(), topic.count()))
            .collect()
    }

    /// How many have subscribed to a topic.
    pub fn subscriber_count(&self, name: &str) -> usize {
        match name {
            EVERYONE => self.count(),
            _ => self.existing(name).map_or(0, |topic| topic.count()),
        }
    }

    /// The subscribers of a topic, in no order, at most so many.
    pub fn subscribers(&self, name: &str, limit: usize) -> Vec<Arc<Connection>> {
        if name == EVERYONE {
            return self.everyone.subscribers(limit);
        }
        self.existing(name)
            .map_or_else(Vec::new, |topic| topic.subscribers(limit))
    }

    /// Who is in a topic, with the number of their connections; in no order, at most so many.
    pub fn members(&self, name: &str, limit: usize) -> Vec<(Arc<str>, usize)> {
        self.existing(name)
            .map_or_else(Vec::new, |topic| topic.members(limit))
    }

    /// How many topics there are.
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// What all histories cost, in bytes.
    pub fn history_bytes(&self) -> usize {
        self.histories.bytes()
    }

    /// How many topics have a history and no subscribers.
    pub fn idle_topic_count(&self) -> usize {
        self.histories.idle()
    }

    /// Messages of histories that were dropped, and idle topics that were forgotten, for lack of room, since this was last
    /// asked.
    pub fn take_history_losses(&self) -> (u64, u64) {
        self.histories.take_losses()
    }

    /// The topic of a name, made if there is none.
    fn topic(&self, name: &str) -> Arc<Topic> {
        if let Some(topic) = self.existing(name) {
            return topic;
        }
        let name: Arc<str> = name.into();
        let topic = self.topics.entry(name.clone());
        topic
            .or_insert_with(|| {
                let retention = self.retention(&name);
                Arc::new(Topic::new(name, retention.map(|kept| (kept, self.epoch()))))
            })
            .value()
            .clone()
    }

    /// Cloned out of the map: its lock must not be taken under one of the map's.
    fn existing(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics.get(name).map(|topic| topic.value().clone())
    }

    /// What a topic keeps; joins and leaves are of the moment.
    fn retention(&self, name: &str) -> Option<Retention> {
        if name.ends_with(PRESENCE) {
            return None;
        }
        let fits = |kept: &&Kept| match kept.name.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => kept.name == name,
        };
        self.rules
            .load()
            .kept
            .iter()
            .find(fits)
            .map(|kept| kept.retention)
    }

    /// Names one life of one topic.
    fn epoch(&self) -> String {
        let began = self
            .started
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let number = self.epochs.fetch_add(1, Ordering::Relaxed);
        format!("{:x}-{number:x}", began.as_millis())
    }

    /// Takes a topic that is gone out of the map, unless a new one has its name already.
    fn forget(&self, topic: &Arc<Topic>) {
        self.topics
            .remove_if(&topic.name, |_, found| Arc::ptr_eq(found, topic));
    }

    /// Ends a membership. What is given back is to be run when no lock of a topic is held.
    pub(super) fn leave(&self, membership: &Membership) -> Option<Accepted> {
        let Membership { topic, subscriber } = membership;
        let (told, is_empty) = topic.remove(subscriber, &self.histories, |event| {
            self.tell_presence(&topic.name, event)
        });
        if is_empty {
            self.forget(topic);
        }
        told
    }

    /// Tells those who want to know. Called under the lock of the topic, so that joins and leaves are told in their order.
    fn tell_presence(&self, name: &str, event: &str) -> Option<Accepted> {
        if name.ends_with(PRESENCE) {
            return None;
        }
        let listeners = self.existing(&format!("{name}{PRESENCE}"))?;
        // One that is gone has nobody to tell.
        listeners.accept(&Payload::Text(event.into()), Except::default(), &self.terms())
    }

    /// Where a client says that it left off.
    pub(super) fn positions(&self, query: &str) -> Vec<(String, Position)> {
        let rules = self.rules.load();
        if rules.kept.is_empty() || !query.contains(RESUME) {
            return Vec::new();
        }
        form_urlencoded::parse(query.as_bytes())
            .filter(|(name, _)| name == RESUME)
            .filter_map(|(_, value)| Position::of_topic(&value))
            .take(rules.limits.topics)
            .collect()
    }
}

impl Memberships {
    /// What a connection is called among the members of a topic that it is about to join; none if that is its id. The name
    /// may be long, so all its subscriptions share it.
    fn member(&self, entry: &Entry) -> Option<Arc<str>> {
        let user = entry.connection.attribute("user")?;
        let mut known = self
            .topics
            .iter()
            .filter_map(|one| one.subscriber.member.as_ref());
        let shared = known.find(|name| ***name == *user).cloned();
        Some(shared.unwrap_or_else(|| user.into()))
    }
}
