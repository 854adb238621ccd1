//! Nineteen thousand connections that say nothing: what they cost in memory, and what they cost those that speak.

use super::{ROUNDS, TIME, processor_time};
use crate::gateway::support::{Gateway, repository};
use crate::load::Exchange;
use crate::report::{Contender, Row, Target, Unit};
use crate::servers::Server;

/// A process here is held to 20,000 descriptors.
const CONNECTIONS: usize = 19_000;
const BUSY: usize = 16;

pub async fn rows() -> Vec<Row> {
    crate::raise_descriptor_limit();
    let gateway = super::echo::answering().await;
    let go = Server::go_echo().await;
    let ours = measure(gateway.clients, "/ws", gateway.process.id());
    let theirs = measure(go.address, "/ws", go.process.id());
    let contender = |name, rounds| Contender { name, rounds };
    vec![
        Row {
            what: "an idle connection, resident, of 19,000",
            unit: Unit::Bytes,
            contenders: vec![
                contender("aileron", vec![ours.bytes]),
                contender("Go gorilla echo", vec![theirs.bytes]),
            ],
            targets: vec![],
        },
        Row {
            what: "processor time of a frame, 19,000 connections open",
            unit: Unit::Microseconds,
            contenders: vec![
                contender("19,000 open", ours.crowded),
                contender("16 open", ours.alone),
                contender("Go gorilla echo, 19,000 open", theirs.crowded),
                contender("Go gorilla echo, 16 open", theirs.alone),
            ],
            targets: vec![Target {
                of: "16 open",
                ratio: 1.5,
            }],
        },
    ]
}

struct Growth {
    bytes: f64,
    alone: Vec<f64>,
    crowded: Vec<f64>,
}

fn measure(address: std::net::SocketAddr, path: &str, process: u32) -> Growth {
    let exchange = Exchange::text(address, path, &"x".repeat(64));
    let mut busy = exchange.connect_all(BUSY);
    let mut cost = || {
        let before = processor_time(process);
        let answers = exchange.run(&mut busy, TIME, |_| {}).answers.len();
        (processor_time(process) - before).as_secs_f64() * 1e6 / answers as f64
    };
    cost();
    let alone = (0..ROUNDS).map(|_| cost()).collect();
    let before = resident(process);
    let idle = exchange.connect_all(CONNECTIONS - BUSY);
    let bytes = (resident(process) - before) / idle.len() as f64;
    let crowded = (0..ROUNDS).map(|_| cost()).collect();
    Growth {
        bytes,
        alone,
        crowded,
    }
}

/// In bytes.
fn resident(process: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
}
