//! The opening handshake (RFC 6455 section 4.2) and the hand-over of the socket to a session.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::Upgraded;
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{Gateway, Request};
use crate::config::{ClientIds, Route};
use crate::message::Peer;

/// The route of a path: an exact one, else the one with the longest prefix.
pub(super) fn route(routes: &[Route], path: &str) -> Option<usize> {
    let matching = routes
        .iter()
        .enumerate()
        .filter(|(_, route)| route.path.matches(path));
    matching
        .max_by_key(|(_, route)| route.path.precision())
        .map(|(index, _)| index)
}

/// Answers a handshake and starts the session.
pub(super) fn upgrade(gateway: Arc<Gateway>, route: usize, mut request: Request) -> Response {
    let key = match check(&request) {
        Ok(key) => key,
        Err(refusal) => return refusal.into_response(),
    };
    let Some(address) = request.extensions().get::<SocketAddr>().copied() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let peer = peer(&gateway, address, &request);
    let socket = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match socket.await {
            Ok(upgraded) => run(&gateway, upgraded, peer, route).await,
            Err(error) => tracing::debug!(%address, %error, "gone before the handshake was answered"),
        }
    });
    let headers = [
        (CONNECTION, HeaderValue::from_static("Upgrade")),
        (UPGRADE, HeaderValue::from_static("websocket")),
        (SEC_WEBSOCKET_ACCEPT, key),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

async fn run(gateway: &Gateway, upgraded: Upgraded, peer: Peer, route: usize) {
    let upstream = gateway.routes.get(route).map_or(0, |route| route.upstream);
    // Without hyper around it, an idle connection costs less and a busy one saves a copy.
    match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => {
            let read_already = parts.read_buf.to_vec();
            // Even empty it holds on to the 8 KiB that hyper read the handshake into.
            drop(parts.read_buf);
            gateway
                .sessions
                .run(parts.io.into_inner(), read_already, peer, route, upstream)
                .await;
        }
        Err(upgraded) => {
            gateway
                .sessions
                .run(TokioIo::new(upgraded), Vec::new(), peer, route, upstream)
                .await
        }
    }
}

/// Why a request is no handshake.
enum Refusal {
    /// It does not ask for a WebSocket at all.
    NoUpgrade,
    /// It asks, but `Connection` does not say so.
    NoConnection,
    /// It speaks another version.
    Version,
    /// Its key is none.
    Key,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::NoUpgrade => {
                let text =
                    "this is a WebSocket: connect with ws:// or wss:// (does a proxy pass `Upgrade` on?)\n";
                (
                    StatusCode::UPGRADE_REQUIRED,
                    [(UPGRADE, "websocket"), (CONNECTION, "Upgrade")],
                    text,
                )
                    .into_response()
            }
            Self::NoConnection => {
                let text = "the header `Connection: Upgrade` is missing (does a proxy remove it?)\n";
                (StatusCode::BAD_REQUEST, text).into_response()
            }
            Self::Version => {
                let text = "WebSocket version 13 is spoken here\n";
                (
                    StatusCode::UPGRADE_REQUIRED,
                    [(SEC_WEBSOCKET_VERSION, "13")],
                    text,
                )
                    .into_response()
            }
            Self::Key => (
                StatusCode::BAD_REQUEST,
                "`Sec-WebSocket-Key` must be 16 bytes in base64\n",
            )
                .into_response(),
        }
    }
}

/// RFC 6455 section 4.2.1. Gives the value for `Sec-WebSocket-Accept`.
fn check(request: &Request) -> Result<HeaderValue, Refusal> {
    let headers = request.headers();
    if request.method() != Method::GET || !has_token(headers, &UPGRADE, "websocket") {
        return Err(Refusal::NoUpgrade);
    }
    if !has_token(headers, &CONNECTION, "upgrade") {
        return Err(Refusal::NoConnection);
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
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|_| Refusal::Key)
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

fn peer(gateway: &Gateway, address: SocketAddr, request: &Request) -> Peer {
    let id = match gateway.client_ids {
        ClientIds::Address => address.to_string(),
        ClientIds::Uuid => uuid::Uuid::new_v4().to_string(),
    };
    // A header's value has no line ends, so a line each is safe.
    let mut headers = String::new();
    for (name, value) in request.headers() {
        if !headers.is_empty() {
            headers.push('\n');
        }
        headers.push_str(name.as_str());
        headers.push_str(": ");
        headers.push_str(&String::from_utf8_lossy(value.as_bytes()));
    }
    Peer {
        id: id.into(),
        remote_address: address,
        path: request.uri().path().into(),
        query: request.uri().query().unwrap_or_default().into(),
        headers: headers.into(),
        subprotocol: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PathPattern;

    #[test]
    fn the_closest_route_wins() {
        let patterns = ["/ws", "/rooms/*", "/rooms/vip/*", "/rooms/vip/1"];
        let routes: Vec<_> = patterns
            .iter()
            .map(|path| Route {
                path: PathPattern::parse(path).unwrap(),
                plugins: None,
                upstream: 0,
            })
            .collect();
        for (path, index) in [
            ("/ws", Some(0)),
            ("/rooms/a", Some(1)),
            ("/rooms/vip/2", Some(2)),
            ("/rooms/vip/1", Some(3)),
            ("/", None),
        ] {
            assert_eq!(route(&routes, path), index, "{path}");
        }
    }
}
