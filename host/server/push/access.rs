//! Who may push: where a request must come from, what it must carry, and how long and how large it may be.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::ORIGIN;
use tokio::time::timeout;

use super::credentials::{self, Credential, Unauthorized};
use crate::config::PushAccess;
use crate::server::proxies::Remote;
use crate::server::{Gateway, Request};

/// Forms are up to three times as long as what they carry, and a batch carries several.
const BODY_PER_MESSAGE: usize = 4;

/// Why a push was refused.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("pushes may not come from this address (`allow` of [push] lists those that may)")]
    Address,
    #[error("a web page may not push; set [push] token and have it sent by the application")]
    Page,
    #[error(transparent)]
    Credential(#[from] Unauthorized),
    #[error("the body was not there within {0:?} (`handshake-timeout`)")]
    SlowBody(Duration),
    #[error("the body was cut off, or is longer than {0} bytes, four times `max-message` and a little")]
    Body(usize),
}

impl Refusal {
    /// The name in the metric.
    fn cause(&self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Page => "page",
            Self::Credential(_) => "credential",
            Self::SlowBody(_) => "slow-body",
            Self::Body(_) => "body",
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let text = format!("{self}\n");
        match self {
            Self::Address | Self::Page => (StatusCode::FORBIDDEN, text).into_response(),
            Self::Credential(refusal) => refusal.into_response(),
            Self::SlowBody(_) => (StatusCode::REQUEST_TIMEOUT, text).into_response(),
            Self::Body(_) => (StatusCode::PAYLOAD_TOO_LARGE, text).into_response(),
        }
    }
}

/// Passes a request on, with its whole body, or refuses it.
pub(super) async fn authorize(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    match let_in(&gateway, request).await {
        Ok(request) => next.run(request).await,
        Err(refusal) => {
            gateway.sessions.actions.metrics.push_refused(refusal.cause());
            if let Some(times) = gateway.log_limit.count(refusal.cause()) {
                tracing::warn!(path, times, "push refused: {refusal}");
            }
            refusal.into_response()
        }
    }
}

async fn let_in(gateway: &Gateway, request: Request) -> Result<Request, Refusal> {
    let settings = gateway.settings.load_full();
    let credential = check_head(&settings.access, &request)?;
    let (head, body) = request.into_parts();
    let patience = settings.limits.handshake_timeout;
    let max_body = BODY_PER_MESSAGE * gateway.sessions.settings.load().max_message + 64 * 1024;
    let body = timeout(patience, to_bytes(body, max_body))
        .await
        .map_err(|_| Refusal::SlowBody(patience))?
        .map_err(|_| Refusal::Body(max_body))?;
    if let Credential::Signature(signature) = credential {
        signature.check(&settings.access.signature_keys, &head, &body)?;
    }
    Ok(Request::from_parts(head, Body::from(body)))
}

/// Checks everything that can be checked before the body is read.
fn check_head(access: &PushAccess, request: &Request) -> Result<Credential, Refusal> {
    // The file system decides who may open a Unix socket.
    if let (Some(allow), Some(remote)) = (&access.allow, request.extensions().get::<Remote>())
        && !allow.contains(remote.address.ip())
    {
        return Err(Refusal::Address);
    }
    if access.takes_credential() {
        return Ok(credentials::of_head(
            access,
            request.headers(),
            SystemTime::now(),
        )?);
    }
    // Without a credential only this machine can reach the listener, but so can any page in a browser on it. Browsers name
    // the page in `Origin`, applications do not.
    if request.headers().contains_key(ORIGIN) {
        return Err(Refusal::Page);
    }
    Ok(Credential::NoneTaken)
}
