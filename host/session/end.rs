//! How a session ends, and what of it is told.

use std::time::Duration;

use crate::message::{Connection, Utf8Bytes};

/// RFC 6455 section 7.1.5: there was a close frame without a code.
const NO_CODE: u16 = 1005;
/// There was no close frame.
const ABNORMAL: u16 = 1006;

/// How a session ended, for the log and for plugins.
pub(super) enum End {
    /// The client closed.
    Client(Option<(u16, Utf8Bytes)>),
    /// We closed.
    Closed(u16, String),
    /// The client broke the protocol or a limit, and was told by this code.
    Violation(u16, String),
    /// The socket is gone, or the client.
    Lost(String),
}

impl End {
    /// Whether the client said that it goes: what it sent before is still handled.
    pub(super) fn is_by_client(&self) -> bool {
        matches!(self, Self::Client(_))
    }

    /// Whether the client went without a word.
    pub(super) fn is_loss(&self) -> bool {
        matches!(self, Self::Lost(_))
    }

    /// Logs the end. Gives code and reason as plugins hear them.
    pub(super) fn tell(self, connection: &Connection, lasted: Duration) -> (u16, String) {
        let connection = &*connection.id;
        match self {
            Self::Client(frame) => {
                let (code, reason) = frame.map_or((NO_CODE, String::new()), |(code, reason)| {
                    (code, reason.as_str().to_owned())
                });
                tracing::info!(connection, code, ?lasted, "connection closed by the client");
                (code, reason)
            }
            Self::Closed(code, reason) => {
                tracing::info!(connection, code, reason, ?lasted, "connection closed");
                (code, reason)
            }
            Self::Violation(code, cause) => {
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
