//! Clients that do not read, and clients that send too much: what they cost is bounded, and nobody beside them notices.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::support::{Bare, Client, Frame, Gateway, QUICK, answer, guest};

/// A gateway with the plugin `events`, and the built-in one that publishes what is pushed.
pub(crate) async fn gateway(config: &str) -> Gateway {
    let application =
        "built-in = \"application\"\n[plugins.config.application]\nopen = false\nclose = false\n";
    Gateway::with_plugins(
        &[("events", &guest("events"))],
        &format!("{config}\n{QUICK}{application}"),
    )
    .await
}

/// The result of a push to a topic.
pub(crate) async fn publish(gateway: &Gateway, topic: &str, message: &str) -> Value {
    let push = gateway
        .request(Method::POST, "/send")
        .header("content-type", "application/json");
    let said = answer(push.body(json!({"topic": topic, "message": message}).to_string())).await;
    let mut results: Value = serde_json::from_str(&said.body).unwrap();
    results["results"][0].take()
}

const MIB: usize = 1024 * 1024;
const SLOW: usize = 300;

/// 300 clients that never read while a topic is published to at full speed, and one that does.
#[tokio::test]
async fn clients_that_never_read_cost_no_more_than_the_bound_and_disturb_nobody() {
    let gateway = gateway(
        "max-queue = \"1MiB\"\nslow-clients = \"drop-oldest\"\nmax-queues = \"64MiB\"\nping-interval = 0",
    )
    .await;
    let mut reader = gateway.connect_to("/ws?next;subscribe:news;reply:in").await;
    assert_eq!(reader.text().await, "in");
    let opening = (0..SLOW).map(|_| Bare::connect(gateway.clients, "/ws?next;subscribe:news"));
    let slow = join_all(opening).await;
    gateway.measures("aileron_connections", (SLOW + 1) as f64).await;
    let before = gateway.memory();
    let filler = "x".repeat(10_000);
    let mut most = 0.0_f64;
    // Far more than sockets and queues of all of them hold: 15 MB for each.
    for n in 0..1500 {
        let message = format!("{n}:{filler}");
        let result = publish(&gateway, "news", &message).await;
        assert_eq!(result["result"], "sent");
        assert_eq!(reader.text().await, message, "who reads gets each of them");
        if n % 50 == 0 {
            most = most.max(gateway.metric("aileron_queue_bytes").await);
        }
    }
    let more = gateway.memory().saturating_sub(before);
    println!("{SLOW} clients that never read: queues of {most} bytes at most, {more} bytes resident more");
    assert!(most <= 64.0 * MIB as f64, "{most}");
    assert!(
        gateway
            .metric("aileron_slow_clients_total{result=\"dropped\"}")
            .await
            > 1000.0
    );
    // The queues share what was published, so that it costs less than it counts; sessions hold a batch each.
    assert!(more < 128 * MIB, "{more}");
    drop(slow);
    gateway.measures("aileron_connections", 1.0).await;
    gateway.measures("aileron_queue_bytes", 0.0).await;
}

