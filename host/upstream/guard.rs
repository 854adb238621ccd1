//! Keeps PHP-FPM from drowning: a bound for requests under way, and one for those that wait for their turn.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::message::Failure;

pub(super) struct Guard {
    places: Semaphore,
    waiting: AtomicUsize,
    max_requests: usize,
    max_waiting: usize,
}

impl Guard {
    pub(super) fn new(max_requests: usize, max_waiting: usize) -> Self {
        Self {
            places: Semaphore::new(max_requests),
            waiting: AtomicUsize::new(0),
            max_requests,
            max_waiting,
        }
    }

    /// Waits for a place, first come first served. Dropping what is returned gives the place back.
    pub(super) async fn enter(&self) -> Result<SemaphorePermit<'_>, Failure> {
        if let Ok(place) = self.places.try_acquire() {
            return Ok(place);
        }
        let _waiting = Waiting::start(self)?;
        self.places
            .acquire()
            .await
            .map_err(|closed| Failure::Overloaded(closed.to_string()))
    }
}

/// Counts one who waits, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn start(guard: &'a Guard) -> Result<Self, Failure> {
        let before = guard.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Self(&guard.waiting);
        if before >= guard.max_waiting {
            return Err(Failure::Overloaded(format!(
                "{} requests are under way and {} wait (max-requests, max-waiting)",
                guard.max_requests, guard.max_waiting
            )));
        }
        Ok(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn who_comes_when_all_places_are_taken_and_enough_wait_is_refused() {
        let guard = Guard::new(1, 1);
        let place = guard.enter().await.unwrap();
        let mut second = Box::pin(guard.enter());
        assert!((&mut second).now_or_never().is_none());
        assert!(matches!(guard.enter().await, Err(Failure::Overloaded(_))));
        drop(place);
        let place = second.await.unwrap();
        // One who gives up while waiting leaves no trace.
        let mut third = Box::pin(guard.enter());
        assert!((&mut third).now_or_never().is_none());
        drop(third);
        drop(place);
        assert_eq!(guard.waiting.load(Ordering::Relaxed), 0);
        assert_eq!(guard.places.available_permits(), 1);
    }
}
