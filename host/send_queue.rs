//! What waits to be sent to one client: a queue that is bounded by bytes and read by the session alone.
//!
//! All queues together have a bound as well, which a queue that is empty need not care for: who keeps up gets his message
//! even when others have used everything up. What is in the first few kilobytes of a queue does not count for it, so that
//! clients who keep up touch nothing that is shared.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;

use crate::message::Payload;

/// Bytes of each queue that do not count for the bound of all.
const FREE: usize = 4 * 1024;

/// One thing to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outbound {
    /// A frame for this client.
    Message(Payload),
    /// A frame for all subscribers of a topic.
    Published(Payload),
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
        /// Whether the frames that are being handled are answered before.
        is_patient: bool,
    },
}

/// The queue is full, or closed.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

/// What all queues hold together.
#[derive(Debug)]
pub struct Total {
    bytes: AtomicUsize,
    limit: AtomicUsize,
}

impl Total {
    /// At most so many bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
        })
    }

    /// From now on at most so many.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Bytes now.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// The queue of one connection. Empty it costs no allocation, as most connections are idle.
pub struct SendQueue {
    queue: Mutex<Queue>,
    reader: AtomicWaker,
    total: Arc<Total>,
    /// Bytes.
    limit: usize,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Outbound>,
    bytes: usize,
    /// Of these, what counts for the bound of all queues.
    counted: usize,
    closed: bool,
}

impl SendQueue {
    /// An empty queue for so many bytes.
    pub fn new(limit: usize, total: Arc<Total>) -> Self {
        Self {
            queue: Mutex::default(),
            reader: AtomicWaker::new(),
            total,
            limit,
        }
    }

    /// Adds to the end. A message always fits into an empty queue, however long it is.
    pub fn push(&self, item: Outbound) -> Result<(), Full> {
        self.add(item.size(), [item])
    }

    /// Adds all of them to the end, with nothing in between, or none.
    pub fn push_all(&self, items: Vec<Outbound>) -> Result<(), Full> {
        self.add(size_of_all(&items), items)
    }

    /// Adds to the end; what makes room is the oldest that was published. Gives the number of messages that went.
    pub fn push_over(&self, item: Outbound) -> Result<usize, Full> {
        let size = item.size();
        let mut queue = self.lock();
        let mut dropped = 0;
        while !queue.has_room_for(size, self.limit) || !queue.count(size, &self.total) {
            if queue.closed || !queue.drop_oldest(&self.total) {
                return Err(Full);
            }
            dropped += 1;
        }
        queue.items.push_back(item);
        drop(queue);
        self.reader.wake();
        Ok(dropped)
    }

    fn add(&self, size: usize, items: impl IntoIterator<Item = Outbound>) -> Result<(), Full> {
        let mut queue = self.lock();
        if !queue.has_room_for(size, self.limit) || !queue.count(size, &self.total) {
            return Err(Full);
        }
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
        self.end(code, reason, false, |_| {});
    }

    /// The same, but the frames that are being handled are answered first.
    pub fn close_patiently(&self, code: u16, reason: &str) {
        self.end(code, reason, true, |_| {});
    }

    /// The same, but what is in the queue is thrown away: its client does not take it.
    pub fn abort(&self, code: u16, reason: &str) {
        self.end(code, reason, false, |queue| {
            queue.items = VecDeque::new();
            queue.uncount(queue.bytes, &self.total);
        });
    }

    /// Ends a queue whose patient close takes too long.
    pub fn hurry(&self, code: u16, reason: &str) {
        self.lock().closed = false;
        self.close(code, reason);
    }

