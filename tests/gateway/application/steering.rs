//! What the headers of PHP's answers do.

use serde_json::Value;

use super::{connect, gateway, wish};
use crate::support::{Client, Fpm, Frame, Gateway, repository};

async fn client(gateway: &Gateway) -> Client {
    connect(gateway, serde_json::json!({}), &[]).await.unwrap()
}

#[tokio::test]
async fn an_answer_subscribes_publishes_and_suppresses_its_reply() {
    let fpm = Fpm::start(2).await;
    let gateway = gateway(&fpm, "").await;
    let mut ann = client(&gateway).await;
    let mut bob = client(&gateway).await;
    assert_eq!(
        ann.ask(&wish(&["Aileron-Subscribe: a, b", "Aileron-Subscribe: c"], "in"))
            .await,
        "in"
    );
    assert_eq!(bob.ask(&wish(&["Aileron-Subscribe: b"], "in")).await, "in");

    bob.send(&wish(&["Aileron-Publish: b"], "to b")).await;
    assert_eq!(ann.text().await, "to b");
    assert_eq!(bob.text().await, "to b", "as a subscriber, not as an answer");
    bob.is_quiet().await;
    bob.send(&wish(
        &["Aileron-Publish: b, c", "Aileron-Except: self"],
        "but me",
    ))
    .await;
    assert_eq!(ann.text().await, "but me");
    assert_eq!(ann.text().await, "but me", "by way of the other topic");
    bob.is_quiet().await;
    let except = format!("Aileron-Except: self, {}", ann.id);
    bob.send(&wish(&["Aileron-Publish: *", &except], "nobody")).await;
    bob.send(&wish(&["Aileron-Reply: no"], "unheard")).await;
    bob.send(&serde_json::json!({"status": 204}).to_string()).await;
    assert_eq!(bob.ask("next").await, "next");
    ann.is_quiet().await;

    assert_eq!(ann.ask(&wish(&["Aileron-Unsubscribe: b"], "out")).await, "out");
    assert_eq!(bob.ask(&wish(&["Aileron-Publish: b"], "again")).await, "again");
    ann.is_quiet().await;
}

#[tokio::test]
async fn an_answer_sets_attributes_timers_and_closes() {
    let fpm = Fpm::start(2).await;
    let gateway = gateway(&fpm, "").await;
    let mut watcher = connect(
        &gateway,
        serde_json::json!({"headers": ["Aileron-Subscribe: closings"]}),
        &[],
    )
    .await
    .unwrap();
    let mut client = client(&gateway).await;
    let attributes = ["Aileron-Attribute: user=ann%26co", "Aileron-Attribute: room=7"];
    assert_eq!(client.ask(&wish(&attributes, "set")).await, "set");
    assert_eq!(
        client
            .ask(&wish(&["Aileron-Attribute: room="], "forgotten"))
            .await,
        "forgotten"
    );
    let post: Value = serde_json::from_str(&client.ask("post").await).unwrap();
    assert_eq!(post["attributes"], serde_json::json!({"user": "ann&co"}));

    let timers = [
        "Aileron-Timer: tea=50ms",
        "Aileron-Timer: never=1h",
        "Aileron-Timer: never=",
    ];
    assert_eq!(client.ask(&wish(&timers, "")).await, "");
    assert_eq!(client.text().await, "timer tea of ann&co");

    client
        .send(&wish(&["Aileron-Close: 4001 enough, thank you"], "bye"))
        .await;
    assert_eq!(client.text().await, "bye");
    assert_eq!(
        client.next().await,
        Frame::Close(4001, "enough, thank you".to_owned())
    );
    let id = client.id.clone();
    drop(client);
    let closed: Value = serde_json::from_str(&watcher.text().await).unwrap();
    let expected = serde_json::json!({
        "type": "close", "client_id": id, "code": "4001", "reason": "enough, thank you", "path": "/ws",
        "attributes": {"user": "ann&co"},
    });
    assert_eq!(closed, expected);
}

