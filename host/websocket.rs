//! WebSocket (RFC 6455) as a server speaks it, with permessage-deflate (RFC 7692): bytes to messages, and messages to
//! bytes. No I/O and no clock; who reads and writes the socket is no matter of this module, and neither is what is said in
//! answer. It is strict where the RFCs are, and holds no more memory for a client than that client has sent.
//!
//! 1. [`Decoder`] takes what has come from a client, in whatever pieces, and gives an [`Incoming`] for each message,
//!    fragment and control frame, or the [`Violation`] to close with. An idle one is three words large.
//! 2. [`Frame`] is what goes to a client: a header and a payload, which many connections may share.
//! 3. [`negotiate`] answers the extensions that a client has offered; [`Window`] is how its messages are compressed then.
//!
//! `deflate` keeps compressor and inflater of a thread, which all of its connections use in turn: no context is taken over
//! from one message to the next.

mod decode;
mod deflate;
mod encode;
mod extension;

use bytes::Bytes;
use tokio_tungstenite::tungstenite::Utf8Bytes;

pub use decode::Decoder;
pub use deflate::Window;
pub use encode::Frame;
pub use extension::{Agreed, negotiate};

/// The most that a control frame carries (RFC 6455 section 5.5).
const MAX_CONTROL: usize = 125;

// Opcodes (RFC 6455 section 5.2). From 8 on they are control frames.
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

// Bits of a frame's first byte.
const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2_AND_3: u8 = 0x30;
const OPCODE: u8 = 0x0f;

/// A whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Valid UTF-8.
    Text(Utf8Bytes),
    /// Anything.
    Binary(Bytes),
}

impl Data {
    /// The size in bytes.
    #[allow(
        clippy::len_without_is_empty,
        reason = "nobody asks; the fuzz targets do not export it"
    )]
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }
}

/// What has come from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A message is whole.
    Message(Data),
    /// A data frame has ended that is not the last one of its message.
    Fragment,
    /// To be answered by a pong with the same payload.
    Ping(Bytes),
    /// An answer to a ping, or a sign of life that nobody has asked for.
    Pong(Bytes),
    /// The client says goodbye, with a code and a reason or without. Nothing that comes later means anything.
    Close(Option<(u16, Utf8Bytes)>),
}

/// What a client may send.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The most bytes of a message, after decompression.
    pub max_message: usize,
    /// Whether permessage-deflate was agreed on.
    pub inflates: bool,
}

/// What a client must not send. The connection ends over it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// No frame may look like this, or not here.
    #[error("protocol error: {0}")]
    Protocol(&'static str),
    /// A text, or the reason of a close frame.
    #[error("the text is not valid UTF-8")]
    Utf8,
    /// A message, as it comes or decompressed.
    #[error("the message is over {max} bytes")]
    TooLarge {
        /// What was allowed.
        max: usize,
    },
    /// A compressed message that does not decompress.
    #[error("the compressed message is not valid")]
    Deflate,
}

impl Violation {
    /// RFC 6455 section 7.4.1.
    pub fn close_code(&self) -> u16 {
        match self {
            Self::Protocol(_) => 1002,
            Self::Utf8 | Self::Deflate => 1007,
            Self::TooLarge { .. } => 1009,
        }
    }

    /// Words for the client, which fit into a close frame.
    pub fn reason(&self) -> String {
        self.to_string()
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
