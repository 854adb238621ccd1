//! How a session ends, and what of it is told.

use std::time::Duration;

use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::message::Connection;

/// RFC 6455 section 7.1.5: there was a close frame without a code.
const NO_CODE: u16 = 1005;
/// There was no close frame.
const ABNORMAL: u16 = 1006;

/// How a session ended, for the log and for plugins.
pub(super) enum End {
    /// The peer closed.
    Peer(Option<CloseFrame>),
    /// We closed.
    Closed(u16, String),
    /// The peer broke the protocol and was told by this code.
    Violation(CloseCode, String),
    /// The socket is gone, or the peer.
    Lost(String),
}

impl End {
    /// Logs the end. Gives code and reason as plugins hear them.
    pub(super) fn tell(self, connection: &Connection, lasted: Duration) -> (u16, String) {
        let connection = &*connection.id;
        match self {
            Self::Peer(frame) => {
                let (code, reason) = frame.map_or((NO_CODE, String::new()), |frame| {
                    (frame.code.into(), frame.reason.as_str().to_owned())
                });
                tracing::info!(connection, code, ?lasted, "connection closed by the client");
                (code, reason)
            }
            Self::Closed(code, reason) => {
                tracing::info!(connection, code, reason, ?lasted, "connection closed");
                (code, reason)
            }
            Self::Violation(code, cause) => {
                let code = u16::from(code);
                tracing::warn!(
                    connection,
                    code,
                    cause,
                    ?lasted,
                    "connection closed for a violation"
                );
                (code, cause)
            }
            Self::Lost(cause) => {
                tracing::info!(connection, cause, ?lasted, "connection lost");
                (ABNORMAL, cause)
            }
        }
    }
}
