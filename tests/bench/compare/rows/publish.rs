//! One publication to ten thousand subscribers of a topic, until the last of them has it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::{QUIET, ROUNDS};
use crate::gateway::support::{Gateway, QUICK, guest};
use crate::load::{Exchange, Measured, PATIENCE, Socket, percentile};
use crate::report::{Contender, Row, Target, Unit};
use crate::servers::Server;
use crate::wire;

const SUBSCRIBERS: usize = 10_000;
/// Publications in one measurement, one after the other.
const PUBLICATIONS: usize = 10;
const TEXT: &str = "a message for ten thousand subscribers, of about sixty bytes";

/// A server with its subscribers, who are more than a process may have sockets for if there are several of them.
struct Publisher {
    name: &'static str,
    /// As subscribers come.
    exchange: Exchange,
    sockets: Vec<Socket>,
    /// Where publications go. Not all of them keep a connection.
    door: SocketAddr,
    publication: Vec<u8>,
}

pub async fn rows() -> Vec<Row> {
    crate::raise_descriptor_limit();
    let mut rates = [const { Vec::new() }; 3];
    let mut lasts = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        // Each is started anew: the end of ten thousand connections keeps some of them busy for seconds.
        let (gateway, nchan) = (ours().await, Server::nchan().await);
        let mut publisher = Publisher::new(
            "aileron",
            gateway.clients,
            "/ws?next;subscribe:news",
            gateway.push,
            ("/send", &json()),
            Duration::ZERO,
        );
        publisher.measure(&mut rates[0], &mut lasts[0]);
        drop((publisher, gateway));
        let mut publisher = Publisher::new(
            "nchan",
            nchan.address,
            "/subscribe?topic=news",
            nchan.address,
            ("/publish?topic=news", TEXT),
            Duration::ZERO,
        );
        publisher.measure(&mut rates[1], &mut lasts[1]);
        drop((publisher, nchan));
        let (pushpin, control) = Server::pushpin().await;
        let mut publisher = Publisher::new(
            "Pushpin",
            pushpin.address,
            "/ws?channel=news",
            control,
            ("/publish/", &item()),
            // It closes those whose subscription it has not got to within 8 seconds.
            Duration::from_millis(1),
        );
        publisher.measure(&mut rates[2], &mut lasts[2]);
    }
    let names = ["aileron", "nchan", "Pushpin"];
    let contenders = |rounds: [Vec<f64>; 3]| {
        let contenders = names.into_iter().zip(rounds);
        contenders
            .map(|(name, rounds)| Contender { name, rounds })
            .collect()
    };
    let p99 = |lasts: Vec<Duration>| vec![percentile(lasts.into_iter(), 0.99).as_secs_f64() * 1e3];
    vec![
        Row {
            what: "deliveries of a publication to 10,000 subscribers",
            unit: Unit::PerSecond,
            contenders: contenders(rates),
            targets: vec![
                Target {
                    of: "nchan",
                    ratio: 3.0,
                },
                Target {
                    of: "Pushpin",
                    ratio: 3.0,
                },
            ],
        },
        Row {
            what: "the last of 10,000 deliveries, p99 of 50 publications",
            unit: Unit::Milliseconds,
            contenders: contenders(lasts.map(p99)),
            targets: vec![],
        },
    ]
}

/// With a plugin that subscribes whoever says so.
async fn ours() -> Gateway {
    let application =
        "built-in = \"application\"\n[plugins.config.application]\nopen = false\nclose = false\n";
    Gateway::with_plugins(
        &[("events", &guest("events"))],
        &format!("{QUIET}{QUICK}{application}"),
    )
    .await
}

/// As `/send` takes it.
fn json() -> String {
    format!("{{\"topic\":\"news\",\"message\":\"{TEXT}\"}}")
}

/// As Pushpin takes it.
fn item() -> String {
    format!(
        "{{\"items\":[{{\"channel\":\"news\",\"formats\":{{\"ws-message\":{{\"content\":\"{TEXT}\"}}}}}}]}}"
    )
}

impl Publisher {
    fn new(
        name: &'static str,
        subscribers: SocketAddr,
        target: &str,
        door: SocketAddr,
        (path, body): (&str, &str),
        pace: Duration,
    ) -> Self {
        let exchange = Exchange::text(subscribers, target, TEXT);
        Self {
            name,
            sockets: (0..SUBSCRIBERS)
                .map(|n| {
                    std::thread::sleep(pace);
                    exchange.connect(n)
                })
                .collect(),
            exchange,
            door,
            publication: wire::post(path, "application/json", body),
        }
    }

    fn measure(&mut self, rates: &mut Vec<f64>, lasts: &mut Vec<Duration>) {
        self.settle();
        let mut time = Duration::ZERO;
        for _ in 0..PUBLICATIONS {
            let measured = self.publish(PATIENCE);
            assert_eq!(measured.answers.len(), SUBSCRIBERS, "{} lost some", self.name);
            let last = measured.percentile(1.0);
            lasts.push(last);
            time += last;
        }
        rates.push((SUBSCRIBERS * PUBLICATIONS) as f64 / time.as_secs_f64());
    }

    /// Publishes until one publication has reached everybody: some subscribe behind the client's back.
    fn settle(&mut self) {
        const QUIET: Duration = Duration::from_secs(2);
        while self.publish(QUIET).answers.len() < SUBSCRIBERS {}
    }

    fn publish(&mut self, patience: Duration) -> Measured {
        let mut door = TcpStream::connect(self.door).unwrap();
        let publication = &self.publication;
        self.exchange.receive(&mut self.sockets, patience, move || {
            door.write_all(publication).unwrap();
            let mut answer = [0; 1024];
            let n = door.read(&mut answer).unwrap();
            let answer = String::from_utf8_lossy(&answer[..n]);
            assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
        })
    }
}
