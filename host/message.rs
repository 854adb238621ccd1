//! The vocabulary of the gateway: what plugins are told and what they answer, as plain data without I/O.
//!
//! The types mirror `wit/types.wit` one to one; what each of them means to a plugin is written there.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
pub use tokio_tungstenite::tungstenite::Utf8Bytes;

/// Names a connection. Unique among the connections that are open.
pub type ConnectionId = Arc<str>;

/// A WebSocket message or an HTTP body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Valid UTF-8.
    Text(Utf8Bytes),
    /// Any bytes.
    Binary(Bytes),
}

impl Payload {
    /// Text exactly when the bytes are valid UTF-8, as HTTP bodies are handed to plugins. Does not copy.
    pub fn from_body(body: Bytes) -> Self {
        match Utf8Bytes::try_from(body.clone()) {
            Ok(text) => Self::Text(text),
            Err(_) => Self::Binary(body),
        }
    }

    /// The bytes, whichever kind it is. Does not copy.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Text(text) => text.into(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// The size in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Header fields in order; names in lower case.
pub type Headers = Vec<(String, String)>;

/// An HTTP request: one that came to the push listener, or one for an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// In upper case; empty means `POST` for an upstream.
    pub method: String,
    /// Empty means the path of the upstream's own address.
    pub path: String,
    /// Without the `?`.
    pub query: String,
    /// As received, or as the plugin wants them sent.
    pub headers: Headers,
    /// The whole body.
    pub body: Payload,
}

/// An HTTP response: an upstream's answer, or the answer to a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// 100 to 599.
    pub status: u16,
    /// As received, or as the plugin wants them sent.
    pub headers: Headers,
    /// The whole body.
    pub body: Payload,
}

/// Why a forwarded request has no answer. The texts are for people: where and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No complete answer in time.
    Timeout(String),
    /// No connection, or it broke before the answer was complete.
    Unreachable(String),
    /// The gateway itself refused to send the request.
    Overloaded(String),
    /// The answer is over the size limit.
    TooLarge(String),
    /// Anything else: a name in kebab case, and a text.
    Other(String, String),
}

impl Failure {
    /// The kind, as metrics and logs name it.
    pub fn kind(&self) -> &str {
        match self {
            Self::Timeout(_) => "timeout",
            Self::Unreachable(_) => "unreachable",
            Self::Overloaded(_) => "overloaded",
            Self::TooLarge(_) => "too-large",
            Self::Other(kind, _) => kind,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Timeout(text)
        | Self::Unreachable(text)
        | Self::Overloaded(text)
        | Self::TooLarge(text)
        | Self::Other(_, text)) = self;
        write!(f, "{}: {text}", self.kind())
    }
}

/// A request for an upstream, with the context that comes back with its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The upstream's name; none means the one of the event's route.
    pub upstream: Option<String>,
    /// What to send.
    pub request: Request,
    /// The plugin's own, unread by the host.
    pub context: Payload,
}

/// How a forwarded request ended.
pub type Outcome = Result<Response, Failure>;

/// What a plugin wants done. See `action` in `wit/types.wit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Hand the event on to the next plugin, perhaps with another payload.
    Next(Option<Payload>),
    /// Send a frame to the event's connection.
    Reply(Payload),
    /// Answer the push.
    Respond(Response),
    /// Ask an upstream.
    Forward(Exchange),
    /// Send a frame to a connection.
    Send {
        /// Its id.
        connection: String,
        /// The frame.
        message: Payload,
    },
    /// Close a connection.
    Close {
        /// Its id.
        connection: String,
        /// The close code (RFC 6455 section 7.4).
        code: u16,
        /// For the peer.
        reason: String,
    },
    /// An action that this host does not know or does not do yet, by name.
    Unsupported(String),
}

/// What happened: the argument of a plugin's handler. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Event {
    /// A client sent a message.
    Frame {
        /// Who.
        peer: Arc<Peer>,
        /// What.
        message: Payload,
    },
    /// A forwarded request ended.
    Response {
        /// The connection for whose event it was forwarded; none for a push.
        peer: Option<Arc<Peer>>,
        /// What the plugin attached.
        context: Payload,
        /// How it ended.
        outcome: Arc<Outcome>,
    },
    /// A request came to the push listener.
    Push(Arc<Request>),
}

impl Event {
    /// The kind, as logs name it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Frame { .. } => "frame",
            Self::Response { .. } => "response",
            Self::Push(_) => "push",
        }
    }

    /// The connection it belongs to.
    pub fn peer(&self) -> Option<&Arc<Peer>> {
        match self {
            Self::Frame { peer, .. } => Some(peer),
            Self::Response { peer, .. } => peer.as_ref(),
            Self::Push(_) => None,
        }
    }
}

/// What is known of a connection since its handshake. Kept for each open connection, so it is kept small.
#[derive(Debug)]
pub struct Peer {
    /// The connection's name.
    pub id: ConnectionId,
    /// Of the socket.
    pub remote_address: SocketAddr,
    /// Path of the handshake's request.
    pub path: Box<str>,
    /// Its query, without the `?`.
    pub query: Box<str>,
    /// Its headers: a line each, `name: value`, names in lower case.
    pub headers: Box<str>,
    /// The one that was agreed on.
    pub subprotocol: Option<Box<str>>,
}

impl Peer {
    /// The first header of a name, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// A fact of the connection, by the names that `wit/types.wit` lists.
    pub fn fact(&self, name: &str) -> Option<Cow<'_, str>> {
        match name {
            "path" => Some(Cow::Borrowed(&*self.path)),
            "query" => Some(Cow::Borrowed(&*self.query)),
            "remote-address" => Some(Cow::Owned(self.remote_address.to_string())),
            "subprotocol" => self.subprotocol.as_deref().map(Cow::Borrowed),
            _ => self.header(name.strip_prefix("header.")?).map(Cow::Borrowed),
        }
    }

    /// Whether a name is one that connections may have: what `fact` knows.
    pub fn knows_fact(name: &str) -> bool {
        matches!(name, "path" | "query" | "remote-address" | "subprotocol") || name.starts_with("header.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_text_exactly_when_they_are_utf8() {
        assert_eq!(
            Payload::from_body(Bytes::from_static("é".as_bytes())),
            Payload::Text("é".into())
        );
        let odd = Bytes::from_static(b"\xff");
        assert_eq!(Payload::from_body(odd.clone()), Payload::Binary(odd));
    }

    #[test]
    fn facts_come_by_name() {
        let peer = Peer {
            id: "1".into(),
            remote_address: ([127, 0, 0, 1], 5).into(),
            path: "/ws".into(),
            query: "a=b".into(),
            headers: "host: x\ncookie: s=1; t=2\ncookie: u".into(),
            subprotocol: None,
        };
        let facts = [
            ("path", Some("/ws")),
            ("query", Some("a=b")),
            ("remote-address", Some("127.0.0.1:5")),
            ("subprotocol", None),
            ("header.cookie", Some("s=1; t=2")),
            ("header.hos", None),
            ("color", None),
        ];
        for (name, value) in facts {
            assert_eq!(peer.fact(name).as_deref(), value, "{name}");
        }
    }
}
