//! No client has a gap that it is not told of, and none is sent its own message because it was away for a moment.

use serde_json::Value;

use super::resume::envelope;
use super::with_events;
use crate::slow::{gateway, publish};
use crate::support::{Fpm, Frame, Gateway};

const KEPT: &str = "[[topic]]\nname = \"kept.*\"\nhistory = 1000\nhistory-time = \"1m\"\n";

async fn slow_clients(gateway: &Gateway, result: &str) -> f64 {
    let name = format!("aileron_slow_clients_total{{result=\"{result}\"}}");
    gateway.metric(&name).await
}

/// Where the oldest publications make room, those of a topic with a history stay. What fills a queue alone closes it.
#[tokio::test]
async fn a_slow_client_gets_all_of_a_topic_with_a_history_or_is_closed() {
    let gateway = gateway(&format!(
        "max-queue = \"1MiB\"\nslow-clients = \"drop-oldest\"\nping-interval = 0\n{KEPT}"
    ))
    .await;
    let path = "/ws?next;subscribe:kept.1;subscribe:news;reply:in";
    let mut reader = gateway.connect_to(path).await;
    let mut slow = gateway.connect_to(path).await;
    for client in [&mut reader, &mut slow] {
        assert_eq!(envelope(client).await["subscribed"], true);
        assert_eq!(client.text().await, "in");
    }
    let filler = "x".repeat(60_000);
    let mut kept = 0;
    let mut seen = 0;
    // First its queue has some of the topic with a history, then more of the other than there is room for.
    while gateway.metric("aileron_queue_bytes").await < 200_000.0 {
        kept += 1;
        publish(&gateway, "kept.1", &filler).await;
        assert_eq!(envelope(&mut reader).await["offset"], kept);
        assert!(kept < 1000, "60 MB are more than any kernel takes");
    }
    while slow_clients(&gateway, "dropped").await < 40.0 {
        publish(&gateway, "news", &filler).await;
        assert_eq!(reader.text().await, filler);
    }
    for (topic, message) in [("kept.1", &*filler), ("news", "end")] {
        publish(&gateway, topic, message).await;
        assert!(reader.text().await.contains(message));
    }
    kept += 1;
    loop {
        let text = slow.text().await;
        if text == "end" {
            break;
        }
        if text.starts_with('{') {
            seen += 1;
            let envelope: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(envelope["offset"], seen, "there is no gap");
        }
    }
    assert_eq!(seen, kept);
    assert_eq!(slow_clients(&gateway, "closed").await, 0.0);

    while slow_clients(&gateway, "closed").await == 0.0 {
        kept += 1;
        publish(&gateway, "kept.1", &filler).await;
        assert_eq!(envelope(&mut reader).await["offset"], kept);
    }
    let (code, reason) = loop {
        match slow.next().await {
            Frame::Text(text) => {
                seen += 1;
                let envelope: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(envelope["offset"], seen, "there is no gap");
            }
            Frame::Close(code, reason) => break (code, reason),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(code, 1008);
    assert!(reason.contains("resume"), "{reason}");
    assert!(seen < kept);
}

/// Its name, its epoch, and how to come back as the one that it was.
fn position(first: &Value) -> String {
    let [epoch, client] = ["epoch", "client"].map(|name| first[name].as_str().unwrap());
    format!("resume=kept.1:{epoch}:{}&resume-as={client}", first["offset"])
}

#[tokio::test]
async fn who_was_left_out_of_a_message_is_left_out_when_it_resumes() {
    let gateway = with_events(KEPT).await;
    let path = "/ws?next;subscribe:kept.1;reply:in";
    let mut other = gateway.connect_to(path).await;
    envelope(&mut other).await;
    assert_eq!(other.text().await, "in");
    let mut client = gateway.connect_to(path).await;
    let first = envelope(&mut client).await;
    assert_eq!(client.text().await, "in");
    client.send("others:kept.1=own;reply:done").await;
    assert_eq!(client.text().await, "done");
    client.cut();
    other.send("publish:kept.1=news").await;
    for expected in ["own", "news"] {
        assert_eq!(envelope(&mut other).await["data"], expected);
    }

    // Twice: what it was called stays, however often it comes back without having seen anything new.
    for _ in 0..2 {
        let mut client = gateway.connect_to(&format!("{path}&{}", position(&first))).await;
        let again = envelope(&mut client).await;
        assert_eq!(
            (&again["recovered"], &again["client"]),
            (&true.into(), &first["client"])
        );
        assert_eq!(envelope(&mut client).await["data"], "news");
        assert!(client.text().await.starts_with("in"));
        client.send("others:kept.1=own again;reply:done").await;
        assert_eq!(client.text().await, "done");
        assert_eq!(envelope(&mut other).await["data"], "own again");
        client.cut();
    }
    // The same connection may subscribe later.
    let mut client = gateway
        .connect_to(&format!("/ws?next;reply:in&{}", position(&first)))
        .await;
    assert!(client.text().await.starts_with("in"));
    client.send("others:kept.1=own;subscribe:kept.1;reply:done").await;
    assert_eq!(envelope(&mut client).await["recovered"], true);
    assert_eq!(envelope(&mut client).await["data"], "news");
    assert_eq!(client.text().await, "done");
    // Whoever it does not concern gets everything.
    let begin = format!("resume=kept.1:{}:0", first["epoch"].as_str().unwrap());
    let mut late = gateway.connect_to(&format!("{path}&{begin}")).await;
    envelope(&mut late).await;
    for expected in ["own", "news", "own again", "own again", "own"] {
        assert_eq!(envelope(&mut late).await["data"], expected);
    }
}

/// PHP's answer to `open` is to subscribe the client.
const SUBSCRIBE: &str = "/ws?wish=%7B%22headers%22%3A%5B%22Aileron-Subscribe%3A%20kept.1%22%5D%7D";

#[tokio::test]
async fn who_is_cut_while_php_handles_its_message_is_not_sent_it_afterwards() {
    let fpm = Fpm::start(2).await;
    let config = format!(
        "{KEPT}[upstream]\n{}[plugins]\nbuilt-in = \"application\"\n",
        fpm.upstream("application.php")
    );
    let gateway = Gateway::start(&config).await;
    let mut other = gateway.connect_to(SUBSCRIBE).await;
    envelope(&mut other).await;
    let mut client = gateway.connect_to(SUBSCRIBE).await;
    let first = envelope(&mut client).await;
    let headers = ["Aileron-Publish: kept.1", "Aileron-Except: self"];
    let wish = serde_json::json!({"headers": headers, "body": "own", "sleep": 1000});
    client.send(&wish.to_string()).await;
    fpm.has_connections(1).await;
    client.cut();
    gateway.measures("aileron_connections", 1.0).await;
    assert_eq!(envelope(&mut other).await["data"], "own");
    assert_eq!(gateway.push("topic=kept.1&message=news").await.status, 200);
    assert_eq!(envelope(&mut other).await["data"], "news");

    let mut client = gateway
        .connect_to(&format!("{SUBSCRIBE}&{}", position(&first)))
        .await;
    assert_eq!(envelope(&mut client).await["recovered"], true);
    assert_eq!(envelope(&mut client).await["data"], "news");
}
