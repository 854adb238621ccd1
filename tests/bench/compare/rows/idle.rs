//! Nineteen thousand connections that say nothing: what they cost in memory, before and after they were busy, and what they
//! cost those that speak.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{QUIET, ROUNDS, TIME, processor_time};
use crate::gateway::support::Gateway;
use crate::load::{Exchange, PATIENCE, Socket};
use crate::report::{Contender, Row, Target, Unit};
use crate::servers::Server;
use crate::wire;

/// A process here is held to 20,000 descriptors.
const CONNECTIONS: usize = 19_000;
const BUSY: usize = 16;
/// How many get a long message, and how long it is.
const BURST: usize = 300;
const LONG: usize = 1_000_000;
/// How many are published to nobody before anything is measured.
const WARM: usize = 20;
/// What a connection may have, in bytes.
const BOUND: f64 = 4000.0;

pub async fn rows() -> Vec<Row> {
    crate::raise_descriptor_limit();
    let gateway = answering().await;
    // What plugins need for a long message they keep, which is not a cost of connections.
    for _ in 0..WARM {
        push(
            gateway.push,
            &json!({"topic": "nobody-is-in-it", "message": "x".repeat(LONG)}),
        );
    }
    let mut ours = Crowd::connect(gateway.clients, gateway.process.id());
    ours.exchange_once(gateway.push);
    let busy = ours.settled_bytes(&gateway).await;
    ours.take_long_messages(gateway.push);
    let burst = ours.settled_bytes(&gateway).await;
    ours.take_long_messages(gateway.push);
    let again = ours.settled_bytes(&gateway).await;
    // There are not descriptors for both.
    ours.idle.clear();
    let go = Server::go_echo().await;
    let theirs = Crowd::connect(go.address, go.process.id());
    let contender = |name, rounds| Contender { name, rounds };
    let memory = |what, contenders, targets| Row {
        what,
        unit: Unit::Bytes,
        contenders,
        targets,
    };
    let multiple = |of, ratio| Target::Multiple { of, ratio };
    vec![
        memory(
            "an idle connection, resident, of 19,000",
            vec![
                contender("aileron", vec![ours.bytes]),
                contender("Go gorilla echo", vec![theirs.bytes]),
            ],
            vec![Target::Figure(BOUND)],
        ),
        memory(
            "the same, when each has had an answer and a publication",
            vec![
                contender("aileron", vec![busy]),
                contender("before", vec![ours.bytes]),
            ],
            vec![Target::Figure(BOUND), multiple("before", 1.1)],
        ),
        memory(
            "the same, when 300 of them have had a message of 1 MB",
            vec![
                contender("aileron", vec![burst]),
                contender("aileron, a second time", vec![again]),
                contender("idle", vec![ours.bytes]),
            ],
            vec![multiple("idle", 1.1)],
        ),
        Row {
            what: "processor time of a frame, 19,000 connections open",
            unit: Unit::Microseconds,
            contenders: vec![
                contender("19,000 open", ours.crowded),
                contender("16 open", ours.alone),
                contender("Go gorilla echo, 19,000 open", theirs.crowded),
                contender("Go gorilla echo, 16 open", theirs.alone),
            ],
            targets: vec![multiple("16 open", 1.5)],
        },
    ]
}

/// A gateway whose plugin answers each frame with itself, and which takes pushes to topics.
async fn answering() -> Gateway {
    let config = format!(
        "{QUIET}[plugins]\ndir = \"plugins\"\nbuilt-in = \"application\"\n\
         [plugins.config.application]\nopen = false\nclose = false\n"
    );
    Gateway::with_plugins(&[("echo", &super::echo::plugin())], &config).await
}

/// Connections of which a few are busy.
struct Crowd {
    process: u32,
    exchange: Exchange,
    idle: Vec<Socket>,
    /// Of memory before they came.
    before: f64,
    /// Of each.
    bytes: f64,
    /// What a frame of the busy ones costs without the others, and with them.
    alone: Vec<f64>,
    crowded: Vec<f64>,
}

impl Crowd {
    fn connect(address: SocketAddr, process: u32) -> Self {
        let exchange = Exchange::text(address, "/ws", &"x".repeat(64));
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
        Self {
            process,
            exchange,
            idle,
            before,
            bytes,
            alone,
            crowded,
        }
    }

    /// Each gets an answer, and a publication to everyone.
    fn exchange_once(&mut self, push_address: SocketAddr) {
        self.exchange.run(&mut self.idle, Duration::ZERO, |_| {});
        let message = String::from_utf8(self.exchange.answer.clone()).unwrap();
        let publication = json!({"topic": "*", "message": message});
        let received = self
            .exchange
            .receive(&mut self.idle, PATIENCE, || push(push_address, &publication));
        assert_eq!(received.answers.len(), self.idle.len());
    }

    /// A few get a long message, each one of its own. They read when all of them have been sent.
    fn take_long_messages(&mut self, gateway: SocketAddr) {
        let message = "x".repeat(LONG);
        let some = &mut self.idle[..BURST];
        for socket in &*some {
            push(gateway, &json!({"client_id": socket.id, "message": message}));
        }
        self.exchange.answer = message.into();
        let received = self.exchange.receive(some, PATIENCE, || {});
        assert_eq!(received.answers.len(), BURST);
    }

    /// Of each, when nothing is under way any more and memory does not shrink any further.
    async fn settled_bytes(&self, gateway: &Gateway) -> f64 {
        const STILL: Duration = Duration::from_secs(3);
        while gateway.metric("aileron_queue_bytes").await > 0.0 {
            tokio::time::sleep(STILL / 10).await;
        }
        let (mut least, mut since) = (f64::INFINITY, Instant::now());
        while since.elapsed() < STILL {
            let now = resident(self.process);
            if now < least {
                (least, since) = (now, Instant::now());
            }
            tokio::time::sleep(STILL / 10).await;
        }
        (least - self.before) / self.idle.len() as f64
    }
}

fn push(push_address: SocketAddr, push: &Value) {
    let mut push_address = TcpStream::connect(push_address).unwrap();
    let request = wire::post("/send", "application/json", push.to_string());
    push_address.write_all(&request).unwrap();
    let mut answer = [0; 4096];
    let n = push_address.read(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer[..n]);
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("\"sent\""),
        "{answer}"
    );
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
