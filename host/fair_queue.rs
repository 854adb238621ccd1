//! Who is next where more wait than can be served: fair queueing, as routers do it with packets. Pure: no I/O, no clock.
//!
//! Requests take turns by their class, within a class by the network of the client, and within a network by connection. So
//! whoever asks for much, on however many connections, delays nobody who asks for little. When no more may wait, the newest
//! request of those who have most waiting is refused.

mod round;

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::message::{Class, ConnectionId, Flow};
pub(crate) use round::{Line, Round};

/// What waits. `T` stands for a request.
pub(crate) struct FairQueue<T> {
    classes: Round<Class, Networks<T>>,
    /// How many may wait of those that may be refused.
    limit: usize,
    waiting: usize,
    last_number: u64,
}

type Networks<T> = Round<Option<IpAddr>, Connections<T>>;
type Connections<T> = Round<Option<ConnectionId>, Requests<T>>;

/// Those of one connection, oldest first.
struct Requests<T> {
    waiting: VecDeque<Request<T>>,
    refusable: usize,
}

struct Request<T> {
    number: u64,
    is_refusable: bool,
    item: T,
}

/// Names a request that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestId {
    flow: Flow,
    number: u64,
}

impl<T> FairQueue<T> {
    /// An empty one. So many may wait, beside those that must not be refused.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            classes: Round::default(),
            limit,
            waiting: 0,
            last_number: 0,
        }
    }

    /// How many may wait, beside those that must not be refused.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// From now on so many may wait. If there are more, they stay.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting
    }

    /// Adds a request. Gives its id, and the request that is refused for it, if there is one. An error: this one is refused.
    pub(crate) fn push(
        &mut self,
        flow: Flow,
        item: T,
        is_refusable: bool,
    ) -> Result<(RequestId, Option<T>), T> {
        let mut displaced = None;
        if is_refusable && self.classes.size() >= self.limit {
            displaced = self.displace(&flow);
            if displaced.is_none() {
                return Err(item);
            }
        }
        self.last_number += 1;
        let request = Request {
            number: self.last_number,
            is_refusable,
            item,
        };
        self.change(&flow, |requests| requests.push(request));
        self.waiting += 1;
        let number = self.last_number;
        Ok((RequestId { flow, number }, displaced))
    }

    /// Takes the request whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let next = self
            .classes
            .turn(|networks| networks.turn(|connections| connections.turn(Requests::pop)))?;
        self.waiting -= 1;
        Some(next)
    }

    /// Takes a request out of turn. None: it does not wait any more.
    pub(crate) fn remove(&mut self, id: &RequestId) -> Option<T> {
        let removed = self.change(&id.flow, |requests| requests.remove(id.number))?;
        self.waiting -= 1;
        Some(removed)
    }

    /// Takes the newest request of those of one network and class who have most waiting. If `flow` would then have as much
    /// itself, takes that of the connection that has most in its network; nothing if that is its own.
    fn displace(&mut self, flow: &Flow) -> Option<T> {
        let own = self.classes.get(&flow.class);
        let own = own.map_or(0, |networks| networks.size_of(&flow.network)) + 1;
        let sizes = self
            .classes
            .lines()
            .map(|(class, networks)| (networks.most(), *class));
        let (most, class) = sizes.max()?;
        let newest = |connections: &mut Connections<T>| connections.change_largest(Requests::pop_newest);
        let displaced = if most > own {
            self.classes
                .change(&class, |networks| networks.change_largest(newest))
        } else {
            self.classes.change(&flow.class, |networks| {
                networks.change(&flow.network, |connections| {
                    let own = connections.size_of(&flow.connection) + 1;
                    if connections.most() > own {
                        newest(connections)
                    } else {
                        None
                    }
                })
            })
        }?;
        self.waiting -= 1;
        Some(displaced)
    }

    fn change<R>(&mut self, flow: &Flow, change: impl FnOnce(&mut Requests<T>) -> R) -> R {
        self.classes.change(&flow.class, |networks| {
            networks.change(&flow.network, |connections| {
                connections.change(&flow.connection, change)
            })
        })
    }
}

impl<T> Requests<T> {
    fn push(&mut self, request: Request<T>) {
        self.refusable += usize::from(request.is_refusable);
        self.waiting.push_back(request);
    }

    fn pop(&mut self) -> Option<T> {
        self.take(0)
    }

    /// The newest that may be refused.
    fn pop_newest(&mut self) -> Option<T> {
        let newest = self.waiting.iter().rposition(|request| request.is_refusable)?;
        self.take(newest)
    }

    fn remove(&mut self, number: u64) -> Option<T> {
        let place = self
            .waiting
            .binary_search_by_key(&number, |request| request.number);
        self.take(place.ok()?)
    }

    fn take(&mut self, place: usize) -> Option<T> {
        let request = self.waiting.remove(place)?;
        self.refusable -= usize::from(request.is_refusable);
        Some(request.item)
    }
}

impl<T> Default for Requests<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            refusable: 0,
        }
    }
}

impl<T> Line for Requests<T> {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn size(&self) -> usize {
        self.refusable
    }
}

#[cfg(test)]
mod tests;
