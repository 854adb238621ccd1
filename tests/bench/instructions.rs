//! How many instructions the gateway takes for a frame, counted by callgrind. The count is the same on a busy machine as on a
//! quiet one, so it shows a regression where times say nothing: `cargo bench --bench instructions`, after
//! `tests/setup valgrind php nginx` and `tests/bench/guests/build`.
//!
//! It is the real program under valgrind, asked by one client over a socket; what the kernel does is not counted. Each count
//! is held against `instructions.toml`, and more than a twentieth above it is an error; `-- --record` writes it anew. The
//! profiles are left in `target/instructions`, for `callgrind_annotate`.

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
#[path = "compare/load.rs"]
mod load;
#[path = "compare/wire.rs"]
mod wire;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use tempfile::TempDir;

use gateway::support::{Fpm, Gateway, Nginx, QUICK, guest, repository};
use load::{Exchange, PATIENCE};

/// Before it is counted: instances, pools and buffers are made.
const WARM_UP: u64 = 200;
const FRAMES: u64 = 1000;
/// The least counts: now and then the gateway does something else meanwhile, such as hashing the plugins' files.
const TIMES: usize = 3;
const SUBSCRIBERS: usize = 100;
const PUBLICATIONS: u64 = 10;
/// What a count may be above the recorded one: the epoch's clock goes by time, and so does some of tokio.
const TOLERANCE: f64 = 1.05;

const GUESTS: &str = "tests/bench/guests/target/plugins";
const COUNTS: &str = "tests/bench/instructions.toml";

type Counts = BTreeMap<String, u64>;

#[tokio::main]
async fn main() -> ExitCode {
    let mut counts = Counts::new();
    frames(&mut counts).await;
    publications(&mut counts).await;
    let file = repository(COUNTS);
    if std::env::args().any(|argument| argument == "--record") {
        let head = "# Instructions of the gateway for each, written by `cargo bench --bench instructions -- --record`.\n";
        let lines = counts.iter().map(|(name, count)| format!("{name:?} = {count}\n"));
        std::fs::write(file, head.to_owned() + &lines.collect::<String>()).unwrap();
    }
    judge(&counts)
}

/// Says how the counts stand to those recorded.
fn judge(counts: &Counts) -> ExitCode {
    let recorded = std::fs::read_to_string(repository(COUNTS)).unwrap_or_default();
    let recorded: Counts = toml::from_str(&recorded).unwrap();
    let mut code = ExitCode::SUCCESS;
    for (name, count) in counts {
        let Some(before) = recorded.get(name) else {
            println!("{name:45} {count:>8} instructions, none recorded");
            continue;
        };
        let ratio = *count as f64 / *before as f64;
        println!("{name:45} {count:>8} instructions, {ratio:.3} × those recorded");
        if ratio > TOLERANCE {
            eprintln!("{name}: more than is recorded in {COUNTS}; if that is meant, `-- --record`");
            code = ExitCode::FAILURE;
        }
    }
    code
}

/// What plugins answer, and what PHP does.
async fn frames(counts: &mut Counts) {
    let fpm = Fpm::start(2).await;
    let nginx = Nginx::start(&fpm).await;
    let dir = TempDir::new().unwrap();
    std::fs::create_dir(dir.path().join("plugins")).unwrap();
    let mut config = format!(
        "ping-interval = 0\n[plugins]\ndir = \"plugins\"\n[upstream]\nkeep = 1\n{}",
        fpm.upstream("frames.php")
    );
    for language in ["rust", "javascript"] {
        let file = format!("{language}.wasm");
        std::fs::copy(
            repository(GUESTS).join(&file),
            dir.path().join("plugins").join(&file),
        )
        .expect("tests/bench/guests/build has been run");
        config += &format!("\n[[route]]\npath = \"/{language}\"\nplugins = [\"{language}\"]\n");
    }
    config += "\n[[route]]\npath = \"/ws\"\nplugins = []\n";
    config += "\n[[route]]\npath = \"/nginx\"\nplugins = []\nupstream = \"nginx\"\n";
    config += &format!("[upstreams.nginx]\n{}", nginx.upstream("frames.php"));
    let profiled = Profiled::start(dir, &config).await;
    for (name, path, size) in [
        ("frame to PHP-FPM and back, 64 bytes", "/ws", 64),
        ("frame to PHP-FPM and back, 1 KiB", "/ws", 1024),
        ("frame to PHP through nginx and back, 64 bytes", "/nginx", 64),
        ("frame answered by a Rust plugin, 64 bytes", "/rust", 64),
        ("frame answered by a Rust plugin, 1 KiB", "/rust", 1024),
        (
            "frame answered by a JavaScript plugin, 64 bytes",
            "/javascript",
            64,
        ),
    ] {
        let exchange = Exchange::text(profiled.gateway.clients, path, &"x".repeat(size));
        let mut client = exchange.client();
        (0..WARM_UP).for_each(|_| client.ask());
        let count = (0..TIMES).map(|_| profiled.count(name, || (0..FRAMES).for_each(|_| client.ask())));
        counts.insert(name.to_owned(), count.min().unwrap_or_default() / FRAMES);
    }
}

