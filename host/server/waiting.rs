//! Connections that have no request under way: those that have not sent theirs yet, and those that may send another. Anybody
//! can have many of them for nothing, so there is room for so many only. For one more, the one is dropped that has waited
//! longest of the address with the most, if it has had time enough to ask; until then the newest one waits in the kernel.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout;

/// Many clients may come at once, and each gets so long to send its request, however many are behind it.
const PATIENCE: Duration = Duration::from_millis(200);

/// The connections of a listener, until they are handed over to a session.
pub(super) struct Waiting {
    room: usize,
    started: Instant,
    connections: Mutex<Connections>,
    /// Those that wait.
    waiting: AtomicUsize,
    /// Those that were told to go, and still have their descriptor.
    leaving: AtomicUsize,
    /// One has gone.
    gone: Notify,
}

#[derive(Default)]
struct Connections {
    next: u64,
    by_number: BTreeMap<u64, Arc<Connection>>,
}

struct Connection {
    /// None for a Unix socket.
    address: Option<IpAddr>,
    /// One of the states below.
    state: AtomicU8,
    /// Since when it waits, in milliseconds since the start.
    since: AtomicU64,
    has_asked: AtomicBool,
    given_up: Notify,
}

const WAITS: u8 = 0;
/// Its request is being answered.
const ASKS: u8 = 1;
/// It has to make room.
const GIVEN_UP: u8 = 2;

/// One of the connections, until it is dropped.
pub(super) struct Place {
    all: Arc<Waiting>,
    number: u64,
    connection: Arc<Connection>,
}

impl Waiting {
    pub(super) fn new(room: usize) -> Self {
        Self {
            room,
            started: Instant::now(),
            connections: Mutex::default(),
            waiting: AtomicUsize::new(0),
            leaving: AtomicUsize::new(0),
            gone: Notify::new(),
        }
    }

    /// From now on it waits. `most` is how many of its address may wait at the same time.
    pub(super) fn enter(self: &Arc<Self>, address: Option<IpAddr>, most: Option<usize>) -> Place {
        let connection = Arc::new(Connection {
            address,
            state: AtomicU8::new(WAITS),
            since: AtomicU64::new(self.milliseconds(Instant::now())),
            has_asked: AtomicBool::new(false),
            given_up: Notify::new(),
        });
        let mut connections = self.lock();
        let number = connections.next;
        connections.next += 1;
        connections.by_number.insert(number, connection.clone());
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if let Some(most) = most {
            let of_address = || connections.waiting().filter(|other| other.address == address);
            if of_address().count() > most {
                self.give_up(of_address());
            }
        }
        drop(connections);
        Place {
            all: self.clone(),
            number,
            connection,
        }
    }

    /// Waits until there is room for what was accepted last: until then, there may be no descriptor for another one.
    pub(super) async fn make_room(&self) {
        while !self.has_room(Instant::now) {
            // It may also be that one has waited long enough now.
            let _ = timeout(PATIENCE / 8, self.gone.notified()).await;
        }
    }

    /// Whether there are not too many; if there are, one is given up.
    fn has_room(&self, now: impl FnOnce() -> Instant) -> bool {
        if self.waiting.load(Ordering::Relaxed) > self.room {
            let connections = self.lock();
            let mut counts = HashMap::new();
            for connection in connections.waiting() {
                *counts.entry(connection.address).or_insert(0) += 1;
            }
            let busiest = counts.into_iter().max_by_key(|(_, count)| *count);
            let now = self.milliseconds(now());
            if let Some((address, _)) = busiest {
                let may_go = |one: &&Connection| {
                    let waited = now.saturating_sub(one.since.load(Ordering::Relaxed));
                    one.address == address && Duration::from_millis(waited) >= PATIENCE
                };
                self.give_up(connections.waiting().filter(may_go));
            }
        }
        self.waiting.load(Ordering::Relaxed) + self.leaving.load(Ordering::Relaxed) <= self.room
    }

