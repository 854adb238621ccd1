//! Moderates a chat: masks words, and asks those who shout to speak more quietly. Made to be edited and exchanged while
//! the chat goes on.

use aileron_plugin::{Action, Connection, Frames, Payload};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// Words that nobody is to read, in lower case.
const MASKED: &[&str] = &["darn", "heck", "drat"];

/// So many letters are a shout, if all of them are capitals. `OK` and `HTTP` are none.
const SHOUT: usize = 5;

struct Moderate;

impl Frames for Moderate {
    fn on_frame(_connection: Connection, message: Payload) -> Vec<Action> {
        vec![moderate(&message)]
    }
}

aileron_plugin::export!(Moderate: Frames);

/// What the page sends is JSON; what somebody wrote is its member `text`.
#[derive(Deserialize)]
struct Message<'a> {
    /// A part of the message as it came, so that its place is known.
    #[serde(borrow)]
    text: Option<&'a RawValue>,
}

fn moderate(message: &Payload) -> Action {
    // PHP does not tell binary frames from text, so what is in one counts as well.
    let json = std::str::from_utf8(message.as_bytes()).unwrap_or_default();
    let Ok(Message { text }) = serde_json::from_str(json) else {
        // PHP reads JSON less strictly. What cannot be read here must not slip past the list.
        return refuse("This message cannot be read.");
    };
    let Some(raw) = text.map(RawValue::get) else {
        return Action::Next(None);
    };
    let Ok(text) = serde_json::from_str::<String>(raw) else {
        return Action::Next(None); // PHP refuses a text that is none
    };
    if is_shout(&text) {
        return refuse("Please do not shout.");
    }
    let masked = mask(&text);
    if masked == text {
        return Action::Next(None);
    }
    // Everything around the text stays as it is, byte by byte.
    let start = raw.as_ptr().addr() - json.as_ptr().addr();
    let (before, after) = (&json[..start], &json[start + raw.len()..]);
    Action::Next(Some(Payload::Text(format!(
        "{before}{}{after}",
        Value::from(masked)
    ))))
}

/// Tells the page why, as `websocket.php` does. PHP does not see the message.
fn refuse(reason: &str) -> Action {
    let answer = serde_json::json!({"type": "refused", "reason": reason});
    Action::Reply(Payload::Text(answer.to_string()))
}

fn is_shout(text: &str) -> bool {
    let mut letters = text.chars().filter(|c| c.is_alphabetic());
    letters.clone().count() >= SHOUT && letters.all(char::is_uppercase)
}

/// The text with an asterisk for each letter of a masked word.
fn mask(text: &str) -> String {
    let no_letter = |c: char| !c.is_alphanumeric();
    let mut masked = String::new();
    // Each piece is a word, perhaps an empty one, and what parts it from the next.
    for piece in text.split_inclusive(no_letter) {
        let word = piece.trim_end_matches(no_letter);
        if MASKED.contains(&word.to_lowercase().as_str()) {
            masked.extend(word.chars().map(|_| '*'));
            masked.push_str(&piece[word.len()..]);
        } else {
            masked.push_str(piece);
        }
    }
    masked
}

#[cfg(test)]
mod tests;
