//! What becomes of PHP's answer to `open`.

use aileron_plugin::log::Level;
use aileron_plugin::{Acceptance, Admission, Failure, Headers, Payload, Response};

use crate::answer::{self, EXCERPT};
use crate::{Note, steering};

/// The headers of a refusal that the browser gets.
const PASSED_ON: [&str; 6] = [
    "set-cookie",
    "content-type",
    "www-authenticate",
    "retry-after",
    "location",
    "cache-control",
];

/// Decides about a connection: what becomes of it, and what is logged.
pub fn decide(connection: &str, outcome: Result<Response, Failure>) -> (Admission, Vec<Note>) {
    match outcome {
        Ok(response) if (200..300).contains(&response.status) && is_page(&response) => refuse_page(&response),
        Ok(response) if (200..300).contains(&response.status) => accept(connection, response),
        Ok(response) => reject(response),
        Err(failure) => {
            let note = (Level::Error, format!("no answer: {failure}"));
            (Admission::Reject(unanswered(&failure)), vec![note])
        }
    }
}

fn accept(connection: &str, response: Response) -> (Admission, Vec<Note>) {
    let mut notes = Vec::new();
    let is_binary = answer::is_binary(&response.headers);
    let greeting = Some(response.body).filter(|body| !body.as_bytes().is_empty());
    let greeting = greeting.map(|body| {
        if is_binary {
            Payload::Binary(body.into_bytes())
        } else {
            body
        }
    });
    let steering = steering::read(&response.headers, Some(connection), greeting);
    let acceptance = Acceptance {
        subprotocol: steering.subprotocol,
        headers: only(response.headers, &["set-cookie"]),
        actions: steering.actions,
    };
    notes.extend(steering.notes);
    (Admission::Accept(acceptance), notes)
}

/// A home page, or that of a login, says nothing about who may connect.
fn refuse_page(response: &Response) -> (Admission, Vec<Note>) {
    let excerpt = response.body.excerpt(EXCERPT);
    let line = format!(
        "PHP answered with a web page, which lets nobody in: {excerpt:?}; does `script` (with `path`), or the path of \
         `url`, lead to code that knows `type=open`? It answers with 204, with a text, or with an Aileron- header"
    );
    let refusal = Response::text(502, "Bad Gateway\n");
    (Admission::Reject(refusal), vec![(Level::Error, line)])
}

/// Whether it is what a browser would see, from a script that does not know what it was asked.
fn is_page(response: &Response) -> bool {
    let steers = response
        .headers
        .iter()
        .any(|(name, _)| name.starts_with("aileron-"));
    let body = response.body.as_bytes();
    let body = body
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(body)
        .trim_ascii_start();
    let begins = |with: &str| {
        body.get(..with.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(with.as_bytes()))
    };
    !steers
        && ["<!doctype html", "<html", "<head", "<body", "<!--", "<?xml"]
            .into_iter()
            .any(begins)
}

fn reject(response: Response) -> (Admission, Vec<Note>) {
    let status = response.status;
    let note = if status >= 500 {
        let excerpt = response.body.excerpt(EXCERPT);
        (
            Level::Warn,
            format!("the upstream failed with status {status}: {excerpt:?}"),
        )
    } else {
        (Level::Info, format!("the upstream refused with status {status}"))
    };
    let refusal = Response {
        headers: only(response.headers, &PASSED_ON),
        ..response
    };
    (Admission::Reject(refusal), vec![note])
}

fn unanswered(failure: &Failure) -> Response {
    match failure {
        Failure::Timeout(_) => Response::text(504, "Gateway Timeout\n"),
        Failure::Overloaded(_) => Response::text(503, "Service Unavailable\n"),
        _ => Response::text(502, "Bad Gateway\n"),
    }
}

