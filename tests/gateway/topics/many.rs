//! Many subscribers of one topic, and many topics.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::idle::raise_descriptor_limit;
use crate::support::{Bare, Fpm, Gateway, answer};

const SUBSCRIBERS: usize = 10_000;

/// PHP's answer to `open` is to subscribe the client.
const SUBSCRIBE: &str = "/ws?wish=%7B%22headers%22%3A%5B%22Aileron-Subscribe%3A%20news%22%5D%7D";

/// PHP subscribes each of them as it connects, and one push reaches them all.
#[tokio::test]
async fn one_push_reaches_ten_thousand_subscribers() {
    raise_descriptor_limit();
    let fpm = Fpm::start(8).await;
    // Bare sockets answer no pings.
    let config = format!(
        "ping-interval = 0\n[upstream]\n{}[plugins]\nbuilt-in = \"application\"\n[log]\nfilter = \"warn,aileron=info\"\n",
        fpm.upstream("application.php")
    );
    let gateway = Gateway::start(&config).await;
    let mut sockets = Vec::with_capacity(SUBSCRIBERS);
    for _ in 0..SUBSCRIBERS / 50 {
        let mut opening = Vec::new();
        for _ in 0..50 {
            opening.push(Bare::connect(gateway.clients, SUBSCRIBE));
        }
        sockets.extend(futures_util::future::join_all(opening).await);
    }
    assert_eq!(gateway.metric("aileron_connections").await, SUBSCRIBERS as f64);

    for round in 0..3 {
        let message = format!("message {round}");
        let mut reading = JoinSet::new();
        for mut socket in sockets.drain(..) {
            let expected = message.clone();
            reading.spawn(async move {
                assert_eq!(socket.text().await, expected);
                (socket, Instant::now())
            });
        }
        let sent = Instant::now();
        let push = gateway.request(reqwest::Method::POST, "/send");
        let push = push.header("content-type", "application/json");
        let said = answer(push.body(format!(r#"{{"topic":"news","message":"{message}"}}"#))).await;
        let answered = sent.elapsed();
        let result =
            format!(r#"{{"topic":"news","result":"sent","recipients":{SUBSCRIBERS},"congested":0}}"#);
        assert_eq!(said.body.trim_end(), format!(r#"{{"results":[{result}]}}"#));
        let mut times = Vec::with_capacity(SUBSCRIBERS);
        while let Some(read) = reading.join_next().await {
            let (socket, at) = read.unwrap();
            sockets.push(socket);
            times.push(at.duration_since(sent));
        }
        times.sort_unstable();
        println!(
            "one push to {SUBSCRIBERS} subscribers: answered after {answered:?}; delivered to half of them after {:?}, \
             to the last after {:?}",
            times[SUBSCRIBERS / 2],
            times.last().unwrap_or(&Duration::ZERO)
        );
    }
}
