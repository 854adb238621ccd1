//! What a client hears of a message that was not handled. A setting of the plugins that ask PHP.

use crate::{Action, Closing, Payload};

/// RFC 6455 section 7.4, as registered: try again later.
const TRY_AGAIN_LATER: u16 = 1013;

/// What becomes of the client whose message got no answer that may be passed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// It hears nothing.
    #[default]
    Silent,
    /// It is closed with 1013, and told why in a few words.
    Close,
    /// It gets this text for an answer.
    Answer(String),
}

impl OnFailure {
    /// Reads the setting `on-failure`. The error says what it may be.
    pub fn parse(value: &str) -> Result<Self, String> {
        match (value, value.strip_prefix("answer:")) {
            ("silent", _) => Ok(Self::Silent),
            ("close", _) => Ok(Self::Close),
            (_, Some(text)) if !text.is_empty() => Ok(Self::Answer(text.to_owned())),
            _ => Err(format!(
                "on-failure = {value:?}: must be \"silent\", \"close\" or \"answer:TEXT\" with a text of your own"
            )),
        }
    }

    /// What is to be done for a connection. `cause` is for the client, so it is to be a word or two. An answer is of the
    /// kind of the message that it answers.
    pub fn action(&self, connection: &str, cause: &str, is_binary: bool) -> Option<Action> {
        match self {
            Self::Silent => None,
            Self::Close => Some(Action::Close(Closing {
                connection: connection.to_owned(),
                code: TRY_AGAIN_LATER,
                reason: format!("message not handled: {cause}"),
            })),
            Self::Answer(text) if is_binary => {
                Some(Action::Reply(Payload::Binary(text.clone().into_bytes())))
            }
            Self::Answer(text) => Some(Action::Reply(Payload::Text(text.clone()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_has_three_forms() {
        for (value, expected) in [
            ("silent", OnFailure::Silent),
            ("close", OnFailure::Close),
            ("answer:later: é", OnFailure::Answer("later: é".into())),
        ] {
            assert_eq!(OnFailure::parse(value), Ok(expected));
        }
        for value in ["", "answer", "answer:", "Close", "reply:x"] {
            let error = OnFailure::parse(value).unwrap_err();
            assert!(
                error.starts_with(&format!("on-failure = {value:?}: must be")),
                "{error}"
            );
        }
    }

    #[test]
    fn the_client_hears_what_is_set() {
        assert_eq!(OnFailure::Silent.action("a:1", "timeout", false), None);
        let closing = Closing {
            connection: "a:1".into(),
            code: 1013,
            reason: "message not handled: timeout".into(),
        };
        let closed = OnFailure::Close.action("a:1", "timeout", false);
        assert_eq!(closed, Some(Action::Close(closing)));
        let answer = OnFailure::Answer("later".into());
        for (is_binary, payload) in [
            (false, Payload::Text("later".into())),
            (true, Payload::Binary(b"later".to_vec())),
        ] {
            let action = answer.action("a:1", "timeout", is_binary);
            assert_eq!(action, Some(Action::Reply(payload)));
        }
    }
}
