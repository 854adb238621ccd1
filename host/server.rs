//! The listeners: one for clients, and one for applications and operators, which may be the same. The only part that names
//! axum.

mod accept;
mod admin;
mod convert;
mod descriptors;
mod handshake;
mod handshake_rate;
mod idempotency;
mod limits;
mod listener;
mod paths;
mod proxies;
mod proxy_protocol;
mod push;
mod socket;
mod tls;
mod upgrade;
mod waiting;

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
use crate::log_limit::LogLimit;
use crate::session::Sessions;
use accept::Acceptor;
pub use descriptors::Descriptors;
use idempotency::Pushed;
use limits::Limiter;
pub use listener::{Inherited, Listener, SocketFile};
use push::{Unverified, UsedSignatures};
pub use tls::{Tls, TlsError};
use waiting::Waiting;

/// The pause after running out of file descriptors, so that some can be closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is needed to answer requests.
pub struct Gateway {
    /// Take over upgraded sockets.
    pub sessions: Arc<Sessions>,
    /// Replaced as a whole; a request that began with the old one ends with it.
    pub settings: ArcSwap<Settings>,
    tls: Option<Arc<Tls>>,
    descriptors: Descriptors,
    limiter: Arc<Limiter>,
    log_limit: LogLimit,
    /// Pushes that must not be done twice.
    pushed: Arc<Pushed>,
    /// Those of pushes, which are good for one each.
    signatures: UsedSignatures,
    /// Bodies of pushes that are being received.
    unverified: Unverified,
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
    pub fn new(
        sessions: Arc<Sessions>,
        settings: Settings,
        tls: Option<Arc<Tls>>,
        descriptors: Descriptors,
    ) -> Self {
        Self {
            sessions,
            settings: ArcSwap::from_pointee(settings),
            tls,
            descriptors,
            limiter: Arc::default(),
            log_limit: LogLimit::default(),
            pushed: Arc::default(),
            signatures: UsedSignatures::default(),
            unverified: Unverified::default(),
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
        waiting: Arc::new(Waiting::new(gateway.descriptors.waiting)),
        gateway,
        role,
    });
    loop {
        match listener.accept().await {
            Ok((socket, address)) => {
                let place = acceptor.place(address);
                tokio::spawn(acceptor.clone().serve(socket, address, place));
                acceptor.waiting.make_room().await;
            }
            Err(error) => {
                tracing::error!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn router(gateway: Arc<Gateway>, role: Role) -> Router {
    let others = match role {
        Role::Push => return push::router(gateway),
        Role::Clients => push::health(gateway.clone()),
        Role::Both => push::router(gateway.clone()),
    };
    let state = Clients {
        gateway,
        role,
        others,
    };
    Router::new().fallback(clients).with_state(state)
}

#[derive(Clone)]
struct Clients {
    gateway: Arc<Gateway>,
    role: Role,
    /// Answers what is not for clients.
    others: Router,
}

async fn clients(State(mut state): State<Clients>, request: Request) -> Response {
    let Clients { gateway, .. } = &state;
    let settings = gateway.settings.load_full();
    let path = request.uri().path();
    if paths::has_dot_segments(path) {
        return last(upgrade::refuse(
            gateway,
            handshake::Refusal::DotSegments,
            &request,
        ));
    }
    match upgrade::route(&settings.routes, path) {
        Some(route) => last(upgrade::upgrade(gateway.clone(), &settings, route, request).await),
        None if handshake::is_meant(request.headers()) => {
            last(upgrade::refuse(gateway, handshake::Refusal::Path, &request))
        }
        None => {
            let answer = state.others.call(request).await.into_response();
            match state.role {
                Role::Clients => last(answer),
                _ => answer,
            }
        }
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
