//! A WebSocket client. What it does not ask for never comes: an unexpected frame fails the test that meets it.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderMap;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{Answer, PATIENCE, tcp_from};

pub struct Client {
    socket: WebSocketStream<Box<dyn Socket>>,
    /// The name that the gateway knows it by: its address.
    pub id: String,
    /// The headers of the answer to the handshake.
    pub headers: HeaderMap,
}

/// What a client may speak through: TCP, or TLS on it.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// What comes from the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    Text(String),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    /// Code and reason; 1005 for a close frame without a code (RFC 6455 section 7.1.5).
    Close(u16, String),
    /// The socket ended without a close frame, or after one.
    End,
}

impl Client {
    pub async fn connect(address: SocketAddr, path: &str) -> Self {
        let request = format!("ws://{address}{path}").into_client_request().unwrap();
        Self::connect_by(address, request)
            .await
            .expect("the handshake succeeds")
    }

    /// Connects from another address than the tests usually do, see [`tcp_from`].
    pub async fn connect_from(source: [u8; 4], address: SocketAddr, path: &str) -> Self {
        let socket = tcp_from(source, address).await;
        let id = socket.local_addr().unwrap().to_string();
        Self::over(socket, id, format!("ws://{address}{path}"))
            .await
            .expect("the handshake succeeds")
    }

    /// Connects with a request of one's own, which may fail.
    pub async fn connect_by(
        address: SocketAddr,
        request: impl IntoClientRequest + Unpin,
    ) -> Result<Self, tokio_tungstenite::tungstenite::Error> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let id = socket.local_addr()?.to_string();
        Self::over(socket, id, request).await
    }

    /// Opens the WebSocket on a socket that is connected.
    pub async fn over(
        socket: impl Socket + 'static,
        id: String,
        request: impl IntoClientRequest + Unpin,
    ) -> Result<Self, tokio_tungstenite::tungstenite::Error> {
        let socket: Box<dyn Socket> = Box::new(socket);
        let config = WebSocketConfig::default()
            .read_buffer_size(4096)
            .max_message_size(None)
            .max_frame_size(None);
        let (socket, answer) =
            tokio_tungstenite::client_async_with_config(request, socket, Some(config)).await?;
        let headers = answer.headers().clone();
        Ok(Self { socket, id, headers })
    }

    /// Connects with further headers; the error is the answer that refuses it, with status and body.
    pub async fn try_connect(
        address: SocketAddr,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, Answer> {
        let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
        for (name, value) in headers {
            let value = value.parse().unwrap();
            // There can be only one of it, and there is one.
            if *name == "host" {
                request.headers_mut().insert(*name, value);
            } else {
                request.headers_mut().append(*name, value);
            }
        }
        match Self::connect_by(address, request).await {
            Ok(client) => Ok(client),
            Err(Error::Http(answer)) => Err(Answer {
                status: answer.status().as_u16(),
                body: String::from_utf8(answer.into_body().unwrap_or_default()).unwrap(),
            }),
            Err(error) => panic!("{error}"),
        }
    }

    /// Cuts the connection as a lost network would: no close frame.
    pub fn cut(self) {
        drop(self);
    }

    pub async fn send(&mut self, text: &str) {
        self.send_frame(Message::text(text)).await;
    }

    pub async fn send_binary(&mut self, bytes: &[u8]) {
        self.send_frame(Message::binary(bytes.to_vec())).await;
    }

    pub async fn send_frame(&mut self, frame: Message) {
        self.socket.send(frame).await.expect("the connection is open");
    }

    /// The next frame; a test that waits for one in vain fails.
    pub async fn next(&mut self) -> Frame {
        let next = timeout(PATIENCE, async {
            loop {
                // The library answers pings as it reads.
                match self.socket.next().await {
                    Some(Ok(Message::Ping(_))) => {}
                    other => break other,
                }
            }
        })
        .await;
        match next.unwrap_or_else(|_| panic!("nothing came to {} within {PATIENCE:?}", self.id)) {
            Some(Ok(Message::Text(text))) => Frame::Text(text.to_string()),
            Some(Ok(Message::Binary(bytes))) => Frame::Binary(bytes.to_vec()),
            Some(Ok(Message::Pong(bytes))) => Frame::Pong(bytes.to_vec()),
            Some(Ok(Message::Close(Some(frame)))) => {
                Frame::Close(frame.code.into(), frame.reason.to_string())
            }
            Some(Ok(Message::Close(None))) => Frame::Close(1005, String::new()),
            Some(Ok(other)) => panic!("{other:?} came"),
            Some(Err(_)) | None => Frame::End,
        }
    }

    /// The next frame, which is text.
    pub async fn text(&mut self) -> String {
        match self.next().await {
            Frame::Text(text) => text,
            other => panic!("{other:?} came instead of text"),
        }
    }

    /// Sends a text and gives the answer.
    pub async fn ask(&mut self, text: &str) -> String {
        self.send(text).await;
        self.text().await
    }

    /// Makes sure that nothing is under way: what is sent now is the next thing that is answered.
    pub async fn is_quiet(&mut self) {
        let probe = b"quiet?".to_vec();
        self.send_frame(Message::Ping(probe.clone().into())).await;
        assert_eq!(self.next().await, Frame::Pong(probe));
    }

    pub async fn close(self) {
        self.close_with(None).await;
    }

    /// Closes with a frame of one's own, and waits until the gateway has answered it.
    pub async fn close_with(mut self, frame: Option<CloseFrame>) {
        let _ = self.socket.close(frame).await;
        while self.next().await != Frame::End {}
    }
}
