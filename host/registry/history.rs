//! What a topic keeps of what was published, so that a client that was away gets what it missed. Pure: the time is given.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::envelope;
use super::position::Position;
use crate::message::{Payload, Utf8Bytes};

/// How much a topic keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The most messages.
    pub messages: usize,
    /// The oldest, by age.
    pub time: Duration,
}

/// The last messages of a topic, in the envelopes that they were sent in.
pub(super) struct History {
    epoch: String,
    /// Of the last message ever.
    offset: u64,
    messages: VecDeque<Message>,
    /// What these cost.
    bytes: usize,
    retention: Retention,
    /// When something last happened. An idle topic is kept as long as its messages, so that a client which missed nothing
    /// can be told so.
    active: Instant,
}

struct Message {
    offset: u64,
    at: Instant,
    frame: Utf8Bytes,
    /// The clients that were left out, sorted.
    except: Box<[u64]>,
}

/// What a message costs beside its frame, in bytes.
const MESSAGE: usize = 192;

impl Message {
    fn cost(&self) -> usize {
        MESSAGE + self.frame.len() + size_of_val(&*self.except)
    }
}

impl History {
    pub(super) fn new(retention: Retention, epoch: String, now: Instant) -> Self {
        Self {
            epoch,
            offset: 0,
            messages: VecDeque::new(),
            bytes: 0,
            retention,
            active: now,
        }
    }

    /// Adds a message that some clients are not to have. Gives the frame for the subscribers.
    pub(super) fn append(
        &mut self,
        topic: &str,
        message: &Payload,
        except: Box<[u64]>,
        now: Instant,
    ) -> Utf8Bytes {
        self.offset += 1;
        self.active = now;
        let frame = Utf8Bytes::from(envelope::message(topic, &self.epoch, self.offset, message));
        let message = Message {
            offset: self.offset,
            at: now,
            frame: frame.clone(),
            except,
        };
        self.bytes += message.cost();
        self.messages.push_back(message);
        frame
    }

    /// Drops what is beyond the retention.
    pub(super) fn trim(&mut self, now: Instant) {
        let Retention { messages, time } = self.retention;
        self.drop_oldest_while(|history, oldest| {
            history.messages.len() > messages || now.duration_since(oldest.at) > time
        });
    }

    /// Drops the oldest messages, by so many bytes, but hardly more than half of what there is: then others may hold more.
    /// Gives how many were dropped.
    pub(super) fn shrink(&mut self, excess: usize) -> usize {
        let left = self.bytes - excess.min(self.bytes / 2);
        let before = self.messages.len();
        self.drop_oldest_while(|history, _| history.bytes > left);
        before - self.messages.len()
    }

    fn drop_oldest_while(&mut self, must_go: impl Fn(&Self, &Message) -> bool) {
        while let Some(oldest) = self.messages.front()
            && must_go(self, oldest)
        {
            self.bytes -= oldest.cost();
            self.messages.pop_front();
        }
        // A busy hour must not cost memory for the rest of a long life.
        if self.messages.len() < self.messages.capacity() / 4 {
            self.messages.shrink_to(2 * self.messages.len());
        }
    }

    /// What came after a position and is not withheld from a client, oldest first. None if that is not known for sure.
    pub(super) fn after(&self, position: &Position, client: u64) -> Option<impl Iterator<Item = &Utf8Bytes>> {
        let first_kept = self
            .messages
            .front()
            .map_or(self.offset + 1, |first| first.offset);
        let reaches_back = position.offset.saturating_add(1) >= first_kept;
        let is_known = position.epoch == self.epoch && position.offset <= self.offset && reaches_back;
        let missed = self
            .messages
            .iter()
            .skip_while(|message| message.offset <= position.offset)
            .filter(move |message| message.except.binary_search(&client).is_err());
        is_known.then(|| missed.map(|message| &message.frame))
    }

    pub(super) fn position(&self) -> Position {
        Position {
            epoch: self.epoch.clone(),
            offset: self.offset,
        }
    }

    /// What its messages cost, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// When something last happened.
    pub(super) fn active(&self) -> Instant {
        self.active
    }

    /// A subscriber came or went.
    pub(super) fn touch(&mut self, now: Instant) {
        self.active = now;
    }

    /// Whether nobody can resume from it any more.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.messages.is_empty() && now.duration_since(self.active) > self.retention.time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn history(messages: usize, now: Instant) -> History {
        let retention = Retention {
            messages,
            time: MINUTE,
        };
        History::new(retention, "e".to_owned(), now)
    }

    fn append(history: &mut History, n: usize, now: Instant) {
        for _ in 0..n {
            history.append("t", &Payload::Text("x".into()), Box::default(), now);
        }
        history.trim(now);
    }

    fn missed(history: &History, epoch: &str, offset: u64) -> Option<usize> {
        let position = Position {
            epoch: epoch.to_owned(),
            offset,
        };
        history.after(&position, 0).map(Iterator::count)
    }

    #[test]
    fn what_was_missed_is_known_as_far_as_the_history_reaches_back() {
        let now = Instant::now();
        let mut history = history(3, now);
        assert_eq!(missed(&history, "e", 0), Some(0));
        append(&mut history, 5, now);
        for (offset, expected) in [
            (5, Some(0)),
            (4, Some(1)),
            (2, Some(3)),
            (1, None),
            (0, None),
            (6, None),
        ] {
            assert_eq!(missed(&history, "e", offset), expected, "after {offset}");
        }
        assert_eq!(missed(&history, "another", 5), None);
        assert_eq!(missed(&history, "e", u64::MAX), None);
    }

    #[test]
    fn messages_and_then_the_topic_end_with_time() {
        let now = Instant::now();
        let mut history = history(10, now);
        append(&mut history, 2, now);
        append(&mut history, 1, now + MINUTE);
        let later = now + MINUTE + MINUTE / 2;
        history.trim(later);
        assert_eq!(missed(&history, "e", 2), Some(1));
        assert_eq!(missed(&history, "e", 1), None);
        assert!(!history.is_over(later));
        let last = later + MINUTE;
        history.trim(last);
        assert_eq!(
            missed(&history, "e", 3),
            Some(0),
            "who has seen all has missed nothing"
        );
        assert_eq!(history.bytes(), 0);
        assert!(history.is_over(last + MINUTE));
    }

    #[test]
    fn a_history_shrinks_by_no_more_than_half_at_a_time_and_gives_its_memory_back() {
        let now = Instant::now();
        let mut history = history(1000, now);
        append(&mut history, 1000, now);
        let before = history.bytes();
        assert_eq!(history.shrink(1), 1);
        assert!(history.shrink(usize::MAX) <= 501);
        assert!(history.bytes() >= before / 2 - 2 * MESSAGE);
        while history.shrink(usize::MAX) > 0 {}
        assert_eq!(history.bytes(), 0);
        assert_eq!(history.messages.capacity(), 0);
    }

    #[test]
    fn what_a_client_was_left_out_of_is_not_what_it_missed() {
        let now = Instant::now();
        let mut history = history(10, now);
        for except in [[].into(), [3, 7].into(), [7].into()] {
            history.append("t", &Payload::Text("x".into()), except, now);
        }
        let start = Position {
            epoch: "e".to_owned(),
            offset: 0,
        };
        let missed = |client| history.after(&start, client).map(Iterator::count);
        assert_eq!([3, 7, 9].map(missed), [Some(2), Some(1), Some(3)]);
    }
}
