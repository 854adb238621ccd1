//! What waits to be sent to one client: a queue of frames, bounded in bytes, that is written to the client's socket.
//!
//! Everything that is written goes through this queue, so its lock is what keeps frames apart. Whoever adds a frame to an
//! empty queue writes it at once, if the socket is a plain one and takes it: that saves waking the session. What the
//! socket does not take waits, and the session writes it. Nobody ever waits for a client here.
//!
//! A pong and a ping do not wait behind messages, and only the newest pong is kept (RFC 6455 section 5.5.3).

mod publication;
mod state;

use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use tokio::net::tcp::OwnedWriteHalf;

use crate::budget::Budget;
use crate::message::Payload;
use crate::websocket::{Frame, Window};
pub use publication::Publication;
use state::{Kind, State, Wire};

/// Timers of one connection that the session has not heard of yet; one more is refused.
const MAX_TIMERS: usize = 128;

/// What all queues share.
#[derive(Debug)]
pub struct Outgoing {
    /// Bytes that wait in all of them.
    pub budget: Arc<Budget>,
    frames: AtomicU64,
}

impl Outgoing {
    /// At most so many bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            budget: Budget::new(limit),
            frames: AtomicU64::new(0),
        })
    }

    /// Messages that were taken for clients since this was last asked.
    pub fn take_frames(&self) -> u64 {
        self.frames.swap(0, Ordering::Relaxed)
    }

    /// Counts messages that were taken.
    pub fn count(&self, frames: u64) {
        self.frames.fetch_add(frames, Ordering::Relaxed);
    }
}

/// What was agreed on about compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    /// How far back the client looks.
    pub window: Window,
    /// Bytes from which on a message is compressed.
    pub threshold: usize,
}

/// A timer that is set or stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimerChange {
    /// Whose.
    pub plugin: Arc<str>,
    /// Which.
    pub name: Arc<str>,
    /// None stops it.
    pub delay: Option<Duration>,
}

/// How the connection is to end, by our wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The close code (RFC 6455 section 7.4).
    pub code: u16,
    /// For the client.
    pub reason: String,
    /// Whether the messages that are being handled are answered before.
    pub is_patient: bool,
    /// Whether the socket is closed at once, without a close frame: what is half written is too long to wait for.
    pub is_cut: bool,
}

/// Why something was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The client reads more slowly than it is sent to.
    Full,
    /// The connection is ending.
    Closed,
}

/// How far the session has come with writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Everything is written.
    Empty,
    /// There is more, for another turn.
    More,
    /// The socket takes no more now.
    Blocked,
}

/// The queue of one connection. Empty it holds no memory of its own, as most connections are idle.
pub struct SendQueue {
    state: Mutex<State>,
    session: AtomicWaker,
    /// Others want something of the session: it need not take the lock to see that they do not.
    is_asked: AtomicBool,
    is_lost: AtomicBool,
    compression: OnceLock<Compression>,
    outgoing: Arc<Outgoing>,
    /// Bytes.
    limit: usize,
}

impl SendQueue {
    /// An empty queue for so many bytes. Until it has a link, frames only wait in it.
    pub fn new(limit: usize, outgoing: Arc<Outgoing>) -> Self {
        Self {
            state: Mutex::default(),
            session: AtomicWaker::new(),
            is_asked: AtomicBool::new(false),
            is_lost: AtomicBool::new(false),
            compression: OnceLock::new(),
            outgoing,
            limit,
        }
    }

    /// The connection is open. `socket` is there if frames may be written to it as they are, by anyone; `is_timed` says
    /// whether the session wants to know when a message was last written.
    pub fn attach(&self, socket: Option<OwnedWriteHalf>, compression: Option<Compression>, is_timed: bool) {
        if let Some(compression) = compression {
            let _ = self.compression.set(compression);
        }
        let mut state = self.lock();
        state.socket = socket;
        state.is_timed = is_timed;
    }

    /// Adds a message to the end. It always fits into an empty queue, however long it is.
    pub fn push(&self, frame: Frame) -> Result<(), Refused> {
        let wire = Wire::Frame(self.compressed(frame));
        let mut state = self.lock();
        state.check_open()?;
        if !self.write_directly(&mut state, &wire) {
            let was_empty = state.is_empty();
            self.add(&mut state, wire, Kind::Message)?;
            drop(state);
            if was_empty {
                self.session.wake();
            }
        }
        self.outgoing.count(1);
        Ok(())
    }

    /// Adds all of them to the end, with nothing in between, or none.
    pub fn push_all(&self, frames: Vec<Frame>) -> Result<(), Refused> {
        let count = frames.len() as u64;
        // Not compressed: a client that resumes is sent them under the lock of the topic.
        let frames: Vec<_> = frames.into_iter().map(Wire::Frame).collect();
        let mut state = self.lock();
        state.check_open()?;
        if !state.try_hold(&frames, self.limit, &self.outgoing.budget) {
            return Err(Refused::Full);
        }
        for frame in frames {
            state.append(frame, Kind::Message);
        }
        drop(state);
        self.session.wake();
        self.outgoing.count(count);
        Ok(())
    }

