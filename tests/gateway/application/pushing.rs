//! What PHP pushes by `/send`: the article's form, and everything beyond it in forms and JSON.

use reqwest::Method;
use serde_json::{Value, json};

use super::{connect, gateway, wish};
use crate::support::{Answer, Client, Fpm, Frame, Gateway, answer};

async fn clients(gateway: &Gateway) -> [Client; 3] {
    let one = || async { connect(gateway, json!({}), &[]).await.unwrap() };
    [one().await, one().await, one().await]
}

async fn post(gateway: &Gateway, body: &Value) -> Answer {
    let request = gateway
        .request(Method::POST, "/send")
        .header("content-type", "application/json");
    answer(request.body(body.to_string())).await
}

/// The results of a push that was taken.
async fn push(gateway: &Gateway, body: Value) -> Value {
    let said = post(gateway, &body).await;
    assert_eq!(said.status, 200, "{body}: {said:?}");
    let mut results: Value = serde_json::from_str(&said.body).unwrap();
    results["results"].take()
}

#[tokio::test]
async fn the_articles_form_has_its_four_answers() {
    let fpm = Fpm::start(1).await;
    let gateway = gateway(&fpm, "max-queue = \"64KiB\"").await;
    let [mut client, _, _] = clients(&gateway).await;
    let said = |status, body: &str| Answer {
        status,
        body: body.to_owned(),
    };
    let id = client.id.clone();
    let form = |message: &str| format!("message={message}&client_id={id}&type=client");
    assert_eq!(gateway.push(&form("hello")).await, said(200, "Message sent"));
    assert_eq!(client.text().await, "hello");
    assert_eq!(
        gateway.push("message=x&client_id=nobody").await,
        said(404, "Client not found\n")
    );
    assert_eq!(
        gateway.push("message=x&client_id=%").await,
        said(400, "Bad Request")
    );
    let large = form(&"x".repeat(1024 * 1024 + 1));
    assert_eq!(gateway.push(&large).await, said(500, "Failed to send message\n"));
    client.is_quiet().await;
}

#[tokio::test]
async fn json_reaches_one_several_a_topic_and_everyone_with_a_result_for_each() {
    let fpm = Fpm::start(2).await;
    let gateway = gateway(&fpm, "").await;
    let [mut a, mut b, mut c] = clients(&gateway).await;
    let (ida, idb) = (a.id.clone(), b.id.clone());
    let results = push(&gateway, json!({"client_id": ida, "message": "text"})).await;
    assert_eq!(results, json!([{"client_id": ida, "result": "sent"}]));
    assert_eq!(a.text().await, "text");

    let results = push(
        &gateway,
        json!({"client_id": [ida, "nobody", idb], "message": {"n": 1}}),
    )
    .await;
    assert_eq!(
        results,
        json!([
            {"client_id": ida, "result": "sent"},
            {"client_id": "nobody", "result": "not-found"},
            {"client_id": idb, "result": "sent"},
        ])
    );
    assert_eq!(a.text().await, "{\"n\":1}");
    assert_eq!(b.text().await, "{\"n\":1}");

    let results = push(
        &gateway,
        json!({"client_id": [ida, idb], "subscribe": ["room", "hall"]}),
    )
    .await;
    assert_eq!(results[1], json!({"client_id": idb, "result": "done"}));
    let results = push(
        &gateway,
        json!([
            {"topic": "room", "message": "to the room", "except": ida},
            {"topic": ["hall", "nothing"], "binary": "AP8="},
            {"everyone": true, "message": "to all", "except": [ida, idb]},
        ]),
    )
    .await;
    assert_eq!(
        results,
        json!([
            {"topic": "room", "result": "sent", "recipients": 1, "congested": 0},
            {"topic": "hall", "result": "sent", "recipients": 2, "congested": 0},
            {"topic": "nothing", "result": "sent", "recipients": 0, "congested": 0},
            {"everyone": true, "result": "sent", "recipients": 1, "congested": 0},
        ])
    );
    assert_eq!(b.text().await, "to the room");
    for client in [&mut a, &mut b] {
        assert_eq!(client.next().await, Frame::Binary(vec![0, 0xff]));
        client.is_quiet().await;
    }
    assert_eq!(c.text().await, "to all");
}

