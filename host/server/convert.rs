//! Conversions between the HTTP types of the library and the gateway's own.

use axum::response::{IntoResponse, Response};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode, Uri};

use crate::message::{self, Payload};

/// A request whose body has been read.
pub(super) fn to_request(method: &Method, uri: &Uri, headers: &HeaderMap, body: Payload) -> message::Request {
    message::Request {
        method: method.as_str().to_owned(),
        path: uri.path().to_owned(),
        query: uri.query().unwrap_or_default().to_owned(),
        headers: to_plain(headers),
        body,
    }
}

pub(super) fn to_plain(headers: &HeaderMap) -> message::Headers {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), text(value)))
        .collect()
}

/// The response of a plugin; any part that cannot be sent is logged and left out.
pub(super) fn to_http(response: message::Response) -> Response {
    let status = StatusCode::from_u16(response.status).unwrap_or_else(|_| {
        tracing::warn!(
            status = response.status,
            "a plugin's response has an invalid status; 500 is sent"
        );
        StatusCode::INTERNAL_SERVER_ERROR
    });
    (status, to_headers(&response.headers), response.body.into_bytes()).into_response()
}

/// The headers that a plugin wants to send; any that cannot be sent is logged and left out.
pub(super) fn to_headers(headers: &message::Headers) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        match (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_str(value),
        ) {
            (Ok(name), Ok(value)) => drop(map.append(name, value)),
            _ => tracing::warn!(
                name,
                "a header of a plugin's response cannot be sent; it is left out"
            ),
        }
    }
    map
}
