//! Frames that a plugin answers: what the gateway itself can do, with a decision by WebAssembly in each.

use super::{compete, turn};
use crate::gateway::support::{Gateway, repository};
use crate::load::Exchange;
use crate::report::{Row, Target, Unit};
use crate::servers::Server;

const CONNECTIONS: usize = 64;

pub async fn rows() -> Vec<Row> {
    let gateway = answering().await;
    let (bare, go) = (Server::bare_echo().await, Server::go_echo().await);
    let text = "x".repeat(64);
    let mut loops = [
        ("aileron, Rust plugin", gateway.clients, "/echo"),
        ("bare tokio-tungstenite echo", bare.address, "/ws"),
        ("Go gorilla echo", go.address, "/ws"),
    ]
    .map(|(name, address, path)| {
        let exchange = Exchange::text(address, path, &text);
        let sockets = exchange.connect_all(CONNECTIONS);
        (name, exchange, sockets)
    });
    let turns = loops
        .iter_mut()
        .map(|(name, exchange, sockets)| turn(name, |time| exchange.run(sockets, time, |_| {}).per_second()));
    let row = compete(
        "64-byte frames answered by a plugin, 64 connections",
        Unit::PerSecond,
        turns.collect(),
        vec![
            Target {
                of: "bare tokio-tungstenite echo",
                ratio: 0.92,
            },
            Target {
                of: "Go gorilla echo",
                ratio: 1.3,
            },
        ],
    );
    vec![row]
}

/// A gateway whose plugin answers everything at `/echo` with itself.
pub async fn answering() -> Gateway {
    let plugin =
        std::fs::read(repository("plugins/target/plugins/answer.wasm")).expect("built by tests/bench/run");
    Gateway::with_plugins(
        &[("answer", &plugin)],
        "path = \"/echo\"\n[plugins]\ndir = \"plugins\"\n",
    )
    .await
}
