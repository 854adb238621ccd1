//! Keeps the answers of one connection in the order of its frames, when several frames are handled at a time. Pure: no
//! I/O, no clock.

use std::collections::VecDeque;

/// Slots that a connection keeps while nothing is handled.
const KEPT: usize = 4;

/// Names a frame that is being handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket(u64);

/// The frames that are being handled, oldest first, with the answers that wait for older ones.
pub(super) struct Pipeline<T> {
    slots: VecDeque<Slot<T>>,
    /// The ticket of the first slot.
    first: u64,
    limit: usize,
    /// Bytes that are held for all of them.
    bytes: usize,
}

struct Slot<T> {
    answers: VecDeque<(T, usize)>,
    is_done: bool,
    /// Of the frame and of what it is handled with.
    bytes: usize,
}

impl<T> Pipeline<T> {
    /// At most so many frames at a time.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            slots: VecDeque::new(),
            first: 0,
            limit,
            bytes: 0,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.slots.len() >= self.limit
    }

    /// Whether nothing is being handled.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Bytes that are held for what is being handled, and for answers that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A frame begins.
    pub(super) fn begin(&mut self) -> Ticket {
        if self.slots.capacity() == 0 {
            // One at a time is usual, and each connection keeps its slots.
            self.slots.reserve_exact(1);
        }
        self.slots.push_back(Slot {
            answers: VecDeque::new(),
            is_done: false,
            bytes: 0,
        });
        Ticket(self.first + self.slots.len() as u64 - 1)
    }

    /// So many bytes are held for a frame from now on.
    pub(super) fn hold(&mut self, ticket: Ticket, bytes: usize) {
        if let Some(slot) = self.slot(ticket) {
            let before = std::mem::replace(&mut slot.bytes, bytes);
            self.bytes = self.bytes + bytes - before;
        }
    }

    /// An answer of so many bytes to a frame, which may have to wait.
    pub(super) fn answer(&mut self, ticket: Ticket, answer: T, bytes: usize) {
        if let Some(slot) = self.slot(ticket) {
            slot.answers.push_back((answer, bytes));
            self.bytes += bytes;
        }
    }

    /// Whether an answer to a frame may leave at once: nothing is before it.
    pub(super) fn is_next(&self, ticket: Ticket) -> bool {
        ticket.0 == self.first && self.slots.front().is_some_and(|slot| slot.answers.is_empty())
    }

    /// A frame is done: the next one's answers may leave. Gives how many bytes were held for it.
    pub(super) fn finish(&mut self, ticket: Ticket) -> usize {
        let Some(slot) = self.slot(ticket) else {
            return 0;
        };
        slot.is_done = true;
        let bytes = std::mem::take(&mut slot.bytes);
        self.bytes -= bytes;
        bytes
    }

    /// The next answer that may leave now.
    pub(super) fn next(&mut self) -> Option<T> {
        loop {
            let slot = self.slots.front_mut()?;
            if let Some((answer, bytes)) = slot.answers.pop_front() {
                self.bytes -= bytes;
                return Some(answer);
            }
            if !slot.is_done {
                return None;
            }
            self.slots.pop_front();
            self.first += 1;
            if self.slots.is_empty() && self.slots.capacity() > KEPT {
                // A burst must not cost memory for the rest of a long life.
                self.slots = VecDeque::new();
            }
        }
    }

    fn slot(&mut self, ticket: Ticket) -> Option<&mut Slot<T>> {
        let index = usize::try_from(ticket.0.checked_sub(self.first)?).ok()?;
        self.slots.get_mut(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_answer_waits_for_the_frames_before_it() {
        let mut pipeline = Pipeline::new(2);
        let (a, b) = (pipeline.begin(), pipeline.begin());
        assert!(pipeline.is_full());
        pipeline.hold(a, 100);
        pipeline.answer(b, "b", 10);
        pipeline.finish(b);
        assert_eq!(pipeline.next(), None);
        assert_eq!(pipeline.bytes(), 110);
        pipeline.answer(a, "a1", 1);
        assert_eq!(
            pipeline.next(),
            Some("a1"),
            "the oldest frame's answers need not wait for its end"
        );
        pipeline.answer(a, "a2", 2);
        pipeline.finish(a);
        assert_eq!(
            (pipeline.next(), pipeline.next(), pipeline.next()),
            (Some("a2"), Some("b"), None)
        );
        assert!(!pipeline.is_full());
        assert_eq!(pipeline.bytes(), 0);
    }

    proptest! {
        /// Whatever the order in which frames end, answers leave in the order of the frames, none lost or doubled.
        #[test]
        fn answers_leave_in_the_order_of_the_frames(ends in prop::collection::vec((0usize..5, 0usize..3), 0..40)) {
            let mut pipeline = Pipeline::new(5);
            let mut open: Vec<(Ticket, usize)> = Vec::new();
            let (mut begun, mut expected, mut left) = (0, Vec::new(), Vec::new());
            for (which, answers) in ends {
                while !pipeline.is_full() {
                    open.push((pipeline.begin(), begun));
                    begun += 1;
                }
                let (ticket, frame) = open.remove(which % open.len());
                for n in 0..answers {
                    pipeline.answer(ticket, (frame, n), 1);
                    expected.push((frame, n));
                }
                pipeline.finish(ticket);
                left.extend(std::iter::from_fn(|| pipeline.next()));
            }
            for (ticket, _) in open {
                pipeline.finish(ticket);
            }
            left.extend(std::iter::from_fn(|| pipeline.next()));
            expected.sort_unstable();
            prop_assert_eq!(left, expected);
            prop_assert_eq!(pipeline.bytes(), 0);
        }
    }
}
