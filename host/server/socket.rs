//! The kinds of sockets that requests come from, as one type, so that HTTP and sessions are compiled only once for all of
//! them.

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use crate::session;

/// An accepted socket.
pub(super) enum Socket {
    Tcp(TcpStream),
    /// Boxed: an idle connection in plain text must not be as large as one with TLS.
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

impl From<Socket> for session::Socket {
    fn from(socket: Socket) -> Self {
        match socket {
            Socket::Tcp(socket) => Self::Plain(socket),
            Socket::Tls(socket) => Self::Wrapped(socket),
            Socket::Unix(socket) => Self::Wrapped(Box::new(socket)),
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

impl Socket {
    fn stream(self: Pin<&mut Self>) -> Pin<&mut (dyn Stream + '_)> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket),
            Self::Tls(socket) => Pin::new(&mut **socket),
            Self::Unix(socket) => Pin::new(socket),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        self.stream().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        self.stream().poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.stream().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        self.stream().poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(socket) => socket.is_write_vectored(),
            Self::Tls(socket) => socket.is_write_vectored(),
            Self::Unix(socket) => socket.is_write_vectored(),
        }
    }
}
