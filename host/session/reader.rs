//! From a client's bytes to its messages.
//!
//! The socket is read in large pieces, into memory that all connections of a thread share, so that none needs a buffer of
//! its own. What is read and not decoded yet is kept; mostly that is nothing. With a limit it is read no faster than the
//! client may send: what comes faster waits in the kernel, and then at the client.

use std::cell::RefCell;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::socket::Half;
use crate::token_bucket::TokenBucket;
use crate::websocket::{Decoder, Incoming, Rules, Violation};

/// What is read at a time.
const PIECE: usize = 32 * 1024;

pub(super) struct Reader {
    decoder: Decoder,
    /// Read, but not decoded yet: what is behind `decoded`.
    ahead: Vec<u8>,
    decoded: usize,
    /// None: no limit, which costs a pointer.
    rate: Option<Box<TokenBucket>>,
}

/// How much a session does before others have a turn.
pub(super) struct Turn {
    frames: usize,
    bytes: usize,
}

/// What has come.
pub(super) enum Read {
    /// A message, or a frame that is none.
    Frame(Incoming),
    /// Something, but no end of a frame.
    Part,
    /// The turn is over, and there may be more.
    Over,
}

/// Why nothing more comes.
#[derive(Debug)]
pub(super) enum ReadError {
    Violation(Violation),
    Io(io::Error),
    /// The client has closed the socket without a close frame.
    End,
}

impl Turn {
    pub(super) fn new() -> Self {
        Self {
            frames: 32,
            bytes: 2 * PIECE,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.frames == 0 || self.bytes == 0
    }

    fn charge(&mut self, frame: &Incoming, inflates: bool) {
        /// A message calls plugins.
        const MESSAGE: usize = 4;
        if let Incoming::Message(data) = frame {
            self.frames = self.frames.saturating_sub(MESSAGE);
            if inflates {
                // A few bytes may have become very many.
                self.read(data.len());
            }
        } else {
            self.frames = self.frames.saturating_sub(1);
        }
    }

    fn read(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Reader {
    /// `rate` is in bytes a second, 0 for no limit. `read_already` came with the handshake.
    pub(super) fn new(rules: Rules, rate: usize, read_already: Vec<u8>, now: Instant) -> Self {
        Self {
            decoder: Decoder::new(rules),
            ahead: read_already,
            decoded: 0,
            rate: TokenBucket::new(rate, now).map(Box::new),
        }
    }

    /// Bytes of memory that it holds.
    pub(super) fn held(&self) -> usize {
        self.decoder.held() + self.ahead.capacity()
    }

    /// Whether a message has begun and is not whole.
    pub(super) fn is_in_message(&self) -> bool {
        self.decoder.is_in_message()
    }

    /// How many bytes of it may still come; none if none has begun.
    pub(super) fn missing(&self) -> Option<usize> {
        self.decoder.missing()
    }

    /// From now on only close frames count: what is in messages is thrown away.
    pub(super) fn skip_messages(&mut self) {
        self.decoder.skip_messages();
    }

    /// The next frame. At most `most` bytes are read at a time.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Half,
        turn: &mut Turn,
        most: usize,
    ) -> Poll<Result<Read, ReadError>> {
        if turn.is_over() {
            return Poll::Ready(Ok(Read::Over));
        }
        let mut frame = self.decode_ahead()?;
        if frame.is_none() {
            let bytes;
            (frame, bytes) = ready!(self.poll_read(cx, socket, most))?;
            turn.read(bytes);
            self.pay_for(bytes);
        }
        Poll::Ready(Ok(match frame {
            Some(frame) => {
                turn.charge(&frame, self.decoder.inflates());
                Read::Frame(frame)
            }
            None => Read::Part,
        }))
    }

    /// How long it takes until the client may send more; nothing is read until then.
    pub(super) fn pause(&mut self) -> Duration {
        // What is read already is paid for.
        if self.ahead.is_empty() {
            self.pay_for(0)
        } else {
            Duration::ZERO
        }
    }

    /// Throws away what comes, for a client to which nothing more is said. Gives how many bytes came; 0 is the end.
    pub(super) fn poll_discard(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Half,
        turn: &mut Turn,
    ) -> Poll<io::Result<usize>> {
        (self.ahead, self.decoded) = (Vec::new(), 0);
        self.decoder.clear();
        let bytes = ready!(with_scratch(PIECE, |scratch| socket.poll_read(cx, scratch)))?;
        turn.read(bytes);
        Poll::Ready(Ok(bytes))
    }

    fn pay_for(&mut self, bytes: usize) -> Duration {
        let rate = self.rate.as_mut();
        rate.map_or(Duration::ZERO, |rate| rate.take(bytes, Instant::now()))
    }

    fn decode_ahead(&mut self) -> Result<Option<Incoming>, ReadError> {
        let Some(rest) = self.ahead.get_mut(self.decoded..).filter(|rest| !rest.is_empty()) else {
            return Ok(None);
        };
        let (taken, frame) = self.decoder.decode(rest)?;
        self.decoded += taken;
        if self.decoded >= self.ahead.len() {
            self.ahead = Vec::new();
            self.decoded = 0;
        }
        Ok(frame)
    }

    /// Reads once, and decodes up to the first frame that ends. Gives how many bytes were read.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Half,
        most: usize,
    ) -> Poll<Result<(Option<Incoming>, usize), ReadError>> {
        with_scratch(most, |scratch| {
            let read = ready!(socket.poll_read(cx, scratch))?;
            if read == 0 {
                return Poll::Ready(Err(ReadError::End));
            }
            let bytes = scratch.get_mut(..read).unwrap_or_default();
            let (taken, frame) = self.decoder.decode(bytes)?;
            self.ahead = bytes.get(taken..).unwrap_or_default().to_vec();
            Poll::Ready(Ok((frame, read)))
        })
    }
}

/// Lends the memory that a thread reads into.
fn with_scratch<T>(most: usize, read: impl FnOnce(&mut [u8]) -> T) -> T {
    thread_local! {
        static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; PIECE].into());
    }
    SCRATCH.with_borrow_mut(|scratch| {
        let size = most.clamp(1, scratch.len());
        read(scratch.get_mut(..size).unwrap_or_default())
    })
}

impl From<Violation> for ReadError {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
