//! What is left when the load has stopped: by the gateway's own metrics and by what the system says of the process.

use std::fmt::Write;
use std::time::{Duration, Instant};

use crate::gateway::support::Gateway;
use crate::load::{TOLD, Tally};

/// What must be gone.
const GONE: [&str; 6] = [
    "aileron_connections",
    "aileron_topics",
    "aileron_queue_bytes",
    "aileron_inbound_bytes",
    "aileron_history_bytes",
    "aileron_close_events_waiting",
];
const GENERATIONS: &str = "aileron_plugin_generations";
/// Histories end by time; close events are sent again after ever longer pauses.
const LONG: Duration = Duration::from_secs(180);
/// What memory may differ by from one rest to the next: a share, and a constant for what an allocator keeps.
const MEMORY_SHARE: f64 = 1.25;
const MEMORY_MORE: usize = 16 << 20;
/// Connections that this program itself keeps for pushes, and threads that slow plugins get.
const MORE: usize = 8;

/// By the gateway's own count.
const COUNTED: [(&str, &str); 6] = [
    (
        "aileron_slow_clients_total{result=\"closed\"}",
        "slow clients closed",
    ),
    (
        "aileron_close_events_total{result=\"retried\"}",
        "close events sent again",
    ),
    (
        "aileron_plugin_failures_total{plugin=\"misbehave\",cause=\"trap\"}",
        "traps of a plugin",
    ),
    (
        "aileron_plugin_failures_total{plugin=\"misbehave\",cause=\"memory\"}",
        "failures of a plugin for memory",
    ),
    (
        "aileron_plugin_failures_total{plugin=\"misbehave\",cause=\"time\"}",
        "failures of a plugin for time",
    ),
    ("aileron_close_events_total{result=\"lost\"}", "close events lost"),
];

pub struct Rest {
    memory: usize,
    descriptors: usize,
    threads: usize,
    generations: f64,
}

impl Rest {
    pub async fn of(gateway: &Gateway) -> Self {
        let process = format!("/proc/{}", gateway.process.id());
        let count = |dir: &str| std::fs::read_dir(format!("{process}/{dir}")).unwrap().count();
        Self {
            memory: gateway.memory(),
            descriptors: count("fd"),
            threads: count("task"),
            generations: gateway.metric(GENERATIONS).await,
        }
    }

    /// Waits until everything that is to go has gone, and PHP has heard of every connection's end.
    pub async fn settled(gateway: &Gateway, tally: &Tally, fresh: &Self) -> Self {
        let began = Instant::now();
        loop {
            let left = Self::left(gateway, tally, fresh).await;
            if left.is_empty() {
                return Self::of(gateway).await;
            }
            assert!(began.elapsed() < LONG, "left after {LONG:?}: {left:#?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// What has not gone yet.
    async fn left(gateway: &Gateway, tally: &Tally, fresh: &Self) -> Vec<String> {
        let mut left = Vec::new();
        for metric in GONE {
            let value = gateway.metric(metric).await;
            if value != 0.0 {
                left.push(format!("{metric} {value}"));
            }
        }
        let generations = gateway.metric(GENERATIONS).await;
        if generations != fresh.generations {
            left.push(format!(
                "{GENERATIONS} {generations} instead of {}",
                fresh.generations
            ));
        }
        let told = tally.of(TOLD) as f64;
        let delivered = gateway
            .metric("aileron_close_events_total{result=\"delivered\"}")
            .await;
        if delivered != told {
            left.push(format!("{delivered} close events delivered of {told}"));
        }
        left
    }

    pub fn beside(&self, first: &Self) -> String {
        let line = |what: &str, first: String, last: String| format!("{what:<14} {first:>12} {last:>12}\n");
        let mega = |bytes: usize| format!("{:.1} MB", bytes as f64 / 1e6);
        [
            line("at rest", "warmed up".to_owned(), "at the end".to_owned()),
            line("memory", mega(first.memory), mega(self.memory)),
            line(
                "descriptors",
                first.descriptors.to_string(),
                self.descriptors.to_string(),
            ),
            line("threads", first.threads.to_string(), self.threads.to_string()),
            line(
                "generations",
                first.generations.to_string(),
                self.generations.to_string(),
            ),
        ]
        .concat()
    }

    pub fn is_near(&self, first: &Self) {
        let most = (first.memory as f64 * MEMORY_SHARE) as usize + MEMORY_MORE;
        assert!(
            self.memory <= most,
            "memory has grown from {} to {}",
            first.memory,
            self.memory
        );
        assert!(
            self.descriptors <= first.descriptors + MORE,
            "descriptors are left open"
        );
        assert!(self.threads <= first.threads + MORE, "threads are left");
    }
}

/// What the gateway itself has counted of what went wrong around it.
pub async fn counted(gateway: &Gateway) -> String {
    let mut lines = String::new();
    for (metric, what) in COUNTED {
        let _ = writeln!(lines, "{:>12}  {what}", gateway.metric(metric).await);
    }
    lines
}

/// A line of the curve.
pub async fn say(gateway: &Gateway, when: &str) {
    let now = Rest::of(gateway).await;
    let connections = gateway.metric("aileron_connections").await;
    let instances = gateway.metric("aileron_plugin_instances").await;
    println!(
        "{:>7.1} MB, {connections:>4} connections, {:>4} descriptors, {:>3} threads, {instances:>3} instances   {when}",
        now.memory as f64 / 1e6,
        now.descriptors,
        now.threads,
    );
}
