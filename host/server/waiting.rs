//! Connections that have no request under way: those that have not sent theirs yet, and those that may send another. Anybody
//! can have many of them for nothing, so there is room for so many only. For one more, the one is dropped that has waited
//! longest of the address with the most, if it has had time enough to ask; until then the newest one waits in the kernel.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout;

/// Many clients may come at once, and each gets so long to send its request, however many are behind it.
const PATIENCE: Duration = Duration::from_millis(200);

/// The waiting connections of a listener.
pub(super) struct Waiting {
    room: usize,
    places: Mutex<Places>,
    /// One has gone.
    gone: Notify,
}

#[derive(Default)]
struct Places {
    next: u64,
    count: usize,
    /// With those that were told to go, and still have their descriptor.
    there: usize,
    /// None stands for Unix sockets.
    by_address: HashMap<Option<IpAddr>, OldestFirst>,
}

/// By their numbers: since when they wait, and how they are told to go.
type OldestFirst = BTreeMap<u64, (Instant, Arc<Notify>)>;

/// One of them, until it is dropped.
pub(super) struct Place {
    waiting: Arc<Waiting>,
    address: Option<IpAddr>,
    number: u64,
    given_up: Arc<Notify>,
}

impl Waiting {
    pub(super) fn new(room: usize) -> Self {
        Self {
            room,
            places: Mutex::default(),
            gone: Notify::new(),
        }
    }

    /// Waits until there is room for what was accepted last: until then, there may be no descriptor for another one.
    pub(super) async fn make_room(&self) {
        while !self.lock().have_room(self.room, Instant::now()) {
            // It may also be that one has waited long enough now.
            let _ = timeout(PATIENCE / 8, self.gone.notified()).await;
        }
    }

    /// From now on it waits. `most` is how many of its address may wait at the same time.
    pub(super) fn enter(self: &Arc<Self>, address: Option<IpAddr>, most: Option<usize>) -> Place {
        let given_up = Arc::new(Notify::new());
        let mut places = self.lock();
        let number = places.next;
        places.next += 1;
        places.count += 1;
        places.there += 1;
        let of_address = places.by_address.entry(address).or_default();
        of_address.insert(number, (Instant::now(), given_up.clone()));
        if most.is_some_and(|most| of_address.len() > most) {
            places.give_up(address, |_| true);
        }
        drop(places);
        Place {
            waiting: self.clone(),
            address,
            number,
            given_up,
        }
    }

    /// Nothing here leaves the places half changed, so a panic elsewhere does not spoil them.
    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    /// Whether they are not too many; if they are, one has to go.
    fn have_room(&mut self, room: usize, now: Instant) -> bool {
        if self.count > room {
            let by_count = self.by_address.iter().max_by_key(|(_, places)| places.len());
            if let Some(busiest) = by_count.map(|(address, _)| *address) {
                self.give_up(busiest, |since| now.duration_since(since) >= PATIENCE);
            }
        }
        self.there <= room
    }

    /// The oldest of an address has to go, if it may.
    fn give_up(&mut self, address: Option<IpAddr>, may_go: impl FnOnce(Instant) -> bool) {
        let oldest = self
            .by_address
            .get(&address)
            .and_then(|places| places.first_key_value());
        if let Some((number, (since, given_up))) = oldest
            && may_go(*since)
        {
            given_up.notify_one();
            let number = *number;
            self.remove(address, number);
        }
    }

    fn remove(&mut self, address: Option<IpAddr>, number: u64) {
        let Some(of_address) = self.by_address.get_mut(&address) else {
            return;
        };
        if of_address.remove(&number).is_some() {
            self.count -= 1;
        }
        if of_address.is_empty() {
            self.by_address.remove(&address);
        }
    }
}

impl Place {
    /// Waits until it has to make room for others.
    pub(super) async fn given_up(&self) {
        self.given_up.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.waiting.lock();
        places.there -= 1;
        places.remove(self.address, self.number);
        drop(places);
        self.waiting.gone.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn is_given_up(place: &Place) -> bool {
        place.given_up().now_or_never().is_some()
    }

    #[test]
    fn the_oldest_of_the_busiest_address_makes_room() {
        let waiting = Arc::new(Waiting::new(3));
        let address = |n: u8| Some(IpAddr::from([192, 0, 2, n]));
        let modest = waiting.enter(address(1), None);
        let [first, second] = [waiting.enter(address(2), None), waiting.enter(address(2), None)];
        assert!(![&modest, &first, &second].into_iter().any(is_given_up));
        let unix = waiting.enter(None, None);
        let has_room = |after| waiting.lock().have_room(3, Instant::now() + after);
        assert!(!has_room(Duration::ZERO), "all of them have come just now");
        assert!(![&modest, &first, &second, &unix].into_iter().any(is_given_up));
        assert!(!has_room(PATIENCE), "it is still there");
        assert!(is_given_up(&first) && ![&modest, &second, &unix].into_iter().any(is_given_up));
        drop(first);
        assert!(has_room(Duration::ZERO));
        assert_eq!(waiting.lock().count, 3);
        drop((modest, second, unix));
        let left = waiting.lock();
        assert_eq!((left.count, left.by_address.len()), (0, 0));
    }

    #[test]
    fn an_address_has_a_limit_of_its_own() {
        let waiting = Arc::new(Waiting::new(10));
        let address = Some(IpAddr::from([192, 0, 2, 1]));
        let [first, second] = [waiting.enter(address, Some(1)), waiting.enter(address, Some(1))];
        assert!(is_given_up(&first) && !is_given_up(&second));
    }
}
