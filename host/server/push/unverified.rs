//! Bodies of pushes whose signature cannot be checked before they are complete. Anybody can send them, so all together are
//! bounded. When they get too much, the longest is given up: nobody can keep out an ordinary push that way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::{Body, Bytes};
use futures_util::StreamExt;
use tokio::sync::Notify;

use super::refusal::Refusal;

/// So many of the longest bodies may be held.
const LONGEST: usize = 4;

/// All bodies that are being received.
#[derive(Default)]
pub(in crate::server) struct Unverified(Mutex<Bodies>);

#[derive(Default)]
struct Bodies {
    next: u64,
    bytes: usize,
    held: BTreeMap<u64, Held>,
}

struct Held {
    bytes: usize,
    given_up: Arc<Notify>,
}

/// One of them, until it is dropped.
struct Receiving<'a> {
    all: &'a Unverified,
    id: u64,
    given_up: Arc<Notify>,
}

impl Unverified {
    /// Receives a body of at most `max` bytes.
    pub(super) async fn receive(&self, body: Body, max: usize) -> Result<Bytes, Refusal> {
        let mut chunks = body.into_data_stream();
        let mut received = Vec::new();
        let receiving = self.begin();
        loop {
            let chunk = tokio::select! {
                biased;
                () = receiving.given_up.notified() => return Err(Refusal::Crowded),
                chunk = chunks.next() => chunk,
            };
            let Some(chunk) = chunk else {
                return Ok(received.into());
            };
            let chunk = chunk.map_err(|_| Refusal::Body(max))?;
            if received.len() + chunk.len() > max {
                return Err(Refusal::Body(max));
            }
            self.lock().grow(receiving.id, chunk.len(), LONGEST * max);
            received.extend_from_slice(&chunk);
        }
    }

    fn begin(&self) -> Receiving<'_> {
        let given_up = Arc::new(Notify::new());
        let mut bodies = self.lock();
        let id = bodies.next;
        bodies.next += 1;
        bodies.held.insert(
            id,
            Held {
                bytes: 0,
                given_up: given_up.clone(),
            },
        );
        Receiving {
            all: self,
            id,
            given_up,
        }
    }

    /// Nothing here leaves the numbers half changed, so a panic elsewhere does not spoil them.
    fn lock(&self) -> MutexGuard<'_, Bodies> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bodies {
    fn grow(&mut self, id: u64, bytes: usize, max: usize) {
        let Some(held) = self.held.get_mut(&id) else {
            return;
        };
        held.bytes += bytes;
        self.bytes += bytes;
        while self.bytes > max
            && let Some((longest, _)) = self.held.iter().max_by_key(|(_, held)| held.bytes)
        {
            self.remove(*longest);
        }
    }

    fn remove(&mut self, id: u64) {
        if let Some(held) = self.held.remove(&id) {
            self.bytes -= held.bytes;
            held.given_up.notify_one();
        }
    }
}

impl Drop for Receiving<'_> {
    fn drop(&mut self) {
        self.all.lock().remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn the_longest_is_given_up_when_they_are_too_many_bytes() {
        let all = Unverified::default();
        let [short, long, other] = [all.begin(), all.begin(), all.begin()];
        let is_given_up = |one: &Receiving<'_>| one.given_up.notified().now_or_never().is_some();
        for (one, bytes) in [(&long, 60), (&short, 10), (&other, 30)] {
            all.lock().grow(one.id, bytes, 100);
        }
        assert!(!is_given_up(&long), "all of it is held");
        all.lock().grow(short.id, 1, 100);
        assert!(is_given_up(&long) && !is_given_up(&short) && !is_given_up(&other));
        assert_eq!(all.lock().bytes, 41);
        drop((long, short, other));
        let left = all.lock();
        assert_eq!((left.bytes, left.held.len()), (0, 0));
    }
}
