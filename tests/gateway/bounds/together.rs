//! All bounds at once: clients that read nothing, floods, PHP with more to do than it can, a plugin that changes; and one
//! that asks and is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::MIB;
use super::floods::{Flood, Running, deaf};
use crate::slow::{gateway, publish};
use crate::support::{Client, Fpm, Gateway, guest, put, with_version};

const VERSIONS: usize = 4;
const QUESTIONS: usize = 30;

/// Asks again and again for what takes PHP a while.
async fn keep_busy(mut client: Client, is_over: Arc<AtomicBool>) {
    while !is_over.load(Ordering::Relaxed) {
        assert_eq!(client.ask("ask:sleep:10").await, "sleep:10: 200 slept 10");
    }
}

async fn publish_on(gateway: &Gateway, is_over: &AtomicBool) {
    let message = "x".repeat(60_000);
    while !is_over.load(Ordering::Relaxed) {
        assert_eq!(publish(gateway, "news", &message).await["result"], "sent");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn whatever_others_do_a_client_gets_every_answer_in_order() {
    let fpm = Fpm::start(4).await;
    let config = format!(
        "in-flight = 2\nmax-queue = \"256KiB\"\nmax-queues = \"16MiB\"\nmax-inbound = \"16MiB\"\nslow-clients = \"drop-oldest\"\n\
         ping-interval = 0\n[upstream]\nmax-requests = 2\nmax-wait = \"30s\"\ntimeout = \"60s\"\n{}",
        fpm.upstream("frames.php")
    );
    let gateway = gateway(&config).await;
    let mut client = gateway.connect().await;
    assert_eq!(client.ask("ask:first").await, "first: 200 first");
    let before = gateway.memory();

    let is_over = Arc::new(AtomicBool::new(false));
    let slow = deaf(gateway.clients, "/ws?next;subscribe:news", 50).await;
    let floods = [Flood::Pings, Flood::Fragments, Flood::Messages];
    let mut running = Vec::new();
    for flood in floods {
        let sockets = deaf(gateway.clients, "/ws", 4).await;
        running.push(Running::begin(sockets, &flood.repeatable(), 0));
    }
    let mut busy = Vec::new();
    for _ in 0..8 {
        let client = gateway.connect().await;
        busy.push(tokio::spawn(keep_busy(client, is_over.clone())));
    }

    let asking = async {
        let mut most = before;
        for version in 1..=VERSIONS {
            let plugin = with_version(guest("events"), version);
            put(&gateway.plugin_file("events"), &plugin);
            for n in 0..QUESTIONS {
                let question = format!("{version}.{n}");
                client.send(&format!("reply:{question}")).await;
                client.send(&format!("ask:{question}")).await;
                assert_eq!(client.text().await, question);
                assert_eq!(client.text().await, format!("{question}: 200 {question}"));
                most = most.max(gateway.memory());
            }
            gateway.serves("events", &plugin).await;
        }
        is_over.store(true, Ordering::Relaxed);
        most
    };
    let (most, ()) = tokio::join!(asking, publish_on(&gateway, &is_over));
    for busy in busy {
        busy.await.unwrap();
    }
    drop((slow, running.into_iter().map(Running::end).collect::<Vec<_>>()));
    let more = most - before;
    println!("everything at once: {more} bytes resident more");
    assert!(
        gateway
            .metric("aileron_slow_clients_total{result=\"dropped\"}")
            .await
            > 0.0
    );
    assert_eq!(
        gateway
            .metric("aileron_plugin_reloads_total{result=\"loaded\"}")
            .await,
        (VERSIONS + 1) as f64
    );
    // Queues and what comes in, plugins in several versions, and what is under way.
    assert!(more < 128 * MIB, "{more} bytes");
    gateway.measures("aileron_connections", 1.0).await;
    gateway.measures("aileron_queue_bytes", 0.0).await;
    gateway.measures("aileron_inbound_bytes", 0.0).await;
    assert_eq!(client.ask("ask:last").await, "last: 200 last");
}
