//! Frames that a plugin answers: what the gateway itself can do, with a decision by WebAssembly in each.
//!
//! Where sockets are dear, what the load takes of the processors hides what the servers take: all of them come out alike.
//! So what each server takes for a frame is measured too.

use super::{QUIET, compete, processor_time, turn};
use crate::gateway::support::{Gateway, Process, repository};
use crate::load::{Exchange, Socket};
use crate::report::{Contender, Row, Target, Unit};
use crate::servers::Server;

const CONNECTIONS: usize = 64;

struct Echo<'a> {
    name: &'static str,
    process: &'a Process,
    exchange: Exchange,
    sockets: Vec<Socket>,
    /// Of a processor, for each frame, in microseconds.
    cost: Vec<f64>,
    /// What the load took, likewise.
    load: Vec<f64>,
}

pub async fn rows() -> Vec<Row> {
    let gateway = answering().await;
    let (bare, go) = (Server::bare_echo().await, Server::go_echo().await);
    let text = "x".repeat(64);
    let mut echoes = [
        ("aileron, Rust plugin", &gateway.process, gateway.clients, "/ws"),
        ("bare tokio-tungstenite echo", &bare.process, bare.address, "/ws"),
        ("Go gorilla echo", &go.process, go.address, "/ws"),
    ]
    .map(|(name, process, address, path)| {
        let exchange = Exchange::text(address, path, &text);
        Echo {
            name,
            process,
            sockets: exchange.connect_all(CONNECTIONS),
            exchange,
            cost: Vec::new(),
            load: Vec::new(),
        }
    });
    let turns = echoes.iter_mut().map(|echo| {
        turn(echo.name, |time| {
            let before = processor_time(echo.process.id());
            let measured = echo.exchange.run(&mut echo.sockets, time, |_| {});
            let cost = processor_time(echo.process.id()) - before;
            let of_each =
                |time: std::time::Duration| time.as_secs_f64() * 1e6 / measured.answers.len() as f64;
            echo.cost.push(of_each(cost));
            echo.load.push(of_each(measured.cpu));
            measured.per_second()
        })
    });
    let target = |of, ratio| Target::Multiple { of, ratio };
    let rate = compete(
        "64-byte frames answered by a plugin, 64 connections",
        Unit::PerSecond,
        turns.collect(),
        vec![
            target("bare tokio-tungstenite echo", 0.92),
            target("Go gorilla echo", 1.3),
        ],
    );
    let contender = |name, rounds: &[f64]| Contender {
        name,
        // The first one was the warm-up.
        rounds: rounds[1..].to_vec(),
    };
    let mut costs: Vec<_> = echoes
        .iter()
        .map(|echo| contender(echo.name, &echo.cost))
        .collect();
    costs.push(contender("the load itself", &echoes[0].load));
    let cost = Row {
        what: "processor time of each of these frames",
        unit: Unit::Microseconds,
        contenders: costs,
        targets: vec![],
    };
    vec![rate, cost]
}

/// A gateway whose plugin answers each frame with itself.
pub async fn answering() -> Gateway {
    let config = format!("{QUIET}[plugins]\ndir = \"plugins\"\n");
    Gateway::with_plugins(&[("echo", &plugin())], &config).await
}

pub fn plugin() -> Vec<u8> {
    std::fs::read(repository("tests/bench/guests/target/plugins/rust.wasm"))
        .expect("built by tests/bench/run")
}
