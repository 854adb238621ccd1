//! File descriptors: those who only take them do not take them from others.

use std::process::Command;

use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{handshakes, head_of};
use crate::support::{Fpm, Gateway, PATIENCE, command};

/// The gateway under a limit of `ulimit`, such as `-n 60`.
async fn limited(limit: &str, config: &str) -> Gateway {
    let dir = TempDir::new().unwrap();
    std::fs::write(
        dir.path().join("aileron.toml"),
        format!("listen = \"127.0.0.1:0\"\n{config}"),
    )
    .unwrap();
    let gateway = command(dir.path());
    let mut limiting = Command::new("sh");
    limiting
        .args(["-c", &format!("ulimit {limit} && exec \"$0\"")])
        .arg(gateway.get_program())
        .current_dir(dir.path())
        .envs(
            gateway
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
    Gateway::start_by(limiting, dir).await
}

/// The messages of those who are connected go to PHP over connections that take descriptors, too.
#[tokio::test]
async fn silent_connections_leave_enough_for_clients_and_php_and_new_clients_get_in() {
    let fpm = Fpm::start(4).await;
    let mut gateway = limited("-n 60", &format!("[upstream]\n{}", fpm.upstream("frames.php"))).await;
    gateway
        .logged(&["WARN", "limit of file descriptors", "limit=60", "max-connections"])
        .await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(gateway.connect().await);
    }
    let mut silent = Vec::new();
    for _ in 0..80 {
        silent.push(TcpStream::connect(gateway.clients).await.unwrap());
    }
    for round in 0..10 {
        for client in &mut clients {
            let text = format!("echo:{round}");
            assert!(client.ask(&text).await.contains(&round.to_string()));
        }
    }
    clients.push(gateway.connect().await);
    assert!(clients[3].ask("echo:new").await.contains("new"));
    assert!(gateway.metric(&handshakes("crowded")).await >= 60.0);
    gateway
        .logged(&["WARN", "connection dropped", "cause=\"crowded\""])
        .await;
    assert_eq!(gateway.count_logged(&["cannot be accepted"]), 0);
}

/// It asks and asks, and its answers fill all buffers.
#[tokio::test]
async fn who_does_not_read_answers_is_dropped() {
    let config = "listen = \"127.0.0.1:0\"\nhandshake-timeout = \"1s\"\n[push]\nlisten = \"127.0.0.1:0\"\n";
    let gateway = Gateway::start(config).await;
    let request = b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
    let mut asking = TcpStream::connect(gateway.push).await.unwrap();
    let asks = async { while asking.write_all(&request).await.is_ok() {} };
    timeout(PATIENCE, asks).await.expect("it is dropped");
    // Who reads may ask for longer than that.
    let mut reading = TcpStream::connect(gateway.push).await.unwrap();
    let start = std::time::Instant::now();
    while start.elapsed().as_millis() < 2500 {
        let head = head_of(&mut reading, &request[..request.len() / 100]).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    }
}

/// With too little of it, a plugin cannot be called, and nothing else would say why.
#[tokio::test]
async fn a_limit_of_the_address_space_is_named() {
    let mut gateway = limited("-v 100000000", "").await;
    gateway
        .logged(&[
            "WARN",
            "address space is limited",
            "LimitAS=",
            "limit=102400000000",
        ])
        .await;
}