/// What reaches a subscriber, by a publication to many.
async fn publications(counts: &mut Counts) {
    const TEXT: &str = "a message for all subscribers, of about sixty bytes in length";
    let dir = TempDir::new().unwrap();
    std::fs::create_dir(dir.path().join("plugins")).unwrap();
    std::fs::write(dir.path().join("plugins/events.wasm"), guest("events")).unwrap();
    let profiled = Profiled::start(
        dir,
        &format!(
            "ping-interval = 0\n{QUICK}built-in = \"application\"\n\
             [plugins.config.application]\nopen = false\nclose = false\n"
        ),
    )
    .await;
    let exchange = Exchange::text(profiled.gateway.clients, "/ws?next;subscribe:news", TEXT);
    let mut sockets = exchange.connect_all(SUBSCRIBERS);
    let publication = wire::post(
        "/send",
        "application/json",
        format!("{{\"topic\":\"news\",\"message\":\"{TEXT}\"}}"),
    );
    let mut publish = || {
        let mut socket = TcpStream::connect(profiled.gateway.push).unwrap();
        let measured = exchange.receive(&mut sockets, PATIENCE, || {
            socket.write_all(&publication).unwrap();
            let mut answer = [0; 1024];
            let n = socket.read(&mut answer).unwrap();
            assert!(answer[..n].starts_with(b"HTTP/1.1 20"));
        });
        assert_eq!(measured.answers.len(), SUBSCRIBERS);
    };
    publish();
    let name = "delivery of a publication to a subscriber";
    let count = profiled.count(name, || (0..PUBLICATIONS).for_each(|_| publish()));
    counts.insert(name.to_owned(), count / PUBLICATIONS / SUBSCRIBERS as u64);
}

/// The gateway under callgrind, which counts when it is told to.
struct Profiled {
    gateway: Gateway,
    profiles: PathBuf,
}

impl Profiled {
    async fn start(dir: TempDir, config: &str) -> Self {
        let profiles = repository("target/instructions");
        std::fs::create_dir_all(&profiles).unwrap();
        std::fs::write(
            dir.path().join("aileron.toml"),
            format!("listen = \"127.0.0.1:0\"\n{config}"),
        )
        .unwrap();
        let plain = gateway::support::command(dir.path());
        let mut command = Command::new("valgrind");
        command
            .args(["--tool=callgrind", "--instr-atstart=no", "--collect-jumps=no"])
            .arg(format!("--callgrind-out-file={}", out(&profiles).display()))
            .arg(plain.get_program())
            .current_dir(plain.get_current_dir().unwrap())
            .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
            .env_remove("AILERON_LOG");
        let gateway = Gateway::start_by(command, dir).await;
        Self { gateway, profiles }
    }

    /// Counts what the gateway does meanwhile.
    fn count(&self, name: &str, meanwhile: impl FnOnce()) -> u64 {
        self.control(&["-i", "on"]);
        meanwhile();
        self.control(&["-i", "off"]);
        self.control(&["--dump"]);
        let profile = self
            .profiles
            .join(format!("{}.out", name.replace([' ', ','], "-")));
        // It numbers what it dumps.
        let dumped = std::fs::read_dir(&self.profiles)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| {
                path.to_string_lossy()
                    .starts_with(&*format!("{}.", out(&self.profiles).display()))
            });
        std::fs::rename(dumped.expect("a dump"), &profile).unwrap();
        total(&profile)
    }

    fn control(&self, arguments: &[&str]) {
        let done = Command::new("callgrind_control")
            .args(arguments)
            .arg(self.gateway.process.id().to_string())
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

fn out(profiles: &Path) -> PathBuf {
    profiles.join("callgrind")
}

/// The instructions of a profile.
fn total(profile: &Path) -> u64 {
    let text = std::fs::read_to_string(profile).unwrap();
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    total.unwrap().parse().unwrap()
}
