//! Upstreams behind a web server: HTTP/1.1 over kept connections. The only file that names reqwest's client.

use std::error::Error;
use std::fmt::Write;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
pub(super) use reqwest::Error as HttpError;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Url, redirect, retry};

use super::Unanswered;
use crate::config;
use crate::message::{Connection, Failure, Headers, Payload, Request, Response};

/// Below the 60 to 75 seconds after which web servers close idle connections, so that a request rarely meets a
/// connection that is being closed.
const IDLE: Duration = Duration::from_secs(30);

pub(super) struct Http {
    client: Client,
    url: Url,
    /// `Authorization`, if the configured url has a user and a password.
    credentials: HeaderMap,
    max_answer: usize,
}

impl Http {
    pub(super) fn new(url: &str, config: &config::Upstream) -> Result<Self, HttpError> {
        // An error means that another part of the process has chosen a provider already, which is just as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .http1_only()
            .no_proxy()
            // A redirect is an answer like any other, for the plugin to see.
            .redirect(redirect::Policy::none())
            // A retry would need a copy of each request.
            .retry(retry::never().max_retries_per_request(0))
            .user_agent(concat!("aileron/", env!("CARGO_PKG_VERSION")))
            .tcp_nodelay(true)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(config.max_requests)
            .build()?;
        // The URL was checked as one, but reqwest is stricter; a request that cannot be built gives the same error.
        // It takes user and password out of the url and puts them into a header.
        let request = client.get(url).build()?;
        Ok(Self {
            client,
            url: request.url().clone(),
            credentials: request.headers().clone(),
            max_answer: config.max_answer,
        })
    }

    /// Sends a request and reads the whole answer. It is sent a second time only if nothing of it had gone out, because a
    /// kept connection was closed: the client's pool takes care of that.
    pub(super) async fn send(
        &self,
        request: &Request,
        client: Option<&Connection>,
    ) -> Result<Response, Unanswered> {
        let mut sending = reqwest::Request::new(method(request)?, self.target(request));
        *sending.headers_mut() = self.headers(&request.headers)?;
        if let Some(client) = client {
            add_client(sending.headers_mut(), client);
        }
        *sending.body_mut() = Some(request.body.clone().into_bytes().into());
        let mut answer = self.client.execute(sending).await.map_err(|e| Unanswered {
            is_unsent: e.is_connect(),
            failure: self.failure(&e),
        })?;
        let status = answer.status().as_u16();
        if status < 200 {
            let url = &self.url;
            let text = format!("{url} answered with status {status}, which is no end of a request");
            return Err(Failure::Other("bad-answer".to_owned(), text).into());
        }
        let headers = headers(answer.headers());
        let body = self.body(&mut answer).await?;
        Ok(Response {
            status,
            headers,
            body: Payload::from_body(body),
        })
    }

    /// The upstream's own URL, with the path and query that the request names.
    fn target(&self, request: &Request) -> Url {
        let mut url = self.url.clone();
        if !request.path.is_empty() {
            url.set_path(&request.path);
            url.set_query(None);
        }
        if !request.query.is_empty() {
            let query = match url.query() {
                Some(own) => format!("{own}&{}", request.query),
                None => request.query.clone(),
            };
            url.set_query(Some(&query));
        }
        url
    }

    /// The headers of the request, and the credentials unless it has its own.
    fn headers(&self, headers: &Headers) -> Result<HeaderMap, Failure> {
        // The client adds a few.
        let mut map = HeaderMap::with_capacity(headers.len() + 4);
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| bad_request(&format!("`{name}` is not a header name")))?;
            let value = HeaderValue::from_str(value)
                .map_err(|_| bad_request(&format!("the value of the header `{name}` cannot be sent")))?;
            map.append(name, value);
        }
        for (name, value) in &self.credentials {
            map.entry(name).or_insert_with(|| value.clone());
        }
        Ok(map)
    }

    /// Most answers are one chunk, which is not copied.
    async fn body(&self, answer: &mut reqwest::Response) -> Result<Bytes, Failure> {
        let mut first = Bytes::new();
        let mut all = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(|e| self.failure(&e))? {
            let size = first.len() + all.len() + chunk.len();
            if size > self.max_answer {
                return Err(Failure::TooLarge(format!(
                    "the answer is over {} bytes (max-answer)",
                    self.max_answer
                )));
            }
            if size == chunk.len() {
                first = chunk;
            } else {
                all.extend_from_slice(&std::mem::take(&mut first));
                all.extend_from_slice(&chunk);
            }
        }
        Ok(if all.is_empty() { first } else { all.freeze() })
    }

    fn failure(&self, error: &HttpError) -> Failure {
        let cause = root_cause(error);
        let url = &self.url;
        Failure::Unreachable(if error.is_connect() {
            format!("cannot connect to {url}: {cause}{}", cure(&cause))
        } else {
            format!("the exchange with {url} broke off: {cause}")
        })
    }
}

/// What a proxy in front of a web server says of its client, unless the plugin has said it.
fn add_client(headers: &mut HeaderMap, client: &Connection) {
    let scheme = if client.is_encrypted() { "https" } else { "http" };
    let address = client.client_address.to_string();
    for (name, value) in [
        ("x-forwarded-for", Some(&*address)),
        ("x-forwarded-host", client.host()),
        ("x-forwarded-proto", Some(scheme)),
    ] {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.entry(name).or_insert(value);
        }
    }
}

/// The whole chain of causes, since the outer ones say little.
fn root_cause(error: &HttpError) -> String {
    let mut text = String::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        if !text.is_empty() {
            text.push_str(": ");
        }
        // Writing into a string does not fail.
        let _ = write!(text, "{error}");
        cause = error.source();
    }
    if text.is_empty() { error.to_string() } else { text }
}

/// What to check first, if the cause alone does not tell. The errors come from several libraries and have nothing but their
/// texts in common.
fn cure(cause: &str) -> &'static str {
    if cause.contains("Connection refused") {
        " (is the web server running and listening there?)"
    } else if cause.contains("invalid peer certificate") {
        " (does this system trust who signed it, and is it for this name?)"
    } else {
        ""
    }
}

fn method(request: &Request) -> Result<Method, Failure> {
    if request.method.is_empty() {
        return Ok(Method::POST);
    }
    Method::from_bytes(request.method.as_bytes())
        .map_err(|_| bad_request(&format!("`{}` is not a method", request.method)))
}

fn headers(map: &HeaderMap) -> Headers {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    map.iter()
        .map(|(name, value)| (name.as_str().to_owned(), text(value)))
        .collect()
}

/// The plugin asked for something that cannot be sent.
fn bad_request(problem: &str) -> Failure {
    Failure::Other("bad-request".to_owned(), problem.to_owned())
}
