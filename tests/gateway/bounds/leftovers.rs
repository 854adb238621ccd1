//! A connection is as small after a large publication as it was before.

use futures_util::future::join_all;
use tempfile::TempDir;

use crate::slow::publish;
use crate::support::{Bare, Gateway, QUICK, command, guest};

const CLIENTS: usize = 300;
const ROUNDS: usize = 5;

/// A gateway whose C library gives memory back at once, so that what is measured is what is held.
async fn frugal() -> Gateway {
    let dir = TempDir::new().unwrap();
    std::fs::create_dir(dir.path().join("plugins")).unwrap();
    std::fs::write(dir.path().join("plugins/events.wasm"), guest("events")).unwrap();
    let config = format!(
        "listen = \"127.0.0.1:0\"\nping-interval = 0\n{QUICK}built-in = \"application\"\n\
         [plugins.config.application]\nopen = false\nclose = false\n"
    );
    std::fs::write(dir.path().join("aileron.toml"), config).unwrap();
    let mut command = command(dir.path());
    for (name, value) in [
        ("MALLOC_ARENA_MAX", "1"),
        ("MALLOC_MMAP_THRESHOLD_", "65536"),
        ("MALLOC_TRIM_THRESHOLD_", "65536"),
        ("MALLOC_TOP_PAD_", "0"),
    ] {
        command.env(name, value);
    }
    Gateway::start_by(command, dir).await
}

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

async fn connect(gateway: &Gateway) -> Vec<Bare> {
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(Bare::connect(gateway.clients, "/ws?next;subscribe:news").await);
    }
    gateway.measures("aileron_connections", CLIENTS as f64).await;
    clients
}

/// What keeps a buffer of each connection's own, as large as its largest frame, would keep a megabyte of each.
#[tokio::test]
async fn a_large_publication_leaves_no_memory_with_those_who_have_read_it() {
    let gateway = frugal().await;
    gateway.connect().await.ask("reply:first").await;
    let empty = gateway.own_memory();
    let mut clients = connect(&gateway).await;
    let idle = gateway.own_memory().saturating_sub(empty) / CLIENTS;
    let mut more = Vec::new();
    // Each time with clients that have received nothing yet. What a publication costs the plugin of a thread once is not a
    // cost of connections, so the best round counts.
    for _ in 0..ROUNDS {
        let before = gateway.own_memory();
        publish_to(&gateway, &mut clients).await;
        more.push(gateway.own_memory().saturating_sub(before) / CLIENTS);
        drop(clients);
        gateway.measures("aileron_connections", 0.0).await;
        clients = connect(&gateway).await;
    }
    println!("an idle connection: {idle} bytes; after each publication of a megabyte {more:?} bytes more");
    // What a connection keeps it keeps each time; a worker may still be about to let something go.
    let least = more.into_iter().min().unwrap();
    assert!(least <= idle / 10, "{least} bytes more than {idle}");
}
