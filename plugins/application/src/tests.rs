//! Tests of where the modules meet the host.

use super::*;

fn connection() -> Connection {
    Connection {
        id: "127.0.0.1:51110".into(),
        facts: vec![("path".into(), "/ws".into())],
    }
}

fn request(path: &str, body: &str) -> Request {
    Request {
        method: "POST".into(),
        path: path.into(),
        query: String::new(),
        headers: vec![("content-type".into(), "application/json".into())],
        body: Payload::Text(body.into()),
    }
}

fn forwarded(actions: &[Action]) -> Payload {
    match actions {
        [Action::Forward(exchange)] => exchange.context.clone(),
        _ => panic!("{actions:?}"),
    }
}

#[test]
fn a_client_is_let_in_by_php() {
    let Admission::Ask(exchange) = Application::on_open(connection(), request("/ws", "")) else {
        panic!("PHP is not asked");
    };
    let verdict = |status| {
        Application::on_verdict(
            connection(),
            exchange.context.clone(),
            Ok(Response::text(status, "hi")),
        )
    };
    assert!(matches!(verdict(200), Admission::Accept(acceptance) if acceptance.actions.len() == 1));
    assert!(matches!(verdict(403), Admission::Reject(response) if response.status == 403));
}

#[test]
fn a_frame_goes_to_php_and_its_answer_back() {
    let context = forwarded(&Application::on_frame(connection(), Payload::Text("name".into())));
    let answer = Response::text(200, "lwlinux");
    let actions = Application::on_response(Some(connection()), context, Ok(answer.clone()));
    assert_eq!(actions, [Action::Reply(answer.body)]);
}

#[test]
fn other_events_go_to_php_too() {
    let timer = Application::on_timer(connection(), "tea".into());
    let close = Application::on_close(connection(), 1000, String::new());
    let schedule = Application::on_schedule("tick".into());
    for (actions, replies) in [(timer, 1), (close, 0), (schedule, 0)] {
        let context = forwarded(&actions);
        let actions = Application::on_response(None, context, Ok(Response::text(200, "ok")));
        assert_eq!(actions.len(), replies);
    }
}

#[test]
fn a_push_is_answered_by_its_report() {
    let push = request("/send", r#"{"client_id":"a","message":"hi"}"#);
    let actions = Application::on_push(push);
    let [Action::Send(_), Action::Other((name, context))] = actions.as_slice() else {
        panic!("{actions:?}");
    };
    assert_eq!(name, "report");
    let effect = Effect {
        outcome: "sent".into(),
        facts: Vec::new(),
    };
    let actions = Application::on_report(None, context.clone(), vec![effect]);
    assert!(matches!(actions.as_slice(), [Action::Respond(response)] if response.status == 200));
}

#[test]
fn settings_take_effect() {
    let settings = |pairs: &[(&str, &str)]| {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()));
        Application::configure(pairs.collect())
    };
    let interest = settings(&[("open", "false"), ("close", "false"), ("push-path", "/push")]).unwrap();
    assert_eq!(interest.facts, question::FACTS);
    assert_eq!(
        Application::on_open(connection(), request("/ws", "")),
        Admission::Next(Vec::new())
    );
    assert_eq!(Application::on_close(connection(), 1000, String::new()), []);
    assert_eq!(Application::on_push(request("/send", "[]")), [Action::Next(None)]);

    let refused = settings(&[("push-paht", "/send")]);
    assert!(refused.is_err_and(|text| text.contains("push-paht")));
    assert_eq!(Application::on_push(request("/send", "[]")), [Action::Next(None)]);
}
