//! One publication to ten thousand subscribers of a topic, until the last of them has it: a short text, a kilobyte of JSON,
//! and the same compressed.
//!
//! The yardstick is a program that does nothing but write (see `bare`): the same bytes, which are those of a frame that came
//! from the gateway, to as many sockets, for the same load.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::json;

use super::{QUIET, micros, processor_time};
use crate::gateway::support::{Gateway, QUICK, guest};
use crate::load::{Exchange, Measured, PATIENCE, Socket, percentile};
use crate::report::{Contender, Row, Target, Unit};
use crate::servers::Server;
use crate::wire;

const SUBSCRIBERS: usize = 10_000;
/// Publications in a round, one after the other, to whom this takes no second each.
const PUBLICATIONS: usize = 30;
const FEW_PUBLICATIONS: usize = 10;
const TEXT: &str = "a message for ten thousand subscribers, of about sixty bytes";

const OURS: &str = "aileron";
const BARE: &str = "two threads that only write";
const NCHAN: &str = "nchan";
const PUSHPIN: &str = "Pushpin";

/// A message, and who publishes it.
struct Case {
    /// What its rows are called: deliveries, the last of them, and what each costs.
    names: [&'static str; 3],
    message: String,
    is_compressed: bool,
    contenders: &'static [&'static str],
    rounds: usize,
    targets: Vec<Target>,
}

/// What was measured of one of them.
#[derive(Default)]
struct Figures {
    /// When the last delivery of each publication came.
    lasts: Vec<Duration>,
    /// Processor time of a delivery in each round, in microseconds: of the server, and of the load.
    costs: Vec<f64>,
    load: Vec<f64>,
}

/// A server with its subscribers, who are more than a process may have sockets for if there are several of them.
struct Publisher {
    name: &'static str,
    /// As subscribers come.
    exchange: Exchange,
    sockets: Vec<Socket>,
    /// Where publications go. Not all of them keep a connection.
    push_address: SocketAddr,
    publication: Vec<u8>,
}

pub async fn text() -> Vec<Row> {
    let target = |of, ratio| Target::Multiple { of, ratio };
    let case = Case {
        names: [
            "deliveries of a publication to 10,000 subscribers",
            "the last of 10,000 deliveries, p99 of publications",
            "processor time of each of these deliveries",
        ],
        message: TEXT.to_owned(),
        is_compressed: false,
        contenders: &[OURS, BARE, NCHAN, PUSHPIN],
        rounds: 5,
        targets: vec![target(BARE, 0.8), target(NCHAN, 3.0), target(PUSHPIN, 3.0)],
    };
    case.rows().await
}

pub async fn json() -> Vec<Row> {
    let case = Case {
        names: [
            "deliveries of 1 KiB of JSON to 10,000 subscribers",
            "the last of 10,000 deliveries of 1 KiB, p99 of publications",
            "processor time of a delivery of 1 KiB",
        ],
        is_compressed: false,
        ..Case::of_json()
    };
    case.rows().await
}

pub async fn compressed() -> Vec<Row> {
    let case = Case {
        names: [
            "deliveries of 1 KiB of JSON, compressed, to 10,000 subscribers",
            "the last of 10,000 deliveries of 1 KiB, compressed, p99 of publications",
            "processor time of a delivery of 1 KiB, compressed",
        ],
        is_compressed: true,
        ..Case::of_json()
    };
    case.rows().await
}

impl Case {
    fn of_json() -> Self {
        Self {
            names: [""; 3],
            message: kibibyte(),
            is_compressed: false,
            contenders: &[OURS, BARE],
            rounds: 9,
            targets: vec![Target::Multiple { of: BARE, ratio: 0.8 }],
        }
    }

