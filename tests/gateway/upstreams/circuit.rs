//! An application that is not there is left alone for a while.

use std::time::{Duration, Instant};

use super::guarded::Guarded;
use crate::support::{Client, Fpm, Gateway, PATIENCE};

const CIRCUIT: &str = "aileron_upstream_circuit{upstream=\"default\"}";
const REFUSED: &str = "aileron_upstream_refusals_total{upstream=\"default\",key=\"breaker\"}";
const UNREACHABLE: &str = "aileron_upstream_failures_total{upstream=\"default\",kind=\"unreachable\"}";

/// Sends frame after frame until something is logged.
async fn send_until_logged(gateway: &Gateway, client: &mut Client, text: &str) {
    let start = Instant::now();
    while gateway.count_logged(&[text]) == 0 {
        assert!(start.elapsed() < PATIENCE, "{text:?} is not logged");
        client.send("again").await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_circuit_opens_refuses_at_once_probes_and_closes() {
    let mut php = Guarded::start(2).await;
    let other = Fpm::start(1).await;
    let config = format!(
        "[upstream]\nretries = 0\nbreaker-failures = 3\nbreaker-pause = \"200ms\"\n{}\
         [upstreams.other]\n{}[[route]]\npath = \"/other\"\nupstream = \"other\"\n",
        php.upstream(),
        other.upstream("frames.php")
    );
    let mut gateway = Gateway::start(&config).await;
    let mut client = gateway.connect().await;
    let mut beside = gateway.connect_to("/other").await;
    assert_eq!(client.ask("before").await, "before");

    php.fpm.stop().await;
    for _ in 0..3 {
        client.send("lost").await;
    }
    gateway
        .logged(&[
            "ERROR",
            "circuit opened",
            "breaker-failures",
            "upstream=\"default\"",
            "cannot connect",
        ])
        .await;
    assert_eq!(gateway.metric(CIRCUIT).await, 2.0);

    // It is asked again after each pause, by one request; all others are refused without asking.
    send_until_logged(&gateway, &mut client, "circuit still open: the probe failed").await;
    gateway
        .logged(&[
            "no answer: overloaded: the circuit of the upstream `default` is open for",
            "(breaker-failures, breaker-pause); the last failure was unreachable: cannot connect",
            &client.id,
        ])
        .await;
    assert!(gateway.metric(REFUSED).await >= 1.0);
    assert_eq!(beside.ask("hello").await, "hello");

    php.fpm.restart().await;
    send_until_logged(&gateway, &mut client, "circuit closed").await;
    assert_eq!(gateway.metric(CIRCUIT).await, 0.0);
    php.has_noted("again").await;
}

/// While the circuit is long open, nothing is tried.
#[tokio::test]
async fn while_the_circuit_is_open_nothing_is_sent() {
    let mut php = Guarded::start(2).await;
    let config = format!(
        "[upstream]\nretries = 0\nbreaker-failures = 1\nbreaker-pause = \"10m\"\n{}",
        php.upstream()
    );
    let mut gateway = Gateway::start(&config).await;
    let mut client = gateway.connect().await;
    php.fpm.stop().await;
    client.send("lost").await;
    gateway.logged(&["circuit opened"]).await;
    php.fpm.restart().await;
    for _ in 0..10 {
        client.send("refused").await;
    }
    gateway.measures(REFUSED, 10.0).await;
    client.is_quiet().await;
    assert_eq!(php.notes(), [""; 0]);
}

#[tokio::test]
async fn without_a_circuit_breaker_each_request_is_tried() {
    let mut php = Guarded::start(2).await;
    let config = format!(
        "[upstream]\nretries = 0\nbreaker-failures = 0\n{}",
        php.upstream()
    );
    let gateway = Gateway::start(&config).await;
    let mut client = gateway.connect().await;
    php.fpm.stop().await;
    for _ in 0..50 {
        client.send("lost").await;
    }
    gateway.measures(UNREACHABLE, 50.0).await;
    php.fpm.restart().await;
    assert_eq!(client.ask("after").await, "after");
}

/// PHP dies of what one client sends, on as many connections as it likes. That is no reason to refuse the others.
#[tokio::test]
async fn a_client_whose_messages_kill_php_opens_no_circuit_for_others() {
    let fpm = Fpm::start(2).await;
    let upstream = fpm.upstream("frames.php");
    let gateway = Gateway::start(&format!("[upstream]\nbreaker-failures = 5\n{upstream}")).await;
    let mut killers = Vec::new();
    for _ in 0..25 {
        killers.push(gateway.connect().await);
    }
    for killer in &mut killers {
        killer.send("die").await;
    }
    gateway.measures(UNREACHABLE, 25.0).await;
    assert_eq!(gateway.metric(CIRCUIT).await, 0.0);
    assert_eq!(gateway.count_logged(&["circuit opened"]), 0);

    // From as many places as it takes, it is PHP that is ill.
    let addresses = (0..5).map(|n| format!("192.0.2.{n}")).collect::<Vec<_>>();
    for address in &addresses {
        let mut client = Client::try_connect(gateway.clients, "/ws", &[("x-forwarded-for", address)])
            .await
            .unwrap();
        client.send("die").await;
        killers.push(client);
    }
    gateway.logged_times(1, &["circuit opened"]).await;
}
