//! The opening handshake (RFC 6455 section 4.2) and the hand-over of the socket to a session.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::response::{IntoResponse, Response};
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::request::Parts;
use hyper::upgrade::Upgraded;
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::convert::{to_headers, to_http, to_request};
use super::limits::{ClientPermit, Reached};
use super::log_limit::LogLimit;
use super::proxies::{Remote, client_address};
use super::socket::Socket;
use super::{Gateway, Request, Settings};
use crate::budget::{FREE, Held};
use crate::config::{ClientIds, Origins, Route};
use crate::message::{self, Connection, Payload};
use crate::session::Opened;
use crate::websocket::{Window, negotiate};

/// The route of a path: an exact one, or else the one with the longest prefix.
pub(super) fn route(routes: &[Route], path: &str) -> Option<usize> {
    let matching = routes
        .iter()
        .enumerate()
        .filter(|(_, route)| route.is_open && route.path.matches(path));
    matching
        .max_by_key(|(_, route)| route.path.precision())
        .map(|(index, _)| index)
}

/// Answers a handshake and starts the session.
pub(super) async fn upgrade(
    gateway: Arc<Gateway>,
    settings: &Settings,
    route: usize,
    mut request: Request,
) -> Response {
    let metrics = &gateway.sessions.actions.metrics;
    let Some(remote) = request.extensions().get::<Remote>().copied() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let client = client_address(&settings.proxies.trusted, remote, request.headers_mut());
    let key = match check(&gateway.log_limit, &settings.origins, &request) {
        Ok(key) => key,
        Err(refusal) => {
            metrics.handshake(refusal.name());
            return refusal.into_response();
        }
    };
    let admitted = gateway.limiter.admit(&settings.limits, client, Instant::now());
    let admitted = admitted.and_then(|permit| Ok((permit, hold_head(&gateway, request.headers())?)));
    let (permit, held) = match admitted {
        Ok(admitted) => admitted,
        Err(reached) => {
            let limit = reached.key();
            metrics.handshake(limit);
            if let Some(times) = gateway.log_limit.count(limit) {
                tracing::warn!(limit, %client, times, "handshake refused: a limit is reached");
            }
            return reached.into_response();
        }
    };
    let socket = hyper::upgrade::on(&mut request);
    let (head, _) = request.into_parts();
    let connection = Arc::new(connection(settings.client_ids, remote, client, &head));
    let upstream = settings.routes.get(route).map_or(0, |route| route.upstream);
    let agreed = gateway.sessions.settings.load().compression.and_then(|_| {
        let offers = head.headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter();
        negotiate(offers.filter_map(|offer| offer.to_str().ok()))
    });
    let admitted = admit(&gateway, route, upstream, connection, &head, (permit, held)).await;
    let (opened, permit) = match admitted {
        Ok(admitted) => admitted,
        Err(response) => {
            metrics.handshake("plugin");
            tracing::info!(%client, status = response.status, path = head.uri.path(), "handshake refused");
            return to_http(response);
        }
    };
    metrics.handshake("accepted");
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.extend(answer_headers(&opened));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, key);
    if let Some(agreed) = &agreed {
        headers.insert(
            SEC_WEBSOCKET_EXTENSIONS,
            HeaderValue::from_static(agreed.response),
        );
    }
    let window = agreed.map(|agreed| agreed.window);
    tokio::spawn(async move {
        match socket.await {
            Ok(upgraded) => begin(opened, upgraded, window, permit),
            Err(error) => tracing::debug!(%client, %error, "gone before the handshake was answered"),
        }
    });
    response
}

/// Headers of more than a little count as what comes in while plugins and PHP decide: there are a few copies of them.
fn hold_head(gateway: &Gateway, headers: &HeaderMap) -> Result<Option<Held>, Reached> {
    const COPIES: usize = 4;
    let sizes = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len());
    let bytes = COPIES * sizes.sum::<usize>();
    if bytes <= FREE {
        return Ok(None);
    }
    let inbound = gateway.sessions.actions.registry.inbound();
    if inbound.used() > inbound.limit() / 2 {
        return Err(Reached::Inbound);
    }
    Ok(Some(inbound.hold(bytes)))
}

