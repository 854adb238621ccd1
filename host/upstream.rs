//! The applications behind the gateway: a request goes out, and an answer, or the reason why there is none, comes back.
//!
//! Requests are sent by value and answers come back whole; which protocol an upstream speaks is hidden here. `guard` decides
//! when a request may go out, and each request tells the application how long the gateway waits for the answer.

pub mod fastcgi;
mod foreign;
mod guard;
mod http;
mod own_headers;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep, timeout_at};

use crate::backoff::pause;
use crate::budget::Budget;
use crate::config::{self, UpstreamUrl};
use crate::message::{Connection, Failure, Flow, Outcome, Request, Response};
use crate::metrics::{Metrics, UpstreamMetrics};
use fastcgi::FastCgi;
use guard::{Guard, Pass};
use http::{Http, HttpError};
use own_headers::OwnHeaders;

/// The pause before the first retry.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause before a retry.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// All configured upstreams, by index and by name.
pub struct Upstreams {
    list: Vec<Arc<Upstream>>,
    inbound: Arc<Budget>,
}

struct Upstream {
    /// What it was made from.
    config: config::Upstream,
    name: String,
    timeout: Duration,
    retries: usize,
    guard: Guard,
    own_headers: OwnHeaders,
    protocol: Protocol,
    metrics: UpstreamMetrics,
}

enum Protocol {
    Http(Http),
    FastCgi(FastCgi),
}

/// A request whose turn has come. Dropping it passes the turn on to the next.
pub struct Turn<'a> {
    upstream: &'a Upstream,
    pass: Pass<'a>,
    /// When it began to wait.
    began: Instant,
}

/// Why a try gave no answer.
#[derive(Debug)]
pub struct Unanswered {
    /// Nothing of the request went out, so it can be sent again.
    pub is_unsent: bool,
    /// The cause.
    pub failure: Failure,
}

/// A request that cannot be sent at all will not do better the next time.
impl From<Failure> for Unanswered {
    fn from(failure: Failure) -> Self {
        Self {
            is_unsent: false,
            failure,
        }
    }
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
    /// Sets up clients. Nothing is connected yet: an upstream may come up later than the gateway. Requests that are sent
    /// although nobody waits for them any more count for `inbound`.
    pub fn new(
        upstreams: &[config::Upstream],
        metrics: &Metrics,
        inbound: Arc<Budget>,
    ) -> Result<Self, UpstreamError> {
        let list = Vec::new();
        Self { list, inbound }.changed(upstreams, metrics)
    }

    /// The upstreams of another configuration. Those that have not changed go on, with all that they have learned; those that
    /// have changed keep their requests, so that never more are under way than may be.
    pub fn changed(&self, upstreams: &[config::Upstream], metrics: &Metrics) -> Result<Self, UpstreamError> {
        // All of them first: nothing may have changed if one cannot be set up.
        let made = upstreams.iter().map(|config| {
            let same = self.list.iter().find(|upstream| upstream.config == *config);
            match same {
                Some(upstream) => Ok(Ok(upstream.clone())),
                None => Upstream::new(config, metrics, &self.inbound).map(Err),
            }
        });
        let made: Vec<Result<_, Upstream>> = made.collect::<Result<_, UpstreamError>>()?;
        let list = made.into_iter().map(|made| {
            made.unwrap_or_else(|mut fresh| {
                let before = self.list.iter().find(|upstream| upstream.name == fresh.name);
                if let Some(before) = before {
                    fresh.guard.replace(&before.guard);
                }
                Arc::new(fresh)
            })
        });
        Ok(Self {
            list: list.collect(),
            inbound: self.inbound.clone(),
        })
    }

    /// The index of a name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.list.iter().position(|upstream| upstream.name == name)
    }

    /// Sends a request and waits for the whole answer, at most as long as the upstream's time limit.
    ///
    /// Dropping the future abandons the request, whether it waits or is under way.
    pub async fn send(
        &self,
        index: usize,
        flow: Flow,
        request: Request,
        client: Option<Arc<Connection>>,
    ) -> Outcome {
        self.turn(index, flow).await?.send(request, client).await
    }

    /// Waits for the turn of a request. Nothing is sent until then, and dropping the future gives up.
    pub async fn turn(&self, index: usize, flow: Flow) -> Result<Turn<'_>, Failure> {
        let Some(upstream) = self.list.get(index) else {
            return Err(Failure::Other(
                "unknown-upstream".to_owned(),
                format!("there is no upstream {index}"),
            ));
        };
        upstream.turn(flow).await
    }
}

