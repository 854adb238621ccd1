//! Answers what needs no PHP: JSON pings everywhere, and everything under one path by its echo.

use std::borrow::Cow;
use std::cell::RefCell;
use std::time::Duration;

use aileron_plugin::{Action, Connection, Frames, Interest, Lifecycle, Payload, clock};
use serde::Deserialize;
use serde_json::value::RawValue;

thread_local! {
    static ECHO_PATH: RefCell<String> = RefCell::new("/echo".to_owned());
}

struct Answer;

impl Lifecycle for Answer {
    fn configure(settings: Vec<(String, String)>) -> Result<Interest, String> {
        for (name, value) in settings {
            if name != "echo-path" {
                return Err(format!("{name}: no such setting; there is echo-path (a path)"));
            }
            if !value.starts_with('/') {
                return Err(format!("echo-path = {value:?}: must begin with \"/\""));
            }
            ECHO_PATH.set(value);
        }
        Ok(Interest {
            facts: vec!["path".to_owned()],
            ..Interest::default()
        })
    }
}

impl Frames for Answer {
    fn on_frame(connection: Connection, message: Payload) -> Vec<Action> {
        let path = connection.fact("path").unwrap_or_default();
        let echoed = ECHO_PATH.with_borrow(|echo_path| is_under(path, echo_path));
        vec![answer(message, echoed, clock::since_epoch)]
    }
}

aileron_plugin::export!(Answer: Lifecycle, Frames);

#[derive(Deserialize)]
struct Ping<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    /// As the client wrote it, so that a large number comes back unchanged.
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

fn answer(message: Payload, echoed: bool, now: impl FnOnce() -> Duration) -> Action {
    match pong(&message, now) {
        Some(pong) => Action::Reply(Payload::Text(pong)),
        None if echoed => Action::Reply(message),
        None => Action::Next(None),
    }
}

/// The answer to a ping. None if the message is none.
fn pong(message: &Payload, now: impl FnOnce() -> Duration) -> Option<String> {
    let Payload::Text(text) = message else {
        return None;
    };
    let ping: Ping = serde_json::from_str(text).ok()?;
    if ping.kind != "ping" {
        return None;
    }
    let time = now().as_millis();
    Some(match ping.id {
        Some(id) => format!(r#"{{"type":"pong","id":{id},"time":{time}}}"#),
        None => format!(r#"{{"type":"pong","time":{time}}}"#),
    })
}

/// Whether `path` is `root` or below it.
fn is_under(path: &str, root: &str) -> bool {
    path.strip_prefix(root.trim_end_matches('/'))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests;
