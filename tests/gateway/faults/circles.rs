//! Plugins whose answer to a call asks for the next call, for ever: they are stopped, and nobody else waits for them.

use futures_util::future::join_all;
use tokio::time::timeout;

use crate::support::{Client, Gateway, PATIENCE, QUICK, free_port, guest};

/// More than there are threads.
const CIRCLES: usize = 8;
const FAILED: &str = "aileron_plugin_failures_total{plugin=\"events\",cause=\"calls\"}";

/// A gateway whose PHP is not there: the circuit opens at once, and no request waits any more. No close event finds room.
async fn gateway() -> Gateway {
    let config = format!(
        "[upstream]\nurl = \"http://127.0.0.1:{}/\"\nretries = 0\nbreaker-failures = 1\nbreaker-pause = \"60s\"\n\
         [closings]\nmax-waiting = 0\n{QUICK}",
        free_port()
    );
    let gateway = Gateway::with_plugins(&[("events", &guest("events"))], &config).await;
    let mut client = gateway.connect_to("/ws?next").await;
    client.send("ask:first").await;
    assert!(client.text().await.starts_with("first: unreachable"));
    gateway
        .measures("aileron_upstream_circuit{upstream=\"default\"}", 2.0)
        .await;
    gateway
}

/// So many have been stopped, and this client is answered.
async fn are_stopped(gateway: &mut Gateway, neighbour: &mut Client, times: usize) {
    let stopped = timeout(PATIENCE, gateway.measures(FAILED, times as f64)).await;
    assert!(stopped.is_ok(), "nobody is answered any more");
    assert_eq!(neighbour.ask("reply:here").await, "here");
    gateway
        .logged(&["ERROR", "plugin failed", "one event has led to 100 calls"])
        .await;
}

#[tokio::test]
async fn a_report_that_asks_for_a_report_ends_and_the_connection_goes_on() {
    let mut gateway = gateway().await;
    let mut neighbour = gateway.connect_to("/ws?next").await;
    let mut clients = join_all((0..CIRCLES).map(|_| gateway.connect_to("/ws?next"))).await;
    for client in &mut clients {
        client.send("again:report;reply:the rest is done").await;
    }
    are_stopped(&mut gateway, &mut neighbour, CIRCLES).await;
    for client in &mut clients {
        assert_eq!(client.text().await, "the rest is done");
        assert_eq!(client.ask("reply:still here").await, "still here");
    }
}

#[tokio::test]
async fn an_answer_that_asks_again_while_the_circuit_is_open_ends_and_the_connection_goes_on() {
    let mut gateway = gateway().await;
    let mut neighbour = gateway.connect_to("/ws?next").await;
    let mut clients = join_all((0..CIRCLES).map(|_| gateway.connect_to("/ws?next"))).await;
    for client in &mut clients {
        client.send("again:ask").await;
    }
    are_stopped(&mut gateway, &mut neighbour, CIRCLES).await;
    for client in &mut clients {
        assert_eq!(client.ask("reply:still here").await, "still here");
    }
}

#[tokio::test]
async fn close_events_that_go_round_in_circles_end() {
    let mut gateway = gateway().await;
    let mut neighbour = gateway.connect_to("/ws?next").await;
    for (n, way) in ["report", "ask"].into_iter().enumerate() {
        let path = format!("/ws?next;set:again={way};reply:in");
        let mut clients = join_all((0..CIRCLES).map(|_| gateway.connect_to(&path))).await;
        for client in &mut clients {
            assert_eq!(client.text().await, "in");
        }
        for client in clients {
            client.cut();
        }
        are_stopped(&mut gateway, &mut neighbour, (n + 1) * CIRCLES).await;
    }
}
