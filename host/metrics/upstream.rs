//! What is counted for each upstream.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::Histograms;

label!(ByUpstream { upstream });
label!(UpstreamFailure { upstream, kind });
label!(UpstreamRefusal { upstream, key });
label!(UpstreamUnfinished { upstream, result });

/// The metrics of all upstreams.
pub(super) struct Upstreams {
    requests: Family<ByUpstream, Counter>,
    duration: Histograms<ByUpstream>,
    failures: Family<UpstreamFailure, Counter>,
    under_way: Family<ByUpstream, Gauge>,
    waiting: Family<ByUpstream, Gauge>,
    refusals: Family<UpstreamRefusal, Counter>,
    abandoned: Family<ByUpstream, Counter>,
    retries: Family<ByUpstream, Counter>,
    unfinished: Family<UpstreamUnfinished, Counter>,
    circuit: Family<ByUpstream, Gauge>,
}

/// What one upstream counts.
#[derive(Clone, Debug)]
pub struct UpstreamMetrics {
    name: String,
    /// Requests that were asked for, whether sent or not.
    pub requests: Counter,
    /// From the decision to the end, in seconds.
    pub duration: Histogram,
    /// Requests under way.
    pub under_way: Gauge,
    /// Requests that wait for their turn.
    pub waiting: Gauge,
    /// Requests whose client went while they waited; they were not sent.
    pub abandoned: Counter,
    /// Retries after nothing could be sent.
    pub retries: Counter,
    /// The state of the circuit breaker: 0 closed, 1 half-open, 2 open.
    pub circuit: Gauge,
    failures: Family<UpstreamFailure, Counter>,
    refusals: Family<UpstreamRefusal, Counter>,
    unfinished: Family<UpstreamUnfinished, Counter>,
}

/// A request takes from a tenth of a millisecond to the time limit.
fn request_buckets() -> Histogram {
    Histogram::new([
        0.1e-3, 0.2e-3, 0.5e-3, 1e-3, 2e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    ])
}

impl Default for Upstreams {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            duration: Family::new_with_constructor(request_buckets),
            failures: Family::default(),
            under_way: Family::default(),
            waiting: Family::default(),
            refusals: Family::default(),
            abandoned: Family::default(),
            retries: Family::default(),
            unfinished: Family::default(),
            circuit: Family::default(),
        }
    }
}

impl Upstreams {
    pub(super) fn register(&self, r: &mut Registry) {
        r.register(
            "upstream_requests",
            "Requests for upstreams",
            self.requests.clone(),
        );
        r.register(
            "upstream_request_seconds",
            "Duration of requests, waiting included",
            self.duration.clone(),
        );
        r.register(
            "upstream_failures",
            "Requests without an answer",
            self.failures.clone(),
        );
        r.register(
            "upstream_under_way",
            "Requests under way (max-requests)",
            self.under_way.clone(),
        );
        r.register(
            "upstream_waiting",
            "Requests that wait for their turn (max-waiting)",
            self.waiting.clone(),
        );
        r.register(
            "upstream_refusals",
            "Requests refused without being sent, by the key that says so",
            self.refusals.clone(),
        );
        r.register(
            "upstream_abandoned",
            "Requests dropped unsent because their client went while they waited",
            self.abandoned.clone(),
        );
        r.register(
            "upstream_retries",
            "Further tries after nothing could be sent (retries)",
            self.retries.clone(),
        );
        r.register(
            "upstream_unfinished",
            "Requests given up while their body was being sent, by what became of the rest: sent or cut",
            self.unfinished.clone(),
        );
        r.register(
            "upstream_circuit",
            "State of the circuit breaker: 0 closed, 1 half-open, 2 open",
            self.circuit.clone(),
        );
    }

    pub(super) fn one(&self, name: &str) -> UpstreamMetrics {
        let label = ByUpstream {
            upstream: name.to_owned(),
        };
        UpstreamMetrics {
            name: name.to_owned(),
            requests: self.requests.get_or_create_owned(&label),
            duration: self.duration.get_or_create_owned(&label),
            under_way: self.under_way.get_or_create_owned(&label),
            waiting: self.waiting.get_or_create_owned(&label),
            abandoned: self.abandoned.get_or_create_owned(&label),
            retries: self.retries.get_or_create_owned(&label),
            circuit: self.circuit.get_or_create_owned(&label),
            failures: self.failures.clone(),
            refusals: self.refusals.clone(),
            unfinished: self.unfinished.clone(),
        }
    }
}

impl UpstreamMetrics {
    /// Counts a request that got no answer.
    pub fn failure(&self, kind: &str) {
        let label = UpstreamFailure {
            upstream: self.name.clone(),
            kind: kind.to_owned(),
        };
        self.failures.get_or_create(&label).inc();
    }

    /// Counts a request that was refused, by the key that says so: `max-waiting`, `max-wait` or `breaker`.
    pub fn refused(&self, key: &str) {
        let label = UpstreamRefusal {
            upstream: self.name.clone(),
            key: key.to_owned(),
        };
        self.refusals.get_or_create(&label).inc();
    }

    /// Counts a request that was given up while it was being sent, by what became of the rest: `sent` or `cut`.
    pub fn unfinished(&self, result: &str) {
        let label = UpstreamUnfinished {
            upstream: self.name.clone(),
            result: result.to_owned(),
        };
        self.unfinished.get_or_create(&label).inc();
    }
}
