//! What an answer of PHP makes the gateway do, by its headers. The first line of the input says what PHP was asked, as in
//! `text 127.0.0.1:51110`; the rest is the answer as PHP-FPM sends it.

#![no_main]
#![allow(dead_code, reason = "a target uses a part of what it includes")]

use libfuzzer_sys::fuzz_target;

#[path = "../../../host"]
mod host {
    #[allow(unused_imports, reason = "a target uses a part of what it includes")]
    pub mod message;
}
#[path = "../../../host/upstream/fastcgi/response.rs"]
mod response;
#[path = "../../../plugins/application/src"]
mod application {
    pub mod admission;
    pub mod answer;
    pub mod settings;
    pub mod steering;
    pub mod subject;
}

use aileron_plugin::log::Level;
use aileron_plugin::{Action, Admission, Payload, Response};
use application::{admission, answer, settings, steering, subject};
use host::message;
use subject::{Kind, Subject};

/// As the plugin has it.
type Note = (Level, String);

fuzz_target!(|input: &[u8]| {
    let mut lines = input.splitn(2, |byte| *byte == b'\n');
    let (Some(subject), Some(script_said)) = (lines.next(), lines.next()) else {
        return;
    };
    let Some(subject) = Subject::read(&Payload::from_bytes(subject.to_vec())) else {
        return;
    };
    let Some(response) = read(script_said) else {
        return;
    };
    let settings = settings::Settings {
        relay_errors: true,
        ..settings::Settings::default()
    };
    let actions = if subject.kind == Kind::Open {
        match admission::decide(&subject.name, Ok(response)).0 {
            Admission::Accept(acceptance) => acceptance.actions,
            Admission::Reject(_) => return,
            other => panic!("{other:?}"),
        }
    } else {
        answer::take(&subject, Ok(response), &settings).0
    };
    check(&actions, subject.connection());
});

/// What PHP-FPM would have sent, as the host hands it to a plugin.
fn read(script_said: &[u8]) -> Option<Response> {
    let mut answer = response::Answer::new(usize::MAX);
    answer.push(script_said.into()).ok()?;
    let read = answer.finish().ok()?;
    Some(Response {
        status: read.status,
        headers: read.headers,
        body: Payload::from_bytes(read.body.into_bytes().to_vec()),
    })
}

/// The order in which actions make sense, and to whom something is done.
fn check(actions: &[Action], connection: Option<&str>) {
    let places: Vec<_> = actions.iter().map(|action| place(action, connection)).collect();
    assert!(places.is_sorted(), "{actions:?}");
    let count = |wanted| places.iter().filter(|place| **place == wanted).count();
    assert!(count(REPLY) <= 1 && count(CLOSE) <= 1, "{actions:?}");
    assert!(
        count(REPLY) == 0 || count(PUBLISH) == 0,
        "the body goes to one side only: {actions:?}"
    );
}

const REPLY: u8 = 1;
const PUBLISH: u8 = 5;
const CLOSE: u8 = 6;

fn place(action: &Action, connection: Option<&str>) -> u8 {
    let is_own = |id: &str| assert_eq!(Some(id), connection, "{action:?}");
    let is_name = |name: &str| {
        assert!(
            !name.is_empty() && !name.contains(',') && name.trim() == name,
            "{action:?}"
        )
    };
    match action {
        Action::SetAttribute(attribute) => {
            is_own(&attribute.connection);
            assert!(!attribute.name.is_empty());
            0
        }
        Action::Reply(_) => {
            assert!(connection.is_some(), "{action:?}");
            REPLY
        }
        Action::Unsubscribe(membership) | Action::Subscribe(membership) => {
            is_own(&membership.connection);
            is_name(&membership.topic);
            if matches!(action, Action::Unsubscribe(_)) {
                2
            } else {
                3
            }
        }
        Action::SetTimer(timer) => {
            is_own(&timer.connection);
            is_name(&timer.name);
            4
        }
        Action::CancelTimer(timer) => {
            is_own(&timer.connection);
            is_name(&timer.name);
            4
        }
        Action::Publish(publication) => {
            is_name(&publication.topic);
            PUBLISH
        }
        Action::Close(closing) => {
            is_own(&closing.connection);
            CLOSE
        }
        other => panic!("{other:?} is not PHP's to do"),
    }
}
