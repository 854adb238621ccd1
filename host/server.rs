//! The listeners: clients on one, applications and operators on the other or on the same. The only part that names axum.

mod admin;
mod convert;
mod idempotency;
mod push;
mod upgrade;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tower_service::Service;

use crate::config::{ClientIds, Origins, Route, Token};
use crate::session::Sessions;
pub use idempotency::Pushed;

/// A client that has not sent its request by then is dropped.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a request's line and headers. More is refused with 431.
const MAX_HEAD: usize = 32 * 1024;
/// After an accept that failed for want of descriptors, so that those in use can be given back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What requests are answered with.
pub struct Gateway {
    /// Who takes over upgraded sockets.
    pub sessions: Arc<Sessions>,
    /// The paths of clients.
    pub routes: Vec<Route>,
    /// How connections are named.
    pub client_ids: ClientIds,
    /// The pages that browsers may connect from.
    pub origins: Origins,
    /// Pushes that are not to be done twice.
    pub pushed: Pushed,
    /// The credential of everything but the clients' paths.
    pub token: Option<Token>,
}

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Clients only.
    Clients,
    /// Applications and operators only.
    Push,
    /// Everyone.
    Both,
}

type Request = hyper::Request<Body>;

/// Serves a listener for ever; dropping the future stops accepting. Sessions that have begun go on.
pub async fn serve(listener: TcpListener, gateway: Arc<Gateway>, role: Role) {
    let router = router(gateway, role);
    loop {
        match listener.accept().await {
            Ok((socket, address)) => {
                tokio::spawn(serve_connection(socket, address, router.clone()));
            }
            Err(error) => {
                tracing::error!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn router(gateway: Arc<Gateway>, role: Role) -> Router {
    let clients = Router::new().fallback(clients_only);
    match role {
        Role::Clients => clients.with_state(gateway),
        Role::Push => push::router(gateway),
        Role::Both => {
            let push = push::router(gateway.clone());
            Router::new().fallback(both).with_state((gateway, push))
        }
    }
}

async fn clients_only(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    match upgrade::route(&gateway.routes, request.uri().path()) {
        Some(route) => upgrade::upgrade(gateway, route, request).await,
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn both(State((gateway, mut push)): State<(Arc<Gateway>, Router)>, request: Request) -> Response {
    match upgrade::route(&gateway.routes, request.uri().path()) {
        Some(route) => upgrade::upgrade(gateway, route, request).await,
        None => push.call(request).await.into_response(),
    }
}

async fn serve_connection(socket: TcpStream, address: SocketAddr, router: Router) {
    // Frames are small and must not wait for each other.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let service = TowerToHyperService::new(WithAddress { router, address });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE_PATIENCE)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%address, %error, "a connection ended before it was served");
    }
}

/// Puts the peer's address with each request.
#[derive(Clone)]
struct WithAddress {
    router: Router,
    address: SocketAddr,
}

impl Service<hyper::Request<hyper::body::Incoming>> for WithAddress {
    type Response = Response;
    type Error = std::convert::Infallible;
    type Future = axum::routing::future::RouteFuture<std::convert::Infallible>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: hyper::Request<hyper::body::Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.address);
        self.router.call(request.map(Body::new))
    }
}
