//! Ten thousand connections that say nothing: what they cost, and that each of them still works.
//!
//! The gateway is a process of its own, so its resident memory is that of the connections and nothing else. The clients
//! are bare sockets, whose buffers belong to the kernel.

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Fpm, Gateway};

const CONNECTIONS: usize = 10_000;
/// What is aimed at is half of it; this is what no machine may exceed.
const BOUND: usize = 12 * 1024;

const HANDSHAKE: &[u8] = b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Origin: http://localhost\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

async fn open(gateway: &Gateway) -> TcpStream {
    let mut socket = TcpStream::connect(gateway.clients).await.unwrap();
    socket.write_all(HANDSHAKE).await.unwrap();
    let mut head = Vec::with_capacity(256);
    while !head.ends_with(b"\r\n\r\n") {
        socket.read_buf(&mut head).await.unwrap();
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    socket
}

/// Sends a short text and reads its echo. A mask of zeros is a mask.
async fn echo(socket: &mut TcpStream, text: &[u8]) {
    let length = u8::try_from(text.len()).unwrap();
    socket
        .write_all(&[&[0x81, 0x80 | length, 0, 0, 0, 0], text].concat())
        .await
        .unwrap();
    let mut answer = vec![0; 2 + text.len()];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, [&[0x81, length], text].concat());
}

/// Lets this process, and the gateway that it starts, open as many sockets as the machine allows.
pub(crate) fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let most = limit.maximum.unwrap_or(u64::MAX);
    assert!(
        most > CONNECTIONS as u64 + 1000,
        "`ulimit -Hn` is {most}, too few for {CONNECTIONS} connections"
    );
}

#[tokio::test]
async fn ten_thousand_idle_connections_cost_little_and_still_work() {
    raise_descriptor_limit();
    let fpm = Fpm::start(4).await;
    // The bare sockets do not answer pings, and a slow machine takes longer than the default interval.
    let config = format!(
        "ping-interval = \"1h\"\n[upstream]\n{}[log]\nfilter = \"warn,aileron=info\"\n",
        fpm.upstream("frames.php")
    );
    let gateway = Gateway::start(&config).await;
    // What the first frames cost once is no cost of connections.
    let mut first = open(&gateway).await;
    for _ in 0..100 {
        echo(&mut first, b"warm").await;
    }
    drop(first);
    eventually_connected(&gateway, 0).await;

    let before = gateway.memory();
    let mut sockets = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        sockets.push(open(&gateway).await);
    }
    eventually_connected(&gateway, CONNECTIONS).await;
    let each = gateway.memory().saturating_sub(before) / CONNECTIONS;
    println!("an idle connection: {each} bytes resident ({CONNECTIONS} connections)");
    assert!(each < BOUND, "{each} bytes");

    for (n, socket) in sockets.iter_mut().enumerate().step_by(10) {
        echo(socket, format!("number {n}").as_bytes()).await;
    }
    let each = gateway.memory().saturating_sub(before) / CONNECTIONS;
    println!("after a frame on each tenth: {each} bytes resident");
    assert!(each < BOUND, "{each} bytes");

    drop(sockets);
    eventually_connected(&gateway, 0).await;
}

async fn eventually_connected(gateway: &Gateway, n: usize) {
    while gateway.metric("aileron_connections").await != n as f64 {
        tokio::task::yield_now().await;
    }
}
