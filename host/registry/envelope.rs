//! The frames of topics that keep a history, in JSON: a client learns its place in the topic from each of them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::position::Position;
use crate::message::Payload;

#[derive(Serialize)]
struct Envelope<'a> {
    topic: &'a str,
    epoch: &'a str,
    offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscribed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recovered: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
}

#[derive(Serialize)]
struct Presence<'a> {
    topic: &'a str,
    event: &'a str,
    member: &'a str,
}

/// A message and its place.
pub(super) fn message(topic: &str, epoch: &str, offset: u64, message: &Payload) -> String {
    let (data, base64) = match message {
        Payload::Text(text) => (Some(text.as_str()), None),
        Payload::Binary(bytes) => (None, Some(STANDARD.encode(bytes))),
    };
    json(&Envelope {
        topic,
        epoch,
        offset,
        data,
        base64,
        subscribed: None,
        recovered: None,
        client: None,
    })
}

/// The first of a subscription: where it begins, whether what was missed follows, if that was asked for, and by what name the
/// client resumes.
pub(super) fn subscribed(topic: &str, position: &Position, recovered: Option<bool>, client: u64) -> String {
    json(&Envelope {
        topic,
        epoch: &position.epoch,
        offset: position.offset,
        data: None,
        base64: None,
        subscribed: Some(true),
        recovered,
        client: Some(format!("{client:016x}")),
    })
}

/// A join or a leave.
pub(super) fn presence(topic: &str, event: &str, member: &str) -> String {
    json(&Presence { topic, event, member })
}

/// Text and numbers can always be written.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_has_what_it_needs_and_no_more() {
        let text = Payload::Text("a \"b\"".into());
        assert_eq!(
            message("t", "1-0", 7, &text),
            r#"{"topic":"t","epoch":"1-0","offset":7,"data":"a \"b\""}"#
        );
        let bytes = Payload::Binary(vec![0xff].into());
        assert_eq!(
            message("t", "1-0", 8, &bytes),
            r#"{"topic":"t","epoch":"1-0","offset":8,"base64":"/w=="}"#
        );
        let position = Position {
            epoch: "1-0".to_owned(),
            offset: 3,
        };
        assert_eq!(
            subscribed("t", &position, Some(false), 0x2a),
            r#"{"topic":"t","epoch":"1-0","offset":3,"subscribed":true,"recovered":false,"client":"000000000000002a"}"#
        );
    }
}
