//! The vocabulary of the gateway: what plugins are told and what they decide, as plain data without I/O.
//!
//! The types mirror `wit/types.wit` one to one; what each of them means to a plugin is written there.

mod connection;
pub mod cookies;
mod excerpt;
mod flow;
mod http;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
pub use connection::{AttributesFull, Connection, network};
pub use excerpt::excerpt;
pub use flow::{Class, Flow};
pub use http::{Exchange, Failure, Headers, Outcome, Request, Response};
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
    /// Send a frame to all subscribers of a topic.
    Publish {
        /// Its name; `*` is everyone.
        topic: String,
        /// The frame.
        message: Payload,
        /// The ids of those who do not get it.
        except: Vec<String>,
    },
    /// Make a connection a subscriber of a topic.
    Subscribe {
        /// Its id.
        connection: String,
        /// The topic.
        topic: String,
    },
    /// Undo `Subscribe`.
    Unsubscribe {
        /// Its id.
        connection: String,
        /// The topic.
        topic: String,
    },
    /// Keep a value with a connection, or remove it.
    SetAttribute {
        /// Its id.
        connection: String,
        /// Of the attribute.
        name: String,
        /// None removes it.
        value: Option<String>,
    },
    /// Start a timer of the plugin that says so, or stop it.
    Timer {
        /// The connection's id.
        connection: String,
        /// Of the timer.
        name: String,
        /// None stops it.
        delay: Option<Duration>,
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
    /// Tell the plugin what became of the actions before this one, with this context.
    Report(Payload),
    /// An action that this host does not know, by name.
    Unsupported(String),
}

/// A connection that may open. See `acceptance` in `wit/handshakes.wit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acceptance {
    /// The subprotocol that is agreed on.
    pub subprotocol: Option<String>,
    /// For the answer to the handshake.
    pub headers: Headers,
    /// Done once the connection is open.
    pub actions: Vec<Action>,
}

/// What a plugin wants to become of a handshake. See `admission` in `wit/handshakes.wit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Hand it on to the next plugin. The actions are done once the connection is open.
    Next(Vec<Action>),
    /// Open the connection.
    Accept(Acceptance),
    /// Answer the handshake with this instead.
    Reject(Response),
    /// Ask an upstream first.
    Ask(Exchange),
    /// An admission that this host does not know, by name. Counts as `Next`.
    Unsupported(String),
}

/// What a handler of a plugin returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// About most events.
    Actions(Vec<Action>),
    /// About a handshake. Boxed: it is rare and large.
    Admission(Box<Admission>),
}

/// What became of an action: a word, and more by name. See `effect` in `wit/reports.wit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// A word in kebab case.
    pub outcome: &'static str,
    /// More, by name.
    pub facts: Vec<(&'static str, String)>,
}

impl Effect {
    /// A word alone.
    pub fn new(outcome: &'static str) -> Self {
        Self {
            outcome,
            facts: Vec::new(),
        }
    }

    /// What was not done, and why.
    pub fn refused(cause: String) -> Self {
        Self {
            outcome: "refused",
            facts: vec![("cause", cause)],
        }
    }
}

/// What happened: the argument of a plugin's handler. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Event {
    /// A client wants to connect.
    Open {
        /// Who.
        connection: Arc<Connection>,
        /// The handshake.
        request: Arc<Request>,
    },
    /// A request that was asked for a handshake ended.
    Verdict {
        /// Whose handshake.
        connection: Arc<Connection>,
        /// What the plugin attached.
        context: Payload,
        /// How it ended.
        outcome: Arc<Outcome>,
    },
    /// A client sent a message.
    Frame {
        /// Who.
        connection: Arc<Connection>,
        /// What.
        message: Payload,
    },
    /// A forwarded request ended.
    Response {
        /// The connection for whose event it was forwarded; none for a push or a schedule.
        connection: Option<Arc<Connection>>,
        /// What the plugin attached.
        context: Payload,
        /// How it ended.
        outcome: Arc<Outcome>,
    },
    /// A timer ran out.
    Timer {
        /// Whose.
        connection: Arc<Connection>,
        /// Which.
        name: Arc<str>,
    },
    /// A connection has gone.
    Close {
        /// Which.
        connection: Arc<Connection>,
        /// The close code; 1005 and 1006 stand for none (RFC 6455 section 7.1.5).
        code: u16,
        /// The reason given by the side that closed.
        reason: Arc<str>,
    },
    /// A request came to the push listener.
    Push(Arc<Request>),
    /// A schedule of this name is due.
    Schedule(Arc<str>),
    /// The actions before a `Report` are done.
    Report {
        /// The connection of the event whose actions they are.
        connection: Option<Arc<Connection>>,
        /// What the plugin attached.
        context: Payload,
        /// What became of each.
        effects: Arc<[Effect]>,
    },
}

impl Event {
    /// The kind, as logs name it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Open { .. } => "open",
            Self::Verdict { .. } => "verdict",
            Self::Frame { .. } => "frame",
            Self::Response { .. } => "response",
            Self::Timer { .. } => "timer",
            Self::Close { .. } => "close",
            Self::Push(_) => "push",
            Self::Schedule(_) => "schedule",
            Self::Report { .. } => "report",
        }
    }

    /// The connection it belongs to.
    pub fn connection(&self) -> Option<&Arc<Connection>> {
        match self {
            Self::Open { connection, .. }
            | Self::Verdict { connection, .. }
            | Self::Frame { connection, .. }
            | Self::Timer { connection, .. }
            | Self::Close { connection, .. } => Some(connection),
            Self::Response { connection, .. } | Self::Report { connection, .. } => connection.as_ref(),
            Self::Push(_) | Self::Schedule(_) => None,
        }
    }

    /// Bytes of what came with it.
    pub fn size(&self) -> usize {
        match self {
            Self::Frame { message, .. } => message.len(),
            Self::Push(request) | Self::Open { request, .. } => request.size(),
            Self::Close {
                connection, reason, ..
            } => connection.size() + reason.len(),
            Self::Response { context, outcome, .. } | Self::Verdict { context, outcome, .. } => {
                context.len()
                    + outcome
                        .as_ref()
                        .as_ref()
                        .map_or(0, |response| response.body.len())
            }
            _ => 0,
        }
    }

    /// Whose turn it takes, it and the requests that are sent because of it.
    pub fn flow(&self) -> Flow {
        let class = match self {
            Self::Open { .. } | Self::Verdict { .. } => Class::Handshake,
            Self::Frame { .. } | Self::Timer { .. } | Self::Response { .. } | Self::Report { .. } => {
                Class::Message
            }
            Self::Close { .. } => Class::Close,
            Self::Push(_) => Class::Push,
            Self::Schedule(_) => Class::Schedule,
        };
        Flow::new(class, self.connection().map(|connection| &**connection))
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
}
