//! Tests of the moderation, natively: no gateway, no WebAssembly. They take their words from the list, which is there
//! to be edited.

use super::*;

const WORD: &str = MASKED[0];

fn stars() -> String {
    "*".repeat(WORD.chars().count())
}

fn moderated(message: &str) -> Action {
    moderate(&Payload::Text(message.into()))
}

fn passed_on(message: &str) -> Action {
    Action::Next(Some(Payload::Text(message.into())))
}

fn refused(reason: &str) -> Action {
    let answer = format!(r#"{{"reason":"{reason}","type":"refused"}}"#);
    Action::Reply(Payload::Text(answer))
}

#[test]
fn a_word_of_the_list_is_masked_however_it_is_written() {
    let stars = stars();
    let capitals = WORD.to_uppercase();
    for (text, masked) in [
        (WORD.to_owned(), stars.clone()),
        (format!("{capitals}!"), format!("{stars}!")),
        (format!("oh, {WORD}. «{WORD}»"), format!("oh, {stars}. «{stars}»")),
    ] {
        assert_eq!(mask(&text), masked);
    }
}

#[test]
fn other_words_stay_as_they_are() {
    for text in ["", "  two  spaces ", "翼 🪽", &format!("{WORD}ing un{WORD}")] {
        assert_eq!(mask(text), text);
    }
}

#[test]
fn only_the_text_of_a_message_changes() {
    let stars = stars();
    for (message, rest) in [
        (
            r#"{"type":"say","text":"WORD"}"#,
            r#"{"type":"say","text":"STARS"}"#,
        ),
        (
            r#" {"note": "WORD", "n":1e999, "t\u0065xt" : "\u0022WORD\u0022\n"} "#,
            r#" {"note": "WORD", "n":1e999, "t\u0065xt" : "\"STARS\"\n"} "#,
        ),
    ] {
        let message = message.replace("WORD", WORD);
        let expected = passed_on(&rest.replace("WORD", WORD).replace("STARS", &stars));
        assert_eq!(moderated(&message), expected);
        assert_eq!(moderate(&Payload::Binary(message.into_bytes())), expected);
    }
}

#[test]
fn what_has_no_text_or_a_harmless_one_goes_on_untouched() {
    for message in [
        r#"{"type":"who"}"#,
        r#"{"type":"say","text":"hello"}"#,
        r#"{"type":"say","text":5}"#,
        r#"{"type":"say","text":null}"#,
    ] {
        assert_eq!(moderated(message), Action::Next(None), "{message}");
    }
}

#[test]
fn a_shout_is_answered_instead_of_passed_on() {
    for text in ["HELLO", "IS ANYBODY THERE?!", "ÄÖÜÉÈ"] {
        let message = format!(r#"{{"type":"say","text":"{text}"}}"#);
        assert_eq!(moderated(&message), refused("Please do not shout."), "{text}");
    }
    for text in ["", "OK", "HTTP 404 1 2 3", "HELLo", "こんにちは", "12345!"] {
        assert!(!is_shout(text), "{text}");
    }
}

#[test]
fn what_php_might_read_otherwise_is_refused() {
    for message in [
        "",
        "hello",
        r#"{"text":"a","text":"b"}"#,
        r#"{"text":"a","x":TRUE}"#,
    ] {
        assert_eq!(
            moderated(message),
            refused("This message cannot be read."),
            "{message}"
        );
    }
    let latin1 = Payload::Binary(b"{\"text\":\"caf\xe9\"}".to_vec());
    assert_eq!(moderate(&latin1), refused("This message cannot be read."));
}
