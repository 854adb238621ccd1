//! What a signal does: clients are told, the end is orderly and soon.

use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::support::{Client, Fpm, Frame, Gateway};
use crate::upstreams::guarded::Guarded;

#[tokio::test]
async fn clients_are_told_and_it_ends_in_order() {
    for signal in ["TERM", "INT", "QUIT"] {
        let fpm = Fpm::start(2).await;
        let config = format!(
            "grace = \"8s\"\n[upstream]\ntimeout = \"1m\"\n{}",
            fpm.upstream("frames.php")
        );
        let mut gateway = Gateway::start(&config).await;
        let mut idle = gateway.connect().await;
        // One whose answer PHP will not give in time is not waited for.
        let mut busy = gateway.connect().await;
        busy.send("sleep:30000").await;
        // One that takes a good part of the grace period is.
        let mut slow = gateway.connect().await;
        slow.send("sleep:3000").await;
        fpm.has_connections(2).await;
        let start = Instant::now();
        gateway.process.signal(signal);
        assert!(matches!(slow.next().await, Frame::Text(_)), "answered");
        for client in [&mut idle, &mut slow, &mut busy] {
            let goodbye = Frame::Close(1001, "the gateway is shutting down".to_owned());
            assert_eq!(client.next().await, goodbye);
            assert_eq!(client.next().await, Frame::End);
        }
        assert_eq!(gateway.process.exit_code().await, Some(0));
        assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
        gateway.logged(&["shutting down", &format!("SIG{signal}")]).await;
        gateway.logged(&["all connections are closed"]).await;
    }
}

/// A peer that does not answer the close frame is waited for, but not for long.
#[tokio::test]
async fn a_client_that_does_not_answer_does_not_hold_up_the_end() {
    let mut gateway = Gateway::start("").await;
    let client = gateway.connect().await;
    let start = Instant::now();
    gateway.process.signal("TERM");
    assert_eq!(gateway.process.exit_code().await, Some(0));
    assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
    drop(client);
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut gateway = Gateway::start("").await;
    // It does not read, so it does not answer the close frame.
    let client = gateway.connect().await;
    let start = Instant::now();
    gateway.process.signal("TERM");
    gateway.logged(&["shutting down", "connections=1"]).await;
    gateway.process.signal("TERM");
    assert_eq!(gateway.process.exit_code().await, Some(1));
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    gateway.logged(&["second signal"]).await;
    drop(client);
}

/// A socket that has not even asked for anything is nobody to wait for.
#[tokio::test]
async fn a_connection_without_a_request_does_not_hold_up_the_end() {
    let mut gateway = Gateway::start("").await;
    let mut socket = tokio::net::TcpStream::connect(gateway.clients).await.unwrap();
    assert_eq!(gateway.get("/live").await.status, 200);
    let start = Instant::now();
    gateway.process.signal("TERM");
    assert_eq!(gateway.process.exit_code().await, Some(0));
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    assert!(matches!(socket.read(&mut [0; 8]).await, Ok(0) | Err(_)));
}

/// By these, other servers reopen their logs or replace themselves.
#[tokio::test]
async fn signals_that_mean_nothing_end_nothing() {
    let mut gateway = Gateway::start("").await;
    let mut client = gateway.connect().await;
    for signal in ["USR1", "USR2"] {
        gateway.process.signal(signal);
        gateway.logged(&["signal ignored", &format!("SIG{signal}")]).await;
    }
    client.is_quiet().await;
}

/// A load balancer hears that it goes, and PHP still pushes to the client whose message it handles.
#[tokio::test]
async fn pushes_are_taken_to_the_end_and_clients_are_not() {
    for own in ["", "[push]\nlisten = \"127.0.0.1:0\"\n"] {
        let php = Guarded::start(2).await;
        let config = format!(
            "listen = \"127.0.0.1:0\"\ngrace = \"60s\"\n{own}[upstream]\n{}",
            php.upstream()
        );
        let mut gateway = Gateway::start(&config).await;
        let mut client = gateway.connect().await;
        client.send("hold").await;
        php.has_noted("hold").await;
        gateway.process.signal("TERM");
        gateway.logged(&["shutting down", "connections=1"]).await;
        while gateway.get("/ready").await.status != 503 {
            tokio::task::yield_now().await;
        }
        assert_eq!(gateway.get("/live").await.status, 200);
        let form = format!("client_id={}&message=pushed", client.id);
        assert_eq!(gateway.push(&form).await.status, 200);
        if own.is_empty() {
            let refused = Client::try_connect(gateway.clients, "/ws", &[])
                .await
                .err()
                .unwrap();
            assert_eq!(refused.status, 503);
        } else {
            assert!(
                TcpStream::connect(gateway.clients).await.is_err(),
                "nobody listens"
            );
        }
        php.let_go();
        let mut said = [client.text().await, client.text().await];
        said.sort();
        assert_eq!(said, ["hold", "pushed"]);
        assert!(matches!(client.next().await, Frame::Close(1001, _)));
        drop(client);
        assert_eq!(gateway.process.exit_code().await, Some(0));
    }
}
