//! A socket that is read no faster than its client may send. What comes faster waits in the kernel, and then at the client:
//! whatever it sends, frames, fragments or pings, it costs no more than so many bytes a second.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::bucket::Bucket;

pub(super) struct Throttle<S> {
    socket: S,
    /// None: no limit, which costs a pointer.
    limit: Option<Box<Limit>>,
}

struct Limit {
    bucket: Bucket,
    /// Until then nothing is read.
    pause: Option<Pin<Box<Sleep>>>,
}

impl<S> Throttle<S> {
    /// `rate` is in bytes a second; 0 for no limit.
    pub(super) fn new(socket: S, rate: usize) -> Self {
        let bucket = Bucket::new(rate, Instant::now());
        Self {
            socket,
            limit: bucket.map(|bucket| Box::new(Limit { bucket, pause: None })),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Throttle<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(limit) = &mut this.limit else {
            return Pin::new(&mut this.socket).poll_read(cx, buffer);
        };
        if let Some(pause) = &mut limit.pause {
            ready!(pause.as_mut().poll(cx));
            limit.pause = None;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.socket).poll_read(cx, buffer))?;
        let wait = limit.bucket.take(buffer.filled().len() - before, Instant::now());
        limit.pause = (!wait.is_zero()).then(|| Box::pin(sleep(wait)));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Throttle<S> {
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
