//! What each part in the path of a message costs beside the call of a plugin: `cargo bench --bench parts`. By criterion,
//! whose options may follow behind `--`, such as a part of a name. Times are CPU time of the thread.
//!
//! `form` is the built-in plugin making a form of a frame, in WebAssembly and with all that a call takes; `fastcgi` the
//! request made of that form, and the answer taken apart. `registry` is with ten thousand connections in it; what a
//! publication puts into queues is taken out again, which is part of the time.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    unreachable_pub,
    reason = "a benchmark stops at the first surprise, and uses a part of what it includes"
)]

mod cpu_time;

// Nobody else is to speak FastCGI, so this is no part of the library's interface.
#[allow(unused_imports, reason = "those of its tests")]
#[path = "../../host/upstream/fastcgi"]
mod fastcgi {
    pub mod params;
    pub mod record;
    pub mod response;

    use bytes::BytesMut;

    use crate::message::{Request, Response};
    use record::{Decoder, Part};

    /// Makes all records of a request.
    pub fn requests() -> impl Fn(&Request, &[u8]) -> Vec<u8> {
        let script = params::Script::new(&params::Place {
            filename: "/srv/www/websocket.php",
            ..params::Place::default()
        });
        move |request, body| {
            let mut out = Vec::with_capacity(2048);
            record::put_begin_request(&mut out, true);
            params::put_params(&mut out, &script, request, None).unwrap();
            record::put_stdin(&mut out, body);
            record::put_stdin_end(&mut out);
            out
        }
    }

    /// The response in all records of an answer.
    pub fn response(records: &[u8]) -> Response {
        let mut records = BytesMut::from(records);
        let mut answer = response::Answer::new(1 << 20);
        let mut decoder = Decoder::default();
        loop {
            match decoder.next(&mut records).unwrap() {
                Some(Part::Stdout(piece)) => answer.push(piece).unwrap(),
                Some(Part::End(_)) => return answer.finish().unwrap(),
                other => panic!("{other:?}"),
            }
        }
    }
}

use std::io::IoSlice;
use std::sync::Arc;
use std::task::Poll;

use aileron::config::{Config, Overrides};
use aileron::dispatch::{Dispatch, Step};
use aileron::message::{self, Connection, Event, Payload, Request};
use aileron::metrics::Metrics;
use aileron::plugin::Plugins;
use aileron::registry::{Publishing, Registration, Registry};
use aileron::send_queue::SendQueue;
use cpu_time::CpuTime;
use criterion::{BatchSize, Criterion};

const SIZES: [usize; 3] = [16, 1024, 65536];
const CONNECTIONS: usize = 10_000;

fn main() {
    let mut criterion = Criterion::default()
        .with_measurement(CpuTime)
        .sample_size(30)
        .configure_from_args();
    let asked = forms(&mut criterion);
    requests(&mut criterion, &asked);
    answers(&mut criterion);
    registry(&mut criterion);
    criterion.final_summary();
}

/// Gives the request that a frame of each size becomes.
fn forms(criterion: &mut Criterion<CpuTime>) -> Vec<Request> {
    let config = Config::load(None, Overrides::default()).unwrap();
    let plugins = Plugins::new(
        &config,
        Arc::new(Registry::default()),
        Arc::new(Metrics::default()),
    )
    .unwrap();
    let connection = Arc::new(connection(1));
    SIZES
        .map(|size| {
            let message = Payload::Text("x".repeat(size).into());
            let ask = || {
                let event = Event::Frame {
                    connection: connection.clone(),
                    message: message.clone(),
                };
                let Step::Ask(exchange) = Dispatch::begin(plugins.chain(0), event).step() else {
                    panic!("it does not ask");
                };
                exchange.request
            };
            criterion.bench_function(&format!("form/{size}"), |bencher| bencher.iter(ask));
            ask()
        })
        .into()
}