    async fn rows(self) -> Vec<Row> {
        crate::raise_descriptor_limit();
        let mut figures: Vec<_> = self.contenders.iter().map(|_| Figures::default()).collect();
        let mut frame = None;
        for _ in 0..self.rounds {
            for (name, figures) in self.contenders.iter().zip(&mut figures) {
                self.measure(name, &mut frame, figures).await;
            }
        }
        let contender = |name, rounds| Contender { name, rounds };
        let each = |of: fn(&Figures) -> Vec<f64>| {
            let named = self.contenders.iter().zip(&figures);
            named.map(move |(name, figures)| contender(name, of(figures)))
        };
        // Of each publication, so that others on the machine disturb as few figures as they can.
        let rates = |figures: &Figures| {
            let lasts = figures.lasts.iter();
            lasts
                .map(|last| SUBSCRIBERS as f64 / last.as_secs_f64())
                .collect()
        };
        let p99 = |figures: &Figures| {
            let lasts = figures.lasts.iter().copied();
            vec![percentile(lasts, 0.99).as_secs_f64() * 1e3]
        };
        // The others are several processes each.
        let costs = each(|figures| figures.costs.clone()).take(2);
        let load = contender("the load itself", figures[0].load.clone());
        let row = |name: usize, unit, contenders, targets| Row {
            what: self.names[name],
            unit,
            contenders,
            targets,
        };
        vec![
            row(0, Unit::PerSecond, each(rates).collect(), self.targets),
            row(1, Unit::Milliseconds, each(p99).collect(), vec![]),
            row(2, Unit::Microseconds, costs.chain([load]).collect(), vec![]),
        ]
    }

    /// Each is started anew: the end of ten thousand connections keeps some of them busy for seconds. `frame` is what the
    /// gateway sends.
    async fn measure(&self, name: &str, frame: &mut Option<Vec<u8>>, figures: &mut Figures) {
        match name {
            OURS => {
                let gateway = self.gateway().await;
                let mut publisher = self.of_gateway(&gateway);
                let came = publisher.take_frame();
                self.check(&came);
                assert_eq!(*frame.get_or_insert(came.clone()), came, "it changes");
                publisher.measure(gateway.process.id(), figures);
            }
            BARE => {
                let frame = frame.as_ref().expect("one that has come from the gateway");
                let (server, push_address) = Server::bare().await;
                let there = (server.address, "/");
                let publication = wire::post("/", "application/octet-stream", frame);
                let mut publisher = self.publisher(BARE, there, push_address, publication, Duration::ZERO);
                publisher.exchange.answer.clone_from(frame);
                publisher.measure(server.process.id(), figures);
            }
            NCHAN => {
                let server = Server::nchan().await;
                let there = (server.address, "/subscribe?topic=news");
                let publication = wire::post("/publish?topic=news", "application/json", &self.message);
                self.publisher(NCHAN, there, server.address, publication, Duration::ZERO)
                    .measure(server.process.id(), figures);
            }
            _ => {
                let (server, control) = Server::pushpin().await;
                let there = (server.address, "/ws?channel=news");
                let publication = wire::post("/publish/", "application/json", self.item());
                // It closes those whose subscription it has not got to within 8 seconds.
                let pace = Duration::from_millis(1);
                self.publisher(PUSHPIN, there, control, publication, pace)
                    .measure(server.process.id(), figures);
            }
        }
    }

    /// With a plugin that subscribes whoever says so.
    async fn gateway(&self) -> Gateway {
        let application =
            "built-in = \"application\"\n[plugins.config.application]\nopen = false\nclose = false\n";
        let compression = format!("compression = {}\n", self.is_compressed);
        Gateway::with_plugins(
            &[("events", &guest("events"))],
            &format!("{compression}{QUIET}{QUICK}{application}"),
        )
        .await
    }

    fn of_gateway(&self, gateway: &Gateway) -> Publisher {
        let body = json!({"topic": "news", "message": self.message}).to_string();
        self.publisher(
            OURS,
            (gateway.clients, "/ws?next;subscribe:news"),
            gateway.push,
            wire::post("/send", "application/json", body),
            Duration::ZERO,
        )
    }

    /// As Pushpin takes it.
    fn item(&self) -> String {
        let formats = json!({"ws-message": {"content": self.message}});
        json!({"items": [{"channel": "news", "formats": formats}]}).to_string()
    }