/// Lets the client in, or not. Once plugins have asked PHP, that goes on even if the client goes away, and keeps the permit
/// until it is done.
async fn admit(
    gateway: &Gateway,
    route: usize,
    upstream: usize,
    connection: Arc<Connection>,
    head: &Parts,
    (permit, held): (ClientPermit, Option<Held>),
) -> Result<(Opened, ClientPermit), message::Response> {
    let sessions = gateway.sessions.clone();
    if !sessions.asks_for_handshake(route, &connection) {
        return Ok((sessions.open(connection, route, upstream), permit));
    }
    let body = Payload::Text("".into());
    let request = to_request(&head.method, &head.uri, &head.headers, body);
    // Dropped together with this future when the client goes away.
    let (_here, gone) = oneshot::channel();
    let admitting = async move {
        let opened = sessions.admit(connection, request, route, upstream, gone).await;
        drop(held);
        Ok((opened?, permit))
    };
    tokio::spawn(admitting).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a handshake was not decided");
        Err(message::Response {
            status: 500,
            headers: Vec::new(),
            body: Payload::Text("".into()),
        })
    })
}

/// The headers that plugins want in the answer, except those that belong to the protocol.
fn answer_headers(opened: &Opened) -> HeaderMap {
    let mut headers = to_headers(&opened.headers);
    for name in [CONTENT_LENGTH, TRANSFER_ENCODING, SEC_WEBSOCKET_EXTENSIONS] {
        headers.remove(name);
    }
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    if let Some(name) = opened
        .subprotocol()
        .and_then(|name| HeaderValue::from_str(name).ok())
    {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, name);
    }
    headers
}

/// The session is a task of its own, to keep it as small as possible: most connections are idle.
fn begin(opened: Opened, upgraded: Upgraded, window: Option<Window>, permit: ClientPermit) {
    // Without hyper around it, an idle connection takes less memory and a busy one saves a copy.
    match upgraded.downcast::<TokioIo<Socket>>() {
        Ok(parts) => {
            // Even empty it would hold on to the 8 KiB that hyper read the handshake into.
            let read_already = parts.read_buf.to_vec();
            let socket = parts.io.into_inner().into();
            tokio::spawn(opened.run(socket, read_already, window, permit));
        }
        Err(_) => tracing::error!("an upgraded socket is not the one that was accepted"),
    }
}

/// Why a request is not a valid handshake.
enum Refusal {
    /// It does not ask for a WebSocket at all.
    NoUpgrade,
    /// It asks for one, but its `Connection` header does not.
    NoConnection,
    /// It speaks another version.
    Version,
    /// Its key is invalid.
    Key,
    /// It comes from a page of another site.
    Origin,
}

impl Refusal {
    /// The name in the metric.
    fn name(&self) -> &'static str {
        match self {
            Self::Origin => "origin",
            _ => "violation",
        }
    }
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
            Self::Origin => {
                let text = "pages of this origin may not connect (the key `origins` lists those that may)\n";
                (StatusCode::FORBIDDEN, text).into_response()
            }
            Self::Key => (
                StatusCode::BAD_REQUEST,
                "`Sec-WebSocket-Key` must be 16 bytes in base64\n",
            )
                .into_response(),
        }
    }
}

/// RFC 6455 section 4.2.1, and the origin (section 10.2). Gives the value of `Sec-WebSocket-Accept`.
fn check(log_limit: &LogLimit, origins: &Origins, request: &Request) -> Result<HeaderValue, Refusal> {
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
    check_origin(log_limit, origins, headers)?;
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|_| Refusal::Key)
}

/// Browsers name the origin of the page; other clients need not.
fn check_origin(log_limit: &LogLimit, origins: &Origins, headers: &HeaderMap) -> Result<(), Refusal> {
    let text = |name| {
        headers
            .get(name)
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
    };
    let (Some(origin), host) = (text(ORIGIN), text(HOST).unwrap_or_default()) else {
        return Ok(());
    };
    if origins.allows(&origin, &host) {
        return Ok(());
    }
    if let Some(times) = log_limit.count("origin") {
        tracing::warn!(
            %origin,
            %host,
            times,
            "handshake refused: pages of this origin may not connect; the key `origins` lists those that may"
        );
    }
    Err(Refusal::Origin)
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

fn connection(ids: ClientIds, remote: Remote, client: IpAddr, head: &Parts) -> Connection {
    let address = remote.address;
    let id = match ids {
        ClientIds::Address => address.to_string(),
        ClientIds::Uuid => uuid::Uuid::new_v4().to_string(),
    };
    // The value of a header has no line breaks, so one line for each is safe.
    let mut headers = String::new();
    for (name, value) in &head.headers {
        if !headers.is_empty() {
            headers.push('\n');
        }
        headers.push_str(name.as_str());
        headers.push_str(": ");
        headers.push_str(&String::from_utf8_lossy(value.as_bytes()));
    }
    let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
    let mut connection = Connection::new(id.into(), address, path, query, &headers);
    connection.client_address = client;
    connection
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
                is_open: true,
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
