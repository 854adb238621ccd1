//! Which request is next if more come than may be under way. Pure: no I/O, no clock.

use crate::fair_queue::{FairQueue, RequestId};
use crate::message::{Class, Flow};

/// Slots for requests, and the queue in front of them. `T` stands for a request.
pub(super) struct Queue<T> {
    slots: usize,
    under_way: usize,
    waiting: FairQueue<T>,
}

impl<T> Queue<T> {
    pub(super) fn new(slots: usize, max_waiting: usize) -> Self {
        Self {
            slots,
            under_way: 0,
            waiting: FairQueue::new(max_waiting),
        }
    }

    /// From now on with another number of slots, and so many that may wait. Those that are under way count as before.
    pub(super) fn change(&mut self, slots: usize, max_waiting: usize) {
        self.slots = slots;
        self.waiting.set_limit(max_waiting);
    }

    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    pub(super) fn max_waiting(&self) -> usize {
        self.waiting.limit()
    }

    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
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
    pub(super) fn wait(&mut self, flow: Flow, request: T) -> Option<(RequestId, Option<T>)> {
        // Only a few close events come at a time, and one that is refused would only come again.
        let is_refusable = flow.class != Class::Close;
        self.waiting.push(flow, request, is_refusable).ok()
    }

    /// A request is done. Gives the one that has its slot now; none if no request waits.
    pub(super) fn leave(&mut self) -> Option<T> {
        // There may be fewer slots than before.
        let next = (self.under_way <= self.slots)
            .then(|| self.waiting.pop())
            .flatten();
        if next.is_none() {
            self.under_way = self.under_way.saturating_sub(1);
        }
        next
    }

    /// Gives a slot to the next that waits, if there are more slots than before.
    pub(super) fn admit(&mut self) -> Option<T> {
        let next = (self.under_way < self.slots)
            .then(|| self.waiting.pop())
            .flatten();
        self.under_way += usize::from(next.is_some());
        next
    }

    /// Gives up waiting. False: it does not wait any more.
    pub(super) fn cancel(&mut self, id: &RequestId) -> bool {
        self.waiting.remove(id).is_some()
    }

    /// Empties the queue.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> {
        std::iter::from_fn(|| self.waiting.pop())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn flow(class: Class) -> Flow {
        Flow::new(class, None)
    }

    #[test]
    fn slots_are_taken_without_waiting_while_there_are_any() {
        let mut queue = Queue::<()>::new(2, 0);
        assert!(queue.try_enter() && queue.try_enter() && !queue.try_enter());
        assert_eq!(queue.wait(flow(Class::Message), ()), None);
        assert_eq!(queue.leave(), None);
        assert!(queue.try_enter());
    }

    #[test]
    fn slots_may_become_more_and_fewer() {
        let mut queue = Queue::new(2, 10);
        assert!(queue.try_enter() && queue.try_enter());
        for n in 0..4 {
            assert!(queue.wait(flow(Class::Message), n).is_some());
        }
        queue.change(3, 10);
        assert_eq!((queue.admit(), queue.admit()), (Some(0), None));
        queue.change(1, 10);
        assert_eq!((queue.leave(), queue.leave(), queue.under_way()), (None, None, 1));
        assert_eq!((queue.leave(), queue.under_way()), (Some(1), 1));
    }

    #[test]
    fn a_close_event_is_never_refused() {
        let mut queue = Queue::new(1, 1);
        assert!(queue.try_enter());
        assert!(queue.wait(flow(Class::Message), 1).is_some());
        assert!(
            queue
                .wait(flow(Class::Close), 2)
                .is_some_and(|(_, displaced)| displaced.is_none())
        );
        assert_eq!(queue.wait(flow(Class::Message), 3), None);
        assert_eq!((queue.under_way(), queue.waiting()), (1, 2));
        assert_eq!(queue.drain().collect::<Vec<_>>(), [1, 2]);
        assert_eq!((queue.under_way(), queue.waiting()), (1, 0));
    }

    proptest! {
        /// Nobody waits while there is a slot, and there are never more under way than slots.
        #[test]
        fn slots_are_neither_lost_nor_doubled(
            slots in 1usize..4,
            max_waiting in 0usize..5,
            steps in prop::collection::vec(0u8..3, 0..100),
        ) {
            let mut queue = Queue::new(slots, max_waiting);
            let (mut under_way, mut waiting) = (0, Vec::new());
            for step in steps {
                match step {
                    0 if queue.try_enter() => under_way += 1,
                    0 => waiting.extend(queue.wait(flow(Class::Push), ()).map(|(id, _)| id)),
                    1 if under_way > 0 => match queue.leave() {
                        None => under_way -= 1,
                        Some(()) => drop(waiting.remove(0)),
                    },
                    2 if !waiting.is_empty() => prop_assert!(queue.cancel(&waiting.remove(0))),
                    _ => {}
                }
                prop_assert_eq!((queue.under_way(), queue.waiting()), (under_way, waiting.len()));
                prop_assert!(under_way <= slots && waiting.len() <= max_waiting);
                prop_assert!(waiting.is_empty() || under_way == slots);
            }
        }
    }
}