    /// The one has to go that has waited longest.
    fn give_up<'a>(&self, among: impl Iterator<Item = &'a Connection>) {
        let oldest = among.min_by_key(|one| one.since.load(Ordering::Relaxed));
        if let Some(oldest) = oldest
            && oldest.turn(WAITS, GIVEN_UP)
        {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.leaving.fetch_add(1, Ordering::Relaxed);
            oldest.given_up.notify_one();
        }
    }

    fn milliseconds(&self, now: Instant) -> u64 {
        u64::try_from(now.duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }

    /// Nothing here leaves the connections half changed, so a panic elsewhere does not spoil them.
    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connections {
    /// Those that wait, in the order in which they came.
    fn waiting(&self) -> impl Iterator<Item = &Connection> {
        let all = self.by_number.values().map(|connection| &**connection);
        all.filter(|connection| connection.state.load(Ordering::Relaxed) == WAITS)
    }
}

impl Connection {
    /// Changes the state. False: it was another one.
    fn turn(&self, from: u8, to: u8) -> bool {
        let turned = self
            .state
            .compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
        turned.is_ok()
    }
}

impl Place {
    /// It has sent a request.
    pub(super) fn asks(&self) {
        self.connection.has_asked.store(true, Ordering::Relaxed);
        if self.connection.turn(WAITS, ASKS) {
            self.all.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Its request is answered; it has to read the answer, and may send another.
    pub(super) fn waits(&self) {
        let now = self.all.milliseconds(Instant::now());
        self.connection.since.store(now, Ordering::Relaxed);
        if self.connection.turn(ASKS, WAITS) {
            self.all.waiting.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn has_asked(&self) -> bool {
        self.connection.has_asked.load(Ordering::Relaxed)
    }

    /// How long ago its last request was answered; none if it has asked nothing, or is being answered.
    pub(super) fn since_answered(&self) -> Option<Duration> {
        if !self.has_asked() || self.connection.state.load(Ordering::Relaxed) != WAITS {
            return None;
        }
        let since = self.connection.since.load(Ordering::Relaxed);
        let now = self.all.milliseconds(Instant::now());
        Some(Duration::from_millis(now.saturating_sub(since)))
    }

    /// Waits until it has to make room for others.
    pub(super) async fn given_up(&self) {
        self.connection.given_up.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.lock().by_number.remove(&self.number);
        match self.connection.state.load(Ordering::Relaxed) {
            WAITS => self.all.waiting.fetch_sub(1, Ordering::Relaxed),
            GIVEN_UP => self.all.leaving.fetch_sub(1, Ordering::Relaxed),
            _ => return,
        };
        self.all.gone.notify_one();
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
    fn the_one_that_has_waited_longest_of_the_busiest_address_makes_room() {
        let waiting = Arc::new(Waiting::new(3));
        let has_room = |after| waiting.has_room(|| Instant::now() + after);
        let address = |n: u8| Some(IpAddr::from([192, 0, 2, n]));
        let modest = waiting.enter(address(1), None);
        let [first, second] = [waiting.enter(address(2), None), waiting.enter(address(2), None)];
        assert!(has_room(PATIENCE));
        let unix = waiting.enter(None, None);
        assert!(!has_room(Duration::ZERO), "all of them have come just now");
        assert!(![&modest, &first, &second, &unix].into_iter().any(is_given_up));
        assert!(!has_room(PATIENCE), "it is still there");
        assert!(is_given_up(&first) && ![&modest, &second, &unix].into_iter().any(is_given_up));
        drop(first);
        assert!(has_room(PATIENCE));
        drop((modest, second, unix));
        let left = [&waiting.waiting, &waiting.leaving].map(|n| n.load(Ordering::Relaxed));
        assert_eq!((left, waiting.lock().by_number.len()), ([0, 0], 0));
    }

    #[test]
    fn one_that_is_being_answered_takes_no_room_and_is_not_given_up() {
        let waiting = Arc::new(Waiting::new(1));
        let [asking, silent] = [waiting.enter(None, None), waiting.enter(None, None)];
        assert!(!asking.has_asked());
        asking.asks();
        assert!(waiting.has_room(|| Instant::now() + PATIENCE));
        assert_eq!(asking.since_answered(), None);
        asking.waits();
        assert!(asking.since_answered().is_some() && silent.since_answered().is_none());
        assert!(!waiting.has_room(|| Instant::now() + PATIENCE));
        assert!(is_given_up(&asking) != is_given_up(&silent), "one of them");
    }

    #[test]
    fn an_address_has_a_limit_of_its_own() {
        let waiting = Arc::new(Waiting::new(10));
        let address = Some(IpAddr::from([192, 0, 2, 1]));
        let [first, second] = [waiting.enter(address, Some(1)), waiting.enter(address, Some(1))];
        assert!(is_given_up(&first) && !is_given_up(&second));
    }
}
