//! Who comes in, from where, and who is kept out: each bound is reached, and a client beside it does not notice.

/// What they take of the process.
mod descriptors;
/// How many, how fast, how large.
mod limits;
/// Proxies that speak HTTP.
mod proxies;
/// Proxies that pass bytes on.
mod proxy_protocol;
/// Those who take their time.
mod slow;
/// Encrypted.
mod tls;

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::support::{Client, Gateway, PATIENCE, QUICK, guest};

/// A gateway with a plugin that tells what it knows of a connection, and with its pages on a listener of their own.
async fn telling(config: &str) -> Gateway {
    let config = format!("listen = \"127.0.0.1:0\"\n{config}\n[push]\nlisten = \"127.0.0.1:0\"\n{QUICK}");
    Gateway::with_plugins(&[("10-misbehave", &guest("misbehave"))], &config).await
}

/// What it knows.
async fn fact(client: &mut Client, name: &str) -> Option<String> {
    let answer = client.ask(&format!("fact:{name}")).await;
    let value = answer.strip_prefix("Some(\"")?;
    Some(value.trim_end_matches("\")").to_owned())
}

/// A handshake as it goes over the wire, with further headers.
fn handshake(headers: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

/// Sends bytes, and gives the head of the answer: nothing if there is none before the end.
async fn head_of(socket: &mut TcpStream, bytes: &[u8]) -> String {
    // What is refused early may be closed before all of it is sent.
    let _ = socket.write_all(bytes).await;
    let mut head = Vec::new();
    let end = |head: &[u8]| head.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let reading =
        async { while end(&head).is_none() && matches!(socket.read_buf(&mut head).await, Ok(1..)) {} };
    timeout(PATIENCE, reading).await.expect("an answer or the end");
    // The body may have come along.
    head.truncate(end(&head).map_or(0, |end| end + 4));
    String::from_utf8(head).unwrap()
}

/// Waits for the end of a connection.
async fn ends(socket: &mut TcpStream) {
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, socket.read_to_end(&mut rest))
        .await
        .expect("it ends");
}

/// A socket that comes from an address of loopback.
async fn connect_from(address: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

fn handshakes(result: &str) -> String {
    format!("aileron_handshakes_total{{result=\"{result}\"}}")
}

/// The connections as the gateway's page shows them.
async fn connections(gateway: &Gateway) -> Vec<Value> {
    let page: Value = serde_json::from_str(&gateway.get("/connections").await.body).unwrap();
    page["connections"].as_array().unwrap().clone()
}
