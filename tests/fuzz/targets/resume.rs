//! Where a client says that it left off in a topic: `TOPIC:EPOCH:OFFSET`. It gets all that it missed and nothing else, or
//! is told that this cannot be.

#![no_main]
#![allow(dead_code, reason = "a target uses a part of what it includes")]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;

#[path = "../../../host/registry/envelope.rs"]
mod envelope;
#[path = "../../../host/registry/history.rs"]
mod history;
#[path = "../../../host/registry/position.rs"]
mod position;
#[path = "../../../host"]
mod host {
    #[allow(unused_imports, reason = "a target uses a part of what it includes")]
    pub mod message;
}

use history::{History, Retention};
use host::message;
use message::Payload;
use position::Position;

const PUBLISHED: u64 = 5;
const KEPT: usize = 3;
/// The message that one client is not to have.
const WITHHELD: u64 = 4;
const SENDER: u64 = 7;

fuzz_target!(|text: &str| {
    let Some((topic, position)) = Position::of_topic(text) else {
        return;
    };
    let again = format!("{topic}:{}:{}", position.epoch, position.offset);
    assert_eq!(Position::of_topic(&again), Some((topic, position.clone())));

    let now = Instant::now();
    let retention = Retention {
        messages: KEPT,
        time: Duration::from_secs(60),
    };
    let mut history = History::new(retention, "e".to_owned(), now);
    for n in 1..=PUBLISHED {
        let except = if n == WITHHELD { vec![SENDER] } else { Vec::new() };
        history.append("t", &Payload::Text(n.to_string().into()), except.into(), now);
    }
    history.trim(now);
    let is_known = position.epoch == "e" && (PUBLISHED - KEPT as u64..=PUBLISHED).contains(&position.offset);
    for client in [SENDER, SENDER + 1] {
        let missed: Option<Vec<_>> = history
            .after(&position, client)
            .map(|frames| frames.map(|frame| frame.as_str().to_owned()).collect());
        let expected = is_known.then(|| {
            let numbers = position.offset + 1..=PUBLISHED;
            numbers
                .filter(|n| (*n, client) != (WITHHELD, SENDER))
                .map(|n| format!(r#"{{"topic":"t","epoch":"e","offset":{n},"data":"{n}"}}"#))
                .collect()
        });
        assert_eq!(missed, expected);
    }
});
