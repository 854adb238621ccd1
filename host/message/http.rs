//! HTTP: pushes and their answers, what plugins forward to upstreams, and how that ends.

use std::fmt;

use super::Payload;

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

impl Request {
    /// About how many bytes of memory it takes.
    pub fn size(&self) -> usize {
        self.method.len() + self.path.len() + self.query.len() + size_of(&self.headers) + self.body.len()
    }

    /// The first header of a name, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl Response {
    /// About how many bytes of memory it takes.
    pub fn size(&self) -> usize {
        size_of(&self.headers) + self.body.len()
    }
}

fn size_of(headers: &Headers) -> usize {
    let sizes = headers.iter().map(|(name, value)| name.len() + value.len() + 48);
    sizes.sum()
}

impl Exchange {
    /// About how many bytes of memory it takes.
    pub fn size(&self) -> usize {
        self.request.size() + self.context.len()
    }
}

/// How a forwarded request ended.
pub type Outcome = Result<Response, Failure>;
