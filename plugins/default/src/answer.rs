//! What becomes of PHP's answer.

use aileron_plugin::log::Level;
use aileron_plugin::{Action, Failure, Payload, Response};

use crate::question::BINARY;
use crate::settings::Settings;

/// How many characters of an error page go to the log.
const EXCERPT: usize = 200;

/// What to do about the end of a request.
#[derive(Debug, PartialEq)]
pub struct Answer {
    /// For the client. None: the client hears nothing.
    pub action: Option<Action>,
    /// For the log.
    pub notes: Vec<(Level, String)>,
}

/// Decides about the end of a request. `context` is what [`ask`](crate::question::ask) attached.
pub fn take(
    connection: &str,
    context: &Payload,
    outcome: Result<Response, Failure>,
    settings: &Settings,
) -> Answer {
    let is_binary = context.as_bytes() == BINARY.as_bytes();
    let mut notes = Vec::new();
    let response = match outcome {
        Ok(response) => response,
        Err(failure) => {
            notes.push((Level::Error, format!("{connection}: no answer: {failure}")));
            let action = settings.on_failure.action(connection, failure.kind(), is_binary);
            return Answer { action, notes };
        }
    };
    let status = response.status;
    if status >= 500 {
        let excerpt = response.body.excerpt(EXCERPT);
        notes.push((
            Level::Warn,
            format!("{connection}: the upstream failed with status {status}: {excerpt:?}"),
        ));
        if !settings.relay_errors {
            let cause = format!("status {status}");
            let action = settings.on_failure.action(connection, &cause, is_binary);
            return Answer { action, notes };
        }
    } else if status >= 300 {
        notes.push((
            Level::Warn,
            format!("{connection}: the upstream answered with status {status}"),
        ));
    }
    let reply = match response.body {
        body if is_binary => Payload::Binary(body.into_bytes()),
        Payload::Binary(bytes) => {
            notes.push((
                Level::Warn,
                format!(
                    "{connection}: the answer to a text frame is not UTF-8; sent with replacement characters"
                ),
            ));
            Payload::Text(String::from_utf8_lossy(&bytes).into_owned())
        }
        text => text,
    };
    Answer {
        action: Some(Action::Reply(reply)),
        notes,
    }
}

#[cfg(test)]
mod tests {
    use aileron_plugin::OnFailure;

    use super::*;
    use crate::question::TEXT;

    fn settings(relay_errors: bool) -> Settings {
        Settings {
            relay_errors,
            ..Settings::default()
        }
    }

    fn taken(context: &str, status: u16, body: Payload, relay_errors: bool) -> Answer {
        let response = Response {
            status,
            headers: Vec::new(),
            body,
        };
        let settings = settings(relay_errors);
        take("a:1", &Payload::Text(context.into()), Ok(response), &settings)
    }

    fn reply(payload: Payload) -> Option<Action> {
        Some(Action::Reply(payload))
    }

    fn text(text: &str) -> Payload {
        Payload::Text(text.into())
    }

    #[test]
    fn the_answer_is_of_the_kind_of_the_frame() {
        let quiet = |payload| Answer {
            action: reply(payload),
            notes: Vec::new(),
        };
        assert_eq!(taken(TEXT, 200, text("é"), false), quiet(text("é")));
        assert_eq!(taken(TEXT, 204, text(""), false), quiet(text("")));
        assert_eq!(
            taken(BINARY, 200, text("é"), false),
            quiet(Payload::Binary("é".into()))
        );
        assert_eq!(
            taken(BINARY, 200, Payload::Binary(vec![0xff]), false),
            quiet(Payload::Binary(vec![0xff]))
        );
    }

    #[test]
    fn odd_bytes_of_a_text_answer_are_replaced_and_logged() {
        let answer = taken(TEXT, 200, Payload::Binary(b"caf\xe9!".to_vec()), false);
        assert_eq!(answer.action, reply(text("caf\u{fffd}!")));
        let [(Level::Warn, line)] = answer.notes.as_slice() else {
            panic!("{answer:?}");
        };
        assert!(line.contains("a:1") && line.contains("UTF-8"), "{line}");
    }

    #[test]
    fn a_refusal_is_relayed_and_logged() {
        for status in [302, 404, 499] {
            let answer = taken(TEXT, status, text("gone"), false);
            assert_eq!(answer.action, reply(text("gone")));
            let line = format!("a:1: the upstream answered with status {status}");
            assert_eq!(answer.notes, [(Level::Warn, line)]);
        }
    }

    #[test]
    fn an_error_page_stays_here() {
        let page = format!("line\n{}", "é".repeat(300));
        let answer = taken(TEXT, 500, text(&page), false);
        let line = format!(
            "a:1: the upstream failed with status 500: \"line\\n{}\"",
            "é".repeat(195)
        );
        let notes = vec![(Level::Warn, line)];
        assert_eq!(answer, Answer { action: None, notes });
    }

    #[test]
    fn an_error_page_is_relayed_if_so_set() {
        let answer = taken(BINARY, 503, text("busy"), true);
        assert_eq!(answer.action, reply(Payload::Binary("busy".into())));
        assert_eq!(answer.notes.len(), 1);
    }

    #[test]
    fn a_failure_is_logged_with_its_cause() {
        let failure = Err(Failure::Timeout("fpm: nothing after 10 s".into()));
        let answer = take("a:1", &text(TEXT), failure, &settings(true));
        let line = "a:1: no answer: timeout: fpm: nothing after 10 s".to_owned();
        let notes = vec![(Level::Error, line)];
        assert_eq!(answer, Answer { action: None, notes });
    }

    #[test]
    fn a_client_hears_of_failures_if_so_set() {
        let settings = |relay_errors| Settings {
            relay_errors,
            on_failure: OnFailure::Answer("later".into()),
            ..Settings::default()
        };
        let failure = || Err(Failure::Overloaded("fpm".into()));
        let error = || Ok(Response::text(503, "busy"));
        let binary = Payload::Binary(b"later".to_vec());
        for (context, outcome, relay_errors, expected) in [
            (TEXT, failure(), true, text("later")),
            (BINARY, failure(), false, binary),
            (TEXT, error(), false, text("later")),
            (TEXT, error(), true, text("busy")),
            (TEXT, Ok(Response::text(404, "gone")), false, text("gone")),
        ] {
            let answer = take("a:1", &text(context), outcome, &settings(relay_errors));
            assert_eq!(answer.action, reply(expected));
        }
    }
}
