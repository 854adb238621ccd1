//! The subscribers of a topic, so that a publication can go to those who are in it now without keeping the others out: a
//! snapshot costs a counter, and whoever comes or goes meanwhile copies the few that stand in the same chunk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::Entry;
use crate::send_queue::SendQueue;

/// Subscribers of a chunk. What is delivered to without a pause, and what is copied for a join beside a publication.
const CHUNK: usize = 64;

/// A connection in a topic.
pub(super) struct Subscriber {
    pub(super) entry: Arc<Entry>,
    /// The entry's, here to be near.
    pub(super) send_queue: Arc<SendQueue>,
    /// None: the connection's id is its name.
    pub(super) member: Option<Arc<str>>,
    /// False: it has left, and nothing is sent to it any more. Changed under the lock of its send queue.
    pub(super) is_active: AtomicBool,
    /// Where it stands. Read and changed under the lock of the topic.
    index: AtomicUsize,
}

/// All subscribers. Every chunk is full, except for the last one.
#[derive(Default)]
pub(super) struct Subscribers {
    chunks: Arc<Vec<Chunk>>,
    count: usize,
}

/// A few of them.
pub(super) type Chunk = Arc<Vec<Arc<Subscriber>>>;

/// Who was in the topic at a moment.
#[derive(Clone)]
pub(super) struct Snapshot {
    pub(super) chunks: Arc<Vec<Chunk>>,
    pub(super) count: usize,
}

impl Subscriber {
    pub(super) fn new(entry: Arc<Entry>, member: Option<Arc<str>>) -> Arc<Self> {
        Arc::new(Self {
            send_queue: entry.send_queue.clone(),
            entry,
            member,
            is_active: AtomicBool::new(true),
            index: AtomicUsize::new(usize::MAX),
        })
    }

    /// Its name among the members.
    pub(super) fn name(&self) -> &Arc<str> {
        self.member.as_ref().unwrap_or(&self.entry.connection.id)
    }
}

impl Subscribers {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            chunks: self.chunks.clone(),
            count: self.count,
        }
    }

    pub(super) fn add(&mut self, subscriber: Arc<Subscriber>) {
        subscriber.index.store(self.count, Ordering::Relaxed);
        let chunks = Arc::make_mut(&mut self.chunks);
        match chunks.last_mut() {
            Some(last) if last.len() < CHUNK => Arc::make_mut(last).push(subscriber),
            _ => chunks.push(Arc::new(vec![subscriber])),
        }
        self.count += 1;
    }

    /// Removes one that is in here; the last one takes its place. False: it is not.
    pub(super) fn remove(&mut self, subscriber: &Arc<Subscriber>) -> bool {
        let index = subscriber.index.load(Ordering::Relaxed);
        let found = self
            .chunks
            .get(index / CHUNK)
            .and_then(|chunk| chunk.get(index % CHUNK));
        if !found.is_some_and(|found| Arc::ptr_eq(found, subscriber)) {
            return false;
        }
        let chunks = Arc::make_mut(&mut self.chunks);
        let last = chunks.last_mut().and_then(|last| Arc::make_mut(last).pop());
        if chunks.last().is_some_and(|chunk| chunk.is_empty()) {
            chunks.pop();
        }
        self.count -= 1;
        if let Some(last) = last
            && !Arc::ptr_eq(&last, subscriber)
        {
            last.index.store(index, Ordering::Relaxed);
            let place = chunks
                .get_mut(index / CHUNK)
                .and_then(|chunk| Arc::make_mut(chunk).get_mut(index % CHUNK));
            if let Some(place) = place {
                *place = last;
            }
        }
        if self.is_empty() {
            // A crowd must not cost memory for the rest of a long life.
            self.chunks = Arc::default();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::registry::Registry;
    use crate::registry::tests::connect;

    fn ids(snapshot: &Snapshot) -> Vec<String> {
        let all = snapshot.chunks.iter().flat_map(|chunk| chunk.iter());
        let mut ids: Vec<_> = all.map(|one| one.entry.connection.id.to_string()).collect();
        assert_eq!(ids.len(), snapshot.count);
        ids.sort();
        ids
    }

    proptest! {
        /// Whoever comes and goes, everyone who is there is there once, and a snapshot stays as it is.
        #[test]
        fn nobody_is_lost_or_doubled(steps in prop::collection::vec((any::<bool>(), any::<usize>()), 0..400)) {
            let registry = Arc::new(Registry::default());
            let (mut subscribers, mut model) = (Subscribers::default(), Vec::new());
            let mut snapshots = Vec::new();
            for (n, (joins, which)) in steps.into_iter().enumerate() {
                if joins || model.is_empty() {
                    let (registration, _) = connect(&registry, &format!("{n:04}"));
                    let subscriber = Subscriber::new(registration.entry.clone(), None);
                    subscribers.add(subscriber.clone());
                    model.push((subscriber, registration));
                } else {
                    let (gone, _registration) = model.swap_remove(which % model.len());
                    prop_assert!(subscribers.remove(&gone));
                    prop_assert!(!subscribers.remove(&gone));
                }
                if which % 50 == 0 {
                    let snapshot = subscribers.snapshot();
                    snapshots.push((ids(&snapshot), snapshot));
                }
            }
            let mut expected: Vec<_> = model.iter().map(|(one, _)| one.entry.connection.id.to_string()).collect();
            expected.sort();
            prop_assert_eq!(ids(&subscribers.snapshot()), expected);
            for (then, snapshot) in snapshots {
                prop_assert_eq!(ids(&snapshot), then);
            }
        }
    }
}
