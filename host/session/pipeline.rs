//! Keeps the answers of one connection in the order of its frames, when several frames are handled at a time. Pure: no
//! I/O, no clock.

use std::collections::VecDeque;

/// Names a frame that is being handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket(u64);

/// The frames that are being handled, oldest first, with the answers that wait for older ones.
pub(super) struct Pipeline<T> {
    places: VecDeque<Place<T>>,
    /// The ticket of the first place.
    first: u64,
    limit: usize,
}

struct Place<T> {
    answers: VecDeque<T>,
    is_done: bool,
}

impl<T> Pipeline<T> {
    /// At most so many frames at a time.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            places: VecDeque::new(),
            first: 0,
            limit,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.places.len() >= self.limit
    }

    /// Whether nothing is being handled.
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// A frame begins.
    pub(super) fn begin(&mut self) -> Ticket {
        self.places.push_back(Place {
            answers: VecDeque::new(),
            is_done: false,
        });
        Ticket(self.first + self.places.len() as u64 - 1)
    }

    /// An answer to a frame, which may have to wait.
    pub(super) fn answer(&mut self, ticket: Ticket, answer: T) {
        if let Some(place) = self.place(ticket) {
            place.answers.push_back(answer);
        }
    }

    /// Whether the answers to a frame may leave now: all frames before it are done.
    pub(super) fn is_first(&self, ticket: Ticket) -> bool {
        let place = usize::try_from(ticket.0.wrapping_sub(self.first)).unwrap_or(usize::MAX);
        place < self.places.len() && self.places.iter().take(place).all(|earlier| earlier.is_done)
    }

    /// A frame is done: the next one's answers may leave.
    pub(super) fn finish(&mut self, ticket: Ticket) {
        if let Some(place) = self.place(ticket) {
            place.is_done = true;
        }
    }

    /// The next answer that may leave now.
    pub(super) fn next(&mut self) -> Option<T> {
        loop {
            let place = self.places.front_mut()?;
            if let Some(answer) = place.answers.pop_front() {
                return Some(answer);
            }
            if !place.is_done {
                return None;
            }
            self.places.pop_front();
            self.first += 1;
        }
    }

    fn place(&mut self, ticket: Ticket) -> Option<&mut Place<T>> {
        let index = usize::try_from(ticket.0.checked_sub(self.first)?).ok()?;
        self.places.get_mut(index)
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
        pipeline.answer(b, "b");
        pipeline.finish(b);
        assert_eq!(pipeline.next(), None);
        assert!(pipeline.is_first(a) && !pipeline.is_first(b));
        pipeline.answer(a, "a1");
        assert_eq!(
            pipeline.next(),
            Some("a1"),
            "the oldest frame's answers need not wait for its end"
        );
        pipeline.answer(a, "a2");
        pipeline.finish(a);
        assert_eq!(
            (pipeline.next(), pipeline.next(), pipeline.next()),
            (Some("a2"), Some("b"), None)
        );
        assert!(!pipeline.is_full());
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
                    pipeline.answer(ticket, (frame, n));
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
        }
    }
}
