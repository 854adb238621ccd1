//! A WebSocket made by hand, for tests with thousands of them: it costs little, answers no pings, and reads nothing but
//! short text frames.

use std::net::SocketAddr;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub struct Bare {
    pub socket: TcpStream,
    read: BytesMut,
}

impl Bare {
    pub async fn connect(address: SocketAddr, path: &str) -> Self {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut read = BytesMut::with_capacity(256);
        let end = loop {
            assert_ne!(
                socket.read_buf(&mut read).await.unwrap(),
                0,
                "{}",
                String::from_utf8_lossy(&read)
            );
            if let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
        };
        assert!(
            read.starts_with(b"HTTP/1.1 101 "),
            "{}",
            String::from_utf8_lossy(&read)
        );
        read.advance(end);
        Self { socket, read }
    }

    /// The next frame, which is text (RFC 6455 section 5.2). What has come of it is kept when this is dropped.
    pub async fn text(&mut self) -> Bytes {
        loop {
            if let Some(frame) = self.take() {
                return frame;
            }
            self.read.reserve(1024);
            assert_ne!(
                self.socket.read_buf(&mut self.read).await.unwrap(),
                0,
                "the gateway has gone"
            );
        }
    }

    /// Reads to the close frame, whatever comes before it. Gives code and reason (RFC 6455 section 5.5.1).
    pub async fn close(mut self) -> (u16, String) {
        loop {
            while let Some(&[kind, length]) = self.read.first_chunk() {
                let end = 2 + usize::from(length);
                assert!(length < 126, "a short frame");
                if self.read.len() < end {
                    break;
                }
                let frame = self.read.split_to(end);
                if kind == 0x88 {
                    let code = u16::from_be_bytes([frame[2], frame[3]]);
                    return (code, String::from_utf8_lossy(&frame[4..]).into_owned());
                }
            }
            self.read.reserve(1024);
            assert_ne!(
                self.socket.read_buf(&mut self.read).await.unwrap(),
                0,
                "the gateway has gone"
            );
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        let (&[kind, short], rest) = self.read.split_first_chunk()?;
        assert_eq!(kind, 0x81, "a whole text frame");
        let (length, start) = match short {
            126 => (usize::from(u16::from_be_bytes(*rest.first_chunk()?)), 4),
            short => (usize::from(short), 2),
        };
        if self.read.len() < start + length {
            return None;
        }
        self.read.advance(start);
        Some(self.read.split_to(length).freeze())
    }
}
