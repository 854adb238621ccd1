//! What the gateway costs on the path of a frame, side by side with what is there without it, in one run:
//!
//! - a frame to PHP-FPM and its answer, against the bare FastCGI request that it becomes;
//! - a frame that a plugin answers, against a bare WebSocket echo, with many connections at once.
//!
//! `cargo bench --bench round_trip`, after `plugins/build answer`. Rounds alternate, and medians of the rounds are shown,
//! so that a machine that is busy for a moment disturbs both sides alike. The load comes from the same machine: both sides
//! share the processors with it.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "a benchmark stops at the first surprise, and uses a part of what the tests stand on"
)]

#[path = "../gateway"]
mod gateway {
    pub mod support;
}

use std::sync::Arc;
use std::time::{Duration, Instant};

use aileron::message::{Payload, Request};
use aileron::upstream::fastcgi::{Address, FastCgi, Settings};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpListener;

use gateway::support::{Client, Fpm, Gateway, repository};

const ROUNDS: usize = 5;
const REQUESTS: usize = 4000;
const CONNECTIONS: usize = 64;
const ECHO_TIME: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() {
    println!("medians of {ROUNDS} rounds\n");
    to_php().await;
    echo().await;
}

/// One connection, one frame after the other.
async fn to_php() {
    let fpm = Fpm::start(4).await;
    for keep in [0, 2] {
        let bare = bare_fastcgi(&fpm, keep);
        let config = format!("[upstream]\nkeep = {keep}\n{}", fpm.upstream("frames.php"));
        let gateway = Gateway::start(&config).await;
        let mut client = gateway.connect().await;
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            without.push(median_of(REQUESTS, async || drop(bare.send(&form()).await.unwrap())).await);
            with.push(median_of(REQUESTS, async || drop(client.ask("hello").await)).await);
        }
        let (without, with) = (median(without), median(with));
        let ratio = with.as_secs_f64() / without.as_secs_f64();
        let kept = if keep == 0 { "fresh" } else { "kept" };
        println!("frame to PHP-FPM and back, {kept} FastCGI connections, p50:");
        println!("  bare FastCGI {without:>10.1?}\n  by aileron   {with:>10.1?}   {ratio:.2} x\n");
    }
}

/// Many connections, each sending its next frame when the answer to the last is there.
async fn echo() {
    let plugin = repository("plugins/target/plugins/answer.wasm");
    let dir = tempfile::TempDir::new().unwrap();
    std::fs::create_dir(dir.path().join("plugins")).unwrap();
    std::fs::copy(&plugin, dir.path().join("plugins/answer.wasm"))
        .expect("plugins/build answer has been run");
    let config = "path = \"/echo\"\n[plugins]\ndir = \"plugins\"\n";
    let gateway = Gateway::start_in(dir, config).await;
    let bare = bare_echo().await;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        without.push(frames_per_second(bare).await);
        with.push(frames_per_second(gateway.clients).await);
    }
    let (without, with) = (median(without), median(with));
    println!("frames answered a second, {CONNECTIONS} connections, 64 bytes:");
    println!(
        "  bare echo    {without:>10}\n  by a plugin  {with:>10}   {:.2} x",
        with as f64 / without as f64
    );
}

fn bare_fastcgi(fpm: &Fpm, keep: usize) -> FastCgi {
    FastCgi::new(Settings {
        address: Address::Unix(fpm.listen().into()),
        script: repository("tests/php/frames.php").display().to_string(),
        keep,
        max_answer: 1 << 20,
        name: Arc::from("bare"),
    })
}

/// What a frame becomes.
fn form() -> Request {
    let body = "type=server&message=hello&client_id=127.0.0.1%3A12345";
    Request {
        method: "POST".to_owned(),
        path: String::new(),
        query: String::new(),
        headers: vec![(
            "content-type".to_owned(),
            "application/x-www-form-urlencoded".to_owned(),
        )],
        body: Payload::Text(body.into()),
    }
}

/// A server that does nothing but what the protocol asks for.
async fn bare_echo() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            socket.set_nodelay(true).unwrap();
            tokio::spawn(async move {
                let mut socket = tokio_tungstenite::accept_async(socket).await.unwrap();
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_text() && socket.send(message).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

async fn frames_per_second(address: std::net::SocketAddr) -> u64 {
    let text = "x".repeat(64);
    let end = Instant::now() + ECHO_TIME;
    let clients = (0..CONNECTIONS).map(|_| {
        let text = text.clone();
        tokio::spawn(async move {
            let mut client = Client::connect(address, "/echo").await;
            let mut frames = 0_u64;
            while Instant::now() < end {
                assert_eq!(client.ask(&text).await, text);
                frames += 1;
            }
            client.close().await;
            frames
        })
    });
    let mut frames = 0;
    for client in clients.collect::<Vec<_>>() {
        frames += client.await.unwrap();
    }
    frames / ECHO_TIME.as_secs()
}

async fn median_of(n: usize, mut once: impl AsyncFnMut()) -> Duration {
    let mut times = Vec::with_capacity(n);
    for _ in 0..n {
        let start = Instant::now();
        once().await;
        times.push(start.elapsed());
    }
    median(times)
}

fn median<T: Ord + Copy>(mut values: Vec<T>) -> T {
    values.sort_unstable();
    values[values.len() / 2]
}
