//! Which request is next if more come than may be under way: fair queueing, round robin by flow, as routers do it with
//! packets. Pure: no I/O, no clock.
//!
//! A flow has one turn in the round, however many of its requests wait. When no more may wait, the newest request of the
//! flow with the most requests is refused, so that those who ask for much make room for those who ask for little.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::message::Flow;

/// Slots for requests, and the queue in front of them. `T` stands for a request.
pub(super) struct Queue<T> {
    slots: usize,
    max_waiting: usize,
    under_way: usize,
    waiting: usize,
    /// Flows that have requests waiting.
    flows: HashMap<Flow, Line<T>>,
    /// The same by their turns: the first is next. No two have the same.
    round: BTreeMap<u64, Flow>,
    /// The same by their number of requests, with their turns: the last one has the most.
    sizes: BTreeSet<(usize, u64)>,
    last_turn: u64,
    last_number: u64,
}

/// The requests of one flow, oldest first, by number.
struct Line<T> {
    turn: u64,
    requests: VecDeque<(u64, T)>,
}

/// Names a request that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WaiterId {
    flow: Flow,
    number: u64,
}

impl<T> Queue<T> {
    pub(super) fn new(slots: usize, max_waiting: usize) -> Self {
        Self {
            slots,
            max_waiting,
            under_way: 0,
            waiting: 0,
            flows: HashMap::new(),
            round: BTreeMap::new(),
            sizes: BTreeSet::new(),
            last_turn: 0,
            last_number: 0,
        }
    }

    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Takes a slot, if one is free.
    pub(super) fn try_enter(&mut self) -> bool {
        // A slot that becomes free goes to a waiting request at once, so nobody is overtaken here.
        let is_free = self.under_way < self.slots;
        self.under_way += usize::from(is_free);
        is_free
    }

    /// Joins the queue. Gives the id, and the request that had to make room for this one, if there is one. None: this one is
    /// refused.
    pub(super) fn wait(&mut self, flow: Flow, request: T) -> Option<(WaiterId, Option<T>)> {
        let displaced = if self.waiting < self.max_waiting {
            None
        } else {
            Some(self.displace(self.size(&flow) + 1)?)
        };
        self.last_number += 1;
        let number = self.last_number;
        self.change(&flow, |requests| requests.push_back((number, request)));
        self.waiting += 1;
        Some((WaiterId { flow, number }, displaced))
    }

    /// A request is done. Gives the one that has its slot now; none if no request waits.
    pub(super) fn leave(&mut self) -> Option<T> {
        let Some((_, flow)) = self.round.pop_first() else {
            self.under_way = self.under_way.saturating_sub(1);
            return None;
        };
        // The rest of the flow goes to the end of the round.
        let mut line = self.flows.remove(&flow)?;
        self.sizes.remove(&(line.requests.len(), line.turn));
        let (_, request) = line.requests.pop_front()?;
        self.waiting -= 1;
        if !line.requests.is_empty() {
            self.change(&flow, |requests| *requests = line.requests);
        }
        Some(request)
    }

    /// Gives up waiting. False: it does not wait any more.
    pub(super) fn cancel(&mut self, id: &WaiterId) -> bool {
        let index = |line: &Line<T>| {
            line.requests
                .binary_search_by_key(&id.number, |(number, _)| *number)
        };
        let Some(Ok(index)) = self.flows.get(&id.flow).map(index) else {
            return false;
        };
        self.change(&id.flow, |requests| drop(requests.remove(index)));
        self.waiting -= 1;
        true
    }

    /// Empties the queue.
    pub(super) fn drain(&mut self) -> Vec<T> {
        self.round.clear();
        self.sizes.clear();
        self.waiting = 0;
        let lines = self.flows.drain();
        lines
            .flat_map(|(_, line)| line.requests)
            .map(|(_, request)| request)
            .collect()
    }

    /// Takes the newest request out of the flow with the most requests, if it has more than `size`.
    fn displace(&mut self, size: usize) -> Option<T> {
        let (most, turn) = *self.sizes.last()?;
        if most <= size {
            return None;
        }
        let flow = self.round.get(&turn)?.clone();
        let newest = self.change(&flow, VecDeque::pop_back)?;
        self.waiting -= 1;
        Some(newest.1)
    }

    fn size(&self, flow: &Flow) -> usize {
        self.flows.get(flow).map_or(0, |line| line.requests.len())
    }

    /// Changes the line of a flow, and keeps the three views of the flows in step. A new one comes last in the round.
    fn change<R>(&mut self, flow: &Flow, change: impl FnOnce(&mut VecDeque<(u64, T)>) -> R) -> R {
        let last_turn = &mut self.last_turn;
        let line = self.flows.entry(flow.clone()).or_insert_with(|| {
            *last_turn += 1;
            Line {
                turn: *last_turn,
                requests: VecDeque::new(),
            }
        });
        let turn = line.turn;
        self.sizes.remove(&(line.requests.len(), turn));
        let result = change(&mut line.requests);
        if line.requests.is_empty() {
            self.flows.remove(flow);
            self.round.remove(&turn);
        } else {
            self.sizes.insert((line.requests.len(), turn));
            self.round.insert(turn, flow.clone());
        }
        result
    }
}

#[cfg(test)]
mod tests;