    /// Adds an answer to the end, for the session itself. It is taken even if the queue is full: the session begins nothing
    /// new then.
    pub fn reply(&self, frame: Frame) {
        let frame = self.compressed(frame);
        let mut state = self.lock();
        if !state.is_finished {
            state.hold(Wire::Frame(frame), Kind::Message, &self.outgoing.budget);
            self.outgoing.count(1);
        }
    }

    /// Adds a publication to the end, if the subscription is still active. With `makes_room` the oldest of those that may
    /// go make room; gives how many have gone. Does not count the frame: whoever publishes counts all of them together.
    pub fn publish(
        &self,
        publication: &Publication,
        makes_room: bool,
        is_active: &AtomicBool,
    ) -> Result<usize, Refused> {
        let wire = publication.wire(self.compression());
        let mut state = self.lock();
        // Looked at under the lock, so that whoever has ended the subscription hears nothing of it any more.
        if !is_active.load(Ordering::Relaxed) {
            return Err(Refused::Closed);
        }
        state.check_open()?;
        if self.write_directly(&mut state, wire) {
            return Ok(0);
        }
        let was_empty = state.is_empty();
        let mut dropped = 0;
        if makes_room && !state.could_fit(wire, self.limit) {
            return Err(Refused::Full);
        }
        while let Err(refused) = self.add(&mut state, wire.clone(), publication.kind()) {
            if !makes_room || !state.drop_oldest(&self.outgoing.budget) {
                return Err(refused);
            }
            dropped += 1;
        }
        drop(state);
        // Where something waits already, the session has been woken, or is as soon as the socket takes more.
        if was_empty {
            self.session.wake();
        }
        Ok(dropped)
    }

    /// Ends a subscription: from now on none of its publications is taken.
    pub fn deactivate(&self, is_active: &AtomicBool) {
        let _state = self.lock();
        is_active.store(false, Ordering::Relaxed);
    }

    /// Answers a ping, before the messages that wait. For the session itself.
    pub fn pong(&self, payload: Bytes) {
        let mut state = self.lock();
        if !state.is_finished {
            state.control().pong = Some(Frame::pong(payload));
        }
    }

    /// Sends a ping, before the messages that wait. For the session itself.
    pub fn ping(&self) {
        let mut state = self.lock();
        if !state.is_finished {
            state.control().ping = true;
        }
    }

    /// Sets or stops a timer of the connection.
    pub fn set_timer(&self, timer: TimerChange) -> Result<(), Refused> {
        let mut state = self.lock();
        state.check_open()?;
        if state.timers.len() >= MAX_TIMERS {
            return Err(Refused::Full);
        }
        state.timers.push(timer);
        drop(state);
        self.ask();
        Ok(())
    }

    /// Whether `push_all` would take these, with a little beside them.
    pub fn has_room_for(&self, frames: &[Frame]) -> bool {
        const LITTLE: usize = 1024;
        let bytes: usize = frames.iter().map(state::cost).sum();
        let state = self.lock();
        state.check_open().is_ok() && state.bytes() + bytes + LITTLE <= self.limit
    }

    /// Ends the queue: what is in it is sent, then the close frame. Only the first call counts.
    pub fn close(&self, code: u16, reason: &str) {
        self.end(code, reason, false, |_| {});
    }

    /// The same, but the messages that are being handled are answered first.
    pub fn close_patiently(&self, code: u16, reason: &str) {
        self.end(code, reason, true, |_| {});
    }

    /// The same, but what is in the queue is thrown away: its client does not take it.
    pub fn abort(&self, code: u16, reason: &str) {
        self.end(code, reason, false, |state| state.discard(&self.outgoing.budget));
    }

    /// Ends a queue whose patient close takes too long.
    pub fn hurry(&self, code: u16, reason: &str) {
        let mut state = self.lock();
        state.is_closed = true;
        if state.ending.as_ref().is_none_or(|ending| ending.is_patient) {
            state.end(code, reason, false);
        }
        drop(state);
        self.ask();
    }

    /// Ends a queue that holds too much, whatever state it is in, and throws everything away. Its client does not get to
    /// see why.
    pub fn cut(&self, code: u16, reason: &str) {
        let mut state = self.lock();
        (state.is_closed, state.is_finished) = (true, true);
        state.clear(&self.outgoing.budget);
        state.end(code, reason, false);
        if let Some(ending) = &mut state.ending {
            ending.is_cut = true;
        }
        drop(state);
        self.ask();
    }

    fn end(&self, code: u16, reason: &str, is_patient: bool, before: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        if !state.is_closed && !state.is_ending {
            // While its messages are being handled, PHP may still push to it.
            (state.is_ending, state.is_closed) = (true, !is_patient);
            before(&mut state);
            state.end(code, reason, is_patient);
        }
        drop(state);
        self.ask();
    }