    fn end(&self, code: u16, reason: &str, is_patient: bool, before: impl FnOnce(&mut Queue)) {
        let mut queue = self.lock();
        if !queue.closed {
            queue.closed = true;
            before(&mut queue);
            queue.items.push_back(Outbound::Close {
                code,
                reason: reason.to_owned(),
                is_patient,
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
        self.lock().take(&self.total)
    }

    /// Takes the messages at the front, up to the first item that is none.
    pub fn take_messages(&self) -> Vec<Payload> {
        let mut queue = self.lock();
        let mut messages = Vec::new();
        while let Some(Outbound::Message(_) | Outbound::Published(_)) = queue.items.front() {
            if let Some(Outbound::Message(payload) | Outbound::Published(payload)) = queue.take(&self.total) {
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

impl Drop for SendQueue {
    fn drop(&mut self) {
        let mut queue = self.lock();
        let bytes = queue.bytes;
        queue.uncount(bytes, &self.total);
    }
}

impl Queue {
    fn has_room_for(&self, size: usize, limit: usize) -> bool {
        !self.closed && (self.bytes == 0 || self.bytes + size <= limit)
    }

    /// Counts what is to be added; false if all queues together would be too long, and this one has something to send.
    fn count(&mut self, size: usize, total: &Total) -> bool {
        let bytes = self.bytes + size;
        let more = bytes.saturating_sub(FREE) - self.counted;
        if more > 0 {
            let all = total.bytes.fetch_add(more, Ordering::Relaxed) + more;
            if all > total.limit.load(Ordering::Relaxed) && self.bytes > 0 {
                total.bytes.fetch_sub(more, Ordering::Relaxed);
                return false;
            }
        }
        self.bytes = bytes;
        self.counted += more;
        true
    }

    /// Undoes `count`.
    fn uncount(&mut self, size: usize, total: &Total) {
        self.bytes -= size;
        let less = self.counted - self.bytes.saturating_sub(FREE).min(self.counted);
        if less > 0 {
            total.bytes.fetch_sub(less, Ordering::Relaxed);
            self.counted -= less;
        }
    }

    fn take(&mut self, total: &Total) -> Option<Outbound> {
        let item = self.items.pop_front()?;
        self.uncount(item.size(), total);
        if self.items.is_empty() {
            // A burst must not cost memory for the rest of a long life.
            self.items = VecDeque::new();
        }
        Some(item)
    }

    /// Drops the oldest message of a topic, if there is one.
    fn drop_oldest(&mut self, total: &Total) -> bool {
        let is_published = |item: &Outbound| matches!(item, Outbound::Published(_));
        let oldest = self.items.iter().position(is_published);
        let Some(item) = oldest.and_then(|place| self.items.remove(place)) else {
            return false;
        };
        self.uncount(item.size(), total);
        true
    }
}

impl Outbound {
    /// Bytes, with a little for the frame around an empty message.
    fn size(&self) -> usize {
        match self {
            Self::Message(payload) | Self::Published(payload) => payload.len() + 2,
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

    fn published(n: usize) -> Outbound {
        Outbound::Published(Payload::Text("x".repeat(n).into()))
    }

    fn send_queue(limit: usize) -> SendQueue {
        SendQueue::new(limit, Total::new(usize::MAX))
    }

    fn close(code: u16, reason: &str) -> Outbound {
        Outbound::Close {
            code,
            reason: reason.to_owned(),
            is_patient: false,
        }
    }

    #[test]
    fn nothing_comes_behind_the_close() {
        let send_queue = send_queue(100);
        send_queue.push(text(1)).unwrap();
        send_queue.close(1000, "enough");
        send_queue.close(1001, "again");
        assert_eq!(send_queue.push(text(1)), Err(Full));
        assert_eq!(send_queue.try_next(), Some(text(1)));
        assert_eq!(send_queue.try_next(), Some(close(1000, "enough")));
        assert_eq!(send_queue.try_next(), None);
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let send_queue = send_queue(100);
        let mut next = Box::pin(send_queue.next());
        assert!((&mut next).now_or_never().is_none());
        send_queue.push(text(3)).unwrap();
        assert_eq!(next.await, text(3));
    }

    #[test]
    fn what_was_published_makes_room_oldest_first_and_what_was_sent_does_not() {
        let send_queue = send_queue(100);
        for item in [published(20), text(20), published(30)] {
            send_queue.push(item).unwrap();
        }
        assert_eq!(send_queue.push(published(40)), Err(Full));
        assert_eq!(send_queue.push_over(published(40)), Ok(1));
        assert_eq!(send_queue.push_over(published(70)), Ok(2));
        assert_eq!(
            send_queue.push_over(published(90)),
            Err(Full),
            "the message of its own stays"
        );
        assert_eq!(send_queue.try_next(), Some(text(20)));
    }

    #[test]
    fn all_queues_together_are_bounded_beyond_what_is_free() {
        let total = Total::new(10_000);
        let queues = [(); 3].map(|()| SendQueue::new(100_000, total.clone()));
        assert_eq!(queues[0].push(text(FREE - 2)), Ok(()));
        assert_eq!(total.bytes(), 0);
        assert_eq!(queues[0].push(text(6_000)), Ok(()));
        assert_eq!(queues[1].push(text(FREE + 3_000)), Ok(()));
        assert_eq!(
            queues[1].push(text(2_000)),
            Err(Full),
            "together they would be over"
        );
        assert_eq!(
            queues[2].push(text(1_000)),
            Ok(()),
            "a modest one is not disturbed"
        );
        queues[0].try_next();
        assert_eq!(queues[1].push(text(2_000)), Ok(()));
        queues[1].abort(1008, "too slow");
        assert_eq!(queues[1].try_next(), Some(close(1008, "too slow")));
        drop(queues);
        assert_eq!(total.bytes(), 0);
    }

    proptest! {
        #[test]
        fn the_order_holds_and_the_bounds_too(sizes in prop::collection::vec(prop::option::of(0usize..6000), 0..60)) {
            let total = Total::new(3_000);
            let send_queue = SendQueue::new(10_000, total.clone());
            let mut model = VecDeque::new();
            for size in sizes {
                match size {
                    Some(n) => {
                        let fits = send_queue.push(text(n)).is_ok();
                        let bytes: usize = model.iter().map(|n| n + 2).sum();
                        let own = bytes == 0 || bytes + n + 2 <= 10_000;
                        let all = bytes == 0 || (bytes + n + 2).saturating_sub(FREE) <= 3_000;
                        prop_assert_eq!(fits, own && all);
                        if fits {
                            model.push_back(n);
                        }
                    }
                    None => prop_assert_eq!(send_queue.try_next(), model.pop_front().map(text)),
                }
                let bytes: usize = model.iter().map(|n| n + 2).sum();
                prop_assert_eq!(total.bytes(), bytes.saturating_sub(FREE));
            }
            drop(send_queue);
            prop_assert_eq!(total.bytes(), 0);
        }
    }
}
