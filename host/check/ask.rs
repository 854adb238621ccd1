//! `aileron check --ask`: what comes back when a client connects, says something and goes.

use std::sync::Arc;

use aileron::actions;
use aileron::budget::Budget;
use aileron::config::Config;
use aileron::dispatch::{Dispatch, Step};
use aileron::message::{Connection, Effect, Event, Headers, Outcome, Payload, Request, Response};
use aileron::metrics::Metrics;
use aileron::plugin::Plugins;
use aileron::upstream::{UpstreamError, Upstreams};

/// The name of the client, and what it says.
const NAME: &str = "aileron-check";
/// RFC 6455 section 7.4.1: a normal end.
const NORMAL: u16 = 1000;
/// How much of a body is shown, in bytes.
const EXCERPT: usize = 200;

/// Goes through the plugins of each route as a client would, and prints the end of each request to an upstream. Nothing else
/// that plugins want is done. False if a request had no answer, or one with a status of 5xx.
pub(crate) async fn ask(config: &Config, plugins: &Plugins) -> Result<bool, UpstreamError> {
    let upstreams = Upstreams::new(
        &config.upstreams,
        &Metrics::default(),
        Budget::new(config.max_inbound),
    )?;
    let mut is_good = true;
    for (index, route) in config.routes.iter().enumerate() {
        let path = route.path.to_string().replace('*', NAME);
        for (what, event) in events(&path) {
            let mut dispatch = Dispatch::begin(plugins.chain(index), event);
            loop {
                match dispatch.step() {
                    Step::Act(_) => dispatch.note(Effect::new("done")),
                    Step::Wait(result) => dispatch.decided(result.await.ok()),
                    Step::Ask(exchange) => {
                        let name = exchange.upstream.as_deref();
                        let outcome = match actions::find(&upstreams, route.upstream, name) {
                            Ok(upstream) => {
                                let (flow, client) = (dispatch.flow(), dispatch.connection().cloned());
                                upstreams.send(upstream, flow, exchange.request, client).await
                            }
                            Err(failure) => Err(failure),
                        };
                        println!("{path}, {what}: {}", told(&outcome));
                        is_good &= outcome.as_ref().is_ok_and(|response| response.status < 500);
                        dispatch.answered(exchange.context, outcome);
                    }
                    Step::Yield => tokio::task::yield_now().await,
                    Step::Done => break,
                }
            }
        }
    }
    Ok(is_good)
}

/// What happens to a client, and what PHP calls it.
fn events(path: &str) -> [(&'static str, Event); 3] {
    let address = ([127, 0, 0, 1], 0).into();
    let connection = Connection::new(NAME.into(), address, path, "", "host: localhost");
    let connection = Arc::new(connection);
    let request = Request {
        method: "GET".to_owned(),
        path: path.to_owned(),
        query: String::new(),
        headers: vec![("host".to_owned(), "localhost".to_owned())],
        body: Payload::Text("".into()),
    };
    [
        (
            "open",
            Event::Open {
                connection: connection.clone(),
                request: Arc::new(request),
            },
        ),
        (
            "server",
            Event::Frame {
                connection: connection.clone(),
                message: Payload::Text(NAME.into()),
            },
        ),
        (
            "close",
            Event::Close {
                connection,
                code: NORMAL,
                reason: "".into(),
            },
        ),
    ]
}

fn told(outcome: &Outcome) -> String {
    match outcome {
        Ok(Response {
            status,
            headers,
            body,
        }) => {
            let bytes = body.clone().into_bytes();
            let excerpt = String::from_utf8_lossy(bytes.get(..EXCERPT).unwrap_or(&bytes));
            format!(
                "status {status}, {} bytes: {excerpt:?}{}",
                bytes.len(),
                steering(headers)
            )
        }
        Err(failure) => format!("no answer: {failure}"),
    }
}

fn steering(headers: &Headers) -> String {
    let steering = headers.iter().filter(|(name, _)| name.starts_with("aileron-"));
    steering
        .map(|(name, value)| format!(", {name}: {value}"))
        .collect()
}
