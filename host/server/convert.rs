//! Conversions between the HTTP types of the library and the gateway's own.

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use hyper::header::{COOKIE, HeaderMap, HeaderName, HeaderValue};
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
    joined(headers)
        .map(|(name, value)| (name.as_str().to_owned(), value.into_owned()))
        .collect()
}

/// The headers of a request, those of one name joined to one (RFC 9110 section 5.3; cookies by RFC 6265 section 5.4): what
/// a proxy has added in a line of its own must not be lost to whoever looks at the first.
pub(super) fn joined(headers: &HeaderMap) -> impl Iterator<Item = (&HeaderName, Cow<'_, str>)> {
    headers.keys().map(|name| {
        let separator = if name == COOKIE { "; " } else { ", " };
        let mut values = headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()));
        let first = values.next().unwrap_or_default();
        let joined = values.fold(first, |joined, value| {
            Cow::Owned(format!("{joined}{separator}{value}"))
        });
        (name, joined)
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_one_name_are_joined() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-forwarded-for", "10.0.0.1"),
            ("cookie", "a=1"),
            ("host", "x"),
            ("x-forwarded-for", "192.0.2.1"),
            ("cookie", "b=2; c=3"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let mut plain = to_plain(&headers);
        plain.sort();
        let expected = [
            ("cookie", "a=1; b=2; c=3"),
            ("host", "x"),
            ("x-forwarded-for", "10.0.0.1, 192.0.2.1"),
        ];
        assert_eq!(
            plain,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }
}
