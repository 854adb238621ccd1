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
    retention: Retention,
    /// When something last happened. An idle topic is kept as long as its messages, so that a client which missed nothing
    /// can be told so.
    active: Instant,
}

struct Message {
    offset: u64,
    at: Instant,
    frame: Utf8Bytes,
}

impl History {
    pub(super) fn new(retention: Retention, epoch: String, now: Instant) -> Self {
        Self {
            epoch,
            offset: 0,
            messages: VecDeque::new(),
            retention,
            active: now,
        }
    }

    /// Adds a message. Gives the frame for the subscribers.
    pub(super) fn append(&mut self, topic: &str, message: &Payload, now: Instant) -> Utf8Bytes {
        self.offset += 1;
        self.active = now;
        let frame = Utf8Bytes::from(envelope::message(topic, &self.epoch, self.offset, message));
        self.messages.push_back(Message {
            offset: self.offset,
            at: now,
            frame: frame.clone(),
        });
        frame
    }

    /// Drops what is beyond the retention; then the oldest, as long as `is_over` says so of the bytes that would be left
    /// less. Gives the number of bytes that were dropped.
    pub(super) fn trim(&mut self, now: Instant, is_over: impl Fn(usize) -> bool) -> usize {
        let mut dropped = 0;
        while let Some(oldest) = self.messages.front() {
            let is_old = now.duration_since(oldest.at) > self.retention.time;
            if !is_old && self.messages.len() <= self.retention.messages && !is_over(dropped) {
                break;
            }
            dropped += oldest.frame.len();
            self.messages.pop_front();
        }
        if self.messages.is_empty() {
            // A busy hour must not cost memory for the rest of a long life.
            self.messages = VecDeque::new();
        }
        dropped
    }

    /// What came after a position, oldest first. None if that is not known for sure.
    pub(super) fn after(&self, position: &Position) -> Option<impl Iterator<Item = &Utf8Bytes>> {
        let first_kept = self
            .messages
            .front()
            .map_or(self.offset + 1, |first| first.offset);
        let reaches_back = position.offset.saturating_add(1) >= first_kept;
        let is_known = position.epoch == self.epoch && position.offset <= self.offset && reaches_back;
        let missed = self
            .messages
            .iter()
            .skip_while(|message| message.offset <= position.offset);
        is_known.then(|| missed.map(|message| &message.frame))
    }

    pub(super) fn position(&self) -> Position {
        Position {
            epoch: self.epoch.clone(),
            offset: self.offset,
        }
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
            history.append("t", &Payload::Text("x".into()), now);
        }
        history.trim(now, |_| false);
    }

    fn missed(history: &History, epoch: &str, offset: u64) -> Option<usize> {
        let position = Position {
            epoch: epoch.to_owned(),
            offset,
        };
        history.after(&position).map(Iterator::count)
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
        assert!(history.trim(later, |_| false) > 0);
        assert_eq!(missed(&history, "e", 2), Some(1));
        assert_eq!(missed(&history, "e", 1), None);
        assert!(!history.is_over(later));
        let last = later + MINUTE;
        history.trim(last, |_| false);
        assert_eq!(
            missed(&history, "e", 3),
            Some(0),
            "who has seen all has missed nothing"
        );
        assert!(history.is_over(last + MINUTE));
    }
}