    /// Whether the connection is ending.
    pub fn is_closed(&self) -> bool {
        let state = self.lock();
        state.is_closed || state.is_ending
    }

    /// Whether a message is likely to be refused.
    pub fn is_full(&self) -> bool {
        let state = self.lock();
        state.is_closed || state.bytes() >= self.limit
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.lock().bytes()
    }

    /// How the session is told that there is something to do. Only the last waker counts.
    pub fn register(&self, waker: &Waker) {
        self.session.register(waker);
    }

    /// What others want of the session: timers, and the wish to end.
    pub fn take_requests(&self) -> (Vec<TimerChange>, Option<Ending>) {
        if !self.is_asked.load(Ordering::Relaxed) || !self.is_asked.swap(false, Ordering::Acquire) {
            return (Vec::new(), None);
        }
        let mut state = self.lock();
        let ending = state.ending.take().map(|ending| *ending);
        (std::mem::take(&mut state.timers), ending)
    }

    /// The last frame of the connection: what was added before leaves before it, and nothing is taken any more.
    pub fn finish(&self, close: Frame) {
        let mut state = self.lock();
        (state.is_closed, state.is_finished) = (true, true);
        state.drop_control();
        state.hold(Wire::Frame(close), Kind::Control, &self.outgoing.budget);
    }

    /// Nothing is written any more, and nothing taken: what waits is thrown away, and the socket is closed in this
    /// direction. `is_lost` says that its client is not there any more.
    pub fn shut(&self, is_lost: bool) {
        self.is_lost.fetch_or(is_lost, Ordering::Relaxed);
        let mut state = self.lock();
        (state.is_closed, state.is_finished) = (true, true);
        state.socket = None;
        state.clear(&self.outgoing.budget);
    }

    /// Whether its client is not there any more, and said nothing when it went.
    pub fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    /// When a message was last written, if the session wants to know.
    pub fn last_sent(&self) -> Option<Instant> {
        self.lock().sent_at
    }

    /// Writes what waits, up to a bound for each turn. `write` does not wait; it is given the socket, if it is one that
    /// anyone may write to. Gives how many bytes were written, too.
    pub fn drain(
        &self,
        mut write: impl FnMut(Option<&OwnedWriteHalf>, &[IoSlice<'_>]) -> Poll<io::Result<usize>>,
    ) -> io::Result<(Drained, usize)> {
        const TURN: usize = 256 * 1024;
        let budget = &self.outgoing.budget;
        let mut total = 0;
        loop {
            let mut state = self.lock();
            if !state.prepare(budget) {
                return Ok((Drained::Empty, total));
            }
            match state.write(|parts| write(state.socket.as_ref(), parts)) {
                Poll::Pending => return Ok((Drained::Blocked, total)),
                Poll::Ready(written) => {
                    let written = written?;
                    total += written;
                    state.advance(written, budget);
                    if state.is_empty() {
                        return Ok((Drained::Empty, total));
                    }
                }
            }
            if total >= TURN {
                return Ok((Drained::More, total));
            }
        }
    }

    /// Writes a frame at once, if nothing waits and the socket takes it. What it takes in part is kept. False: it is to be
    /// added.
    fn write_directly(&self, state: &mut State, wire: &Wire) -> bool {
        let Some(socket) = state.socket.as_ref().filter(|_| state.is_empty()) else {
            return false;
        };
        // An error shows again when the session writes or reads, and ends it there.
        let Ok(written) = wire.write(socket) else {
            return false;
        };
        if written < wire.len() {
            state.hold(wire.clone(), Kind::Message, &self.outgoing.budget);
            state.advance(written, &self.outgoing.budget);
            self.session.wake();
        } else {
            state.note_sent();
        }
        true
    }

    /// Tells the session that others want something of it.
    fn ask(&self) {
        self.is_asked.store(true, Ordering::Release);
        self.session.wake();
    }

    fn add(&self, state: &mut State, wire: Wire, kind: Kind) -> Result<(), Refused> {
        if !state.try_hold(std::slice::from_ref(&wire), self.limit, &self.outgoing.budget) {
            return Err(Refused::Full);
        }
        state.append(wire, kind);
        Ok(())
    }

    fn compression(&self) -> Option<Compression> {
        self.compression.get().copied()
    }

    fn compressed(&self, frame: Frame) -> Frame {
        match self.compression() {
            Some(Compression { window, threshold }) if frame.payload().len() >= threshold => {
                frame.deflated(window).unwrap_or(frame)
            }
            _ => frame,
        }
    }

    /// Nothing here leaves the state half changed, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Payload> for Frame {
    fn from(payload: Payload) -> Self {
        match payload {
            Payload::Text(text) => Self::text(text),
            Payload::Binary(bytes) => Self::binary(bytes),
        }
    }
}

impl Drop for SendQueue {
    fn drop(&mut self) {
        let budget = self.outgoing.budget.clone();
        self.lock().clear(&budget);
    }
}

#[cfg(test)]
mod tests;