fn only(headers: Headers, names: &[&str]) -> Headers {
    headers
        .into_iter()
        .filter(|(name, _)| names.contains(&name.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aileron_plugin::{Action, Attribute};

    fn owned(headers: &[(&str, &str)]) -> Headers {
        headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect()
    }

    fn decided(status: u16, headers: &[(&str, &str)], body: &str) -> (Admission, Vec<Note>) {
        let response = Response {
            status,
            headers: owned(headers),
            body: Payload::Text(body.into()),
        };
        decide("a:1", Ok(response))
    }

    #[test]
    fn a_2xx_lets_in() {
        for status in [200, 204, 299] {
            let accepted = Admission::Accept(Acceptance::default());
            assert_eq!(decided(status, &[], ""), (accepted, Vec::new()));
        }
        let headers = [
            ("content-type", "text/html"),
            ("set-cookie", "a=1"),
            ("aileron-attribute", "user=ann"),
            ("aileron-subprotocol", "chat.v2"),
            ("set-cookie", "b=2"),
        ];
        let attribute = Attribute {
            connection: "a:1".into(),
            name: "user".into(),
            value: Some("ann".into()),
        };
        let acceptance = Acceptance {
            subprotocol: Some("chat.v2".into()),
            headers: owned(&[("set-cookie", "a=1"), ("set-cookie", "b=2")]),
            actions: vec![
                Action::SetAttribute(attribute),
                Action::Reply(Payload::Text("welcome".into())),
            ],
        };
        let accepted = (Admission::Accept(acceptance), Vec::new());
        assert_eq!(decided(200, &headers, "welcome"), accepted);
    }

    #[test]
    fn a_page_for_browsers_lets_nobody_in() {
        for page in [
            "<!DOCTYPE html><title>Home</title>",
            "\u{feff}\n <HTML lang=en>",
            "<!-- cached --><html>",
            "<?xml version=\"1.0\"?><html>",
        ] {
            let (admission, notes) = decided(200, &[("content-type", "text/html")], page);
            assert_eq!(admission, Admission::Reject(Response::text(502, "Bad Gateway\n")));
            let [(Level::Error, line)] = notes.as_slice() else {
                panic!("{notes:?}");
            };
            assert!(
                line.contains("lets nobody in") && line.contains("`path`"),
                "{line}"
            );
            let (admission, _) = decided(200, &[("aileron-attribute", "user=ann")], page);
            assert!(matches!(admission, Admission::Accept(_)), "{admission:?}");
        }
        for greeting in ["<b>welcome</b>", "{}", "<1>"] {
            let (admission, notes) = decided(200, &[("content-type", "text/html")], greeting);
            assert!(matches!(admission, Admission::Accept(_)), "{admission:?}");
            assert_eq!(notes, []);
        }
    }

    #[test]
    fn any_other_status_refuses() {
        let headers = [
            ("content-type", "text/html"),
            ("x-powered-by", "PHP"),
            ("set-cookie", "a=1"),
            ("location", "/login"),
        ];
        let passed_on = [
            ("content-type", "text/html"),
            ("set-cookie", "a=1"),
            ("location", "/login"),
        ];
        for (status, level) in [(302, Level::Info), (403, Level::Info), (500, Level::Warn)] {
            let refusal = Response {
                status,
                headers: owned(&passed_on),
                body: Payload::Text("no".into()),
            };
            let (admission, notes) = decided(status, &headers, "no");
            assert_eq!(admission, Admission::Reject(refusal));
            assert!(
                matches!(notes.as_slice(), [(noted, _)] if *noted == level),
                "{notes:?}"
            );
        }
    }

    #[test]
    fn no_answer_refuses_too() {
        for (failure, status) in [
            (Failure::Timeout("fpm".into()), 504),
            (Failure::Overloaded("fpm".into()), 503),
            (Failure::Unreachable("fpm".into()), 502),
            (Failure::TooLarge("fpm".into()), 502),
            (Failure::Other(("tls".into(), "fpm".into())), 502),
        ] {
            let (admission, notes) = decide("a:1", Err(failure));
            assert!(
                matches!(&admission, Admission::Reject(response) if response.status == status),
                "{admission:?}"
            );
            assert!(matches!(notes.as_slice(), [(Level::Error, _)]), "{notes:?}");
        }
    }
}
