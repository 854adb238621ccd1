//! Tests of what becomes of a push. What the default plugin does too is tested as there.

use aileron_plugin::{Closing, Delivery, Publication, form};

use super::*;

fn request(method: &str, query: &str, content_type: &str, body: &[u8]) -> Request {
    Request {
        method: method.into(),
        path: "/send".into(),
        query: query.into(),
        headers: vec![("content-type".into(), content_type.into())],
        body: Payload::from_bytes(body.to_vec()),
    }
}

fn posted(content_type: &str, body: &str) -> Vec<Action> {
    handle(&request("POST", "", content_type, body.as_bytes()), "/send")
}

fn text(text: &str) -> Payload {
    Payload::Text(text.into())
}

fn delivery(connection: &str, message: &str) -> Action {
    Action::Send(Delivery {
        connection: connection.into(),
        message: text(message),
    })
}

fn response(actions: &[Action]) -> &Response {
    match actions {
        [Action::Respond(response)] => response,
        _ => panic!("{actions:?}"),
    }
}

#[test]
fn the_form_of_the_article_is_answered_in_words() {
    let sent = [
        delivery("127.0.0.1:51110", "hello"),
        Action::Respond(Response::text(200, "Message sent")),
    ];
    let article = "message=hello&type=client&client_id=127.0.0.1:51110";
    assert_eq!(posted(form::URLENCODED, article), sent);
    for content_type in ["", "application/json"] {
        let query = request("GET", article, content_type, b"");
        assert_eq!(handle(&query, "/send"), sent);
    }

    let actions = posted(form::URLENCODED, "message=1");
    assert_eq!(response(&actions).status, 404);
    assert_eq!(response(&actions).body, text("Client not found\n"));
    assert_eq!(
        response(&actions).header("x-content-type-options"),
        Some("nosniff")
    );

    for (content_type, body) in [
        (form::URLENCODED, "client_id=a&message=%"),
        (form::MULTIPART, "client_id=a"),
        ("text/plain", "client_id=a"),
    ] {
        let actions = posted(content_type, body);
        assert_eq!(response(&actions), &Response::text(400, "Bad Request"));
    }
}

#[test]
fn json_that_is_called_a_form_is_told_apart_from_a_client_who_is_gone() {
    for content_type in [form::URLENCODED, "text/plain", ""] {
        for body in [r#"{"client_id": "a", "message": "hi"}"#, "[]"] {
            let actions = posted(content_type, body);
            assert_eq!(response(&actions).status, 400);
            let Payload::Text(body) = &response(&actions).body else {
                panic!("{actions:?}");
            };
            assert!(body.contains("send `Content-Type: application/json`"), "{body}");
        }
    }
}

#[test]
fn everything_else_is_reported() {
    let actions = posted(form::URLENCODED, "client_id[]=a&client_id[]=b&message=hi");
    let context = text(r#"[[{"client_id":"a"},1],[{"client_id":"b"},1]]"#);
    assert_eq!(
        actions,
        [delivery("a", "hi"), delivery("b", "hi"), Action::report(context)]
    );

    let json =
        r#"[{"topic": "x", "message": "hi"}, {"client_id": "a", "message": "bye", "close": {"code": 1000}}]"#;
    let publication = Publication {
        topic: "x".into(),
        message: text("hi"),
        except: Vec::new(),
    };
    let closing = Closing {
        connection: "a".into(),
        code: 1000,
        reason: String::new(),
    };
    let expected = [
        Action::Publish(publication),
        delivery("a", "bye"),
        Action::Close(closing),
        Action::report(text(r#"[[{"topic":"x"},1],[{"client_id":"a"},2]]"#)),
    ];
    assert_eq!(posted("Application/JSON; charset=utf-8", json), expected);
}

#[test]
fn nothing_is_done_of_what_is_malformed() {
    for (content_type, body, problem) in [
        (form::URLENCODED, "everyone=yes", "item 1: everyone: must be 1"),
        (
            form::URLENCODED,
            "client_id=a&topic=b&message=1",
            "item 1: there must be one of",
        ),
        (
            "application/json",
            r#"{"client_id":"a"}"#,
            "item 1: there is no message",
        ),
        (
            "application/json",
            r#"[{"everyone":true,"message":"1"},{"topic":"a"}]"#,
            "item 2: there is no message",
        ),
        ("application/json", "nonsense", "this is no JSON"),
    ] {
        let actions = posted(content_type, body);
        let response = response(&actions);
        assert_eq!(response.status, 400);
        assert_eq!(response.header("content-type"), Some("application/json"));
        let body = String::from_utf8_lossy(response.body.as_bytes());
        assert!(body.starts_with(&format!(r#"{{"error":"{problem}"#)), "{body}");
    }
}

#[test]
fn a_push_has_limits() {
    let push = |clients: usize, length: usize| {
        let item = Item {
            clients: Some(vec!["a".into(); clients]),
            message: Some(text(&"x".repeat(length))),
            ..Item::default()
        };
        actions(vec![item]).map(|actions| actions.len())
    };
    assert_eq!(push(MAX_ACTIONS, 1), Ok(MAX_ACTIONS + 1));
    assert_eq!(
        push(MAX_ACTIONS + 1, 1),
        Err("item 1: a push may come to 10000 actions".into())
    );
    assert!(push(2, MAX_BYTES / 2 + 1).is_err_and(|problem| problem.contains("bytes of messages")));
}

#[test]
fn other_paths_are_left_to_others_and_other_methods_refused() {
    let mut request = request("DELETE", "client_id=a", "", b"");
    let actions = handle(&request, "/send");
    assert_eq!(response(&actions).status, 405);
    assert_eq!(response(&actions).header("allow"), Some("GET, POST"));
    request.path = "/send/".into();
    assert_eq!(handle(&request, "/send"), [Action::Next(None)]);
}