    fn publisher(
        &self,
        name: &'static str,
        (subscribers, target): (SocketAddr, &str),
        push_address: SocketAddr,
        publication: Vec<u8>,
        pace: Duration,
    ) -> Publisher {
        let mut exchange = Exchange::text(subscribers, target, &self.message);
        if self.is_compressed {
            exchange.hello = wire::compressed_handshake(target);
        }
        let connect = |n| {
            std::thread::sleep(pace);
            exchange.connect(n)
        };
        Publisher {
            name,
            sockets: (0..SUBSCRIBERS).map(connect).collect(),
            exchange,
            push_address,
            publication,
        }
    }

    /// A frame that came from the gateway is what it should be.
    fn check(&self, frame: &[u8]) {
        let (message, is_compressed) = wire::message(frame);
        assert_eq!(message, self.message.as_bytes());
        assert_eq!(is_compressed, self.is_compressed);
    }
}

/// As an application would publish it: some of it repeats, and some does not.
fn kibibyte() -> String {
    const SIZE: usize = 1024;
    let mut random = fastrand::Rng::with_seed(1);
    let mut trade = |n: u64| {
        json!({
            "id": 730_000 + n,
            "symbol": *random.choice(&["ACME", "GLOBEX", "INITECH", "UMBRELLA"]).unwrap(),
            "price": f64::from(random.u32(1000..99_999)) / 100.0,
            "volume": random.u32(1..5000),
            "at": format!("2026-11-27T10:15:{:02}.{:03}Z", n, random.u32(..1000)),
        })
    };
    let mut trades = Vec::new();
    let with =
        |trades: &[_], note: &str| json!({"type": "trades", "trades": trades, "note": note}).to_string();
    for n in 0.. {
        trades.push(trade(n));
        if with(&trades, "").len() > SIZE {
            trades.pop();
            break;
        }
    }
    let missing = SIZE - with(&trades, "").len();
    with(&trades, &"-".repeat(missing))
}

impl Publisher {
    /// Publishes, and takes the frame that comes to a subscriber: from then on it is what comes to everyone.
    fn take_frame(&mut self) -> Vec<u8> {
        let mut socket = self.exchange.connect(0);
        let push_address = TcpStream::connect(self.push_address).unwrap();
        let publish = || publish(push_address, &self.publication);
        let frame = self.exchange.first_frame(&mut socket, publish);
        self.exchange.answer.clone_from(&frame);
        // The others got it, too.
        let got = self.exchange.receive(&mut self.sockets, PATIENCE, || {});
        assert_eq!(got.answers.len(), SUBSCRIBERS);
        frame
    }

    fn measure(&mut self, process: u32, figures: &mut Figures) {
        self.settle();
        let publications = if self.name == PUSHPIN {
            FEW_PUBLICATIONS
        } else {
            PUBLICATIONS
        };
        let mut load = Duration::ZERO;
        let before = processor_time(process);
        for _ in 0..publications {
            let measured = self.publish(PATIENCE);
            assert_eq!(measured.answers.len(), SUBSCRIBERS, "{} lost some", self.name);
            figures.lasts.push(measured.percentile(1.0));
            load += measured.cpu;
        }
        let cost = processor_time(process) - before;
        let each = |time| micros(time) / (SUBSCRIBERS * publications) as f64;
        figures.costs.push(each(cost));
        figures.load.push(each(load));
    }

    /// Publishes until one publication has reached everybody: some subscribe behind the client's back.
    fn settle(&mut self) {
        const QUIET: Duration = Duration::from_secs(2);
        while self.publish(QUIET).answers.len() < SUBSCRIBERS {}
    }

    fn publish(&mut self, patience: Duration) -> Measured {
        let push_address = TcpStream::connect(self.push_address).unwrap();
        let publish = || publish(push_address, &self.publication);
        self.exchange.receive(&mut self.sockets, patience, publish)
    }
}

fn publish(mut push_address: TcpStream, publication: &[u8]) {
    push_address.write_all(publication).unwrap();
    let mut answer = [0; 1024];
    let n = push_address.read(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer[..n]);
    assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
}
