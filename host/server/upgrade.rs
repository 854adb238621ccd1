//! The opening handshake (RFC 6455 section 4.2) and the hand-over of the socket to a session.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL, TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::request::Parts;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

use super::convert::{joined, to_headers, to_http, to_request};
use super::handshake::{self, Refusal};
use super::limits::{ClientPermit, Reached};
use super::proxies::{Remote, client_address};
use super::socket::Socket;
use super::{Gateway, Request, Settings};
use crate::budget::{FREE, Held};
use crate::config::{ClientIds, ClientLimits, Route};
use crate::message::{self, Connection, Payload, excerpt};
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
    let key = match handshake::check(&settings.origins, &request) {
        Ok(key) => key,
        Err(refusal) => return refuse(&gateway, refusal, &request),
    };
    if gateway.sessions.actions.registry.is_closing() {
        metrics.handshake("shutdown");
        return Reached::Shutdown.into_response();
    }
    let max_connections = settings.limits.max_connections.min(gateway.descriptors.clients);
    let limits = ClientLimits {
        max_connections,
        ..settings.limits
    };
    let admitted = gateway.limiter.admit(&limits, client, Instant::now());
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

/// Counts and logs a refusal. Gives what the client is told.
pub(super) fn refuse(gateway: &Gateway, refusal: Refusal, request: &Request) -> Response {
    let name = refusal.name();
    gateway.sessions.actions.metrics.handshake(name);
    if let Some(times) = gateway.log_limit.count(name) {
        let header = |name| {
            let value = request.headers().get(name)?.to_str();
            Some(excerpt(value.unwrap_or("(not text)")))
        };
        tracing::warn!(
            path = &*excerpt(request.uri().path()),
            origin = header(ORIGIN).as_deref(),
            host = header(HOST).as_deref(),
            times,
            "handshake refused: {refusal}"
        );
    }
    refusal.into_response()
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

fn connection(ids: ClientIds, remote: Remote, client: IpAddr, head: &Parts) -> Connection {
    let address = remote.address;
    let id = match ids {
        ClientIds::Address => address.to_string(),
        ClientIds::Uuid => uuid::Uuid::new_v4().to_string(),
    };
    // The value of a header has no line breaks, so one line for each is safe.
    let mut headers = String::new();
    for (name, value) in joined(&head.headers) {
        if !headers.is_empty() {
            headers.push('\n');
        }
        headers.push_str(name.as_str());
        headers.push_str(": ");
        headers.push_str(&value);
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
