//! What becomes of PHP's answers, but for those to `open`.

use aileron_plugin::form::media_type;
use aileron_plugin::log::Level;
use aileron_plugin::{Action, Failure, Headers, Payload, Response};

use crate::settings::Settings;
use crate::subject::{Kind, Subject};
use crate::{Note, steering};

/// How many characters of an error page go to the log.
pub const EXCERPT: usize = 200;

/// Decides about the end of a request: what is done, and what is logged.
pub fn take(
    subject: &Subject,
    outcome: Result<Response, Failure>,
    settings: &Settings,
) -> (Vec<Action>, Vec<Note>) {
    let mut notes = Vec::new();
    let response = match outcome {
        Ok(response) => response,
        Err(failure) => {
            notes.push((Level::Error, format!("no answer: {failure}")));
            return (unhandled(subject, failure.kind(), settings), notes);
        }
    };
    let status = response.status;
    if status >= 500 {
        let excerpt = response.body.excerpt(EXCERPT);
        notes.push((
            Level::Warn,
            format!("the upstream failed with status {status}: {excerpt:?}"),
        ));
        if !settings.relay_errors {
            return (unhandled(subject, &format!("status {status}"), settings), notes);
        }
    } else if status >= 300 {
        notes.push((Level::Warn, format!("the upstream answered with status {status}")));
    }
    let is_answer = matches!(subject.kind, Kind::Text | Kind::Binary) && status != 204;
    let message = Some(response.body).filter(|body| is_answer || !body.as_bytes().is_empty());
    let message = message.map(|body| match frame(&response.headers) {
        Some(Frame::Binary) => Payload::Binary(body.into_bytes()),
        Some(Frame::Text) => text(body, &mut notes),
        None if subject.kind == Kind::Text => text(body, &mut notes),
        None if subject.kind == Kind::Binary => Payload::Binary(body.into_bytes()),
        None => body,
    });
    let steering = steering::read(&response.headers, subject.connection(), message);
    notes.extend(steering.notes);
    (steering.actions, notes)
}

/// A client is told of its own messages only.
fn unhandled(subject: &Subject, cause: &str, settings: &Settings) -> Vec<Action> {
    let is_binary = match subject.kind {
        Kind::Text => false,
        Kind::Binary => true,
        _ => return Vec::new(),
    };
    let action = settings.on_failure.action(&subject.name, cause, is_binary);
    action.into_iter().collect()
}

/// The kinds of frames.
enum Frame {
    Text,
    Binary,
}

/// The kind of frame that the headers ask for. None: the kind that came in.
fn frame(headers: &Headers) -> Option<Frame> {
    let first = |wanted: &str| {
        let mut headers = headers.iter();
        headers.find_map(|(name, value)| (name == wanted).then_some(value.as_str()))
    };
    match first("aileron-frame") {
        Some("binary") => return Some(Frame::Binary),
        Some("text") => return Some(Frame::Text),
        _ => {}
    }
    let kind = media_type(first("content-type")?);
    let is_binary = kind == "application/octet-stream"
        || ["image/", "audio/", "video/", "font/"]
            .iter()
            .any(|start| kind.starts_with(start));
    (is_binary && kind != "image/svg+xml").then_some(Frame::Binary)
}

/// Whether the headers ask for a binary frame.
pub fn is_binary(headers: &Headers) -> bool {
    matches!(frame(headers), Some(Frame::Binary))
}

