//! Clients that mean no good, or do not know better: they read slowly, break the protocol, send nonsense, go in the middle
//! of a word, and make a plugin fail.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, sink};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::gateway::support::{Bare, PATIENCE};
use crate::load::{Load, pause};

/// The plugin lets them in: PHP has enough to do.
const LET_IN: &str = "/events?accept";
const FLOODED: &str = "/events?accept;subscribe:flood";

/// Reads nothing until the gateway has had enough of it, and then what is left.
pub async fn read_slowly(load: Arc<Load>) {
    while load.goes_on() {
        let mut slow = Bare::connect(load.gateway.clients, FLOODED).await;
        load.count("connections that read slowly");
        for _ in 0..fastrand::u32(15..30) {
            if load.goes_on() {
                pause(900, 1100).await;
            }
        }
        if fastrand::bool() {
            let _ = timeout(Duration::from_secs(2), copy(&mut slow.socket, &mut sink())).await;
        }
    }
}

/// One byte longer than a ping may be; masked with zeros, as all that follows.
const LONG_PING: [u8; 134] = {
    let mut ping = [0; 134];
    (ping[0], ping[1], ping[3]) = (0x89, 0xfe, 126);
    ping
};

/// What breaks RFC 6455, and the close code for it.
const VIOLATIONS: [(&[u8], u16); 10] = [
    // No mask; reserved bits; a reserved opcode.
    (b"\x81\x05hello", 1002),
    (b"\xf1\x80\0\0\0\0", 1002),
    (b"\x83\x80\0\0\0\0", 1002),
    // A long ping, a ping in fragments, a continuation of nothing, a message within a message.
    (&LONG_PING, 1002),
    (b"\x09\x80\0\0\0\0", 1002),
    (b"\x80\x80\0\0\0\0", 1002),
    (b"\x01\x80\0\0\0\0\x81\x80\0\0\0\0", 1002),
    // A close frame of one byte; text that is not UTF-8; more than anybody has.
    (b"\x88\x81\0\0\0\0\x03", 1002),
    (b"\x81\x82\0\0\0\0\xc3\x28", 1007),
    (b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 1009),
];

/// Breaks the protocol, and is told so.
pub async fn break_the_protocol(load: Arc<Load>) {
    while load.goes_on() {
        pause(20, 100).await;
        let (bytes, expected) = VIOLATIONS[fastrand::usize(..VIOLATIONS.len())];
        let mut client = Bare::connect(load.gateway.clients, LET_IN).await;
        client.socket.write_all(bytes).await.unwrap();
        let (code, reason) = timeout(PATIENCE, client.close())
            .await
            .expect("a close frame comes");
        assert_eq!(code, expected, "{bytes:?}: {reason}");
        load.count("violations of the protocol, answered");
    }
}

/// Sends anything, whole or cut off, and goes. What comes back is nobody's concern, as long as others are not disturbed.
pub async fn send_nonsense(load: Arc<Load>) {
    while load.goes_on() {
        pause(10, 100).await;
        let mut nonsense = nonsense();
        nonsense.truncate(fastrand::usize(1..=nonsense.len()));
        let mut socket = TcpStream::connect(load.gateway.clients).await.unwrap();
        // It may be cut off in the middle.
        let _ = socket.write_all(&nonsense).await;
        if fastrand::bool() {
            let mut answer = [0; 256];
            let _ = timeout(Duration::from_millis(200), socket.read(&mut answer)).await;
        }
        load.count("connections with nonsense");
    }
}

fn nonsense() -> Vec<u8> {
    let head = |line: &str, more: &str| {
        format!(
            "{line} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\n{more}\r\n"
        )
        .into_bytes()
    };
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(300).collect();
    match fastrand::u8(..7) {
        0 => noise,
        1 => head("GET /nowhere", key),
        2 => head("BREW /events?accept", key),
        3 => head("GET /events?accept", "Sec-WebSocket-Key: short\r\n"),
        4 => head(
            "GET /events?accept",
            &format!("X-Long: {}\r\n", "x".repeat(100_000)),
        ),
        5 => head("GET /events?reject:403", key),
        _ => [head("GET /events?accept", key), noise].concat(),
    }
}

/// Makes a plugin trap, run for ever or eat memory; the next message is answered.
pub async fn make_a_plugin_fail(load: Arc<Load>) {
    while load.goes_on() {
        let Some(mut client) = load.connect("/faults").await else {
            continue;
        };
        for fault in ["trap", "grow", "loop"] {
            client.send(fault).await;
            assert_eq!(client.ask("after").await, "ok after", "{fault}");
            load.count("failures of a plugin");
            pause(200, 1000).await;
        }
        client.close().await;
    }
}
