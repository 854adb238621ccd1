use std::time::Duration;

use reqwest::Method;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::{ends, handshake, handshakes, head_of};
use crate::support::{Gateway, answer};

const SLOW: usize = 300;

/// Sends a byte now and then until the gateway has had enough of it.
async fn drip(mut socket: TcpStream, bytes: String) {
    for byte in bytes.into_bytes() {
        if socket.write_all(&[byte]).await.is_err() {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
    ends(&mut socket).await;
}

/// Slowloris: whoever waits for their request waits for `handshake-timeout` and no longer, and others get in meanwhile.
#[tokio::test]
async fn hundreds_that_never_finish_their_request_are_dropped_and_others_get_in() {
    let config = "listen = \"127.0.0.1:0\"\nhandshake-timeout = \"2s\"\n[push]\nlisten = \"127.0.0.1:0\"";
    let mut gateway = Gateway::start(config).await;
    let mut before = gateway.connect().await;
    let mut slow = Vec::new();
    for n in 0..SLOW {
        let mut socket = TcpStream::connect(gateway.clients).await.unwrap();
        slow.push(match n % 3 {
            0 => tokio::spawn(async move { ends(&mut socket).await }),
            1 => tokio::spawn(async move {
                socket.write_all(b"GET /ws HTTP/1.1\r\nHost:").await.unwrap();
                ends(&mut socket).await;
            }),
            _ => tokio::spawn(drip(socket, handshake(&"X-More: x\r\n".repeat(100)))),
        });
    }
    for _ in 0..10 {
        gateway.connect().await.is_quiet().await;
    }
    for slow in slow {
        slow.await.unwrap();
    }
    gateway.measures(&handshakes("timeout"), SLOW as f64).await;
    gateway
        .logged(&[
            "WARN",
            "connection dropped",
            "`handshake-timeout`",
            "cause=\"timeout\"",
        ])
        .await;
    let lines = gateway.count_logged(&["`handshake-timeout`"]);
    assert!(lines < SLOW / 10, "{lines} lines");
    before.is_quiet().await;
}

/// A connection that has had its answers may wait for its next request, but is no reason to complain when it goes.
#[tokio::test]
async fn a_kept_connection_that_asks_nothing_more_is_closed_and_not_counted() {
    let gateway = Gateway::start("handshake-timeout = \"1s\"").await;
    let mut socket = TcpStream::connect(gateway.push).await.unwrap();
    let request = b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let head = head_of(&mut socket, request).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    ends(&mut socket).await;
    assert_eq!(gateway.metric(&handshakes("timeout")).await, 0.0);
    assert_eq!(gateway.count_logged(&["`handshake-timeout`"]), 0);
}

#[tokio::test]
async fn a_push_whose_body_does_not_come_is_answered_408_and_others_are_not_held_up() {
    let mut gateway = Gateway::start("handshake-timeout = \"2s\"").await;
    let mut client = gateway.connect().await;
    let mut socket = TcpStream::connect(gateway.push).await.unwrap();
    let head = b"POST /send HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nclient_id=";
    socket.write_all(head).await.unwrap();
    let form = format!("client_id={}&message=beside", client.id);
    assert_eq!(gateway.push(&form).await.status, 200);
    assert_eq!(client.text().await, "beside");
    let head = head_of(&mut socket, b"").await;
    assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
    assert_eq!(
        gateway
            .metric("aileron_pushes_refused_total{cause=\"slow-body\"}")
            .await,
        1.0
    );
    gateway
        .logged(&["WARN", "push refused", "`handshake-timeout`"])
        .await;
}

#[tokio::test]
async fn a_push_that_is_too_long_is_answered_413() {
    let gateway = Gateway::start("max-message = \"1KiB\"").await;
    let long = gateway.request(Method::POST, "/send").body("x".repeat(100_000));
    let refused = answer(long).await;
    assert_eq!(refused.status, 413);
    assert!(refused.body.contains("`max-message`"), "{refused:?}");
    assert_eq!(
        gateway
            .metric("aileron_pushes_refused_total{cause=\"body\"}")
            .await,
        1.0
    );
}
