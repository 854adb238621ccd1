//! The applications behind the gateway: a request goes out, an answer or the reason why there is none comes back.
//!
//! Requests are sent by value and answers come back whole; what speaks which protocol is hidden here.

pub mod fastcgi;
mod guard;
mod http;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{self, UpstreamUrl};
use crate::message::{Failure, Outcome, Request};
use crate::metrics::{Metrics, UpstreamMetrics};
use fastcgi::FastCgi;
use guard::Guard;
use http::{Http, HttpError};

/// All configured upstreams, by index and by name.
pub struct Upstreams(Vec<Upstream>);

struct Upstream {
    name: String,
    timeout: Duration,
    guard: Guard,
    protocol: Protocol,
    metrics: UpstreamMetrics,
}

enum Protocol {
    Http(Http),
    FastCgi(FastCgi),
}

/// An upstream that cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("upstream `{name}` ({url}) cannot be set up")]
pub struct UpstreamError {
    name: String,
    url: UpstreamUrl,
    #[source]
    source: HttpError,
}

impl Upstreams {
    /// Sets up clients. Nothing is connected yet: an upstream may come up later than the gateway.
    pub fn new(upstreams: &[config::Upstream], metrics: &Metrics) -> Result<Self, UpstreamError> {
        upstreams
            .iter()
            .map(|upstream| Upstream::new(upstream, metrics))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The index of a name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|upstream| upstream.name == name)
    }

    /// Sends a request and waits for the whole answer, at most as long as the upstream's time limit.
    ///
    /// Dropping the future gives the request up, whether it waits or is under way.
    pub async fn send(&self, index: usize, request: &Request) -> Outcome {
        let Some(upstream) = self.0.get(index) else {
            return Err(Failure::Other(
                "unknown-upstream".to_owned(),
                format!("there is no upstream {index}"),
            ));
        };
        upstream.send(request).await
    }
}

impl Upstream {
    fn new(config: &config::Upstream, metrics: &Metrics) -> Result<Self, UpstreamError> {
        let fastcgi = |address, script: &String| {
            Protocol::FastCgi(FastCgi::new(fastcgi::Settings {
                address,
                script: script.clone(),
                keep: config.keep,
                max_answer: config.max_answer,
                name: Arc::from(config.name.as_str()),
            }))
        };
        let protocol = match &config.url {
            UpstreamUrl::Http(url) => {
                Http::new(url, config)
                    .map(Protocol::Http)
                    .map_err(|source| UpstreamError {
                        name: config.name.clone(),
                        url: config.url.clone(),
                        source,
                    })?
            }
            UpstreamUrl::FastCgiTcp { address, script } => {
                fastcgi(fastcgi::Address::Tcp(address.clone()), script)
            }
            UpstreamUrl::FastCgiUnix { path, script } => {
                fastcgi(fastcgi::Address::Unix(path.clone()), script)
            }
        };
        Ok(Self {
            name: config.name.clone(),
            timeout: config.timeout,
            guard: Guard::new(config.max_requests, config.max_waiting),
            protocol,
            metrics: metrics.upstream(&config.name),
        })
    }

    async fn send(&self, request: &Request) -> Outcome {
        let started = Instant::now();
        let outcome = match tokio::time::timeout(self.timeout, self.attempt(request)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::Timeout(format!("no answer within {:?}", self.timeout))),
        };
        self.metrics.requests.inc();
        self.metrics.duration.observe(started.elapsed().as_secs_f64());
        if let Err(failure) = &outcome {
            self.metrics.failure(failure.kind());
        }
        outcome
    }

    async fn attempt(&self, request: &Request) -> Outcome {
        let _place = self.guard.enter().await?;
        match &self.protocol {
            Protocol::Http(http) => http.send(request).await,
            Protocol::FastCgi(fastcgi) => fastcgi.send(request).await,
        }
    }
}
