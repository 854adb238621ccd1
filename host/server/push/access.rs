//! Who may push: where a request must come from, what it must carry, and how long and how large it may be.

use std::sync::Arc;
use std::time::SystemTime;

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;

use super::credentials::{self, Credential};
use super::local;
use super::refusal::Refusal;
use crate::config::PushAccess;
use crate::server::paths::has_dot_segments;
use crate::server::proxies::Remote;
use crate::server::{Gateway, Request};

/// Forms are up to three times as long as what they carry, and a batch carries several.
const BODY_PER_MESSAGE: usize = 4;

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
