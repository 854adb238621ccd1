//! How long the gateway takes from its start until it listens: `cargo bench --bench start`, after
//! `tests/bench/guests/build`. With no plugin, with one of each language, and with all three; cold, when nothing has been
//! compiled before, and warm, when the compiled plugins are in the cache. Turns alternate, so that a machine that is busy
//! for a moment disturbs all alike.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark stops at the first surprise"
)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const COLD_ROUNDS: usize = 3;
const WARM_ROUNDS: usize = 15;

const CASES: [(&str, &[&str]); 5] = [
    ("no plugin", &[]),
    ("Rust", &["rust"]),
    ("JavaScript", &["javascript"]),
    ("Python", &["python"]),
    ("all three", &["rust", "javascript", "python"]),
];

fn main() {
    let dirs = CASES.map(|(_, plugins)| gateway_with(plugins));
    let mut cold = CASES.map(|_| Vec::new());
    let mut warm = CASES.map(|_| Vec::new());
    for _ in 0..COLD_ROUNDS {
        for (dir, times) in dirs.iter().zip(&mut cold) {
            let _ = std::fs::remove_dir_all(dir.path().join("cache"));
            times.push(start(dir.path()));
        }
    }
    for _ in 0..WARM_ROUNDS {
        for (dir, times) in dirs.iter().zip(&mut warm) {
            times.push(start(dir.path()));
        }
    }
    println!(
        "from the start to listening; medians (least) of {COLD_ROUNDS} cold and {WARM_ROUNDS} warm starts\n"
    );
    println!("{:12} {:>22} {:>22}", "plugins", "cold", "warm");
    for (((name, _), cold), warm) in CASES.iter().zip(cold).zip(warm) {
        println!("{name:12} {:>22} {:>22}", shown(cold), shown(warm));
    }
}

/// A directory with a configuration, these plugins, and a cache of its own.
fn gateway_with(plugins: &[&str]) -> TempDir {
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/guests/target/plugins");
    let dir = TempDir::new().unwrap();
    std::fs::create_dir(dir.path().join("plugins")).unwrap();
    for plugin in plugins {
        let file = format!("{plugin}.wasm");
        std::fs::copy(guests.join(&file), dir.path().join("plugins").join(&file))
            .expect("tests/bench/guests/build has been run");
    }
    let config = "listen = \"127.0.0.1:0\"\n[plugins]\ndir = \"plugins\"\ncache = \"cache\"\n";
    std::fs::write(dir.path().join("aileron.toml"), config).unwrap();
    dir
}

/// Starts it, and ends it when it listens.
fn start(dir: &Path) -> Duration {
    let started = Instant::now();
    let mut gateway = Command::new(env!("CARGO_BIN_EXE_aileron"))
        .current_dir(dir)
        .env_remove("AILERON_LOG")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(gateway.stderr.take().unwrap()).lines();
    let mut said = String::new();
    let listens = lines.by_ref().map_while(Result::ok).any(|line| {
        said.push_str(&line);
        line.contains("listening on ws")
    });
    let took = started.elapsed();
    let _ = gateway.kill();
    gateway.wait().unwrap();
    assert!(listens && !said.contains("ERROR"), "{said}");
    took
}

fn shown(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let (least, median) = (times.first().unwrap(), times.get(times.len() / 2).unwrap());
    format!("{median:.1?} ({least:.1?})")
}
