//! The listeners: one for clients, and one for applications and operators, which may be the same. The only part that names
//! axum.

mod accept;
mod admin;
mod convert;
mod idempotency;
mod limits;
mod listener;
mod log_limit;
mod proxies;
mod proxy_protocol;
mod push;
mod socket;
mod tls;
mod upgrade;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{CONNECTION, HeaderValue};
use tower_service::Service;

use crate::config::{ClientIds, ClientLimits, Config, Origins, Proxies, PushAccess, Route};
use crate::session::Sessions;
use accept::Acceptor;
use idempotency::Pushed;
use limits::Limiter;
pub use listener::{Inherited, Listener, SocketFile};
use log_limit::LogLimit;
pub use tls::{Tls, TlsError};

/// The pause after running out of file descriptors, so that some can be closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is needed to answer requests.
pub struct Gateway {
    /// Take over upgraded sockets.
    pub sessions: Arc<Sessions>,
    /// Replaced as a whole; a request that began with the old one ends with it.
    pub settings: ArcSwap<Settings>,
    tls: Option<Arc<Tls>>,
    limiter: Arc<Limiter>,
    log_limit: LogLimit,
    /// Pushes that must not be done twice.
    pushed: Pushed,
}

/// Who is let in, and how.
pub struct Settings {
    /// The paths that clients connect to.
    pub routes: Vec<Route>,
    /// How connections are named.
    pub client_ids: ClientIds,
    /// The web pages from which browsers may connect.
    pub origins: Origins,
    /// How many clients may connect, how fast, and how long that may take.
    pub limits: ClientLimits,
    /// Who may say where a client comes from.
    pub proxies: Proxies,
    /// Who may push.
    pub access: PushAccess,
}

impl Settings {
    /// Those of a configuration.
    pub fn new(config: &Config) -> Self {
        Self {
            routes: config.routes.clone(),
            client_ids: config.client_id,
            origins: config.origins.clone(),
            limits: config.clients,
            proxies: config.proxies.clone(),
            access: config.push.access.clone(),
        }
    }
}

impl Gateway {
    /// Without any clients yet.
    pub fn new(sessions: Arc<Sessions>, settings: Settings, tls: Option<Arc<Tls>>) -> Self {
        Self {
            sessions,
            settings: ArcSwap::from_pointee(settings),
            tls,
            limiter: Arc::default(),
            log_limit: LogLimit::default(),
            pushed: Pushed::default(),
        }
    }
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

/// Serves a listener forever; dropping the future stops accepting. Sessions that have begun go on.
pub async fn serve(listener: Listener, gateway: Arc<Gateway>, role: Role) {
    let acceptor = Arc::new(Acceptor {
        router: router(gateway.clone(), role),
        gateway,
        role,
    });
    loop {
        match listener.accept().await {
            Ok((socket, address)) => {
                tokio::spawn(acceptor.clone().serve(socket, address));
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
    let settings = gateway.settings.load_full();
    match upgrade::route(&settings.routes, request.uri().path()) {
        Some(route) => last(upgrade::upgrade(gateway, &settings, route, request).await),
        None => last(StatusCode::NOT_FOUND.into_response()),
    }
}

/// Clients make only one request. Whoever makes another and never reads an answer would escape all time limits.
fn last(mut response: Response) -> Response {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let headers = response.headers_mut();
        headers.append(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn both(State((gateway, mut push)): State<(Arc<Gateway>, Router)>, request: Request) -> Response {
    let settings = gateway.settings.load_full();
    match upgrade::route(&settings.routes, request.uri().path()) {
        Some(route) => upgrade::upgrade(gateway, &settings, route, request).await,
        None => push.call(request).await.into_response(),
    }
}