/// A client whose connection is bad, and somebody who has many connections, none of which has as much waiting.
#[tokio::test]
async fn when_queues_are_too_long_together_those_of_the_address_with_the_most_make_room() {
    const QUEUED: &str = "aileron_queue_bytes";
    const RELIEF: &str = "all queues are over max-queues";
    let mut gateway = gateway("max-queue = \"8MiB\"\nmax-queues = \"64MiB\"\nping-interval = 0").await;
    let slow = Bare::connect(gateway.clients, "/ws?next;subscribe:one").await;
    let connecting =
        (0..30).map(|_| Bare::connect_from([127, 0, 0, 2], gateway.clients, "/ws?next;subscribe:many"));
    let many = join_all(connecting).await;
    let filler = "x".repeat(100_000);
    for (topic, bytes) in [("one", 3 * MIB), ("many", 20 * MIB)] {
        while gateway.metric(QUEUED).await < bytes as f64 {
            publish(&gateway, topic, &filler).await;
        }
    }
    let file = gateway.file("aileron.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(file, config.replace("64MiB", "8MiB")).unwrap();
    gateway.process.signal("HUP");
    gateway.logged(&["SIGHUP", "configuration taken over"]).await;
    gateway
        .shows_metric("room", QUEUED, |bytes| bytes <= 8.0 * MIB as f64)
        .await;
    gateway.logged_times(5, &[RELIEF, "127.0.0.2:"]).await;
    assert_eq!(gateway.count_logged(&[RELIEF, &slow.id()]), 0);
    drop(many);
}

#[tokio::test]
async fn a_subscriber_that_is_too_slow_is_closed_with_1008_and_the_others_get_everything() {
    let mut gateway = gateway("max-queue = \"256KiB\"\nping-interval = 0").await;
    let mut reader = gateway
        .connect_to("/ws?next;subscribe:news;subscribe:closings;reply:in")
        .await;
    assert_eq!(reader.text().await, "in");
    let mut slow = gateway.connect_to("/ws?next;subscribe:news").await;
    let id = slow.id.clone();
    let filler = "x".repeat(60_000);
    let mut n = 0;
    while gateway
        .metric("aileron_slow_clients_total{result=\"closed\"}")
        .await
        == 0.0
    {
        publish(&gateway, "news", &filler).await;
        assert_eq!(reader.text().await, filler);
        n += 1;
        assert!(n < 10_000, "600 MB are more than any kernel takes");
    }
    // It reads at last: what was under way, and then why it is closed.
    loop {
        match slow.next().await {
            Frame::Text(text) => assert_eq!(text, filler),
            Frame::Close(code, reason) => {
                assert_eq!(
                    (code, reason.as_str()),
                    (1008, "too slow: more than max-queue waits")
                );
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    drop(slow);
    assert_eq!(
        reader.text().await,
        format!("{id} 1008 too slow: more than max-queue waits")
    );
    gateway.logged(&["connection closed", "code=1008", &id]).await;
}

#[tokio::test]
async fn a_client_that_sends_too_many_frames_is_closed_and_its_neighbour_goes_on() {
    let gateway = gateway("max-frames-per-second = 50").await;
    let mut neighbour = gateway.connect().await;
    for flood in ["frames", "pings"] {
        let mut client = Bare::connect(gateway.clients, "/ws").await;
        // Masked with zeros: `reply:` of nothing, or a ping.
        let one: &[u8] = match flood {
            "frames" => &[0x81, 0x80 | 6, 0, 0, 0, 0, b'r', b'e', b'p', b'l', b'y', b':'],
            _ => &[0x89, 0x80, 0, 0, 0, 0],
        };
        client.socket.write_all(&one.repeat(500)).await.unwrap();
        let (code, reason) = client.close().await;
        assert_eq!(code, 1008, "{flood}");
        assert_eq!(reason, "more than 50 frames in a second (max-frames-per-second)");
        assert_eq!(neighbour.ask("reply:still here").await, "still here");
    }
}

/// More than its share is read later, and nothing is lost.
#[tokio::test]
async fn a_client_that_sends_too_many_bytes_waits_and_its_neighbour_does_not() {
    let gateway = gateway("max-bytes-per-second = \"100KiB\"").await;
    let mut client = gateway.connect().await;
    let mut neighbour = gateway.connect().await;
    let filler = "x".repeat(100_000);
    // Three seconds' worth: the first second is free, the rest takes its time.
    for n in 0..3 {
        client.send(&format!("reply:{n}{filler}")).await;
    }
    for _ in 0..20 {
        assert_eq!(neighbour.ask("reply:quick").await, "quick");
    }
    for n in 0..3 {
        assert_eq!(client.text().await, format!("{n}{filler}"));
    }
}

/// Fragments that never make a message: they are read no faster than the limit allows, and pings between them are
/// answered, so the connection is not at rest.
#[tokio::test]
async fn a_flood_of_fragments_disturbs_nobody() {
    let gateway = gateway("max-bytes-per-second = \"64KiB\"").await;
    let mut neighbour = gateway.connect().await;
    let mut client = Bare::connect(gateway.clients, "/ws").await;
    client.socket.write_all(&[0x01, 0x80, 0, 0, 0, 0]).await.unwrap();
    let empty = [0x00, 0x80, 0, 0, 0, 0].repeat(100_000);
    let flood = tokio::spawn(async move {
        // As much as the gateway takes; the rest is refused when the test ends.
        let _ = tokio::time::timeout(Duration::from_secs(2), client.socket.write_all(&empty)).await;
        client
    });
    for _ in 0..200 {
        assert_eq!(neighbour.ask("reply:quick").await, "quick");
    }
    drop(flood.await.unwrap());
    gateway.measures("aileron_connections", 1.0).await;
}

/// A message is held in memory as far as it has come. Small ones, and pings in between, are no reason to wait less.
#[tokio::test]
async fn a_message_that_never_ends_closes_the_connection() {
    let gateway = gateway("message-timeout = \"1s\"").await;
    let mut neighbour = gateway.connect().await;
    let mut client = Bare::connect(gateway.clients, "/ws").await;
    let mut small = Bare::connect(gateway.clients, "/ws").await;
    // A text of 100 bytes that goes on (RFC 6455 section 5.4), then a ping.
    let piece = [&[0x01, 0x80 | 100, 0, 0, 0, 0][..], &[b'x'; 100]].concat();
    let next_piece = [&[0x00, 0x80 | 100, 0, 0, 0, 0][..], &[b'x'; 100]].concat();
    let ping = [0x89, 0x80, 0, 0, 0, 0];
    small.socket.write_all(&piece).await.unwrap();
    small.socket.write_all(&ping.repeat(10_000)).await.unwrap();
    client.socket.write_all(&piece).await.unwrap();
    for _ in 0..50 {
        client.socket.write_all(&next_piece).await.unwrap();
        client.socket.write_all(&ping).await.unwrap();
    }
    let (code, reason) = client.close().await;
    assert_eq!(code, 1008);
    assert_eq!(reason, "a message was not there in time (message-timeout)");
    // However little has come of it, and whatever comes in between.
    assert_eq!(small.close().await.0, 1008);
    gateway.measures("aileron_connections", 1.0).await;
    assert_eq!(neighbour.ask("reply:still here").await, "still here");
}

/// What a client has asked is answered before the gateway leaves, and the close comes behind it.
#[tokio::test]
async fn a_shutdown_answers_what_is_being_handled() {
    let fpm = crate::support::Fpm::start(4).await;
    let mut gateway = Gateway::start(&format!("[upstream]\n{}", fpm.upstream("frames.php"))).await;
    let mut busy = gateway.connect().await;
    let mut idle = gateway.connect().await;
    busy.send("sleep:800").await;
    fpm.has_connections(1).await;
    gateway.process.signal("TERM");
    assert!(matches!(idle.next().await, Frame::Close(1001, _)));
    assert_eq!(busy.text().await, "slept 800");
    assert_eq!(
        busy.next().await,
        Frame::Close(1001, "the gateway is shutting down".to_owned())
    );
    drop((busy, idle));
    assert_eq!(gateway.process.exit_code().await, Some(0));
}

/// Not everyone is sent away in the same moment, and the log says how far it is.
#[tokio::test]
async fn a_shutdown_is_spread_and_narrated() {
    let mut gateway = Gateway::start("grace = \"4s\"").await;
    let mut clients = Vec::new();
    for _ in 0..300 {
        clients.push(gateway.connect().await);
    }
    let mut stubborn: Vec<Client> = clients.drain(..1).collect();
    gateway.process.signal("TERM");
    join_all(clients.iter_mut().map(Client::next)).await;
    drop(clients);
    // One that never answers the close is waited for, and then cut off.
    gateway.logged(&["shutting down", "connections=1"]).await;
    assert_eq!(gateway.process.exit_code().await, Some(0));
    drop(stubborn.pop());
}
