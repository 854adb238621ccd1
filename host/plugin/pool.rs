//! A slot for each thread, for what that thread keeps for a plugin version.
//!
//! A slot is behind a lock that nobody else takes except the listing of `/plugins`. The contents belong to the version, not
//! to the threads, so that they are dropped with the version, however idle a thread is.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;

/// Threads beyond this number share one slot. There is one for each processor, and as many for each slow plugin.
fn slots() -> usize {
    const LEAST: usize = 64;
    const PER_PROCESSOR: usize = 4;
    let processors = thread::available_parallelism().map_or(1, Into::into);
    LEAST.max(PER_PROCESSOR * processors)
}

pub(super) struct Pool<T> {
    slots: Box<[Mutex<T>]>,
    spare: Mutex<T>,
}

impl<T: Default> Pool<T> {
    /// Begins with one slot in use.
    pub(super) fn new(first: T) -> Self {
        let mut slots: Vec<_> = (0..slots()).map(|_| Mutex::default()).collect();
        if let Some(slot) = slots.first_mut() {
            *slot = Mutex::new(first);
        }
        Self {
            slots: slots.into(),
            spare: Mutex::default(),
        }
    }

    /// The slot of the calling thread.
    pub(super) fn slot(&self) -> MutexGuard<'_, T> {
        lock(self.slots.get(thread_index()).unwrap_or(&self.spare))
    }

    /// All slots. Waits for those that are in use.
    pub(super) fn all(&self) -> impl Iterator<Item = MutexGuard<'_, T>> {
        self.slots.iter().chain([&self.spare]).map(lock)
    }

    /// The slots that are not in use now.
    pub(super) fn at_rest(&self) -> impl Iterator<Item = MutexGuard<'_, T>> {
        let slots = self.slots.iter().chain([&self.spare]);
        slots.filter_map(|slot| match slot.try_lock() {
            Ok(slot) => Some(slot),
            Err(TryLockError::Poisoned(slot)) => Some(slot.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        })
    }
}

/// A panic while the lock was held may have come from inside an instance, which is then dropped by its own error.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A small number for each living thread that calls plugins; the numbers of threads that have ended are reused.
fn thread_index() -> usize {
    thread_local!(static INDEX: OnceCell<ThreadIndex> = const { OnceCell::new() });
    INDEX.with(|index| index.get_or_init(ThreadIndex::take).0)
}

static TAKEN: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());

struct ThreadIndex(usize);

impl ThreadIndex {
    fn take() -> Self {
        let mut taken = lock(&TAKEN);
        let free = taken
            .iter()
            .enumerate()
            .find_map(|(n, index)| (n != *index).then_some(n))
            .unwrap_or(taken.len());
        taken.insert(free);
        Self(free)
    }
}

impl Drop for ThreadIndex {
    fn drop(&mut self) {
        lock(&TAKEN).remove(&self.0);
    }
}
