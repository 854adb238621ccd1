//! What a signal does: clients are told, the end is orderly and soon.

use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;

use crate::support::{Fpm, Frame, Gateway};

#[tokio::test]
async fn clients_are_told_and_it_ends_in_order() {
    for signal in ["TERM", "INT"] {
        let fpm = Fpm::start(2).await;
        let config = format!("grace = \"12s\"\n[upstream]\n{}", fpm.upstream("frames.php"));
        let mut gateway = Gateway::start(&config).await;
        let mut idle = gateway.connect().await;
        // One whose answer PHP will not give in time is not waited for.
        let mut busy = gateway.connect().await;
        busy.send("sleep:30000").await;
        fpm.has_connections(1).await;
        let start = Instant::now();
        gateway.process.signal(signal);
        for client in [&mut idle, &mut busy] {
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
