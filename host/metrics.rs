//! Every metric of the gateway, with its name, in one place; shown at `/metrics` in the text format of Prometheus.
//!
//! Those who count fetch their handles once and keep them, so that counting is a single atomic addition.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// A set of labels.
macro_rules! label {
    ($type:ident { $($field:ident),+ }) => {
        #[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
        struct $type {
            $($field: String),+
        }
    };
}

mod upstream;

pub use upstream::UpstreamMetrics;

label!(Direction { direction });
label!(ByPlugin { plugin });
label!(PluginFailure { plugin, cause });
label!(Outcome { result });
label!(Cause { cause });
label!(ByName { name, result });

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// All metrics.
pub struct Metrics {
    registry: Registry,
    /// Connections that are open.
    pub connections: Gauge,
    /// Connections since the start.
    pub connections_total: Counter,
    /// Frames that clients sent.
    pub frames_in: Counter,
    /// Frames that were sent to clients.
    pub frames_out: Counter,
    /// Frames that were refused because a client's queue was full.
    pub congested: Counter,
    /// Requests on the push listener.
    pub pushes: Counter,
    /// Messages for topics.
    pub published: Counter,
    /// Topics that have subscribers or a history.
    pub topics: Gauge,
    /// What all histories cost, in bytes.
    pub history: Gauge,
    /// Messages of histories that were dropped for lack of room.
    pub history_trimmed: Counter,
    /// Topics with a history and without subscribers.
    pub idle_topics: Gauge,
    /// Such topics that were forgotten for lack of room.
    pub idle_topics_forgotten: Counter,
    /// Bytes in all outbound queues.
    pub queues: Gauge,
    /// Bytes that have come in and are not done with.
    pub inbound: Gauge,
    /// Clients that were closed because too much had come in.
    pub inbound_relief: Counter,
    /// Log lines for which there was no room.
    pub log_lines_dropped: Counter,
    /// Close events that wait to be delivered.
    pub close_events_waiting: Gauge,
    /// Plugin versions in memory, including those that are only finishing what they began.
    pub generations: Gauge,
    /// Plugin instances in memory.
    pub instances: Gauge,
    /// How long components took to compile or to come from the cache, in seconds.
    pub compile: Histogram,
    plugin_calls: Family<ByPlugin, Counter>,
    plugin_duration: Histograms<ByPlugin>,
    plugin_failures: Family<PluginFailure, Counter>,
    reloads: Family<Outcome, Counter>,
    handshakes: Family<Outcome, Counter>,
    slow_clients: Family<Outcome, Counter>,
    push_refusals: Family<Cause, Counter>,
    certificates: Family<Outcome, Counter>,
    close_events: Family<Outcome, Counter>,
    schedules: Family<ByName, Counter>,
    upstreams: upstream::Upstreams,
}

/// What one plugin counts.
pub struct PluginMetrics {
    name: String,
    /// Calls of handlers.
    pub calls: Counter,
    /// How long calls took, in seconds.
    pub duration: Histogram,
    failures: Family<PluginFailure, Counter>,
}

/// A call of a plugin takes from a fraction of a microsecond to the time limit.
fn call_buckets() -> Histogram {
    Histogram::new([
        0.5e-6, 1e-6, 2e-6, 5e-6, 10e-6, 20e-6, 50e-6, 100e-6, 1e-3, 10e-3, 100e-3,
    ])
}

impl Default for Metrics {
    fn default() -> Self {
        let frames = Family::<Direction, Counter>::default();
        let direction = |name: &str| {
            frames.get_or_create_owned(&Direction {
                direction: name.to_owned(),
            })
        };
        let mut metrics = Self {
            registry: Registry::with_prefix("aileron"),
            connections: Gauge::default(),
            connections_total: Counter::default(),
            frames_in: direction("in"),
            frames_out: direction("out"),
            congested: Counter::default(),
            pushes: Counter::default(),
            published: Counter::default(),
            topics: Gauge::default(),
            history: Gauge::default(),
            history_trimmed: Counter::default(),
            idle_topics: Gauge::default(),
            idle_topics_forgotten: Counter::default(),
            queues: Gauge::default(),
            inbound: Gauge::default(),
            inbound_relief: Counter::default(),
            log_lines_dropped: Counter::default(),
            close_events_waiting: Gauge::default(),
            generations: Gauge::default(),
            instances: Gauge::default(),
            compile: Histogram::new([1e-3, 5e-3, 20e-3, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0]),
            plugin_calls: Family::default(),
            plugin_duration: Family::new_with_constructor(call_buckets),
            plugin_failures: Family::default(),
            reloads: Family::default(),
            handshakes: Family::default(),
            slow_clients: Family::default(),
            push_refusals: Family::default(),
            certificates: Family::default(),
            close_events: Family::default(),
            schedules: Family::default(),
            upstreams: upstream::Upstreams::default(),
        };
        metrics.register(frames);
        metrics
    }
}

