//! The push side of the listeners: the gateway's own pages (see `admin`), and every other path for plugins. All of it
//! requires the credential, if one is configured, except for `/live` and `/ready`.

mod access;
mod credentials;
mod local;
mod refusal;
mod unverified;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::middleware;
use axum::response::Response;
use axum::routing::get;
use hyper::header::HeaderMap;
use hyper::{Method, Uri};

pub(super) use credentials::UsedSignatures;
pub(super) use unverified::Unverified;

use super::convert::{to_http, to_request};
use super::idempotency::Key;
use super::{Gateway, admin};
use crate::dispatch::{Dispatch, Step};
use crate::message::{self, Action, Event, Payload};
use crate::registry::SendError;

pub(super) fn router(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/metrics", get(admin::metrics))
        .route("/plugins", get(admin::plugins))
        .route("/connections", get(admin::connections))
        .route("/topics", get(admin::topics))
        .fallback(push)
        // The body is read, and limited, where the request is authorized.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(gateway.clone(), access::authorize))
        .with_state(gateway.clone())
        .merge(health(gateway))
}

/// What load balancers and service managers ask, without a credential, wherever they reach the gateway.
pub(super) fn health(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/live", get(admin::live))
        .route("/ready", get(admin::ready))
        .with_state(gateway)
}

/// Dispatches a push to the plugins and answers it. One with an `Idempotency-Key` is done only once.
async fn push(
    State(gateway): State<Arc<Gateway>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let sessions = &gateway.sessions;
    sessions.actions.metrics.pushes.inc();
    let request = to_request(&method, &uri, &headers, Payload::from_body(body));
    // Applications are not refused, but clients wait while it is handled if there is not room for both.
    let _held = sessions.actions.registry.inbound().hold(request.size());
    let chain = sessions.plugins.push_chain();
    let request = Arc::new(request);
    let event = Event::Push(request.clone());
    let response = match Key::of(&request) {
        None => answer(&gateway, Dispatch::begin(chain, event)).await,
        Some(key) => {
            let owned = gateway.clone();
            let answering = async move { answer(&owned, Dispatch::begin(chain, event)).await };
            gateway.pushed.once(key, &request, answering).await
        }
    };
    to_http(response)
}

/// Brings a push to its end. The first answer counts: a failed `send` becomes the answer instead of a `respond` after it,
/// unless the plugin wants a report and answers by itself.
async fn answer(gateway: &Gateway, mut dispatch: Dispatch) -> message::Response {
    let actions = &gateway.sessions.actions;
    let mut answer = None;
    loop {
        match dispatch.step() {
            Step::Act(Action::Respond(response)) => drop(answer.get_or_insert(response)),
            Step::Act(Action::Send { connection, message }) if !dispatch.is_reported() => {
                if let Err(cause) = actions.send(&connection, message) {
                    tracing::info!(connection = &*message::excerpt(&connection), %cause, "push not delivered");
                    answer.get_or_insert(undelivered(cause));
                }
            }
            Step::Act(action) => {
                let effect = actions.act(&dispatch, action).effect().await;
                dispatch.note(effect);
            }
            Step::Ask(exchange) => {
                let (context, outcome) = actions.ask(&dispatch, 0, exchange).await;
                dispatch.answered(context, outcome);
            }
            Step::Wait(result) => dispatch.decided(result.await.ok()),
            Step::Yield => tokio::task::yield_now().await,
            Step::Done => break,
        }
    }
    answer.unwrap_or_else(|| match dispatch.failure() {
        Some(cause) => plain(500, Vec::new(), format!("{cause}\n")),
        None => plain(404, Vec::new(), ""),
    })
}

/// The two error answers of the article, whose server appends a line feed and forbids content sniffing.
fn undelivered(cause: SendError) -> message::Response {
    let headers = [
        ("content-type", "text/plain; charset=utf-8"),
        ("x-content-type-options", "nosniff"),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    match cause {
        SendError::NotFound => plain(404, headers.into(), "Client not found\n"),
        _ => plain(500, headers.into(), "Failed to send message\n"),
    }
}

fn plain(status: u16, headers: message::Headers, body: impl Into<String>) -> message::Response {
    message::Response {
        status,
        headers,
        body: Payload::Text(body.into().into()),
    }
}
