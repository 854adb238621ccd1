//! Which close event is next. Pure: no I/O, and the clock is given.
//!
//! Each upstream has a few requests under way, so that one that hangs holds up its own close events only. Where several wait
//! for an upstream, the clients take turns by their network: whoever connects and goes ten thousand times delays nobody who
//! goes once. When no more may wait, those make room of whose network the most wait.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Instant;

use crate::fair_queue::Round;

/// Requests to one upstream that are under way at a time.
const IN_FLIGHT: usize = 4;

/// A close event, and what decides about its turn.
pub(super) struct Entry<T> {
    pub(super) upstream: usize,
    /// That of the client.
    pub(super) network: IpAddr,
    /// That it holds.
    pub(super) bytes: usize,
    pub(super) item: T,
}

/// How much may wait.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) entries: usize,
    pub(super) bytes: usize,
}

pub(super) struct Queue<T> {
    upstreams: HashMap<usize, Line<T>>,
    /// The upstreams in the order of their turns. Those that have nothing to do are passed over.
    round: VecDeque<usize>,
    /// Those that are to be sent again, by when they are due and by number.
    later: BTreeMap<(Instant, u64), Entry<T>>,
    last_number: u64,
    /// How many wait of each network.
    networks: HashMap<IpAddr, usize>,
    waiting: usize,
    /// Of all that wait or are under way.
    bytes: usize,
}

/// What waits for one upstream.
struct Line<T> {
    under_way: usize,
    networks: Round<IpAddr, VecDeque<Entry<T>>>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            upstreams: HashMap::new(),
            round: VecDeque::new(),
            later: BTreeMap::new(),
            last_number: 0,
            networks: HashMap::new(),
            waiting: 0,
            bytes: 0,
        }
    }
}

impl<T> Queue<T> {
    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Adds an entry to the end of its line. Gives those that are lost for it, which may be the entry itself, each with the
    /// key of the bound that is reached.
    pub(super) fn add(&mut self, entry: Entry<T>, bounds: Bounds) -> Vec<(T, &'static str)> {
        let mut lost = Vec::new();
        loop {
            let reached = if self.waiting >= bounds.entries {
                "max-waiting"
            } else if self.bytes + entry.bytes > bounds.bytes {
                "max-bytes"
            } else {
                self.bytes += entry.bytes;
                self.waits(entry.network);
                self.enqueue(entry);
                return lost;
            };
            let displaced = (entry.bytes <= bounds.bytes).then(|| self.displace(entry.network));
            match displaced.flatten() {
                Some(item) => lost.push((item, reached)),
                None => {
                    lost.push((entry.item, reached));
                    return lost;
                }
            }
        }
    }

    /// Adds an entry that was under way and is to be sent again.
    pub(super) fn add_again(&mut self, entry: Entry<T>, due: Instant) {
        self.ended(entry.upstream);
        self.waits(entry.network);
        self.last_number += 1;
        self.later.insert((due, self.last_number), entry);
    }

    /// An entry that was under way is done.
    pub(super) fn done(&mut self, upstream: usize, bytes: usize) {
        self.ended(upstream);
        self.bytes -= bytes;
    }

    /// The next entry, which is under way from now on. If there is none, gives when there may be one without anything else
    /// happening.
    pub(super) fn next(&mut self, now: Instant) -> Result<Entry<T>, Option<Instant>> {
        while let Some(first) = self.later.first_entry()
            && first.key().0 <= now
        {
            let entry = first.remove();
            self.enqueue(entry);
        }
        for _ in 0..self.round.len() {
            let Some(upstream) = self.round.pop_front() else {
                break;
            };
            self.round.push_back(upstream);
            if let Some(entry) = self.upstreams.get_mut(&upstream).and_then(Line::next) {
                self.waits_no_more(entry.network);
                return Ok(entry);
            }
        }
        Err(self.later.keys().next().map(|(due, _)| *due))
    }

    fn waits(&mut self, network: IpAddr) {
        self.waiting += 1;
        *self.networks.entry(network).or_default() += 1;
    }

    fn waits_no_more(&mut self, network: IpAddr) {
        self.waiting -= 1;
        if let Some(n) = self.networks.get_mut(&network) {
            *n -= 1;
            if *n == 0 {
                self.networks.remove(&network);
            }
        }
    }

    fn enqueue(&mut self, entry: Entry<T>) {
        let round = &mut self.round;
        let line = self
            .upstreams
            .entry(entry.upstream)
            .or_insert_with_key(|upstream| {
                round.push_back(*upstream);
                Line {
                    under_way: 0,
                    networks: Round::default(),
                }
            });
        let network = entry.network;
        line.networks.change(&network, |entries| entries.push_back(entry));
    }

    fn ended(&mut self, upstream: usize) {
        if let Some(line) = self.upstreams.get_mut(&upstream) {
            line.under_way -= 1;
        }
    }

    /// Takes an entry of the network of which the most wait, unless of the other network there would then be more.
    fn displace(&mut self, other: IpAddr) -> Option<T> {
        let size = self.networks.get(&other).map_or(0, |n| *n) + 1;
        let (network, most) = self.networks.iter().max_by_key(|(_, n)| **n)?;
        if *most <= size {
            return None;
        }
        let network = *network;
        let again = self
            .later
            .iter()
            .rev()
            .find(|(_, entry)| entry.network == network);
        let again = again.map(|(key, _)| *key);
        let entry = match again {
            Some(key) => self.later.remove(&key),
            None => self.upstreams.values_mut().find_map(|line| line.take(network)),
        }?;
        self.waits_no_more(network);
        self.bytes -= entry.bytes;
        Some(entry.item)
    }
}

impl<T> Line<T> {
    /// Takes the newest entry of a network.
    fn take(&mut self, network: IpAddr) -> Option<Entry<T>> {
        self.networks.change(&network, VecDeque::pop_back)
    }

    fn next(&mut self) -> Option<Entry<T>> {
        if self.under_way >= IN_FLIGHT {
            return None;
        }
        let entry = self.networks.turn(VecDeque::pop_front)?;
        self.under_way += 1;
        Some(entry)
    }
}

#[cfg(test)]
mod tests;