/// What goes into a text frame is UTF-8.
fn text(body: Payload, notes: &mut Vec<Note>) -> Payload {
    match body {
        Payload::Binary(bytes) => {
            let line = "the answer for a text frame is not UTF-8; sent with replacement characters (a binary frame takes any \
                        bytes: `Aileron-Frame: binary`)";
            notes.push((Level::Warn, line.to_owned()));
            Payload::Text(String::from_utf8_lossy(&bytes).into_owned())
        }
        text => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aileron_plugin::{Closing, Membership, OnFailure, Publication};

    fn text(text: &str) -> Payload {
        Payload::Text(text.into())
    }

    fn taken(kind: Kind, status: u16, headers: &[(&str, &str)], body: Payload) -> (Vec<Action>, Vec<Note>) {
        let response = Response {
            status,
            headers: headers
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
            body,
        };
        take(&Subject::new(kind, "a:1"), Ok(response), &Settings::default())
    }

    fn binary(bytes: &[u8]) -> Payload {
        Payload::Binary(bytes.to_vec())
    }

    #[test]
    fn php_chooses_the_kind_of_frame() {
        let octets = "application/octet-stream";
        for (kind, name, value, sent) in [
            (Kind::Text, "aileron-frame", "binary", binary(b"a")),
            (Kind::Binary, "aileron-frame", "text", text("a")),
            (Kind::Timer, "aileron-frame", "binary", binary(b"a")),
            (Kind::Text, "content-type", octets, binary(b"a")),
            (Kind::Text, "content-type", "Image/PNG; q=1", binary(b"a")),
            (Kind::Text, "content-type", "image/svg+xml", text("a")),
            (Kind::Text, "content-type", "text/html; charset=UTF-8", text("a")),
            (
                Kind::Binary,
                "content-type",
                "text/html; charset=UTF-8",
                binary(b"a"),
            ),
        ] {
            let (actions, notes) = taken(kind, 200, &[(name, value)], text("a"));
            assert_eq!(actions, [Action::Reply(sent)], "{value}");
            assert_eq!(notes, []);
        }
        let (_, notes) = taken(Kind::Text, 200, &[("aileron-frame", "jpeg")], text("a"));
        assert!(notes[0].1.contains("must be text or binary"), "{notes:?}");
    }

    #[test]
    fn the_body_goes_back() {
        for (kind, status, body, reply) in [
            (Kind::Text, 200, text("é"), Some(text("é"))),
            (Kind::Text, 200, text(""), Some(text(""))),
            (Kind::Text, 204, text(""), None),
            (Kind::Binary, 200, text("é"), Some(binary("é".as_bytes()))),
            (Kind::Binary, 200, binary(b"\xff"), Some(binary(b"\xff"))),
            (Kind::Binary, 204, text(""), None),
            (Kind::Timer, 200, text("tea"), Some(text("tea"))),
            (Kind::Timer, 200, binary(b"\xff"), Some(binary(b"\xff"))),
            (Kind::Timer, 200, text(""), None),
            (Kind::Close, 200, text("ok"), None),
            (Kind::Schedule, 200, text("ok"), None),
        ] {
            let actions: Vec<_> = reply.map(Action::Reply).into_iter().collect();
            assert_eq!(taken(kind, status, &[], body), (actions, Vec::new()), "{kind:?}");
        }
    }

    #[test]
    fn odd_bytes_of_a_text_answer_are_replaced_and_logged() {
        let (actions, notes) = taken(Kind::Text, 200, &[], binary(b"caf\xe9!"));
        assert_eq!(actions, [Action::Reply(text("caf\u{fffd}!"))]);
        assert!(notes.iter().any(|(_, line)| line.contains("UTF-8")), "{notes:?}");
    }

    #[test]
    fn headers_steer() {
        let subscribe = [("aileron-subscribe", "news")];
        let membership = Membership {
            connection: "a:1".into(),
            topic: "news".into(),
        };
        let (actions, _) = taken(Kind::Text, 204, &subscribe, text(""));
        assert_eq!(actions, [Action::Subscribe(membership)]);
        assert_eq!(taken(Kind::Close, 200, &subscribe, text("")).0, []);

        let publication = Publication {
            topic: "news".into(),
            message: text("bye"),
            except: Vec::new(),
        };
        let (actions, _) = taken(Kind::Close, 200, &[("aileron-publish", "news")], text("bye"));
        assert_eq!(actions, [Action::Publish(publication)]);
    }

    #[test]
    fn a_refusal_is_relayed_and_logged() {
        let (actions, notes) = taken(Kind::Text, 404, &[], text("gone"));
        assert_eq!(actions, [Action::Reply(text("gone"))]);
        assert_eq!(
            notes,
            [(Level::Warn, "the upstream answered with status 404".into())]
        );
    }

    #[test]
    fn an_error_steers_nothing_and_stays_here_unless_it_is_relayed() {
        let (actions, notes) = taken(Kind::Text, 500, &[("aileron-close", "1011")], text("page\n"));
        assert_eq!(actions, []);
        let line = "the upstream failed with status 500: \"page\\n\"".to_owned();
        assert_eq!(notes, [(Level::Warn, line)]);

        let subject = Subject::new(Kind::Text, "a:1");
        let relay = Settings {
            relay_errors: true,
            ..Settings::default()
        };
        let (actions, _) = take(&subject, Ok(Response::text(503, "busy")), &relay);
        assert_eq!(actions, [Action::Reply(text("busy"))]);
    }

    #[test]
    fn a_failure_is_logged_with_its_cause() {
        let failure = Err(Failure::Timeout("fpm: nothing after 10 s".into()));
        let notes = vec![(
            Level::Error,
            "no answer: timeout: fpm: nothing after 10 s".to_owned(),
        )];
        let taken = take(&Subject::new(Kind::Close, "a:1"), failure, &Settings::default());
        assert_eq!(taken, (Vec::new(), notes));
    }

    #[test]
    fn a_client_hears_of_its_own_messages_that_fail_if_so_set() {
        let settings = Settings {
            on_failure: OnFailure::Close,
            ..Settings::default()
        };
        let closed = |cause: &str| {
            vec![Action::Close(Closing {
                connection: "a:1".into(),
                code: 1013,
                reason: format!("message not handled: {cause}"),
            })]
        };
        let failure = || Err(Failure::Overloaded("fpm".into()));
        let error = || Ok(Response::text(500, "page"));
        for (kind, outcome, expected) in [
            (Kind::Text, failure(), closed("overloaded")),
            (Kind::Binary, error(), closed("status 500")),
            (Kind::Timer, failure(), Vec::new()),
            (Kind::Schedule, error(), Vec::new()),
        ] {
            let (actions, notes) = take(&Subject::new(kind, "a:1"), outcome, &settings);
            assert_eq!((actions, notes.len()), (expected, 1));
        }
    }
}
