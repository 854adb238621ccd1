//! How a connection ends from our side, so that its peer gets to see code and reason.

use std::io::ErrorKind;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as WsError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// How long a peer may take to answer a close frame (RFC 6455 section 7.1.1 leaves it to us).
const PATIENCE: Duration = Duration::from_secs(5);
/// How much of a message that is too long is still read.
const LINGER_BYTES: usize = 16 * 1024 * 1024;

/// Closes, and waits for the peer's answer. Whether it comes or not, it is over.
pub(super) async fn close<S>(socket: &mut WebSocketStream<S>, code: u16, reason: String)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let frame = CloseFrame {
        code: CloseCode::from(code),
        reason: reason.into(),
    };
    let goodbye = async {
        if socket.close(Some(frame)).await.is_ok() {
            while let Some(Ok(_)) = socket.next().await {}
        }
    };
    let _ = timeout(PATIENCE, goodbye).await;
}

/// Sends the answer to the peer's close frame, which the library has queued. Its own `close` would not: to the library the
/// connection is closed already.
pub(super) async fn answer_close<S>(socket: &mut WebSocketStream<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let _ = timeout(PATIENCE, socket.flush()).await;
}

/// Tells a peer what it did wrong, by the code that this gives; none if the socket is gone.
pub(super) async fn refuse<S>(socket: &mut WebSocketStream<S>, error: &WsError) -> Option<CloseCode>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let code = close_code(error)?;
    let frame = CloseFrame {
        code,
        reason: reason(error).into(),
    };
    let goodbye = async {
        // The peer need not wait for the end of what is read in vain (RFC 6455 section 7.1.1).
        if socket.close(Some(frame)).await.is_ok() && socket.get_mut().shutdown().await.is_ok() {
            discard(socket.get_mut()).await;
        }
    };
    let _ = timeout(PATIENCE, goodbye).await;
    Some(code)
}

/// RFC 6455 section 7.4.1.
fn close_code(error: &WsError) -> Option<CloseCode> {
    match error {
        WsError::Capacity(_) => Some(CloseCode::Size),
        WsError::Utf8(_) => Some(CloseCode::Invalid),
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        WsError::Protocol(_) => Some(CloseCode::Protocol),
        WsError::Io(error) if error.kind() == ErrorKind::TimedOut => Some(CloseCode::Policy),
        _ => None,
    }
}

/// At most 123 bytes (RFC 6455 section 5.5).
fn reason(error: &WsError) -> String {
    match error {
        WsError::Capacity(CapacityError::MessageTooLong { max_size, .. }) => {
            format!("the message is over {max_size} bytes")
        }
        WsError::Utf8(_) => "the text is not valid UTF-8".to_owned(),
        WsError::Io(_) => "a message was not there in time (message-timeout)".to_owned(),
        _ => "protocol error".to_owned(),
    }
}

/// A socket that is closed with unread bytes resets the connection, and the peer may lose the close frame that is under
/// way to it. So what it still sends is read and thrown away, up to a bound.
async fn discard<S: AsyncRead + Unpin>(socket: &mut S) {
    let mut scratch = vec![0; 16 * 1024];
    let mut bytes = 0;
    while bytes < LINGER_BYTES {
        match socket.read(&mut scratch).await {
            Ok(0) | Err(_) => break,
            Ok(n) => bytes += n,
        }
    }
}
