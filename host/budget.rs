//! Bytes that the process holds for its clients, bounded together.
//!
//! Each connection has a [`Share`] of a budget, which is for one direction. The first few kilobytes of a share are free, so
//! that clients who hold little are not disturbed when others have used the budget up, and touch nothing that is shared.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Bytes of each share that do not count for the budget.
pub const FREE: usize = 4 * 1024;

/// What all shares hold together, except for what is free.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    limit: AtomicUsize,
    /// Bytes that are to come although there is little room.
    reserved: AtomicUsize,
    /// The most that was used since this was last asked.
    peak: AtomicUsize,
    /// Grows whenever somebody is done with something long.
    progress: AtomicU32,
    /// It was used up by more than its limit: somebody has to make room.
    exceeded: Notify,
}

/// What one connection holds of a budget. It is given back by `set(0)`, not by dropping it.
#[derive(Debug, Default)]
pub struct Share {
    bytes: usize,
    /// Of these, what counts for the budget.
    counted: usize,
}

/// Bytes that something short-lived holds of a budget, until it is dropped. Nothing of it is free.
#[derive(Debug)]
pub struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

/// Room for bytes that are to come, until it is dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Reservation {
    /// How many bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.reserved.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Budget {
    /// At most so many bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
            reserved: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            progress: AtomicU32::new(0),
            exceeded: Notify::new(),
        })
    }

    /// From now on at most so many. If there are more, somebody has to make room.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
        if self.excess() > 0 {
            self.exceeded.notify_one();
        }
    }

    /// The most that it should hold.
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Bytes now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// How many bytes are over the limit.
    pub fn excess(&self) -> usize {
        self.used().saturating_sub(self.limit())
    }

    /// The most that was used since this was last asked.
    pub fn take_peak(&self) -> usize {
        self.peak.swap(self.used(), Ordering::Relaxed)
    }

    /// Sets room aside for so many bytes that are to come, unless more than an eighth of the budget would be set
    /// aside, or more than three quarters of it used.
    pub fn reserve(self: &Arc<Self>, bytes: usize) -> Option<Reservation> {
        // Made first, so that what is refused is given back.
        let reservation = Reservation {
            budget: self.clone(),
            bytes,
        };
        let reserved = self.reserved.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let eighth = self.limit() / 8;
        (reserved <= eighth && self.used() + reserved <= 6 * eighth).then_some(reservation)
    }

    /// Somebody is done with something long: those who wait for room need not lose their patience.
    pub fn advance(&self) {
        self.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// Differs from what it was if somebody has been done with something long meanwhile.
    pub fn progress(&self) -> u32 {
        self.progress.load(Ordering::Relaxed)
    }

    /// Waits until somebody goes beyond the limit, or asks for room by [`Budget::ask_for_room`]. One who waits is enough.
    pub async fn exceeded(&self) {
        self.exceeded.notified().await;
    }

    /// Says that somebody cannot go on.
    pub fn ask_for_room(&self) {
        self.exceeded.notify_one();
    }

    /// Holds so many bytes, whatever the limit says.
    pub fn hold(self: &Arc<Self>, bytes: usize) -> Held {
        self.take(bytes);
        Held {
            budget: self.clone(),
            bytes,
        }
    }

    fn take(&self, bytes: usize) {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(used, Ordering::Relaxed);
        if used > self.limit() {
            self.exceeded.notify_one();
        }
    }

    /// Takes bytes if they are within the limit, beside those that are reserved.
    fn try_take(&self, bytes: usize) -> bool {
        let reserved = self.reserved.load(Ordering::Relaxed);
        let limit = self.limit().saturating_sub(reserved);
        let more = |used: usize| used.checked_add(bytes).filter(|more| *more <= limit);
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        if let Ok(before) = taken {
            self.peak.fetch_max(before + bytes, Ordering::Relaxed);
        }
        taken.is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Share {
    /// All bytes that it holds, free ones included.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Holds so many bytes more, unless the budget would be exceeded. A share that is empty gets them all the same.
    pub fn try_add(&mut self, bytes: usize, budget: &Budget) -> bool {
        let more = counted(self.bytes + bytes) - self.counted;
        if self.bytes == 0 {
            take(budget, more);
        } else if more > 0 && !budget.try_take(more) {
            return false;
        }
        self.bytes += bytes;
        self.counted += more;
        true
    }

    /// Takes so many bytes of the budget ahead of what it will really hold, which is what `set` says next. False: they are
    /// not within the limit.
    pub fn try_take_ahead(&mut self, bytes: usize, budget: &Budget) -> bool {
        let is_taken = budget.try_take(bytes);
        if is_taken {
            self.counted += bytes;
        }
        is_taken
    }

    /// Holds so many bytes more, whatever the budget says.
    pub fn add(&mut self, bytes: usize, budget: &Budget) {
        self.set(self.bytes + bytes, budget);
    }

    /// Holds so many bytes less.
    pub fn remove(&mut self, bytes: usize, budget: &Budget) {
        self.set(self.bytes.saturating_sub(bytes), budget);
    }

    /// Holds so many bytes from now on, whatever the budget says.
    pub fn set(&mut self, bytes: usize, budget: &Budget) {
        let now = counted(bytes);
        if now > self.counted {
            take(budget, now - self.counted);
        } else if now < self.counted {
            budget.give_back(self.counted - now);
        }
        self.bytes = bytes;
        self.counted = now;
    }
}

fn counted(bytes: usize) -> usize {
    bytes.saturating_sub(FREE)
}

/// Most shares stay within what is free.
fn take(budget: &Budget, bytes: usize) {
    if bytes > 0 {
        budget.take(bytes);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn what_is_free_is_not_counted_and_the_rest_is_bounded() {
        let budget = Budget::new(10_000);
        let [mut a, mut b, mut c] = [(); 3].map(|()| Share::default());
        assert!(a.try_add(FREE, &budget));
        assert_eq!(budget.used(), 0);
        assert!(a.try_add(6_000, &budget) && b.try_add(FREE + 3_000, &budget));
        assert!(!b.try_add(2_000, &budget), "together they would be over");
        assert!(c.try_add(1_000, &budget), "a modest one is not disturbed");
        assert!(budget.exceeded().now_or_never().is_none());
        c.add(FREE + 1_000, &budget);
        assert_eq!((budget.used(), budget.excess()), (11_000, 1_000));
        assert!(budget.exceeded().now_or_never().is_some());
        a.remove(5_000, &budget);
        assert_eq!(budget.used(), 6_000);
        budget.set_limit(6_000);
        assert!(budget.exceeded().now_or_never().is_none());
        budget.set_limit(5_999);
        assert!(budget.exceeded().now_or_never().is_some());
        for share in [&mut a, &mut b, &mut c] {
            share.set(0, &budget);
        }
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn an_eighth_may_be_reserved() {
        let budget = Budget::new(800);
        let first = budget.reserve(80);
        let mut share = Share::default();
        assert!(first.is_some() && !share.try_take_ahead(721, &budget));
        assert!(share.try_take_ahead(720, &budget));
        share.set(FREE + 100, &budget);
        assert_eq!(budget.used(), 100);
        share.set(0, &budget);
        assert!(budget.reserve(21).is_none());
        assert!(budget.reserve(20).is_some(), "what is refused is not kept");
        drop(first);
        let held = budget.hold(550);
        assert!(budget.reserve(51).is_none(), "it must fit beside what is used");
        assert!(budget.reserve(50).is_some());
        drop(held);
        assert_eq!((budget.take_peak(), budget.take_peak()), (720, 0));
    }

    #[test]
    fn an_empty_share_gets_what_it_needs() {
        let budget = Budget::new(100);
        let mut share = Share::default();
        assert!(share.try_add(FREE + 1_000, &budget));
        assert!(!share.try_add(1, &budget));
        assert_eq!(budget.excess(), 900);
    }
}