#[tokio::test]
async fn json_sets_attributes_unsubscribes_and_closes_behind_a_message() {
    let fpm = Fpm::start(2).await;
    let gateway = gateway(&fpm, "").await;
    let [mut a, mut b, _c] = clients(&gateway).await;
    let ids = [a.id.clone(), b.id.clone()];
    push(
        &gateway,
        json!({"client_id": ids, "attributes": {"user": "ann", "old": null}, "subscribe": "room"}),
    )
    .await;
    let post: Value = serde_json::from_str(&a.ask("post").await).unwrap();
    assert_eq!(post["attributes"], json!({"user": "ann"}));
    push(&gateway, json!({"client_id": ids[0], "unsubscribe": "room"})).await;
    assert_eq!(gateway.get("/topics").await.body.trim_end(), "{\"room\":1}");

    let closing = json!({"client_id": ids[1], "message": "bye", "close": {"code": 4001, "reason": "enough"}});
    let results = push(&gateway, closing).await;
    assert_eq!(results, json!([{"client_id": ids[1], "result": "closed"}]));
    assert_eq!(b.text().await, "bye");
    assert_eq!(b.next().await, Frame::Close(4001, "enough".to_owned()));
    let results = push(&gateway, json!({"client_id": ids[0], "close": {"code": 1006}})).await;
    assert_eq!(results[0]["result"], "refused");
    assert!(
        results[0]["cause"].as_str().unwrap().contains("1006"),
        "{results}"
    );
}

#[tokio::test]
async fn forms_reach_several_topics_and_everyone_too() {
    let fpm = Fpm::start(2).await;
    let gateway = gateway(&fpm, "").await;
    let [mut a, mut b, mut c] = clients(&gateway).await;
    assert_eq!(a.ask(&wish(&["Aileron-Subscribe: room"], "in")).await, "in");
    let form = format!("client_id[0]={}&client_id[1]={}&message=both", a.id, b.id);
    let said = gateway.push(&form).await;
    assert_eq!(said.status, 200);
    assert_eq!(
        serde_json::from_str::<Value>(&said.body).unwrap()["results"][1]["result"],
        "sent"
    );
    assert_eq!((a.text().await, b.text().await), ("both".into(), "both".into()));
    gateway.push("topic=room&message=room").await;
    assert_eq!(a.text().await, "room");
    gateway
        .push(&format!("everyone=1&except={}&message=all", a.id))
        .await;
    assert_eq!((b.text().await, c.text().await), ("all".into(), "all".into()));
    a.is_quiet().await;
}

#[tokio::test]
async fn what_cannot_be_delivered_is_told_for_each_target() {
    let fpm = Fpm::start(2).await;
    let gateway = gateway(&fpm, "max-message = \"64KiB\"\nmax-queue = \"64KiB\"").await;
    let [a, _b, _c] = clients(&gateway).await;
    let large = "x".repeat(64 * 1024 + 1);
    let results = push(
        &gateway,
        json!([{"client_id": a.id, "message": large}, {"topic": "t", "message": large}]),
    )
    .await;
    assert_eq!(results[0], json!({"client_id": a.id, "result": "too-large"}));
    assert_eq!(results[1]["result"], "too-large");
    // A client that does not read: the kernel takes some, its queue the rest, and then it is congested.
    let message = "x".repeat(60_000);
    let mut tries = 0;
    loop {
        let results = push(&gateway, json!({"client_id": a.id, "message": message})).await;
        match results[0]["result"].as_str().unwrap() {
            "sent" => tries += 1,
            "congested" => break,
            other => panic!("{other}"),
        }
        assert!(tries < 10_000, "600 MB are more than any kernel takes");
    }
}

#[tokio::test]
async fn what_is_malformed_is_told_by_its_place_and_nothing_of_it_is_done() {
    let fpm = Fpm::start(1).await;
    let gateway = gateway(&fpm, "").await;
    let [mut a, _, _] = clients(&gateway).await;
    for (body, words) in [
        (
            json!([{"client_id": a.id, "message": "x"}, {"message": "y"}]),
            "item 2",
        ),
        (
            json!({"client_id": a.id, "message": "x", "colour": "red"}),
            "colour",
        ),
        (json!({"client_id": 7, "message": "x"}), "client_id"),
        (json!({"client_id": a.id, "binary": "?"}), "base64"),
        (json!("text"), "error"),
    ] {
        let said = post(&gateway, &body).await;
        assert_eq!(said.status, 400, "{body}");
        assert!(
            said.body.starts_with("{\"error\":") && said.body.contains(words),
            "{body}: {said:?}"
        );
    }
    let request = gateway
        .request(Method::POST, "/send")
        .header("content-type", "application/json");
    assert_eq!(answer(request.body("{")).await.status, 400);
    a.is_quiet().await;
}

#[tokio::test]
async fn a_push_with_an_idempotency_key_is_done_once() {
    let fpm = Fpm::start(1).await;
    let gateway = gateway(&fpm, "").await;
    let [mut a, _, _] = clients(&gateway).await;
    let push = async |key: &str, message: &str| {
        let request = gateway
            .request(Method::POST, "/send")
            .header("idempotency-key", key);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        answer(request.body(format!("client_id={}&message={message}", a.id))).await
    };
    let first = push("one", "first").await;
    assert_eq!(push("one", "first").await, first);
    assert_eq!(push("two", "second").await, first);
    assert_eq!(a.text().await, "first");
    assert_eq!(a.text().await, "second");
    a.is_quiet().await;
}
