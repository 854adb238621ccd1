//! A connection is as small after a large publication as it was before.

use futures_util::future::join_all;

use crate::slow::{gateway, publish};
use crate::support::{Bare, Gateway};

const CLIENTS: usize = 300;
const ROUNDS: usize = 5;

/// Publishes to all of them, and waits until they have it.
async fn publish_to(gateway: &Gateway, clients: &mut [Bare]) {
    let message = "x".repeat(1_000_000);
    let result = publish(gateway, "news", &message).await;
    assert_eq!(result["recipients"], clients.len());
    let read = clients.iter_mut().map(async |client| {
        assert!(client.text().await == message.as_bytes());
    });
    join_all(read).await;
    gateway.measures("aileron_queue_bytes", 0.0).await;
}

/// What keeps a buffer of each connection's own, as large as its largest frame, would keep a megabyte of each.
#[tokio::test]
async fn a_large_publication_leaves_no_memory_with_those_who_have_read_it() {
    let gateway = gateway("ping-interval = 0").await;
    let connect = |n| join_all((0..n).map(|_| Bare::connect(gateway.clients, "/ws?next;subscribe:news")));
    // What the first publications cost once is no cost of connections.
    let mut first = connect(1).await;
    for _ in 0..ROUNDS {
        publish_to(&gateway, &mut first).await;
    }
    drop(first);
    gateway.measures("aileron_connections", 0.0).await;
    let empty = gateway.own_memory();
    let mut clients = connect(CLIENTS).await;
    gateway.measures("aileron_connections", CLIENTS as f64).await;
    let before = gateway.own_memory();
    let idle = before.saturating_sub(empty) / CLIENTS;
    let mut after = Vec::new();
    for _ in 0..ROUNDS {
        publish_to(&gateway, &mut clients[..]).await;
        after.push(gateway.own_memory());
    }
    let more: Vec<_> = after
        .iter()
        .map(|after| after.saturating_sub(before) / CLIENTS)
        .collect();
    println!("an idle connection: {idle} bytes; after each publication of a megabyte {more:?} bytes more");
    // What is left behind once stays; what varies is the allocator's.
    let least = more.into_iter().min().unwrap();
    assert!(least <= idle / 10, "{least} bytes more than {idle}");
}
