//! What waits to be sent to one client: a queue that is bounded by bytes and read by the session alone.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;

use crate::message::Payload;

/// One thing to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outbound {
    /// A frame.
    Message(Payload),
    /// Nothing to send, but word for the session, behind what was to be sent before: a timer is set or stopped.
    Timer {
        /// Whose timer.
        plugin: Arc<str>,
        /// Which.
        name: Arc<str>,
        /// None stops it.
        delay: Option<Duration>,
    },
    /// The end: nothing is taken in behind it.
    Close {
        /// The close code (RFC 6455 section 7.4).
        code: u16,
        /// For the peer.
        reason: String,
    },
}

/// The queue is full, or closed.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

/// The queue of one connection. Empty it costs no allocation, as most connections are idle.
pub struct Outbox {
    queue: Mutex<Queue>,
    reader: AtomicWaker,
    /// Bytes.
    limit: usize,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Outbound>,
    bytes: usize,
    closed: bool,
}

impl Outbox {
    /// An empty queue for so many bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            queue: Mutex::default(),
            reader: AtomicWaker::new(),
            limit,
        }
    }

    /// Adds to the end. A message always fits into an empty queue, however long it is.
    pub fn push(&self, item: Outbound) -> Result<(), Full> {
        let size = item.size();
        let mut queue = self.lock();
        if !queue.has_room_for(size, self.limit) {
            return Err(Full);
        }
        queue.bytes += size;
        queue.items.push_back(item);
        drop(queue);
        self.reader.wake();
        Ok(())
    }

    /// Adds all of them to the end, with nothing in between, or none.
    pub fn push_all(&self, items: Vec<Outbound>) -> Result<(), Full> {
        let size = size_of_all(&items);
        let mut queue = self.lock();
        if !queue.has_room_for(size, self.limit) {
            return Err(Full);
        }
        queue.bytes += size;
        queue.items.extend(items);
        drop(queue);
        self.reader.wake();
        Ok(())
    }

    /// Whether `push_all` would take these, with a little beside them.
    pub fn has_room_for(&self, items: &[Outbound]) -> bool {
        const LITTLE: usize = 1024;
        let queue = self.lock();
        !queue.closed && queue.bytes + size_of_all(items) + LITTLE <= self.limit
    }

    /// Ends the queue: what is in it is sent, then the close frame. Only the first call counts.
    pub fn close(&self, code: u16, reason: &str) {
        let mut queue = self.lock();
        if !queue.closed {
            queue.closed = true;
            queue.items.push_back(Outbound::Close {
                code,
                reason: reason.to_owned(),
            });
        }
        drop(queue);
        self.reader.wake();
    }

    /// Whether it has ended: nothing is taken in any more.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Whether a message is likely to be refused.
    pub fn is_full(&self) -> bool {
        let queue = self.lock();
        queue.closed || queue.bytes >= self.limit
    }

    /// Takes the first, if there is one.
    pub fn try_next(&self) -> Option<Outbound> {
        self.lock().take()
    }

    /// Takes the messages at the front, up to the first item that is none.
    pub fn take_messages(&self) -> Vec<Payload> {
        let mut queue = self.lock();
        let mut messages = Vec::new();
        while let Some(Outbound::Message(_)) = queue.items.front() {
            if let Some(Outbound::Message(payload)) = queue.take() {
                messages.push(payload);
            }
        }
        messages
    }

    /// Waits for the first. For the session alone: only the last who waits is woken.
    pub async fn next(&self) -> Outbound {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Outbound> {
        if let Some(item) = self.try_next() {
            return Poll::Ready(item);
        }
        self.reader.register(cx.waker());
        // What came between the look and the registration has woken nobody.
        self.try_next().map_or(Poll::Pending, Poll::Ready)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn take(&mut self) -> Option<Outbound> {
        let item = self.items.pop_front()?;
        self.bytes -= item.size();
        if self.items.is_empty() {
            // A burst must not cost memory for the rest of a long life.
            self.items = VecDeque::new();
        }
        Some(item)
    }

    fn has_room_for(&self, size: usize, limit: usize) -> bool {
        !self.closed && (self.bytes == 0 || self.bytes + size <= limit)
    }
}

impl Outbound {
    /// Bytes, with a little for the frame around an empty message.
    fn size(&self) -> usize {
        match self {
            Self::Message(payload) => payload.len() + 2,
            Self::Timer { name, .. } => name.len() + 64,
            Self::Close { .. } => 0,
        }
    }
}

fn size_of_all(items: &[Outbound]) -> usize {
    items.iter().map(Outbound::size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use proptest::prelude::*;

    fn text(n: usize) -> Outbound {
        Outbound::Message(Payload::Text("x".repeat(n).into()))
    }

    #[test]
    fn nothing_comes_behind_the_close() {
        let outbox = Outbox::new(100);
        outbox.push(text(1)).unwrap();
        outbox.close(1000, "enough");
        outbox.close(1001, "again");
        assert_eq!(outbox.push(text(1)), Err(Full));
        assert_eq!(outbox.try_next(), Some(text(1)));
        assert_eq!(
            outbox.try_next(),
            Some(Outbound::Close {
                code: 1000,
                reason: "enough".to_owned()
            })
        );
        assert_eq!(outbox.try_next(), None);
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let outbox = Outbox::new(100);
        let mut next = Box::pin(outbox.next());
        assert!((&mut next).now_or_never().is_none());
        outbox.push(text(3)).unwrap();
        assert_eq!(next.await, text(3));
    }

    proptest! {
        #[test]
        fn the_order_holds_and_the_bound_too(sizes in prop::collection::vec(prop::option::of(0usize..60), 0..60)) {
            let outbox = Outbox::new(100);
            let mut model = VecDeque::new();
            for size in sizes {
                match size {
                    Some(n) => {
                        let fits = outbox.push(text(n)).is_ok();
                        let bytes: usize = model.iter().map(|n| n + 2).sum();
                        prop_assert_eq!(fits, bytes == 0 || bytes + n + 2 <= 100);
                        if fits {
                            model.push_back(n);
                        }
                    }
                    None => prop_assert_eq!(outbox.try_next(), model.pop_front().map(text)),
                }
            }
        }
    }
}
