//! Why pushes are refused, and what their senders are told.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::HeaderName;

use super::credentials::Unauthorized;
use crate::server::paths::DOT_SEGMENTS;

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
    #[error("{DOT_SEGMENTS}")]
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
    pub(super) fn cause(&self) -> &'static str {
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
