//! What a valid handshake is (RFC 6455 section 4.2.1), and what clients are told whose request is not one.

use axum::response::{IntoResponse, Response};
use hyper::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use hyper::{Method, Request, StatusCode, Version};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::paths::DOT_SEGMENTS;
use super::proxies::X_FORWARDED_PROTO;
use crate::config::Origins;

/// Why a request is not a valid handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// It has dot segments, which a proxy in front may have read in another way.
    #[error("{DOT_SEGMENTS}")]
    DotSegments,
    /// There is no route.
    #[error("clients do not connect at this path; the key `path` and [[route]] list those where they may")]
    Path,
    /// HTTP/1.0 knows no upgrades.
    #[error(
        "a WebSocket needs HTTP/1.1, and this is HTTP/1.0 (a proxy? nginx needs `proxy_http_version 1.1;`)"
    )]
    Http,
    /// It does not ask for a WebSocket at all.
    #[error("this is a WebSocket: connect with ws:// or wss:// (does a proxy pass `Upgrade` on?)")]
    NoUpgrade,
    /// It asks for one, but its `Connection` header does not.
    #[error("the header `Connection: Upgrade` is missing (does a proxy remove it?)")]
    NoConnection,
    /// It names its host twice, or by what is not a name (RFC 9112 section 3.2).
    #[error("there may be only one header `Host`, with a name or an address and perhaps a port")]
    Host,
    /// It speaks another version.
    #[error("WebSocket version 13 is spoken here")]
    Version,
    /// Its key is invalid.
    #[error("`Sec-WebSocket-Key` must be 16 bytes in base64")]
    Key,
    /// It comes from a page of another site.
    #[error("pages of this origin may not connect (the key `origins` lists those that may)")]
    Origin,
}

impl Refusal {
    /// The name in the metric.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Origin => "origin",
            Self::Path => "path",
            Self::DotSegments
            | Self::Http
            | Self::NoUpgrade
            | Self::NoConnection
            | Self::Host
            | Self::Version
            | Self::Key => "violation",
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        const UPGRADE_TO: [(HeaderName, &str); 2] = [(UPGRADE, "websocket"), (CONNECTION, "Upgrade")];
        let text = format!("{self}\n");
        match self {
            Self::NoUpgrade | Self::Http => (StatusCode::UPGRADE_REQUIRED, UPGRADE_TO, text).into_response(),
            Self::Version => {
                let version = [(SEC_WEBSOCKET_VERSION, "13")];
                (StatusCode::UPGRADE_REQUIRED, version, text).into_response()
            }
            Self::Origin => (StatusCode::FORBIDDEN, text).into_response(),
            Self::Path => (StatusCode::NOT_FOUND, text).into_response(),
            Self::DotSegments | Self::NoConnection | Self::Host | Self::Key => {
                (StatusCode::BAD_REQUEST, text).into_response()
            }
        }
    }
}

/// Whether a request asks for a WebSocket, validly or not.
pub(super) fn is_meant(headers: &HeaderMap) -> bool {
    has_token(headers, &UPGRADE, "websocket")
}

/// Gives the value of `Sec-WebSocket-Accept`.
pub(super) fn check<B>(origins: &Origins, request: &Request<B>) -> Result<HeaderValue, Refusal> {
    let headers = request.headers();
    if request.version() < Version::HTTP_11 {
        return Err(Refusal::Http);
    }
    if request.method() != Method::GET || !is_meant(headers) {
        return Err(Refusal::NoUpgrade);
    }
    if !has_token(headers, &CONNECTION, "upgrade") {
        return Err(Refusal::NoConnection);
    }
    if headers.get_all(HOST).iter().count() > 1 || !headers.get(HOST).is_none_or(is_host) {
        return Err(Refusal::Host);
    }
    if headers
        .get(SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        return Err(Refusal::Version);
    }
    let key = headers
        .get(SEC_WEBSOCKET_KEY)
        .filter(|key| key.len() == KEY_LENGTH)
        .ok_or(Refusal::Key)?;
    check_origin(origins, headers)?;
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|_| Refusal::Key)
}

/// PHP builds links of it. Applications check the name itself.
fn is_host(host: &HeaderValue) -> bool {
    let is_usual = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(byte);
    host.as_bytes().iter().all(is_usual)
}

/// Browsers name the origin of the page (RFC 6455 section 10.2); other clients need not.
fn check_origin(origins: &Origins, headers: &HeaderMap) -> Result<(), Refusal> {
    let text = |name: &HeaderName| {
        let value = headers.get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()))
    };
    let Some(origin) = text(&ORIGIN) else {
        return Ok(());
    };
    let host = text(&HOST).unwrap_or_default();
    // Set here, or by a trusted proxy. The first of several is what the client spoke.
    let scheme = text(&X_FORWARDED_PROTO).unwrap_or_default();
    let scheme = scheme.split(',').next().unwrap_or_default().trim();
    let is_encrypted = scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("wss");
    if origins.allows(&origin, &host, is_encrypted) {
        Ok(())
    } else {
        Err(Refusal::Origin)
    }
}

/// 16 bytes in base64.
const KEY_LENGTH: usize = 24;

/// Whether a header that is a list has an item (RFC 9110 section 5.6.1).
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .any(|item| item.trim().eq_ignore_ascii_case(token))
}