impl Upstream {
    fn new(
        config: &config::Upstream,
        metrics: &Metrics,
        inbound: &Arc<Budget>,
    ) -> Result<Self, UpstreamError> {
        let metrics = metrics.upstream(&config.name);
        let fastcgi = |address, script: &String| {
            Protocol::FastCgi(FastCgi::new(fastcgi::Settings {
                address,
                script: script.clone(),
                resolve_links: config.resolve_links,
                root: config.root.clone(),
                path: config.path.clone(),
                params: config.params.clone(),
                keep: config.keep,
                max_answer: config.max_answer,
                timeout: config.timeout,
                name: Arc::from(config.name.as_str()),
                metrics: metrics.clone(),
                log_limit: Arc::default(),
                inbound: inbound.clone(),
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
        // A request that waits for a kept connection would be past the guard, where there is no fair queue.
        let (slots, slots_key) = match &protocol {
            Protocol::FastCgi(_) if (1..config.max_requests).contains(&config.keep) => (config.keep, "keep"),
            _ => (config.max_requests, "max-requests"),
        };
        let settings = guard::Settings {
            name: &config.name,
            slots,
            slots_key,
            max_waiting: config.max_waiting,
            max_wait: config.max_wait,
            timeout: config.timeout,
            breaker_failures: config.breaker_failures,
            breaker_pause: config.breaker_pause,
        };
        Ok(Self {
            config: config.clone(),
            name: config.name.clone(),
            timeout: config.timeout,
            retries: config.retries,
            guard: Guard::new(&settings, &metrics),
            own_headers: OwnHeaders::new(config.secrets.first(), config.headers.clone()),
            protocol,
            metrics,
        })
    }

    async fn turn(&self, flow: Flow) -> Result<Turn<'_>, Failure> {
        let began = Instant::now();
        match self.guard.enter(flow).await {
            Ok(pass) => Ok(Turn {
                upstream: self,
                pass,
                began,
            }),
            Err(failure) => {
                self.count(began, Some(&failure));
                Err(failure)
            }
        }
    }

    /// Tries until something was sent, all tries are used up, or there is no time for another.
    async fn exchange(
        &self,
        request: &Request,
        client: Option<&Connection>,
        deadline: Instant,
    ) -> Result<Response, Unanswered> {
        let mut tries = 0;
        loop {
            let unanswered = match self.protocol.send(request, client).await {
                Ok(response) => return Ok(response),
                Err(unanswered) => unanswered,
            };
            let before = u32::try_from(tries).unwrap_or(u32::MAX);
            let pause = pause(FIRST_PAUSE, before, LONGEST_PAUSE, fastrand::f64());
            if !unanswered.is_unsent || tries >= self.retries || Instant::now() + pause >= deadline {
                return Err(unanswered);
            }
            let failure = &unanswered.failure;
            tracing::debug!(upstream = self.name, %failure, ?pause, "nothing was sent; trying again");
            self.metrics.retries.inc();
            tries += 1;
            sleep(pause).await;
        }
    }

    fn count(&self, began: Instant, failure: Option<&Failure>) {
        self.metrics.requests.inc();
        self.metrics.duration.observe(began.elapsed().as_secs_f64());
        if let Some(failure) = failure {
            self.metrics.failure(failure.kind());
        }
    }
}

impl Turn<'_> {
    /// Sends the request and waits for the whole answer, for what is left of the upstream's time limit. The application hears
    /// from which client it comes, if there is one.
    pub async fn send(self, mut request: Request, client: Option<Arc<Connection>>) -> Outcome {
        let Self {
            upstream,
            pass,
            began,
        } = self;
        let deadline = began + upstream.timeout;
        let left = deadline.saturating_duration_since(Instant::now());
        upstream.own_headers.set(&mut request, SystemTime::now(), left);
        let end = match timeout_at(deadline, upstream.exchange(&request, client.as_deref(), deadline)).await {
            Ok(end) => end,
            Err(_) => {
                let text = format!("no answer within {:?} (timeout)", upstream.timeout);
                Err(Failure::Timeout(text).into())
            }
        };
        pass.end(&end);
        let outcome = end.map_err(|unanswered| unanswered.failure);
        upstream.count(began, outcome.as_ref().err());
        outcome
    }
}

impl Protocol {
    async fn send(&self, request: &Request, client: Option<&Connection>) -> Result<Response, Unanswered> {
        let response = match self {
            Self::Http(http) => http.send(request, client).await,
            Self::FastCgi(fastcgi) => fastcgi.send(request, client).await,
        }?;
        match foreign::cause(&response) {
            None => Ok(response),
            Some(cause) => Err(Failure::Other("bad-answer".to_owned(), cause).into()),
        }
    }
}
