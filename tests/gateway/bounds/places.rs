//! How many requests PHP has at a time is bounded by `max-requests`. A client that reads nothing takes none of these places
//! away from the others for longer than PHP itself does.

use futures_util::future::join_all;

use super::{MIB, publish_until};
use crate::slow::gateway;
use crate::support::{Bare, eventually};
use crate::upstreams::guarded::Guarded;

const PLACES: usize = 4;
const UNDER_WAY: &str = "aileron_upstream_under_way{upstream=\"default\"}";
const QUEUES: &str = "aileron_queue_bytes";

/// Four clients hold all places when they stop to read. Their sockets are full when PHP answers. Whatever waits for the
/// socket before it takes the answer keeps the place, and nobody else gets one until the client is given up.
async fn blocked_readers_hold_no_places(config: &str, queue: usize, is_full: impl Fn(u64, f64) -> bool) {
    let php = Guarded::start(2 * PLACES).await;
    let config = format!(
        "{config}\nmax-queue = {queue}\nping-interval = 0\n[upstream]\nmax-requests = {PLACES}\ntimeout = \"60s\"\n{}",
        php.fpm.upstream("parting.php")
    );
    let gateway = gateway(&config).await;
    let mut neighbour = gateway.connect().await;
    assert_eq!(neighbour.ask("ask:first").await, "first: 200 first (5)");
    let opening = (0..PLACES).map(|_| Bare::connect(gateway.clients, "/ws?next;subscribe:news"));
    let mut blocked = join_all(opening).await;
    for client in &mut blocked {
        client.send(0x81, b"ask:hold").await;
    }
    eventually("all places taken", || {
        (php.count("- begin hold") == PLACES).then_some(())
    })
    .await;
    publish_until(&gateway, async |result| {
        let congested = result["congested"].as_u64().unwrap();
        is_full(congested, gateway.metric(QUEUES).await)
    })
    .await;
    assert_eq!(gateway.metric(UNDER_WAY).await, PLACES as f64);
    php.let_go();
    for n in 10..30 {
        assert_eq!(
            neighbour.ask(&format!("ask:{n}")).await,
            format!("{n}: 200 {n} (2)")
        );
    }
    gateway.measures(UNDER_WAY, 0.0).await;
    // They are still there, and still read nothing.
    assert_eq!(gateway.metric("aileron_connections").await, (PLACES + 1) as f64);
    assert_eq!(
        gateway
            .metric("aileron_slow_clients_total{result=\"closed\"}")
            .await,
        0.0
    );
    drop(blocked);
    gateway.measures("aileron_connections", 1.0).await;
    gateway.measures(QUEUES, 0.0).await;
    assert_eq!(neighbour.ask("ask:last").await, "last: 200 last (4)");
}

/// When three quarters of what all queues may hold are used, none of the four is empty, and none is full yet: their sockets
/// take much the same.
#[tokio::test]
async fn clients_that_read_nothing_hold_no_place_of_php() {
    let queue = 32 * MIB;
    let config = "slow-clients = \"close\"";
    blocked_readers_hold_no_places(config, queue, |_, queues| {
        queues > (3 * queue + 256 * 1024) as f64
    })
    .await;
}

#[tokio::test]
async fn clients_that_read_nothing_and_miss_publications_hold_no_place_of_php() {
    let config = "slow-clients = \"skip\"";
    blocked_readers_hold_no_places(config, MIB, |congested, _| congested == PLACES as u64).await;
}
