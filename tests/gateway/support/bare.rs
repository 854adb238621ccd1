//! A WebSocket made by hand, for tests with thousands of them, and for clients that do what no library does: it costs little,
//! answers no pings, and sends and reads what it is told to.

use std::net::SocketAddr;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::tcp_from;

pub struct Bare {
    pub socket: TcpStream,
    read: BytesMut,
}

impl Bare {
    pub async fn connect(address: SocketAddr, path: &str) -> Self {
        Self::connect_with(address, path, "", b"").await.0
    }

    /// Connects with further lines of headers, and sends what is to come right behind the request together with it. Gives
    /// the head of the answer, too.
    pub async fn connect_with(
        address: SocketAddr,
        path: &str,
        headers: &str,
        behind: &[u8],
    ) -> (Self, String) {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let request = [request(path, headers).as_bytes(), behind].concat();
        socket.write_all(&request).await.unwrap();
        Self::answered(socket).await
    }

    /// Connects from another address than the tests usually do, see [`tcp_from`].
    pub async fn connect_from(source: [u8; 4], address: SocketAddr, path: &str) -> Self {
        let socket = Self::ask_from(source, address, path).await;
        Self::answered(socket).await.0
    }

    /// The same without waiting for the answer.
    pub async fn ask_from(source: [u8; 4], address: SocketAddr, path: &str) -> TcpStream {
        let mut socket = tcp_from(source, address).await;
        socket.write_all(request(path, "").as_bytes()).await.unwrap();
        socket
    }

    /// Waits until it is let in.
    async fn answered(mut socket: TcpStream) -> (Self, String) {
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
        let head = String::from_utf8_lossy(&read.split_to(end)).into_owned();
        (Self { socket, read }, head)
    }

    /// The name that the gateway knows it by: its address.
    pub fn id(&self) -> String {
        self.socket.local_addr().unwrap().to_string()
    }

    /// Sends a frame, see [`masked`].
    pub async fn send(&mut self, first: u8, payload: &[u8]) {
        self.socket.write_all(&masked(first, payload)).await.unwrap();
    }

    /// The next frame, which is text.
    pub async fn text(&mut self) -> Bytes {
        let (first, payload) = self.frame().await;
        assert_eq!(first, 0x81, "a whole text frame");
        payload
    }

    /// The next frame: its first byte and its payload (RFC 6455 section 5.2). What has come of it is kept when this is dropped.
    pub async fn frame(&mut self) -> (u8, Bytes) {
        self.try_frame().await.expect("the gateway is there")
    }

    /// The same. None: the connection has ended.
    pub async fn try_frame(&mut self) -> Option<(u8, Bytes)> {
        loop {
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            self.read.reserve(1024);
            if matches!(self.socket.read_buf(&mut self.read).await, Ok(0) | Err(_)) {
                return None;
            }
        }
    }

    /// Reads to the close frame, whatever comes before it. Gives code and reason (RFC 6455 section 5.5.1).
    pub async fn close(mut self) -> (u16, String) {
        loop {
            if let (0x88, payload) = self.frame().await {
                let (code, reason) = payload.split_first_chunk().expect("a code");
                return (
                    u16::from_be_bytes(*code),
                    String::from_utf8_lossy(reason).into_owned(),
                );
            }
        }
    }

    fn take(&mut self) -> Option<(u8, Bytes)> {
        let (&[first, short], rest) = self.read.split_first_chunk()?;
        let (length, start) = match short {
            126 => (usize::from(u16::from_be_bytes(*rest.first_chunk()?)), 4),
            127 => (
                usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).unwrap(),
                10,
            ),
            short => (usize::from(short), 2),
        };
        if self.read.len() < start + length {
            return None;
        }
        self.read.advance(start);
        Some((first, self.read.split_to(length).freeze()))
    }
}

/// A handshake.
fn request(path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

/// A frame as a client sends it, whose first byte is given (RFC 6455 section 5.2). A mask of zeros is a mask.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..65536 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// A close frame as a client sends it.
pub fn masked_close(code: u16, reason: &str) -> Vec<u8> {
    masked(0x88, &[&code.to_be_bytes(), reason.as_bytes()].concat())
}
