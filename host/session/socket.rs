//! The socket of a session. One in plain text is read by the session and written by whoever has a frame for its client;
//! any other kind is the session's alone.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Where a session's client is.
pub enum Socket {
    /// TCP in plain text.
    Plain(TcpStream),
    /// Anything else, such as TLS.
    Wrapped(Box<dyn Stream>),
}

/// What can be read and written.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// What a session keeps of its socket. The half of a plain one that is written is with the send queue.
pub(super) enum Half {
    Plain(OwnedReadHalf),
    Wrapped(Box<dyn Stream>),
}

impl Socket {
    pub(super) fn split(self) -> (Half, Option<OwnedWriteHalf>) {
        match self {
            Self::Plain(socket) => {
                let (read, write) = socket.into_split();
                (Half::Plain(read), Some(write))
            }
            Self::Wrapped(socket) => (Half::Wrapped(socket), None),
        }
    }
}

impl Half {
    /// Reads into a buffer; 0 is the end.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        let read = match self {
            Self::Plain(half) => Pin::new(half).poll_read(cx, &mut buffer),
            Self::Wrapped(socket) => Pin::new(socket).poll_read(cx, &mut buffer),
        };
        ready!(read)?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Writes without waiting. When the socket takes no more, the session is woken as soon as it does. `plain` is the other
    /// half of a plain one.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        plain: Option<&OwnedWriteHalf>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match (self, plain) {
            (Self::Wrapped(socket), _) => Pin::new(socket).poll_write_vectored(cx, parts),
            (Self::Plain(_), Some(plain)) => loop {
                match plain.try_write_vectored(parts) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        ready!(plain.as_ref().poll_write_ready(cx))?;
                    }
                    result => return Poll::Ready(result),
                }
            },
            (Self::Plain(_), None) => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Passes on what a wrapper has kept back.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Wrapped(socket) => Pin::new(socket).poll_flush(cx),
        }
    }

    /// Says that nothing more is written. The other half of a plain one says so when it is dropped.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Wrapped(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }
}
