//! Tests of what the headers come to.

use super::*;

fn steered(headers: &[(&str, &str)], connection: Option<&str>, message: Option<&str>) -> Steering {
    let headers = headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    read(&headers, connection, message.map(text))
}

fn text(text: &str) -> Payload {
    Payload::Text(text.into())
}

fn publication(topic: &str, except: &[&str]) -> Action {
    Action::Publish(Publication {
        topic: topic.into(),
        message: text("hi"),
        except: except.iter().map(|id| id.to_string()).collect(),
    })
}

/// Every header but `Aileron-Publish`, in an odd order.
const ALL: [(&str, &str); 11] = [
    ("aileron-close", "4001 bye"),
    ("content-type", "text/html"),
    ("aileron-timer", "tea=1s, nap="),
    ("aileron-subscribe", "room.1, news"),
    ("aileron-except", "self, b:2"),
    ("aileron-subscribe", "room.2"),
    ("aileron-unsubscribe", "old"),
    ("aileron-attribute", "user=ann+b"),
    ("aileron-attribute", "old="),
    ("aileron-subprotocol", "chat.v2"),
    ("x-powered-by", "PHP"),
];

#[test]
fn actions_are_in_the_order_that_makes_sense() {
    let steering = steered(&ALL, Some("a:1"), Some("hi"));
    let id = || "a:1".to_owned();
    let expected = [
        set_attribute("a:1", "user".into(), Some("ann b".into())),
        set_attribute("a:1", "old".into(), None),
        Action::Reply(text("hi")),
        Action::Unsubscribe(membership("a:1", "old".into())),
        Action::Subscribe(membership("a:1", "room.1".into())),
        Action::Subscribe(membership("a:1", "news".into())),
        Action::Subscribe(membership("a:1", "room.2".into())),
        Action::SetTimer(Timer {
            connection: id(),
            name: "tea".into(),
            delay_ms: 1000,
        }),
        Action::CancelTimer(TimerName {
            connection: id(),
            name: "nap".into(),
        }),
        Action::Close(Closing {
            connection: id(),
            code: 4001,
            reason: "bye".into(),
        }),
    ];
    assert_eq!(steering.actions, expected);
    assert_eq!(steering.subprotocol.as_deref(), Some("chat.v2"));
    assert_eq!(steering.notes, []);
}

#[test]
fn what_is_published_is_not_replied() {
    let mut headers = ALL.to_vec();
    headers.push(("aileron-publish", "room.1, *"));
    let actions = steered(&headers, Some("a:1"), Some("hi")).actions;
    assert!(!actions.contains(&Action::Reply(text("hi"))), "{actions:?}");
    let [.., first, second, Action::Close(_)] = actions.as_slice() else {
        panic!("{actions:?}");
    };
    let except = ["a:1", "b:2"];
    assert_eq!(
        [first, second],
        [&publication("room.1", &except), &publication("*", &except)]
    );
}

#[test]
fn without_a_connection_only_what_is_published_counts() {
    let mut headers = ALL.to_vec();
    assert_eq!(steered(&headers, None, Some("hi")).actions, []);
    headers.push(("aileron-publish", "room.1"));
    let actions = steered(&headers, None, Some("hi")).actions;
    assert_eq!(actions, [publication("room.1", &["b:2"])]);
}

#[test]
fn a_reply_may_be_held_back() {
    let none = steered(&[("aileron-reply", "no")], Some("a:1"), Some("hi"));
    assert_eq!((none.actions, none.notes), (Vec::new(), Vec::new()));
}

#[test]
fn what_makes_no_sense_is_logged_and_the_rest_counts() {
    for (header, value, words) in [
        ("aileron-timer", "tea=soon", "\"tea=soon\": must be NAME=TIME"),
        ("aileron-attribute", "user", "\"user\": must be NAME=VALUE"),
        ("aileron-close", "bye", "\"bye\": must be a close code"),
        ("aileron-reply", "maybe", "\"maybe\": must be no"),
        ("aileron-subscibe", "news", "no such header"),
        (
            "aileron-publish",
            "%2A",
            "\"%2A\": an encoded * does not mean everyone",
        ),
    ] {
        let headers = [
            (header, value),
            ("aileron-subscribe", "news"),
            ("aileron-timer", ""),
        ];
        let steering = steered(&headers, Some("a:1"), None);
        assert_eq!(
            steering.actions,
            [Action::Subscribe(membership("a:1", "news".into()))]
        );
        let [(Level::Warn, line)] = steering.notes.as_slice() else {
            panic!("{steering:?}");
        };
        assert!(line.contains(header) && line.contains(words), "{line}");
    }
    let timers = steered(&[("aileron-timer", "tea=soon, nap=")], Some("a:1"), None);
    assert_eq!((timers.actions.len(), timers.notes.len()), (1, 1));
}

#[test]
fn nothing_to_publish_is_logged() {
    let steering = steered(&[("aileron-publish", "room.1")], Some("a:1"), None);
    assert_eq!(steering.actions, []);
    assert_eq!(steering.notes.len(), 1);
}
