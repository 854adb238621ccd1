//! What all histories together may hold, and how many topics may wait for those who come back.

use reqwest::Method;
use serde_json::{Value, json};

use super::resume::envelope;
use crate::slow::{gateway, publish};
use crate::support::{Client, Gateway, answer};

const MIB: usize = 1024 * 1024;
const KEPT: &str = "[[topic]]\nname = \"kept.*\"\nhistory = 1000\nhistory-time = \"5m\"\n";

/// Subscribes, from a position on if one is given. Gives the first envelope, too.
async fn subscribe(gateway: &Gateway, topic: &str, position: Option<&Value>) -> (Client, Value) {
    let resume = position.map(|at| {
        let (epoch, offset) = (at["epoch"].as_str().unwrap(), &at["offset"]);
        format!("&resume={topic}:{epoch}:{offset}")
    });
    let resume = resume.unwrap_or_default();
    let path = format!("/ws?next;subscribe:{topic};reply:in{resume}");
    let mut client = gateway.connect_to(&path).await;
    let first = envelope(&mut client).await;
    (client, first)
}

#[tokio::test]
async fn a_loud_topic_leaves_others_their_history_and_keeps_its_own_share() {
    let gateway = gateway(&format!("max-history = \"1MiB\"\nping-interval = 0\n{KEPT}")).await;
    let (mut listener, _) = subscribe(&gateway, "kept.loud", None).await;
    assert_eq!(listener.text().await, "in");
    let (mut client, begin) = subscribe(&gateway, "kept.quiet", None).await;
    assert_eq!(client.text().await, "in");
    let filler = "x".repeat(10_000);
    let mut last = Value::Null;
    // The room is all taken by then, and the quiet one has nothing yet.
    for n in 0..300 {
        if n >= 200 && n % 20 == 0 {
            publish(&gateway, "kept.quiet", &n.to_string()).await;
            assert_eq!(envelope(&mut client).await["data"], n.to_string());
        }
        last = publish(&gateway, "kept.loud", &filler).await;
        assert_eq!(envelope(&mut listener).await["data"], filler);
        let bytes = gateway.metric("aileron_history_bytes").await;
        assert!(bytes <= MIB as f64, "{bytes}");
    }
    assert!(gateway.metric("aileron_history_trimmed_total").await > 0.0);
    client.cut();
    let (mut client, first) = subscribe(&gateway, "kept.quiet", Some(&begin)).await;
    assert_eq!(first["recovered"], true);
    for n in [200, 220, 240, 260, 280] {
        assert_eq!(envelope(&mut client).await["data"], n.to_string());
    }
    let position = json!({"epoch": last["epoch"], "offset": last["offset"].as_u64().unwrap() - 80});
    let (mut late, first) = subscribe(&gateway, "kept.loud", Some(&position)).await;
    assert_eq!(first["recovered"], true);
    for _ in 0..80 {
        assert_eq!(envelope(&mut late).await["data"], filler);
    }
}

const TOPICS: usize = 1_000_000;
const AT_ONCE: usize = 500;
/// The default of `max-idle-topics`.
const IDLE: usize = 40_000;

/// Publishes to many topics by one push, each called like nothing before.
async fn publish_to_many(gateway: &Gateway, first: usize) {
    let topics: Vec<_> = (first..first + AT_ONCE).map(|n| format!("kept.{n}")).collect();
    let push = gateway
        .request(Method::POST, "/send")
        .header("content-type", "application/json");
    let said = answer(push.body(json!({"topic": topics, "message": "x"}).to_string())).await;
    assert_eq!(said.status, 200, "{}", said.body);
    assert_eq!(said.body.matches("\"sent\"").count(), AT_ONCE);
}

/// Whoever makes the gateway keep one topic after the other costs it a bounded number of them; a topic that is used stays,
/// and so does one whose client is away for a moment.
#[tokio::test]
async fn a_million_topics_that_nobody_uses_cost_no_more_than_the_bound() {
    let gateway = gateway(&format!("ping-interval = 0\n{KEPT}")).await;
    let (mut client, begin) = subscribe(&gateway, "kept.mine", None).await;
    assert_eq!(client.text().await, "in");
    let mut first = Value::Null;
    for topic in ["kept.unused", "kept.used"] {
        first = publish(&gateway, topic, "first").await;
    }
    let before = gateway.own_memory();
    let mut most = 0.0_f64;
    let mut client = Some(client);
    for n in (0..TOPICS).step_by(AT_ONCE) {
        publish_to_many(&gateway, n).await;
        publish(&gateway, "kept.used", "x").await;
        most = most.max(gateway.metric("aileron_idle_topics").await);
        if n + IDLE / 2 >= TOPICS
            && let Some(client) = client.take()
        {
            client.cut();
            gateway.measures("aileron_connections", 0.0).await;
            publish(&gateway, "kept.mine", "meanwhile").await;
        }
    }
    let more = gateway.own_memory().saturating_sub(before);
    let counted = gateway.metric("aileron_history_bytes").await;
    println!(
        "{TOPICS} topics, {most} of them at most at a time: {more} bytes resident more, {counted} counted"
    );
    assert_eq!(most, IDLE as f64);
    assert!(gateway.metric("aileron_idle_topics_forgotten_total").await > (TOPICS - IDLE) as f64);
    assert!(more < 96 * MIB, "{more}");
    assert!(counted <= 64.0 * MIB as f64);

    let (mut back, again) = subscribe(&gateway, "kept.mine", Some(&begin)).await;
    assert_eq!(again["recovered"], true);
    assert_eq!(envelope(&mut back).await["data"], "meanwhile");
    let recent = json!({"epoch": first["epoch"], "offset": 1500});
    let (mut back, again) = subscribe(&gateway, "kept.used", Some(&recent)).await;
    assert_eq!(again["recovered"], true);
    assert_eq!(envelope(&mut back).await["offset"], 1501);
    let (_back, again) = subscribe(&gateway, "kept.unused", Some(&first)).await;
    assert_eq!(again["recovered"], false);
}
