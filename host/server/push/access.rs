//! Who may push: where a request must come from, what it must carry, and how long and how large it may be.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::HeaderName;
use tokio::time::timeout;

use super::credentials::{self, Credential, Unauthorized};
use super::local;
use crate::config::PushAccess;
use crate::server::paths::has_dot_segments;
use crate::server::proxies::Remote;
use crate::server::{Gateway, Request};

/// Forms are up to three times as long as what they carry, and a batch carries several.
const BODY_PER_MESSAGE: usize = 4;

/// Why a push was refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("pushes may not come from this address (`allow` of [push] lists those that may)")]
    Address,
    #[error("a web page may not push; set [push] token and have it sent by the application")]
    Page,
    #[error(
        "`{0}` says that this came through a proxy, and everybody could; set [push] token, or a listener that the proxy \
         does not forward to ([push] listen)"
    )]
    Proxy(HeaderName),
    #[error(
        "`{0}` is not a name of this machine; ask for `localhost`, list the name in [push] hosts, or set [push] token"
    )]
    Host(String),
    #[error("the path may not have the segments `.` and `..`, in any spelling")]
    DotSegments,
    #[error(transparent)]
    Credential(#[from] Unauthorized),
    #[error("the body was not there within {0:?} (`handshake-timeout`)")]
    SlowBody(Duration),
    #[error("too much is being received whose signature cannot be checked yet; try again, or use a token")]
    Crowded,
    #[error("the body was cut off, or is longer than {0} bytes, four times `max-message` and a little")]
    Body(usize),
}

impl Refusal {
    /// The name in the metric.
    fn cause(&self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Page => "page",
            Self::Proxy(_) => "proxy",
            Self::Host(_) => "host",
            Self::DotSegments => "path",
            Self::Credential(_) => "credential",
            Self::SlowBody(_) => "slow-body",
            Self::Crowded => "crowded",
            Self::Body(_) => "body",
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let text = format!("{self}\n");
        match self {
            Self::Address | Self::Page | Self::Proxy(_) | Self::Host(_) => {
                (StatusCode::FORBIDDEN, text).into_response()
            }
            Self::DotSegments => (StatusCode::BAD_REQUEST, text).into_response(),
            Self::Credential(refusal) => refusal.into_response(),
            Self::SlowBody(_) => (StatusCode::REQUEST_TIMEOUT, text).into_response(),
            Self::Crowded => (StatusCode::SERVICE_UNAVAILABLE, text).into_response(),
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
    let receive = async {
        match credential {
            Credential::Signature(_) => gateway.unverified.receive(body, max_body).await,
            _ => to_bytes(body, max_body)
                .await
                .map_err(|_| Refusal::Body(max_body)),
        }
    };
    let body = timeout(patience, receive)
        .await
        .map_err(|_| Refusal::SlowBody(patience))??;
    if let Credential::Signature(signature) = &credential {
        let keys = &settings.access.signature_keys;
        signature.check(keys, &head, &body, &gateway.signatures, SystemTime::now())?;
    }
    Ok(Request::from_parts(head, Body::from(body)))
}

/// Checks everything that can be checked before the body is read.
fn check_head(access: &PushAccess, request: &Request) -> Result<Credential, Refusal> {
    if has_dot_segments(request.uri().path()) {
        return Err(Refusal::DotSegments);
    }
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
    let hosts = request
        .extensions()
        .get::<Remote>()
        .map(|_| access.hosts.as_slice());
    local::check(request.headers(), request.uri(), hosts)?;
    Ok(Credential::NoneTaken)
}
