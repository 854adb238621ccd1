//! Tests of the envelopes, natively: no gateway, no WebAssembly.

use super::*;

fn text(text: &str) -> Payload {
    Payload::Text(text.into())
}

fn asked(message: &str) -> Option<(String, String)> {
    let exchange = question("a:1", &text(message))?;
    let as_text = |payload: Payload| String::from_utf8(payload.into_bytes()).unwrap();
    Some((as_text(exchange.request.body), as_text(exchange.context)))
}

fn answered(id: &str, status: u16, body: Payload) -> String {
    let response = Response {
        status,
        headers: Vec::new(),
        body,
    };
    answer(&text(id), &Ok(response))
}

#[test]
fn an_envelope_becomes_a_form() {
    for (envelope, message, id) in [
        (
            r#"{"id":7,"action":"a&b","data":{"z": 1,"a":"é"}}"#,
            "%7B%22z%22%3A+1%2C%22a%22%3A%22%C3%A9%22%7D",
            "7",
        ),
        (
            r#"{"id":"x\"y","action":"a\u0026b","data":"1\n2"}"#,
            "1%0A2",
            r#""x\"y""#,
        ),
        (
            r#"{"data":[1e400],"action":"a&b","id":18446744073709551616}"#,
            "%5B1e400%5D",
            "18446744073709551616",
        ),
        (r#"{"id":null,"action":"a&b","data":null,"more":{}}"#, "", "null"),
        (r#"{"id":[],"action":"a&b"}"#, "", "[]"),
    ] {
        let body = format!("type=server&client_id=a%3A1&action=a%26b&message={message}");
        assert_eq!(asked(envelope), Some((body, id.to_owned())), "{envelope}");
    }
}

#[test]
fn what_is_no_envelope_is_left_to_others() {
    for message in [
        "",
        "name",
        "[]",
        r#"{"id":1}"#,
        r#"{"action":"a"}"#,
        r#"{"id":1,"action":2}"#,
        r#"{"id":1,"action":"a","action":"b"}"#,
        r#"{"id":1,"action":"a"} x"#,
    ] {
        assert_eq!(asked(message), None, "{message}");
    }
    let binary = Payload::Binary(br#"{"id":1,"action":"a"}"#.to_vec());
    assert_eq!(question("a:1", &binary), None);
}

#[test]
fn the_answer_carries_the_id_and_json_or_a_string() {
    for (status, body, rest) in [
        (
            200,
            text(" {\"b\": 1,\n\"a\":[]} "),
            "\"status\":200,\"data\":{\"b\": 1,\n\"a\":[]}",
        ),
        (
            200,
            text("lwlinux \"to\" a:1"),
            r#""status":200,"data":"lwlinux \"to\" a:1""#,
        ),
        (204, text(""), r#""status":204,"data":"""#),
        (
            500,
            Payload::Binary(b"caf\xe9".to_vec()),
            "\"status\":500,\"data\":\"caf\u{fffd}\"",
        ),
    ] {
        assert_eq!(answered("[7]", status, body), format!("{{\"id\":[7],{rest}}}"));
    }
}

#[test]
fn a_failure_is_named() {
    let timeout = Err(Failure::Timeout("fpm: nothing after 10 s".into()));
    assert_eq!(answer(&text("7"), &timeout), r#"{"id":7,"error":"timeout"}"#);
    let other = Err(Failure::Other(("a\"b".into(), String::new())));
    assert_eq!(answer(&text("7"), &other), r#"{"id":7,"error":"a\"b"}"#);
}

#[test]
fn the_handlers_fit_together() {
    let connection = Connection {
        id: "a:1".into(),
        facts: Vec::new(),
    };
    let envelope = text(r#"{"id":1,"action":"a"}"#);
    let actions = Envelopes::on_frame(connection.clone(), envelope);
    let [Action::Forward(exchange)] = actions.as_slice() else {
        panic!("{actions:?}");
    };
    let failure = Err(Failure::Overloaded("fpm".into()));
    let actions = Envelopes::on_response(Some(connection.clone()), exchange.context.clone(), failure);
    let expected = text(r#"{"id":1,"error":"overloaded"}"#);
    assert_eq!(actions, [Action::Reply(expected)]);
    assert_eq!(
        Envelopes::on_frame(connection, text("name")),
        [Action::Next(None)]
    );
}

#[test]
fn the_paths_become_the_interest() {
    let configure = |name: &str, value: &str| Envelopes::configure(vec![(name.into(), value.into())]);
    let interest = configure("paths", r#"["/app","/app/*"]"#).unwrap();
    assert_eq!(interest.paths, ["/app", "/app/*"]);
    assert_eq!(Envelopes::configure(Vec::new()).unwrap().paths, [""; 0]);
    for (name, value) in [("paths", "/app"), ("paths", r#"["app"]"#), ("path", "[]")] {
        let error = configure(name, value).unwrap_err();
        assert!(error.starts_with(name), "{error}");
    }
}
