//! Answers each message with `MESSAGE@VERSION`, so that an answer tells who gave it.

use aileron_plugin::{Action, Connection, Frames, Payload};
use version::version;

struct Stamp;

impl Frames for Stamp {
    fn on_frame(_connection: Connection, message: Payload) -> Vec<Action> {
        let answer = match message {
            Payload::Text(text) => format!("{text}@{}", version()),
            Payload::Binary(bytes) => format!("{} bytes@{}", bytes.len(), version()),
        };
        vec![Action::Reply(Payload::Text(answer))]
    }
}

aileron_plugin::export!(Stamp: Frames);