#[tokio::test]
async fn values_that_make_no_sense_are_logged_and_the_others_count() {
    let fpm = Fpm::start(2).await;
    let mut gateway = gateway(&fpm, "").await;
    let mut client = client(&gateway).await;
    let headers = [
        "Aileron-Close: soon",
        "Aileron-Timer: tea=later",
        "Aileron-Attribute: nothing",
        "Aileron-Reply: maybe",
        "Aileron-Dance: tango",
        "Aileron-Subscribe: *",
        "Aileron-Close: 1006",
        "Aileron-Subscribe: news",
    ];
    assert_eq!(client.ask(&wish(&headers, "still here")).await, "still here");
    for header in [
        "aileron-close",
        "aileron-timer",
        "aileron-attribute",
        "aileron-reply",
        "aileron-dance",
    ] {
        gateway.logged(&["WARN", header, "ignored", &client.id]).await;
    }
    gateway.logged(&["WARN", "`subscribe` was not done"]).await;
    gateway.logged(&["WARN", "must not be sent", "1006"]).await;
    client.send(&wish(&["Aileron-Publish: news"], "heard")).await;
    assert_eq!(client.text().await, "heard");
}

/// A name that comes from a user stays one name, whatever it has in it.
#[tokio::test]
async fn a_name_from_a_user_addresses_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("rooms.php");
    let helper = repository("examples/php/Aileron.php");
    let text = format!(
        "<?php require '{}'; use function Aileron\\steer;\n\
         ['type' => $type, 'message' => $message] = $_POST + ['message' => ''];\n\
         if ($type === 'server') {{ [$what, $room] = explode(':', $message, 2); steer($what, \"room.$room\", 'second'); }}\n\
         echo $message;",
        helper.display()
    );
    std::fs::write(&script, text).unwrap();
    let fpm = Fpm::start(2).await;
    let upstream = fpm.upstream(script.to_str().unwrap());
    let config = format!("[upstream]\n{upstream}[plugins]\nbuilt-in = \"application\"\n");
    let gateway = Gateway::start(&config).await;
    let mut bystander = gateway.connect().await;
    let mut inside = gateway.connect().await;
    let mut sender = gateway.connect().await;
    for room in ["1, *", "*", "a%2C*, \u{e9}+&="] {
        let subscribe = format!("Subscribe:{room}");
        assert_eq!(inside.ask(&subscribe).await, subscribe);
        let topics: Value = serde_json::from_str(&gateway.get("/topics").await.body).unwrap();
        assert_eq!(topics[format!("room.{room}")], 1, "{topics}");
        let publish = format!("Publish:{room}");
        sender.send(&publish).await;
        // Once by each of the two topics.
        assert_eq!(inside.text().await, publish);
        assert_eq!(inside.text().await, publish);
    }
    bystander.is_quiet().await;
    sender.is_quiet().await;
}

#[tokio::test]
async fn nobody_publishes_to_the_presence_of_a_topic() {
    let fpm = Fpm::start(2).await;
    let mut gateway = gateway(&fpm, "").await;
    let mut watcher = client(&gateway).await;
    assert_eq!(
        watcher
            .ask(&wish(&["Aileron-Subscribe: room:presence"], "in"))
            .await,
        "in"
    );
    let mut sender = client(&gateway).await;
    for header in [
        "Aileron-Publish: room:presence",
        "Aileron-Publish: room%3Apresence",
    ] {
        sender.send(&wish(&[header], "forged")).await;
    }
    assert_eq!(sender.ask("next").await, "next");
    gateway
        .logged(&["WARN", "`publish` was not done", "only the gateway publishes"])
        .await;
    let push = gateway.push("topic=room:presence&message=forged").await;
    assert!(
        push.body.contains("refused") && push.body.contains(":presence"),
        "{push:?}"
    );
    watcher.is_quiet().await;
}
