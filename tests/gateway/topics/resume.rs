//! What was published while a client was away: it comes back with its position and gets what it missed, once and in order.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinSet;

use super::with_events;
use crate::support::{Bare, Client, Fpm, Gateway, answer};

const KEPT: &str = "[[topic]]\nname = \"kept.*\"\nhistory = 5\nhistory-time = \"1m\"\n";

pub(super) async fn envelope(client: &mut Client) -> Value {
    serde_json::from_str(&client.text().await).unwrap()
}

async fn connect(gateway: &Gateway, position: Option<&str>) -> Client {
    let resume = position
        .map(|at| format!("&resume=kept.1:{at}"))
        .unwrap_or_default();
    gateway
        .connect_to(&format!("/ws?next;subscribe:kept.1;reply:in{resume}"))
        .await
}

#[tokio::test]
async fn a_client_resumes_where_it_left_off_or_is_told_that_it_cannot() {
    let gateway = with_events(KEPT).await;
    let mut publisher = gateway.connect().await;
    let mut client = connect(&gateway, None).await;
    let first = envelope(&mut client).await;
    assert_eq!(
        (&first["subscribed"], &first["offset"]),
        (&true.into(), &0.into())
    );
    let epoch = first["epoch"].as_str().unwrap().to_owned();
    publisher
        .send("publish:kept.1=one;publish:kept.1=two \"quoted\"")
        .await;
    // The plugin sees the whole query, so what it replies has the position too.
    assert!(client.text().await.starts_with("in"));
    let one = envelope(&mut client).await;
    assert_eq!(
        (&one["data"], &one["offset"], &one["topic"]),
        (&"one".into(), &1.into(), &"kept.1".into())
    );
    assert_eq!(envelope(&mut client).await["data"], "two \"quoted\"");
    client.cut();

    publisher.send("publish:kept.1=three;publish:kept.1=four").await;
    // Answered when both are published.
    publisher.ask("count:kept.1").await;
    let mut client = connect(&gateway, Some(&format!("{epoch}:2"))).await;
    let first = envelope(&mut client).await;
    assert_eq!((&first["recovered"], &first["offset"]), (&true.into(), &2.into()));
    assert_eq!(envelope(&mut client).await["data"], "three");
    assert_eq!(envelope(&mut client).await["data"], "four");
    publisher.send("publish:kept.1=five").await;
    assert!(client.text().await.starts_with("in"));
    assert_eq!(envelope(&mut client).await["data"], "five");

    publisher
        .send("publish:kept.1=6;publish:kept.1=7;publish:kept.1=8")
        .await;
    for n in 6..=8 {
        assert_eq!(envelope(&mut client).await["data"], n.to_string());
    }
    for (position, recovered) in [
        (format!("{epoch}:3"), true),
        (format!("{epoch}:2"), false),
        ("0-0:8".to_owned(), false),
    ] {
        let mut late = connect(&gateway, Some(&position)).await;
        assert_eq!(envelope(&mut late).await["recovered"], recovered, "{position}");
    }
}

const CLIENTS: usize = 1000;
const MESSAGES: usize = 800;
/// A hundred a second.
const PACE: Duration = Duration::from_millis(10);

/// What the thousand read of an envelope.
#[derive(serde::Deserialize)]
struct Envelope<'a> {
    epoch: &'a str,
    offset: u64,
    data: Option<&'a str>,
    recovered: Option<bool>,
}

/// One of the thousand: it is cut every few seconds, comes back, and sees everything once and in order. Bare sockets: the
/// machine is there for the gateway.
async fn follow(address: std::net::SocketAddr) -> usize {
    let (mut position, mut next, mut cuts) = (String::new(), 1, 0);
    loop {
        let mut socket = Bare::connect(address, &format!("{SUBSCRIBE}{position}")).await;
        let cut = Instant::now() + Duration::from_millis(fastrand::u64(2000..5000));
        while let Ok(frame) = tokio::time::timeout_at(cut.into(), socket.text()).await {
            let envelope: Envelope<'_> = serde_json::from_slice(&frame).unwrap();
            assert_ne!(
                envelope.recovered,
                Some(false),
                "{}",
                String::from_utf8_lossy(&frame)
            );
            position = format!("&resume=kept.all:{}:{}", envelope.epoch, envelope.offset);
            if let Some(data) = envelope.data {
                assert_eq!(data, format!("message {next}"));
                next += 1;
                if next > MESSAGES {
                    return cuts;
                }
            }
        }
        drop(socket);
        cuts += 1;
    }
}

/// PHP's answer to `open` is to subscribe the client.
const SUBSCRIBE: &str = "/ws?wish=%7B%22headers%22%3A%5B%22Aileron-Subscribe%3A%20kept.all%22%5D%7D";

/// Publishes at its pace, from a thread of its own, and gives the time that it took.
fn publish(gateway: &Gateway) -> Duration {
    let requests: Vec<_> = (1..=MESSAGES)
        .map(|n| {
            let push = gateway.request(reqwest::Method::POST, "/send");
            let push = push.header("content-type", "application/x-www-form-urlencoded");
            push.body(format!("topic=kept.all&message=message+{n}"))
        })
        .collect();
    let publishing = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut due = tokio::time::interval(PACE);
            let began = Instant::now();
            for request in requests {
                due.tick().await;
                let said = answer(request).await;
                assert_eq!(said.status, 200, "{said:?}");
            }
            began.elapsed()
        })
    });
    publishing.join().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_that_are_cut_again_and_again_get_every_message_once_and_in_order() {
    crate::idle::raise_descriptor_limit();
    let fpm = Fpm::start(8).await;
    let config = format!(
        "ping-interval = 0\n[upstream]\n{}[plugins]\nbuilt-in = \"application\"\n\
         [log]\nfilter = \"warn,aileron=info,aileron::session=warn\"\n\
         [[topic]]\nname = \"kept.*\"\nhistory = 1000\nhistory-time = \"1m\"\n",
        fpm.upstream("application.php")
    );
    let gateway = Gateway::start(&config).await;
    let mut following = JoinSet::new();
    for _ in 0..CLIENTS {
        following.spawn(follow(gateway.clients));
    }
    gateway.measures("aileron_connections", CLIENTS as f64).await;
    let took = tokio::task::block_in_place(|| publish(&gateway));
    let mut cuts = 0;
    while let Some(followed) = following.join_next().await {
        cuts += followed.unwrap();
    }
    println!("{CLIENTS} clients, cut {cuts} times, got all of {MESSAGES} messages published within {took:?}");
    assert!(cuts > CLIENTS, "only {cuts} cuts");
}
