//! The gateway side by side with its references, in one run: `tests/bench/run` sets up what it takes and writes what comes
//! of it into the README and `tests/bench/results.svg`.
//!
//! Contenders take turns within each round, so that a machine that is busy for a moment disturbs all alike; medians of the
//! rounds count, and their ratios. The load comes from the same machine and shares its processors with each server.
//!
//! `cargo bench --bench compare [ROW...]` measures the rows whose names contain a word.

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

#[path = "../../gateway"]
mod gateway {
    pub mod support;
}
mod bare;
mod load;
mod report;
mod rows;
mod servers;
mod wire;

use report::Row;

fn main() {
    let words: Vec<_> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let address = |n: usize| words[n].parse().unwrap();
    match words.first().map(String::as_str) {
        // It has no runtime.
        Some("serve-bare") => bare::serve(address(1), address(2)),
        Some("serve-echo") => servers::serve_echo(address(1)),
        _ => compare(&words),
    }
}

#[tokio::main]
async fn compare(words: &[String]) {
    let is_wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    let mut rows = Vec::new();
    for (name, measured) in rows::all() {
        if is_wanted(name) {
            for row in measured.await {
                println!("{}\n    {}", row.markdown(), row.spread());
                for target in &row.targets {
                    println!("    {}", row.judge(target));
                }
                rows.push(row);
            }
        }
    }
    println!("\n{}", report::table(&rows));
    if words.is_empty() {
        report::write(&rows);
    }
}

/// Lets this process, and those that it starts, open as many sockets as the machine allows.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}
