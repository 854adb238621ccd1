//! The push side of the listeners. Its routes: the gateway's own pages (see `admin`), and every other path for plugins.
//! All of it takes the credential, if one is configured.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::header::{
    AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, ORIGIN, WWW_AUTHENTICATE,
};
use hyper::{Method, StatusCode, Uri};

use super::{Gateway, Request, admin};
use crate::effects;
use crate::journey::{Journey, Step};
use crate::message::{self, Action, Event, Payload};
use crate::registry::SendError;

/// Forms are up to three times as long as what they carry, and a batch carries several.
const BODY_PER_MESSAGE: usize = 4;

pub(super) fn router(gateway: Arc<Gateway>) -> Router {
    let max_body = BODY_PER_MESSAGE * gateway.sessions.max_message + 64 * 1024;
    Router::new()
        .route("/live", get(admin::live))
        .route("/ready", get(admin::ready))
        .route("/metrics", get(admin::metrics))
        .route("/plugins", get(admin::plugins))
        .fallback(push)
        .layer(DefaultBodyLimit::max(max_body))
        .layer(middleware::from_fn_with_state(gateway.clone(), authorize))
        .with_state(gateway)
}

/// Lets in who has the token. Without a configured token only loopback reaches this, but so does any page in a browser
/// on the same machine; browsers name the page in `Origin`, applications do not.
async fn authorize(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    match &gateway.token {
        Some(token) => {
            let header = request
                .headers()
                .get(AUTHORIZATION)
                .map(HeaderValue::as_bytes)
                .unwrap_or_default();
            let candidate = bearer(header);
            if candidate.is_none_or(|candidate| !token.matches(candidate)) {
                tracing::warn!(
                    path = request.uri().path(),
                    "push refused: `Authorization: Bearer` is missing or wrong"
                );
                let text = "`Authorization: Bearer` with the token of [push] is missing or wrong\n";
                return (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], text).into_response();
            }
        }
        None if request.headers().contains_key(ORIGIN) => {
            let text = "a web page may not push; set [push] token and have it sent by the application\n";
            return (StatusCode::FORBIDDEN, text).into_response();
        }
        None => {}
    }
    next.run(request).await
}

/// The scheme's name is in any case (RFC 9110 section 11.1).
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| token.trim_ascii())
}

/// A push: its journey through the plugins ends with the answer.
async fn push(
    State(gateway): State<Arc<Gateway>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let sessions = &gateway.sessions;
    sessions.metrics.pushes.inc();
    let request = message::Request {
        method: method.as_str().to_owned(),
        path: uri.path().to_owned(),
        query: uri.query().unwrap_or_default().to_owned(),
        headers: to_plain(&headers),
        body: Payload::from_body(body),
    };
    let mut journey = Journey::begin(sessions.plugins.push_chain(), Event::Push(Arc::new(request)));
    let mut answer = None;
    loop {
        match journey.step() {
            Step::Act(action) => {
                if let Some(response) = act(&gateway, action) {
                    answer.get_or_insert(response);
                }
            }
            Step::Ask(exchange) => {
                let (context, outcome) = effects::ask(&sessions.upstreams, 0, exchange).await;
                journey.answered(context, outcome);
            }
            Step::Wait(result) => journey.decided(result.await.ok()),
            Step::Done => break,
        }
    }
    answer.unwrap_or_else(|| {
        if journey.has_failed() {
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        } else {
            StatusCode::NOT_FOUND.into_response()
        }
    })
}

/// Does an action. What comes back is an answer to the push, of which the first counts: so a `send` that fails is
/// answered for before the `respond` that follows it.
fn act(gateway: &Gateway, action: Action) -> Option<Response> {
    let sessions = &gateway.sessions;
    match action {
        Action::Respond(response) => Some(to_http(response)),
        Action::Send { connection, message } => {
            let cause = effects::send(&sessions.registry, &sessions.metrics, &connection, message).err()?;
            tracing::info!(connection, %cause, "push not delivered");
            Some(match cause {
                SendError::NotFound => plain_error(StatusCode::NOT_FOUND, "Client not found\n"),
                SendError::Congested => {
                    plain_error(StatusCode::INTERNAL_SERVER_ERROR, "Failed to send message\n")
                }
            })
        }
        other => {
            effects::perform(&sessions.registry, &sessions.metrics, other);
            None
        }
    }
}

/// The article's two error answers, which its server's library ends with a line feed and marks as not to be guessed at.
fn plain_error(status: StatusCode, text: &'static str) -> Response {
    let headers = [
        (
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        ),
        (
            HeaderName::from_static("x-content-type-options"),
            HeaderValue::from_static("nosniff"),
        ),
    ];
    (status, headers, text).into_response()
}

fn to_plain(headers: &HeaderMap) -> message::Headers {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), text(value)))
        .collect()
}

/// What a plugin answers; a part that cannot be sent is logged and left out.
fn to_http(response: message::Response) -> Response {
    let status = StatusCode::from_u16(response.status).unwrap_or_else(|_| {
        tracing::warn!(
            status = response.status,
            "a plugin's response has a status that is none; 500 is sent"
        );
        StatusCode::INTERNAL_SERVER_ERROR
    });
    let mut headers = HeaderMap::new();
    for (name, value) in &response.headers {
        match (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_str(value),
        ) {
            (Ok(name), Ok(value)) => drop(headers.append(name, value)),
            _ => tracing::warn!(
                name,
                "a header of a plugin's response cannot be sent; it is left out"
            ),
        }
    }
    (status, headers, response.body.into_bytes()).into_response()
}
