//! A push to the plugin `application`, as JSON or as a form. The first two lines of the input are the `content-type` and
//! the query, the rest is the body. A push keeps to its bounds, and is answered for each target when all is done.

#![no_main]
#![allow(dead_code, reason = "a target uses a part of what it includes")]

use libfuzzer_sys::fuzz_target;

#[path = "../../../plugins/application/src"]
mod application {
    pub mod push;
}

use aileron_plugin::{Action, Effect, Payload, Request, Response};
use application::push;

/// As the README has it: 10,000 actions, and one that asks for the report.
const MAX_ACTIONS: usize = 10_000 + 1;
/// What a plugin may have in memory (`memory-limit`), with room for everything else.
const MAX_BYTES: usize = 48 * 1024 * 1024;

fuzz_target!(|input: &[u8]| {
    let mut lines = input.splitn(3, |byte| *byte == b'\n');
    let mut line = || lines.next().and_then(|line| str::from_utf8(line).ok());
    let (Some(content_type), Some(query)) = (line().map(str::to_owned), line().map(str::to_owned)) else {
        return;
    };
    let request = Request {
        method: "POST".to_owned(),
        path: "/send".to_owned(),
        query,
        headers: vec![("content-type".to_owned(), content_type)],
        body: Payload::from_bytes(lines.next().unwrap_or_default().to_vec()),
    };
    let actions = push::handle(&request, "/send");
    assert!(actions.len() <= MAX_ACTIONS, "{} actions", actions.len());
    let bytes: usize = actions.iter().map(size).sum();
    assert!(bytes <= MAX_BYTES, "{bytes} bytes");
    match actions.as_slice() {
        [Action::Respond(refusal)] => is_refusal(refusal),
        [Action::Send(delivery), Action::Respond(done)] => {
            assert!(!delivery.connection.is_empty());
            assert_eq!(done.status, 200);
        }
        [done @ .., Action::Other((name, context))] if name == "report" => {
            assert!(done.iter().all(is_pushed), "{done:?}");
            is_answered(context, done.len());
        }
        other => panic!("{other:?}"),
    }
});

fn is_refusal(response: &Response) {
    assert!(matches!(response.status, 400 | 404), "{response:?}");
    if response.header("content-type") == Some("application/json") {
        let body: serde_json::Value = serde_json::from_slice(response.body.as_bytes()).expect("JSON");
        assert!(body["error"].is_string(), "{body}");
    }
}

/// Whether it is something that a push may ask for.
fn is_pushed(action: &Action) -> bool {
    matches!(
        action,
        Action::SetAttribute(_)
            | Action::Send(_)
            | Action::Subscribe(_)
            | Action::Unsubscribe(_)
            | Action::Publish(_)
            | Action::Close(_)
    )
}

/// What the host reports when each action has been done comes to a result for each target.
fn is_answered(context: &Payload, done: usize) {
    let effect = Effect {
        outcome: "sent".to_owned(),
        facts: Vec::new(),
    };
    let response = push::answer(context, &vec![effect; done]);
    assert_eq!(response.status, 200, "{response:?}");
    let body: serde_json::Value = serde_json::from_slice(response.body.as_bytes()).expect("JSON");
    let results = body["results"].as_array().expect("results");
    assert!(results.len() <= done);
    assert!(results.iter().all(|result| result["result"] == "sent"), "{body}");
}

/// What an action takes in memory, about.
fn size(action: &Action) -> usize {
    let texts = match action {
        Action::SetAttribute(attribute) => {
            attribute.name.len() + attribute.value.as_ref().map_or(0, String::len)
        }
        Action::Send(delivery) => delivery.message.as_bytes().len(),
        Action::Subscribe(membership) | Action::Unsubscribe(membership) => membership.topic.len(),
        Action::Publish(publication) => {
            let except = publication.except.iter().map(|id| id.len() + size_of::<String>());
            publication.message.as_bytes().len() + except.sum::<usize>()
        }
        Action::Close(closing) => closing.reason.len(),
        _ => 0,
    };
    texts + size_of::<Action>()
}
