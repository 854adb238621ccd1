//! Tests of the answers, natively: no gateway, no WebAssembly.

use super::*;

fn text(text: &str) -> Payload {
    Payload::Text(text.into())
}

fn answered(message: &str, echoed: bool) -> Action {
    answer(text(message), echoed, || Duration::from_millis(1_700_000_000_123))
}

fn frame(path: &str, message: &str) -> Vec<Action> {
    let connection = Connection {
        id: "a:1".into(),
        facts: vec![("path".into(), path.into())],
    };
    Answer::on_frame(connection, text(message))
}

#[test]
fn a_ping_is_answered_with_its_id_and_the_time() {
    for (ping, pong) in [
        (r#"{"type":"ping"}"#, r#"{"type":"pong","time":1700000000123}"#),
        (
            r#" {"id":18446744073709551616, "x":[], "type":"p\u0069ng"} "#,
            r#"{"type":"pong","id":18446744073709551616,"time":1700000000123}"#,
        ),
        (
            r#"{"type":"ping","id":{"a": "b"}}"#,
            r#"{"type":"pong","id":{"a": "b"},"time":1700000000123}"#,
        ),
    ] {
        assert_eq!(answered(ping, false), Action::Reply(text(pong)));
        assert_eq!(answered(ping, true), Action::Reply(text(pong)));
    }
}

#[test]
fn what_is_no_ping_is_echoed_or_left_to_others() {
    for message in [
        "",
        "ping",
        r#"{"type":"pong"}"#,
        r#"{"type":1}"#,
        r#"{"type":"ping""#,
    ] {
        assert_eq!(answered(message, true), Action::Reply(text(message)));
        assert_eq!(answered(message, false), Action::Next(None));
    }
    let binary = Payload::Binary(br#"{"type":"ping"}"#.to_vec());
    let now = || Duration::ZERO;
    assert_eq!(answer(binary.clone(), true, now), Action::Reply(binary.clone()));
    assert_eq!(answer(binary, false, now), Action::Next(None));
}

#[test]
fn the_echo_is_under_its_path_only() {
    assert_eq!(frame("/echo", "a"), [Action::Reply(text("a"))]);
    assert_eq!(frame("/echo/b", "a"), [Action::Reply(text("a"))]);
    assert_eq!(frame("/echoes", "a"), [Action::Next(None)]);
    assert_eq!(frame("/ws", "a"), [Action::Next(None)]);

    let interest = Answer::configure(vec![("echo-path".into(), "/".into())]).unwrap();
    assert_eq!(interest.facts, ["path"]);
    assert_eq!(frame("/ws", "a"), [Action::Reply(text("a"))]);
}

#[test]
fn a_wrong_setting_is_named() {
    for (name, value) in [("echo-path", "echo"), ("path", "/echo")] {
        let error = Answer::configure(vec![(name.into(), value.into())]).unwrap_err();
        assert!(error.starts_with(name), "{error}");
    }
}
