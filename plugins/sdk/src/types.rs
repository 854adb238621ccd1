//! The types of `wit/types.wit`, with the small methods that plugins keep writing.

use std::fmt;

pub use crate::bindings::imports::aileron::gateway::types::{
    Action, Attribute, Closing, Connection, Delivery, Exchange, Failure, Headers, Membership, Payload,
    Publication, Request, Response, Timer, TimerName,
};
use crate::{Acceptance, Effect, Interest};

impl Connection {
    /// The value of a fact that the plugin named in its interest. None if this connection does not have it.
    pub fn fact(&self, name: &str) -> Option<&str> {
        first(&self.facts, name)
    }
}

impl Request {
    /// The first value of a header; the name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        first(&self.headers, name)
    }
}

impl Response {
    /// A response of plain text.
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Payload::Text(body.into()),
        }
        .with_header("content-type", "text/plain; charset=utf-8")
    }

    /// The response with one header more; its name in lower case.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The first value of a header; the name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        first(&self.headers, name)
    }
}

fn first<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs
        .iter()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.as_str())
}

impl Payload {
    /// Text exactly when the bytes are valid UTF-8. Does not copy.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self::Text(text),
            Err(error) => Self::Binary(error.into_bytes()),
        }
    }

    /// The bytes, whichever kind it is.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// The bytes, whichever kind it is. Does not copy.
    pub fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.into_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// The beginning, for a line of the log: so many characters at most.
    pub fn excerpt(&self, characters: usize) -> String {
        // No character is longer than four bytes, so the rest need not be looked at.
        let bytes = self.as_bytes();
        let start = &bytes[..bytes.len().min(characters.saturating_mul(4))];
        String::from_utf8_lossy(start).chars().take(characters).collect()
    }
}

impl Action {
    /// Asks what becomes of the actions before this one in the list: [`Reports`](crate::Reports) is told, with this
    /// context, which the host does not read.
    pub fn report(context: Payload) -> Self {
        Self::Other(("report".to_owned(), context))
    }
}

impl Effect {
    /// More about the effect, by name. None if there is nothing of that name.
    pub fn fact(&self, name: &str) -> Option<&str> {
        first(&self.facts, name)
    }
}

impl Failure {
    /// The kind in kebab case, as the gateway's own logs and metrics name it.
    pub fn kind(&self) -> &str {
        match self {
            Self::Timeout(_) => "timeout",
            Self::Unreachable(_) => "unreachable",
            Self::Overloaded(_) => "overloaded",
            Self::TooLarge(_) => "too-large",
            Self::Other((kind, _)) => kind,
        }
    }

    /// Where and what, for people.
    pub fn text(&self) -> &str {
        match self {
            Self::Timeout(text)
            | Self::Unreachable(text)
            | Self::Overloaded(text)
            | Self::TooLarge(text)
            | Self::Other((_, text)) => text,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind(), self.text())
    }
}

/// No facts, every event: what a plugin without `Lifecycle` gets.
impl Default for Interest {
    fn default() -> Self {
        Self {
            facts: Vec::new(),
            paths: Vec::new(),
            others: Vec::new(),
        }
    }
}

/// A connection without a subprotocol, a header or an action.
impl Default for Acceptance {
    fn default() -> Self {
        Self {
            subprotocol: None,
            headers: Vec::new(),
            actions: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_and_headers_are_found_by_name() {
        let connection = Connection {
            id: "a:1".into(),
            facts: vec![("path".into(), "/ws".into())],
        };
        assert_eq!(connection.fact("path"), Some("/ws"));
        assert_eq!(connection.fact("query"), None);

        let response = Response {
            status: 200,
            headers: vec![("vary".into(), "a".into()), ("vary".into(), "b".into())],
            body: Payload::Text(String::new()),
        };
        assert_eq!(response.header("vary"), Some("a"));
    }

    #[test]
    fn a_payload_is_text_exactly_when_it_is_utf8() {
        assert_eq!(Payload::from_bytes("é".into()), Payload::Text("é".into()));
        let latin1 = Payload::from_bytes(vec![0xe9]);
        assert_eq!(latin1, Payload::Binary(vec![0xe9]));
        assert_eq!(latin1.as_bytes(), [0xe9]);
        assert_eq!(latin1.into_bytes(), [0xe9]);
    }

    #[test]
    fn a_response_of_text_says_so() {
        let response = Response::text(405, "no").with_header("allow", "GET");
        let headers = [("content-type", "text/plain; charset=utf-8"), ("allow", "GET")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let expected = Response {
            status: 405,
            headers: headers.to_vec(),
            body: Payload::Text("no".into()),
        };
        assert_eq!(response, expected);
    }

    #[test]
    fn an_excerpt_counts_characters() {
        let text = Payload::Text("é".repeat(300));
        assert_eq!(text.excerpt(2), "éé");
        assert_eq!(text.excerpt(usize::MAX).chars().count(), 300);
        assert_eq!(Payload::Binary(b"caf\xe9!".to_vec()).excerpt(9), "caf\u{fffd}!");
    }

    #[test]
    fn a_report_is_asked_for_by_its_name() {
        let context = Payload::Text("a".into());
        assert_eq!(
            Action::report(context.clone()),
            Action::Other(("report".into(), context))
        );
        let effect = Effect {
            outcome: "sent".into(),
            facts: vec![("recipients".into(), "2".into())],
        };
        assert_eq!(effect.fact("recipients"), Some("2"));
        assert_eq!(effect.fact("cause"), None);
    }

    #[test]
    fn a_failure_says_what_and_where() {
        let timeout = Failure::Timeout("fpm after 10 s".into());
        assert_eq!(timeout.to_string(), "timeout: fpm after 10 s");
        let other = Failure::Other(("tls".into(), "bad certificate".into()));
        assert_eq!(other.kind(), "tls");
        assert_eq!(other.text(), "bad certificate");
    }
}
