//! What the registry does with topics: who subscribes, what is published, who is in them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

use super::history::Retention;
use super::position::Position;
use super::topic::{self, Added, Removed, Topic};
use super::{EVERYONE, Entry, Kept, PRESENCE, Published, Registry, SendError, is_name, lock};
use crate::config::SlowClients;
use crate::message::{Connection, Payload};
use crate::send_queue::Outbound;

/// The parameter of the handshake's query by which a client resumes a topic: `resume=TOPIC:EPOCH:OFFSET`.
const RESUME: &str = "resume";

impl Registry {
    /// Makes a connection a subscriber of a topic. What it missed of the topic's history, if it resumes, is put into its
    /// queue before anything newer. Nothing happens to one that is already.
    pub fn subscribe(&self, id: &str, name: &str) -> Result<(), SendError> {
        if !is_name(name) || name == EVERYONE {
            return Err(SendError::Name);
        }
        let entry = self.entry(id).ok_or(SendError::NotFound)?;
        let mut memberships = lock(&entry.memberships);
        if memberships.gone {
            return Err(SendError::NotFound);
        }
        if memberships.topics.iter().any(|topic| *topic.name == *name) {
            return Ok(());
        }
        if memberships.topics.len() >= self.rules.load().limits.topics {
            return Err(SendError::Topics);
        }
        let resumed = memberships.resume.iter().position(|(topic, _)| topic == name);
        let position = resumed.map(|place| memberships.resume.swap_remove(place).1);
        let topic = loop {
            let topic = self.topic(name);
            match topic.add(&entry, position.as_ref(), |event| self.tell_presence(name, event)) {
                Added::Done => break topic,
                // It was left by its last subscriber between the two lines.
                Added::Gone => self.forget(&topic),
            }
        };
        memberships.topics.push(topic);
        Ok(())
    }

    /// Undoes `subscribe`. One that is no subscriber is no error.
    pub fn unsubscribe(&self, id: &str, name: &str) -> Result<(), SendError> {
        let entry = self.entry(id).ok_or(SendError::NotFound)?;
        let mut memberships = lock(&entry.memberships);
        if let Some(place) = memberships.topics.iter().position(|topic| *topic.name == *name) {
            let topic = memberships.topics.swap_remove(place);
            self.leave(&entry, &topic);
        }
        Ok(())
    }

    /// Puts a frame into the queues of all subscribers but those whose ids are in `except`. What becomes of one whose queue
    /// is full is in the limits.
    pub fn publish(&self, name: &str, message: &Payload, except: &[String]) -> Result<Published, SendError> {
        let rules = self.rules.load();
        if message.len() > rules.limits.message {
            return Err(SendError::TooLarge);
        }
        if !is_name(name) {
            return Err(SendError::Name);
        }
        if name == EVERYONE {
            return Ok(self.publish_to_everyone(message, except, rules.limits.slow_clients));
        }
        let except: Vec<_> = except.iter().filter_map(|id| self.entry(id)).collect();
        loop {
            let topic = if self.retention(name).is_some() {
                self.topic(name)
            } else {
                match self.existing(name) {
                    Some(topic) => topic,
                    None => return Ok(Published::default()),
                }
            };
            let (limit, policy) = (rules.limits.history, rules.limits.slow_clients);
            match topic.publish(message, &except, &self.history, limit, policy) {
                Some(published) => return Ok(published),
                None => self.forget(&topic),
            }
        }
    }

    fn publish_to_everyone(&self, message: &Payload, except: &[String], policy: SlowClients) -> Published {
        let mut published = Published::default();
        let outbound = Outbound::Published(message.clone());
        for entry in &self.connections {
            if except.iter().any(|id| **id == *entry.connection.id) {
                continue;
            }
            topic::deliver(
                &entry.send_queue,
                &outbound,
                policy,
                topic::TOO_SLOW_REASON,
                &mut published,
            );
        }
        published
    }

    /// Forgets what histories hold beyond their time, and topics that nobody needs any more. To be called now and then.
    pub fn expire(&self, now: Instant) {
        let topics: Vec<_> = self.topics.iter().map(|topic| topic.value().clone()).collect();
        for topic in topics {
            if topic.expire(now, &self.history) == Removed::Empty {
                self.forget(&topic);
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
            .map(|topic| topic.name.to_string())
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
            let entries = self.connections.iter().take(limit);
            return entries.map(|entry| entry.connection.clone()).collect();
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

    /// Bytes in all histories.
    pub fn history_bytes(&self) -> usize {
        self.history.load(Ordering::Relaxed)
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

    pub(super) fn leave(&self, entry: &Arc<Entry>, topic: &Arc<Topic>) {
        if topic.remove(entry, |event| self.tell_presence(&topic.name, event)) == Removed::Empty {
            self.forget(topic);
        }
    }

    /// Tells those who want to know. Called under the lock of the topic, so that joins and leaves are told in their order.
    fn tell_presence(&self, name: &str, event: &str) {
        if name.ends_with(PRESENCE) {
            return;
        }
        if let Some(listeners) = self.existing(&format!("{name}{PRESENCE}")) {
            // One that is gone has nobody to tell.
            let policy = self.rules.load().limits.slow_clients;
            listeners.publish(&Payload::Text(event.into()), &[], &self.history, 0, policy);
        }
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
