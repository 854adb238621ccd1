//! All topics with a history together: how much they hold, which of them holds most, and which has been unused for longest,
//! so that one of these gives way when it is too much. Knows them by name only.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use super::lock;

/// What a topic with a history costs beside its name and its messages, in bytes; measured by `cargo bench --bench topics`.
const TOPIC: usize = 768;

#[derive(Default)]
pub(super) struct Histories {
    bytes: AtomicUsize,
    /// Topics without subscribers.
    idle: AtomicUsize,
    trimmed: AtomicU64,
    forgotten: AtomicU64,
    places: Mutex<Places>,
    turn: Mutex<()>,
}

/// Topics in order. A topic's place is not exact: it moves when it is much too far from where it should be, so that most
/// publications change nothing here.
#[derive(Default)]
struct Places {
    /// Those with messages, by the bytes of these.
    by_size: BTreeSet<(usize, Arc<str>)>,
    /// Those without subscribers, by the time of their last use.
    by_use: BTreeSet<(Instant, Arc<str>)>,
    /// What those without subscribers cost, without their messages.
    idle_bytes: usize,
}

/// How a topic is counted. Kept by the topic, and changed under its lock.
#[derive(Default)]
pub(super) struct Account {
    bytes: usize,
    /// Its places; 0 and none if it has none there.
    size: usize,
    used: Option<Instant>,
}

/// How much all may hold.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) bytes: usize,
    /// Topics without subscribers.
    pub(super) idle: usize,
}

/// Who has to give way.
pub(super) enum Candidate {
    /// Its messages take most; so many bytes are too many.
    Largest(Arc<str>, usize),
    /// It has no subscribers, and has been unused for longest, unless it was used after this time.
    Unused(Arc<str>, Instant),
}

impl Account {
    /// The bytes of its messages, as far as its place says.
    pub(super) fn size(&self) -> usize {
        self.size
    }
}

impl Histories {
    /// Counts a topic as it is now: the bytes of its messages, and when it was last used, if it has no subscribers.
    pub(super) fn update(&self, name: &Arc<str>, account: &mut Account, size: usize, used: Option<Instant>) {
        let is_near = (account.size / 2..=account.size + account.size / 4).contains(&size);
        let is_listed = (size == 0) == (account.size == 0) && used.is_none() == account.used.is_none();
        if is_near && is_listed {
            self.count(account, TOPIC + name.len() + size);
        } else {
            self.place(name, account, size, used);
        }
    }

    /// A topic is gone.
    pub(super) fn remove(&self, name: &Arc<str>, account: &mut Account) {
        self.place(name, account, 0, None);
        self.count(account, 0);
    }

    fn count(&self, account: &mut Account, bytes: usize) {
        if bytes > account.bytes {
            self.bytes.fetch_add(bytes - account.bytes, Ordering::Relaxed);
        } else {
            self.bytes.fetch_sub(account.bytes - bytes, Ordering::Relaxed);
        }
        account.bytes = bytes;
    }

    /// Counts it, and puts it exactly where it should be.
    pub(super) fn place(&self, name: &Arc<str>, account: &mut Account, size: usize, used: Option<Instant>) {
        self.count(account, TOPIC + name.len() + size);
        let mut places = lock(&self.places);
        if account.size != size {
            places.by_size.remove(&(account.size, name.clone()));
            if size > 0 {
                places.by_size.insert((size, name.clone()));
            }
            account.size = size;
        }
        if account.used != used {
            if let Some(used) = account.used
                && places.by_use.remove(&(used, name.clone()))
            {
                places.idle_bytes -= TOPIC + name.len();
            }
            if let Some(used) = used
                && places.by_use.insert((used, name.clone()))
            {
                places.idle_bytes += TOPIC + name.len();
            }
            account.used = used;
            self.idle.store(places.by_use.len(), Ordering::Relaxed);
        }
    }

    /// Whether somebody has to give way.
    pub(super) fn is_over(&self, bounds: Bounds) -> bool {
        self.bytes() > bounds.bytes || self.idle() > bounds.idle
    }

    /// Only one makes room at a time.
    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        lock(&self.turn)
    }

    /// Who gives way next, if anybody has to. A little more goes than must, so that the next publications do not have to
    /// ask again. Unused topics go before messages if they cost more than half of what there is, without their own.
    pub(super) fn candidate(&self, bounds: Bounds) -> Option<Candidate> {
        let places = lock(&self.places);
        let excess = self.bytes().saturating_sub(bounds.bytes - bounds.bytes / 64);
        let unused = || {
            let (used, name) = places.by_use.first()?;
            Some(Candidate::Unused(name.clone(), *used))
        };
        if places.by_use.len() > bounds.idle || excess > 0 && places.idle_bytes > bounds.bytes / 2 {
            return unused();
        }
        if excess == 0 {
            return None;
        }
        match places.by_size.last() {
            Some((_, name)) => Some(Candidate::Largest(name.clone(), excess)),
            None => unused(),
        }
    }

    /// So many messages were dropped because all together were too much.
    pub(super) fn note_trimmed(&self, messages: usize) {
        self.trimmed.fetch_add(messages as u64, Ordering::Relaxed);
    }

    /// A topic was forgotten because there were too many.
    pub(super) fn note_forgotten(&self) {
        self.forgotten.fetch_add(1, Ordering::Relaxed);
    }

    /// Messages that were dropped, and topics that were forgotten, since this was last asked.
    pub(super) fn take_losses(&self) -> (u64, u64) {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        (take(&self.trimmed), take(&self.forgotten))
    }

    /// What all cost.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How many have no subscribers.
    pub(super) fn idle(&self) -> usize {
        self.idle.load(Ordering::Relaxed)
    }
}