impl Metrics {
    fn register(&mut self, frames: Family<Direction, Counter>) {
        let r = &mut self.registry;
        r.register(
            "connections",
            "Connections that are open",
            self.connections.clone(),
        );
        r.register(
            "connections_accepted",
            "Connections since the start",
            self.connections_total.clone(),
        );
        r.register("frames", "Frames from and to clients", frames);
        r.register(
            "frames_congested",
            "Frames refused by a full queue",
            self.congested.clone(),
        );
        r.register("pushes", "Requests on the push listener", self.pushes.clone());
        r.register("handshakes", "Handshakes by result", self.handshakes.clone());
        r.register(
            "slow_clients",
            "Subscribers closed for a full queue, and publications dropped from one",
            self.slow_clients.clone(),
        );
        r.register("queue_bytes", "Bytes in all outbound queues", self.queues.clone());
        r.register(
            "inbound_bytes",
            "Bytes that have come in from clients and are not done with",
            self.inbound.clone(),
        );
        r.register(
            "inbound_closed",
            "Clients closed because too much had come in",
            self.inbound_relief.clone(),
        );
        r.register(
            "pushes_refused",
            "Requests on the push listener that were not let in",
            self.push_refusals.clone(),
        );
        r.register(
            "certificates",
            "Changes of the certificate by result",
            self.certificates.clone(),
        );
        r.register(
            "log_lines_dropped",
            "Log lines dropped because standard error was not read",
            self.log_lines_dropped.clone(),
        );
        r.register("publications", "Messages for topics", self.published.clone());
        r.register(
            "topics",
            "Topics that have subscribers or a history",
            self.topics.clone(),
        );
        r.register(
            "history_bytes",
            "Bytes that all histories cost",
            self.history.clone(),
        );
        r.register(
            "history_trimmed",
            "Messages of histories dropped because of max-history",
            self.history_trimmed.clone(),
        );
        r.register(
            "idle_topics",
            "Topics with a history and without subscribers",
            self.idle_topics.clone(),
        );
        r.register(
            "idle_topics_forgotten",
            "Idle topics forgotten because of max-idle-topics or max-history",
            self.idle_topics_forgotten.clone(),
        );
        r.register(
            "close_events_waiting",
            "Close events that wait to be delivered",
            self.close_events_waiting.clone(),
        );
        r.register(
            "close_events",
            "Tries to deliver close events by result",
            self.close_events.clone(),
        );
        r.register("schedules", "Runs of schedules by result", self.schedules.clone());
        r.register(
            "plugin_generations",
            "Plugin versions in memory",
            self.generations.clone(),
        );
        r.register(
            "plugin_instances",
            "Plugin instances in memory",
            self.instances.clone(),
        );
        r.register(
            "plugin_compile_seconds",
            "Time to compile or load from the cache",
            self.compile.clone(),
        );
        r.register("plugin_calls", "Calls of handlers", self.plugin_calls.clone());
        r.register(
            "plugin_call_seconds",
            "Duration of calls",
            self.plugin_duration.clone(),
        );
        r.register(
            "plugin_failures",
            "Calls that trapped or overran a limit",
            self.plugin_failures.clone(),
        );
        r.register(
            "plugin_reloads",
            "Changes of plugin files by result",
            self.reloads.clone(),
        );
        self.upstreams.register(r);
    }

    /// The text for `/metrics`.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// Handles for one plugin.
    pub fn plugin(&self, name: &str) -> PluginMetrics {
        let label = ByPlugin {
            plugin: name.to_owned(),
        };
        PluginMetrics {
            name: name.to_owned(),
            calls: self.plugin_calls.get_or_create_owned(&label),
            duration: self.plugin_duration.get_or_create_owned(&label),
            failures: self.plugin_failures.clone(),
        }
    }

    /// Handles for one upstream.
    pub fn upstream(&self, name: &str) -> UpstreamMetrics {
        self.upstreams.one(name)
    }

    /// Counts a change of a plugin file: `loaded`, `refused`, `rolled-back` or `removed`.
    pub fn reload(&self, result: &str) {
        count(&self.reloads, result);
    }

    /// Counts a handshake: `accepted`, refused by `origin`, `plugin` or `violation`, refused by the limit
    /// `max-connections`, `max-connections-per-address` or `max-handshakes-per-second`, or dropped before its request
    /// was there by `timeout`, `tls` or `proxy-protocol`.
    pub fn handshake(&self, result: &str) {
        count(&self.handshakes, result);
    }

    /// Counts what was done about slow subscribers: `closed` or `dropped`.
    pub fn slow_client(&self, result: &str, n: usize) {
        if n > 0 {
            let label = Outcome {
                result: result.to_owned(),
            };
            self.slow_clients.get_or_create(&label).inc_by(n as u64);
        }
    }

    /// Counts a request on the push listener that was not let in: by `address`, `credential`, `origin`, `body` or
    /// `timeout`.
    pub fn push_refused(&self, cause: &str) {
        let label = Cause {
            cause: cause.to_owned(),
        };
        self.push_refusals.get_or_create(&label).inc();
    }

    /// Counts a change of the certificate's files: `loaded` or `refused`.
    pub fn certificate(&self, result: &str) {
        count(&self.certificates, result);
    }

    /// Counts a try to deliver a close event: `delivered`, `retried` or `lost`.
    pub fn close_event(&self, result: &str) {
        count(&self.close_events, result);
    }

    /// Counts a run of a schedule: `done`, `failed` or `unheard`.
    pub fn schedule(&self, name: &str, result: &str) {
        let label = ByName {
            name: name.to_owned(),
            result: result.to_owned(),
        };
        self.schedules.get_or_create(&label).inc();
    }
}

fn count(family: &Family<Outcome, Counter>, result: &str) {
    let label = Outcome {
        result: result.to_owned(),
    };
    family.get_or_create(&label).inc();
}

impl PluginMetrics {
    /// Counts a call that failed, by its cause: `trap`, `time`, `memory`, `start`, `calls`, `overloaded`.
    pub fn failure(&self, cause: &str) {
        let label = PluginFailure {
            plugin: self.name.clone(),
            cause: cause.to_owned(),
        };
        self.failures.get_or_create(&label).inc();
    }

    /// How many calls have failed for a cause.
    pub fn failures(&self, cause: &str) -> u64 {
        let label = PluginFailure {
            plugin: self.name.clone(),
            cause: cause.to_owned(),
        };
        self.failures.get_or_create(&label).get()
    }
}
