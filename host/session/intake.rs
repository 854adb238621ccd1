//! A socket as its client may use it. It is read no faster than the client may send: what comes faster waits in the kernel,
//! and then at the client, so that whatever it sends, frames, fragments or pings, it costs no more than so many bytes a
//! second. And a message that has begun must end in time: until then all of it that has come is held in memory.
//!
//! It is read in large pieces, into memory that all connections of a thread share, so that none needs a large buffer of its
//! own. What is not asked for yet is kept; mostly that is nothing.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::token_bucket::TokenBucket;

/// How much of a message is held without asking for its end.
const SMALL: usize = 4 * 1024;
/// What is read at a time.
const PIECE: usize = 16 * 1024;
/// Header and mask of a control frame (RFC 6455 sections 5.2 and 5.5).
const CONTROL_HEADER: usize = 6;

pub(super) struct Intake<S> {
    socket: S,
    /// None: no limit, which costs a pointer.
    limit: Option<Box<Limit>>,
    /// Read, but not asked for yet.
    ahead: Bytes,
    /// Bytes since the last message ended: those of the next one.
    unfinished: usize,
    /// How long a message may take that is longer than a small one; none for no limit.
    patience: Option<Duration>,
    /// Then it must be there.
    deadline: Option<Pin<Box<Sleep>>>,
}

struct Limit {
    bucket: TokenBucket,
    /// Until then nothing is read.
    pause: Option<Pin<Box<Sleep>>>,
}

impl<S> Intake<S> {
    /// `rate` is in bytes a second, 0 for no limit; `patience` how long a message may take.
    pub(super) fn new(socket: S, rate: usize, patience: Option<Duration>) -> Self {
        let bucket = TokenBucket::new(rate, Instant::now());
        Self {
            socket,
            limit: bucket.map(|bucket| Box::new(Limit { bucket, pause: None })),
            ahead: Bytes::new(),
            unfinished: 0,
            patience,
            deadline: None,
        }
    }

    /// A message has come to its end.
    pub(super) fn message_ended(&mut self) {
        self.unfinished = 0;
        self.deadline = None;
    }

    /// A control frame of so many bytes has come, perhaps between the fragments of a message, of which it is no part.
    pub(super) fn control_frame(&mut self, bytes: usize) {
        self.unfinished = self.unfinished.saturating_sub(bytes + CONTROL_HEADER);
    }
}

impl<S: AsyncRead + Unpin> Intake<S> {
    fn poll_read_slowly(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(limit) = &mut self.limit else {
            return Pin::new(&mut self.socket).poll_read(cx, buffer);
        };
        if let Some(pause) = &mut limit.pause {
            ready!(pause.as_mut().poll(cx));
            limit.pause = None;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buffer))?;
        let wait = limit.bucket.take(buffer.filled().len() - before, Instant::now());
        limit.pause = (!wait.is_zero()).then(|| Box::pin(sleep(wait)));
        Poll::Ready(Ok(()))
    }

    fn poll_read_ahead(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        thread_local! {
            static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; PIECE].into());
        }
        if self.ahead.is_empty() {
            return SHARED.with_borrow_mut(|shared| {
                let mut piece = ReadBuf::new(shared);
                ready!(self.poll_read_slowly(cx, &mut piece))?;
                let (now, later) = split(piece.filled(), buffer.remaining());
                buffer.put_slice(now);
                self.ahead = Bytes::copy_from_slice(later);
                Poll::Ready(Ok(()))
            });
        }
        let (now, _) = split(&self.ahead, buffer.remaining());
        buffer.put_slice(now);
        self.ahead.advance(now.len());
        Poll::Ready(Ok(()))
    }
}

fn split(bytes: &[u8], at: usize) -> (&[u8], &[u8]) {
    bytes.split_at(at.min(bytes.len()))
}

impl<S: AsyncRead + Unpin> AsyncRead for Intake<S> {
    /// Fails with [`io::ErrorKind::TimedOut`] when a message is not there in time.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let read = this.poll_read_ahead(cx, buffer);
        this.unfinished += buffer.filled().len() - before;
        if this.unfinished > SMALL && this.deadline.is_none() {
            this.deadline = this.patience.map(|patience| Box::pin(sleep(patience)));
        }
        // What is there is read, even if it is late: perhaps it was us who did not ask for it.
        if read.is_pending()
            && let Some(deadline) = &mut this.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            this.deadline = None;
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Intake<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}