fn requests(criterion: &mut Criterion<CpuTime>, asked: &[Request]) {
    let encode = fastcgi::requests();
    for (size, request) in SIZES.iter().zip(asked) {
        let body = request.body.clone().into_bytes();
        criterion.bench_function(&format!("fastcgi/request/{size}"), |bencher| {
            bencher.iter(|| encode(request, &body));
        });
    }
}

fn answers(criterion: &mut Criterion<CpuTime>) {
    for size in SIZES {
        let head = "X-Powered-By: PHP/8.4.0\r\nContent-type: text/html; charset=UTF-8\r\n\r\n";
        let records = answer(format!("{head}{}", "x".repeat(size)).as_bytes());
        criterion.bench_function(&format!("fastcgi/answer/{size}"), |bencher| {
            bencher.iter(|| fastcgi::response(&records));
        });
    }
}

/// The records of an answer as PHP-FPM sends them (FastCGI 1.0 section 3.3).
fn answer(output: &[u8]) -> Vec<u8> {
    let record = |kind: u8, content: &[u8]| {
        let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[1, kind, 0, 1, high, low, 0, 0], content].concat()
    };
    let stdout = output.chunks(0xfff8).flat_map(|piece| record(6, piece));
    stdout.chain(record(3, &[0; 8])).collect()
}

fn registry(criterion: &mut Criterion<CpuTime>) {
    let registry = Arc::new(Registry::default());
    let clients: Vec<_> = (0..CONNECTIONS).map(|n| connect(&registry, n)).collect();
    let (id, send_queue) = ("127.0.0.1:1", &clients[1].1);
    let message = Payload::Text("a message of thirty-two letters".into());
    let mut bench = |name: &str, run: &mut dyn FnMut()| {
        criterion.bench_function(&format!("registry/{name}"), |bencher| bencher.iter(&mut *run));
    };
    bench("send to one", &mut || {
        registry.send(id, message.clone()).unwrap();
        take(send_queue);
    });
    bench("find one", &mut || {
        registry.find(id).unwrap();
    });
    bench("subscribe and unsubscribe", &mut || {
        registry.subscribe(id, "news").unwrap();
        registry.unsubscribe(id, "news").unwrap();
    });
    for subscribers in [1, 100, CONNECTIONS] {
        let topic = format!("topic.{subscribers}");
        for n in 0..subscribers {
            registry.subscribe(&format!("127.0.0.1:{n}"), &topic).unwrap();
        }
        bench(&format!("publish to {subscribers}"), &mut || {
            // There is no runtime whose workers could do it.
            let Publishing::Done(published) = registry.publish(&topic, &message, &[], None).unwrap() else {
                panic!("it is not done");
            };
            assert_eq!(published.recipients, subscribers);
            for (_, send_queue) in &clients[..subscribers] {
                take(send_queue);
            }
        });
    }
    criterion.bench_function("registry/come and go", |bencher| {
        let setup = || Arc::new(connection(CONNECTIONS));
        bencher.iter_batched(
            setup,
            |connection| drop(registry.register(connection, registry.send_queue())),
            BatchSize::SmallInput,
        );
    });
}

/// Writes what waits to nowhere.
fn take(send_queue: &SendQueue) {
    let write = |parts: &[IoSlice<'_>]| Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()));
    let (_, written) = send_queue.drain(|_, parts| write(parts)).unwrap();
    assert_ne!(written, 0);
}

fn connect(registry: &Arc<Registry>, n: usize) -> (Registration, Arc<SendQueue>) {
    let send_queue = registry.send_queue();
    (
        registry.register(Arc::new(connection(n)), send_queue.clone()),
        send_queue,
    )
}

fn connection(n: usize) -> Connection {
    let id = format!("127.0.0.1:{n}");
    Connection::new(
        id.as_str().into(),
        ([127, 0, 0, 1], 1).into(),
        "/ws",
        "",
        "host: localhost",
    )
}
