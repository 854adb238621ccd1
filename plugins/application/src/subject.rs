//! What a request to PHP was about. It travels in the request's context, since the instance that hears the answer may
//! not be the one that asked.

use std::fmt;

use aileron_plugin::Payload;

/// The kinds of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A client wants to connect.
    Open,
    /// A client sent a text frame.
    Text,
    /// A client sent a binary frame.
    Binary,
    /// A timer has run out.
    Timer,
    /// A client has gone.
    Close,
    /// A schedule is due.
    Schedule,
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::Open,
        Self::Text,
        Self::Binary,
        Self::Timer,
        Self::Close,
        Self::Schedule,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Text => "text",
            Self::Binary => "binary",
            Self::Timer => "timer",
            Self::Close => "close",
            Self::Schedule => "schedule",
        }
    }

    /// The field `type` of the form.
    pub fn form_type(self) -> &'static str {
        match self {
            Self::Text | Self::Binary => "server",
            kind => kind.word(),
        }
    }
}

/// What a request was about: `text 127.0.0.1:51110`, `schedule tick`.
#[derive(Debug, PartialEq, Eq)]
pub struct Subject {
    /// Why PHP was asked.
    pub kind: Kind,
    /// The id of the connection, or the name of the schedule.
    pub name: String,
}

impl Subject {
    pub fn new(kind: Kind, name: &str) -> Self {
        Self {
            kind,
            name: name.to_owned(),
        }
    }

    /// Reads a context. None if it is none of this plugin's.
    pub fn read(context: &Payload) -> Option<Self> {
        let text = str::from_utf8(context.as_bytes()).ok()?;
        let (word, name) = text.split_once(' ')?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.word() == word)?;
        Some(Self::new(kind, name))
    }

    /// The id of the connection, if there is one that the answer can do something to.
    pub fn connection(&self) -> Option<&str> {
        match self.kind {
            Kind::Open | Kind::Text | Kind::Binary | Kind::Timer => Some(&self.name),
            Kind::Close | Kind::Schedule => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.word(), self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_comes_back() {
        for kind in Kind::ALL {
            let context = Payload::Text(Subject::new(kind, "a b:1").to_string());
            assert_eq!(Subject::read(&context), Some(Subject::new(kind, "a b:1")));
        }
        for other in ["", "text", "server a"] {
            assert_eq!(Subject::read(&Payload::Text(other.into())), None, "{other}");
        }
    }

    #[test]
    fn who_has_gone_is_no_connection() {
        assert_eq!(Subject::new(Kind::Open, "a").connection(), Some("a"));
        assert_eq!(Subject::new(Kind::Close, "a").connection(), None);
        assert_eq!(Subject::new(Kind::Schedule, "a").connection(), None);
    }
}
