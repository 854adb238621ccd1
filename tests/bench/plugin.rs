//! What plugins cost in the path of a frame: `cargo bench --bench plugin`, after `tests/bench/guests/build`. By criterion,
//! whose options may follow behind `--`, such as a part of a name.
//!
//! A frame is measured as a session handles it, from the message to the action, but for the socket: look up the chain, call
//! each plugin of it, step on until nothing is left. In a chain of `n` plugins all hand the message on but the last, which
//! replies with it. The names are LANGUAGE/SIZE OF THE MESSAGE/LENGTH OF THE CHAIN; `plain` is the same echo as a function
//! in Rust. `parts` has what each frame pays whoever answers, and `threads` whether two threads do twice as much as one.
//!
//! Times are CPU time of the thread, so that what else the machine does counts as little as it can, but for `threads`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a benchmark stops at the first surprise, and its modules are its own"
)]

mod cpu_time;

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};

use aileron::config::{Config, Overrides, PathPattern};
use aileron::dispatch::{Dispatch, Step};
use aileron::message::{Action, Connection, Effect, Event, Payload};
use aileron::metrics::Metrics;
use aileron::plugin::{Call, Plugins};
use aileron::registry::Registry;
use cpu_time::CpuTime;

const LANGUAGES: [&str; 3] = ["rust", "javascript", "python"];
const LENGTHS: [usize; 4] = [1, 2, 4, 8];
const SIZES: [usize; 4] = [16, 64, 1024, 65536];

fn main() {
    let mut criterion = Criterion::default()
        .with_measurement(CpuTime)
        .sample_size(30)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let gateway = Gateway::new();
    frames(&mut criterion, &gateway);
    parts(&mut criterion, &gateway);
    threads(&mut criterion, &gateway);
    criterion.final_summary();
}

fn frames(criterion: &mut Criterion<CpuTime>, gateway: &Gateway) {
    for size in SIZES {
        let message = message(size);
        criterion.bench_function(&format!("plain/{size}"), |bencher| {
            bencher.iter(|| plain(&gateway.connection, &message));
        });
        for language in LANGUAGES {
            for length in LENGTHS {
                let route = gateway.route(language, length);
                criterion.bench_function(&format!("{language}/{size}/{length}"), |bencher| {
                    bencher.iter(|| gateway.frame(route, &message));
                });
            }
        }
    }
}

/// What is paid for each frame, and for each call with the least in it and out of it.
fn parts(criterion: &mut Criterion<CpuTime>, gateway: &Gateway) {
    let longest = LENGTHS[LENGTHS.len() - 1];
    criterion.bench_function("parts/chain lookup", |bencher| {
        let route = gateway.route("rust", 1);
        bencher.iter(|| gateway.plugins.chain(route));
    });
    for language in LANGUAGES {
        // The first one of the longest chain hands on.
        let version = &gateway.plugins.chain(gateway.route(language, longest))[0];
        let event = Event::Frame {
            connection: gateway.connection.clone(),
            message: message(0),
        };
        criterion.bench_function(&format!("parts/instance checkout, {language}"), |bencher| {
            bencher.iter(|| version.check_out());
        });
        criterion.bench_function(&format!("parts/empty call, {language}"), |bencher| {
            bencher.iter(|| match version.call(&event, &event, 1) {
                Call::Done(result) => result.unwrap(),
                Call::Queued(_) => panic!("found to be slow"),
            });
        });
    }
}

/// By the clock, and for one frame on each thread: the time stays the same where threads do not hinder each other.
fn threads(criterion: &mut Criterion<CpuTime>, gateway: &Gateway) {
    let message = message(64);
    for language in LANGUAGES {
        let route = gateway.route(language, 1);
        for threads in [1, 2] {
            let mut group = criterion.benchmark_group("threads");
            group.throughput(Throughput::Elements(threads));
            group.bench_function(format!("{language}/{threads}"), |bencher| {
                bencher.iter_custom(|frames| {
                    let started = Instant::now();
                    std::thread::scope(|scope| {
                        for _ in 0..threads {
                            scope.spawn(|| {
                                for _ in 0..frames {
                                    black_box(gateway.frame(route, &message));
                                }
                            });
                        }
                    });
                    started.elapsed()
                });
            });
        }
    }
}

/// The plugins of a gateway, with a route for each language and length of a chain.
struct Gateway {
    plugins: Arc<Plugins>,
    config: Config,
    connection: Arc<Connection>,
}

impl Gateway {
    fn new() -> Self {
        let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/guests/target/plugins");
        let dir = tempfile::TempDir::new().unwrap();
        let mut file = String::from("[plugins]\ndir = \".\"\n");
        for language in LANGUAGES {
            // The last one of each chain has the number 0, those before it count down to 1.
            for number in 0..LENGTHS[LENGTHS.len() - 1] {
                let guest = guests.join(format!("{language}.wasm"));
                std::fs::copy(guest, dir.path().join(format!("{number}-{language}.wasm")))
                    .expect("tests/bench/guests/build has been run");
            }
            writeln!(file, "[plugins.config.{language}]\nact = \"next\"").unwrap();
            writeln!(file, "[plugins.config.0-{language}]\nact = \"reply\"").unwrap();
            for length in LENGTHS {
                let chain: Vec<_> = (0..length).rev().map(|n| format!("{n}-{language}")).collect();
                let path = path(language, length);
                writeln!(file, "[[route]]\npath = {path:?}\nplugins = {chain:?}").unwrap();
            }
        }
        let config_file = dir.path().join("aileron.toml");
        std::fs::write(&config_file, file).unwrap();
        let config = Config::load(Some(&config_file), Overrides::default()).unwrap();
        let registry = Arc::new(Registry::default());
        let plugins = Plugins::new(&config, registry, Arc::new(Metrics::default())).unwrap();
        let connection = Connection::new(
            "127.0.0.1:51110".into(),
            ([127, 0, 0, 1], 51110).into(),
            "/ws",
            "",
            "",
        );
        Self {
            plugins,
            config,
            connection: Arc::new(connection),
        }
    }

    fn route(&self, language: &str, length: usize) -> usize {
        let path = PathPattern::Exact(path(language, length));
        let route = self.config.routes.iter().position(|route| route.path == path);
        let route = route.unwrap();
        // The plugins of the route, and the built-in one behind them.
        assert_eq!(self.plugins.chain(route).len(), length + 1);
        route
    }

    /// A frame as a session handles it.
    fn frame(&self, route: usize, message: &Payload) -> Payload {
        let event = Event::Frame {
            connection: self.connection.clone(),
            message: message.clone(),
        };
        let mut dispatch = Dispatch::begin(self.plugins.chain(route), event);
        let Step::Act(Action::Reply(reply)) = dispatch.step() else {
            panic!("no reply");
        };
        dispatch.note(Effect::new("sent"));
        assert!(matches!(dispatch.step(), Step::Done));
        reply
    }
}

/// What the guests do. Not inlined: a plugin is not known when the gateway is compiled.
#[inline(never)]
fn plain(_peer: &Connection, message: &Payload) -> Vec<Action> {
    vec![Action::Reply(message.clone())]
}

fn path(language: &str, length: usize) -> String {
    format!("/{language}/{length}")
}

fn message(size: usize) -> Payload {
    Payload::Text("x".repeat(size).into())
}
