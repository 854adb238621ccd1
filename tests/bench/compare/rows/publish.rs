//! One publication to ten thousand subscribers of a topic, until the last of them has it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::{compete, turn};
use crate::gateway::support::{Gateway, QUICK, guest};
use crate::load::{Exchange, Measured, PATIENCE, Socket, percentile};
use crate::report::{Contender, Row, Target, Unit};
use crate::servers::Server;
use crate::wire;

const SUBSCRIBERS: usize = 10_000;
/// Publications in one measurement, one after the other.
const PUBLICATIONS: usize = 10;
const TEXT: &str = "a message for ten thousand subscribers, of about sixty bytes";

struct Publisher {
    name: &'static str,
    /// As subscribers come.
    exchange: Exchange,
    sockets: Vec<Socket>,
    /// By which publications go.
    door: TcpStream,
    publication: Vec<u8>,
    /// When the last subscriber had each.
    lasts: Vec<Duration>,
}

pub async fn rows() -> Vec<Row> {
    crate::raise_descriptor_limit();
    let config = format!(
        "{QUICK}built-in = \"application\"\n[plugins.config.application]\nopen = false\nclose = false\n"
    );
    let gateway = Gateway::with_plugins(&[("events", &guest("events"))], &config).await;
    let nchan = Server::nchan().await;
    let (pushpin, control) = Server::pushpin().await;
    let json = |topic: &str| format!("{{\"{topic}\":\"news\",\"message\":\"{TEXT}\"}}");
    let item = format!(
        "{{\"items\":[{{\"channel\":\"news\",\"formats\":{{\"ws-message\":{{\"content\":\"{TEXT}\"}}}}}}]}}"
    );
    let mut publishers = vec![
        Publisher::new(
            "aileron",
            gateway.clients,
            "/ws?next;subscribe:news",
            gateway.push,
            "/send",
            &json("topic"),
        ),
        Publisher::new(
            "nchan",
            nchan.address,
            "/subscribe?topic=news",
            nchan.address,
            "/publish?topic=news",
            TEXT,
        ),
        Publisher::new(
            "Pushpin",
            pushpin.address,
            "/ws?channel=news",
            control,
            "/publish/",
            &item,
        ),
    ];
    publishers.iter_mut().for_each(Publisher::settle);
    let turns = publishers.iter_mut().map(|publisher| {
        let name = publisher.name;
        turn(name, |_| publisher.deliveries_per_second())
    });
    let rates = compete(
        "deliveries of a publication to 10,000 subscribers",
        Unit::PerSecond,
        turns.collect(),
        vec![
            Target {
                of: "nchan",
                ratio: 3.0,
            },
            Target {
                of: "Pushpin",
                ratio: 3.0,
            },
        ],
    );
    let last = |publisher: &Publisher| Contender {
        name: publisher.name,
        rounds: vec![percentile(publisher.lasts.iter().copied(), 0.99).as_secs_f64() * 1e3],
    };
    let lasts = Row {
        what: "the last of 10,000 deliveries, p99 of 60 publications",
        unit: Unit::Milliseconds,
        contenders: publishers.iter().map(last).collect(),
        targets: vec![],
    };
    vec![rates, lasts]
}

impl Publisher {
    fn new(
        name: &'static str,
        subscribers: SocketAddr,
        target: &str,
        door: SocketAddr,
        path: &str,
        body: &str,
    ) -> Self {
        let exchange = Exchange::text(subscribers, target, "");
        Self {
            name,
            sockets: exchange.connect_all(SUBSCRIBERS),
            exchange,
            door: TcpStream::connect(door).unwrap(),
            publication: wire::post(path, "application/json", body),
            lasts: Vec::new(),
        }
    }

    /// Publishes until one publication has reached everybody: some subscribe behind the client's back.
    fn settle(&mut self) {
        const QUIET: Duration = Duration::from_secs(2);
        while self.publish(QUIET).answers.len() < SUBSCRIBERS {}
    }

    fn publish(&mut self, patience: Duration) -> Measured {
        let (mut door, publication) = (&self.door, &self.publication);
        self.exchange.receive(&mut self.sockets, patience, move || {
            door.write_all(publication).unwrap();
            let mut answer = [0; 1024];
            let n = door.read(&mut answer).unwrap();
            let answer = String::from_utf8_lossy(&answer[..n]);
            assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
        })
    }

    fn deliveries_per_second(&mut self) -> f64 {
        let mut time = Duration::ZERO;
        for _ in 0..PUBLICATIONS {
            let measured = self.publish(PATIENCE);
            assert_eq!(measured.answers.len(), SUBSCRIBERS, "{} lost some", self.name);
            let last = measured.percentile(1.0);
            self.lasts.push(last);
            time += last;
        }
        (SUBSCRIBERS * PUBLICATIONS) as f64 / time.as_secs_f64()
    }
}
