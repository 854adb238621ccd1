//! The FastCGI client against a real PHP-FPM, one of its own for each test.

/// Connections: how many there are, which is used next, what becomes of them when FPM restarts, reloads or dies.
mod connections;
/// Requests and answers: every size, every byte, whatever either side leaves out.
mod exchange;
/// What goes wrong, and what people read about it.
mod faults;
/// What a test's own thread logs.
mod log;
/// What PHP is told of a request, and what comes back beside the body.
mod variables;

use std::collections::BTreeSet;
use std::sync::Arc;

use aileron::message::{Outcome, Payload, Request, Response};
use aileron::metrics::Metrics;
use aileron::upstream::fastcgi::{Address, FastCgi, Settings};

use crate::support::{Fpm, PATIENCE, repository};

const MIB: usize = 1 << 20;

fn client(fpm: &Fpm, script: &str, keep: usize) -> FastCgi {
    client_with(fpm, script, keep, 64 * MIB)
}

fn client_with(fpm: &Fpm, script: &str, keep: usize, max_answer: usize) -> FastCgi {
    client_at(address(fpm), script, keep, max_answer)
}

fn address(fpm: &Fpm) -> Address {
    match fpm.listen() {
        path if path.starts_with('/') => Address::Unix(path.into()),
        address => Address::Tcp(address.to_owned()),
    }
}

fn client_at(address: Address, script: &str, keep: usize, max_answer: usize) -> FastCgi {
    let script = repository("tests/php/fastcgi").join(script);
    FastCgi::new(settings(address, &script.display().to_string(), keep, max_answer))
}

fn settings(address: Address, script: &str, keep: usize, max_answer: usize) -> Settings {
    Settings {
        address,
        script: script.to_owned(),
        keep,
        max_answer,
        timeout: PATIENCE,
        name: "php".into(),
        metrics: Metrics::default().upstream("php"),
        log_limit: Arc::default(),
        inbound: aileron::budget::Budget::new(usize::MAX),
        resolve_links: false,
        root: None,
        path: None,
        params: Vec::new(),
    }
}

fn request(method: &str, query: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Request {
    Request {
        method: method.to_owned(),
        path: String::new(),
        query: query.to_owned(),
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        body: Payload::from_body(body.into()),
    }
}

fn get(query: &str) -> Request {
    request("GET", query, &[], Vec::new())
}

fn text(response: &Response) -> &str {
    match &response.body {
        Payload::Text(text) => text,
        Payload::Binary(bytes) => panic!("{} bytes that are no text", bytes.len()),
    }
}

/// An outcome is due even where an error of the client would make both sides wait for each other.
async fn ask(client: &FastCgi, request: &Request) -> Outcome {
    let outcome = tokio::time::timeout(PATIENCE, client.send(request, None))
        .await
        .expect("an outcome in time");
    outcome.map_err(|unanswered| unanswered.failure)
}

async fn answer(client: &FastCgi, request: &Request) -> Response {
    ask(client, request).await.expect("an answer")
}

/// Sends requests at once and collects the different answers.
async fn answers(client: &Arc<FastCgi>, requests: usize, query: &str) -> BTreeSet<String> {
    let mut tasks = tokio::task::JoinSet::<Outcome>::new();
    for _ in 0..requests {
        let (client, request) = (client.clone(), get(query));
        tasks.spawn(async move { ask(&client, &request).await });
    }
    tasks
        .join_all()
        .await
        .into_iter()
        .map(|outcome| text(&outcome.expect("an answer")).to_owned())
        .collect()
}

fn header<'a>(response: &'a Response, name: &str) -> Vec<&'a str> {
    response
        .headers
        .iter()
        .filter(|(n, _)| n == name)
        .map(|(_, value)| value.as_str())
        .collect()
}

fn noise(size: usize) -> Vec<u8> {
    (0..size)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 16) as u8)
        .collect()
}

/// Two outcomes that must be equal, without the megabytes in the message.
fn assert_same(left: &[u8], right: &[u8]) {
    assert!(
        left == right,
        "{} bytes and {} bytes differ",
        left.len(),
        right.len()
    );
}
