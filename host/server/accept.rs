//! From an accepted socket to its request: PROXY protocol, TLS, HTTP. All of that together has to be done within
//! `handshake-timeout`, however slowly and in whatever pieces it arrives.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use futures_util::future::BoxFuture;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::time::{Duration, Instant, sleep, timeout_at};
use tower_service::Service;

use super::proxies::Remote;
use super::proxy_protocol::{HeaderError, read_header};
use super::socket::Socket;
use super::waiting::{Place, Waiting};
use super::{Gateway, Role};
use crate::message::network;

/// The most bytes of a request's line and headers. More than that is refused with 431.
const MAX_HEAD: usize = 32 * 1024;

/// What every connection of a listener has to pass.
pub(super) struct Acceptor {
    pub(super) gateway: Arc<Gateway>,
    pub(super) router: Router,
    pub(super) role: Role,
    /// Those that have no request under way.
    pub(super) waiting: Arc<Waiting>,
}

/// Why a connection was dropped.
#[derive(Debug, thiserror::Error)]
enum Dropped {
    #[error("its request did not come in time (`handshake-timeout`)")]
    Timeout,
    #[error("it did not read its answer in time (`handshake-timeout`)")]
    Unread,
    #[error(
        "too many connections have sent no request (all together, or by `max-connections-per-address`), and this one \
         had waited longest"
    )]
    Crowded,
    #[error("with `proxy-protocol` only those of `trusted-proxies` may connect")]
    Untrusted,
    #[error("{0}")]
    Header(HeaderError),
    #[error("no TLS with it: {0}")]
    Tls(io::Error),
    /// The client closed it, as one that only checks whether a port is open does.
    #[error("it has gone: {0}")]
    Gone(io::Error),
}

impl Dropped {
    /// The name in the metric, if it is counted.
    fn cause(&self) -> Option<&'static str> {
        match self {
            Self::Timeout => Some("timeout"),
            // It has been counted by its answer.
            Self::Unread => None,
            Self::Crowded => Some("crowded"),
            Self::Untrusted | Self::Header(_) => Some("proxy-protocol"),
            Self::Tls(_) => Some("tls"),
            Self::Gone(_) => None,
        }
    }
}

impl Acceptor {
    /// Serves a connection until it ends or is handed over to a session. One over a Unix socket has no address.
    pub(super) async fn serve(self: Arc<Self>, socket: Socket, address: Option<SocketAddr>, place: Place) {
        let patience = self.gateway.settings.load().limits.handshake_timeout;
        let deadline = Instant::now() + patience;
        let opened = tokio::select! {
            biased;
            () = place.given_up() => Err(Dropped::Crowded),
            opened = timeout_at(deadline, self.open(socket, address)) => opened.unwrap_or(Err(Dropped::Timeout)),
        };
        let served = match opened {
            Ok((socket, remote)) => {
                let left = deadline.saturating_duration_since(Instant::now());
                self.serve_http(socket, remote, place, left).await
            }
            Err(dropped) => Err(dropped),
        };
        if let Err(dropped) = served {
            self.tell(&dropped, address);
        }
    }

    /// It waits, and counts by its address, unless many clients come from there by a proxy.
    pub(super) fn place(&self, address: Option<SocketAddr>) -> Place {
        let settings = self.gateway.settings.load();
        let address = address.map(|address| address.ip());
        let is_proxy = address.is_some_and(|address| settings.proxies.trusted.contains(address));
        let most = settings.limits.max_connections_per_address;
        self.waiting.enter(
            address.map(network),
            most.filter(|_| !is_proxy && self.role != Role::Push),
        )
    }

    /// What comes before HTTP.
    async fn open(
        &self,
        socket: Socket,
        address: Option<SocketAddr>,
    ) -> Result<(Socket, Option<Remote>), Dropped> {
        let address = address.map(canonical);
        let (mut socket, mut address) = match (socket, address) {
            (Socket::Tcp(socket), Some(address)) if self.role != Role::Push => (socket, address),
            (socket, address) => {
                let remote = address.map(|address| Remote {
                    address,
                    is_encrypted: false,
                });
                return Ok((socket, remote));
            }
        };
        let proxies = &self.gateway.settings.load_full().proxies;
        if proxies.protocol {
            if !proxies.trusted.contains(address.ip()) {
                return Err(Dropped::Untrusted);
            }
            address = read_header(&mut socket).await?.map_or(address, canonical);
        }
        let is_encrypted = self.gateway.tls.is_some();
        let socket = match &self.gateway.tls {
            Some(tls) => tls.accept(socket).await?,
            None => Socket::Tcp(socket),
        };
        let remote = Remote {
            address,
            is_encrypted,
        };
        Ok((socket, Some(remote)))
    }

    async fn serve_http(
        &self,
        socket: Socket,
        remote: Option<Remote>,
        place: Place,
        patience: Duration,
    ) -> Result<(), Dropped> {
        let place = Arc::new(place);
        let service = Staged {
            router: self.router.clone(),
            remote,
            place: place.clone(),
        };
        let serving = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(patience)
            .max_buf_size(MAX_HEAD)
            // The size of the buffer alone would let a longer head through if it comes at once.
            .max_header_size(MAX_HEAD)
            .serve_connection(TokioIo::new(socket), TowerToHyperService::new(service))
            .with_upgrades();
        let served = tokio::select! {
            biased;
            served = serving => served,
            () = place.given_up() => return Err(Dropped::Crowded),
            () = self.is_unread(&place) => return Err(Dropped::Unread),
        };
        match served {
            Err(error) if error.is_timeout() && !place.has_asked() => Err(Dropped::Timeout),
            Err(error) => {
                tracing::debug!(%error, "a connection ended before it was served");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Waits until a connection has had time enough to read its answer, and to ask again.
    async fn is_unread(&self, place: &Place) {
        loop {
            let patience = self.gateway.settings.load().limits.handshake_timeout;
            let left = match place.since_answered() {
                Some(since) => patience.saturating_sub(since),
                None => patience,
            };
            if left.is_zero() {
                return;
            }
            sleep(left).await;
        }
    }

    fn tell(&self, dropped: &Dropped, address: Option<SocketAddr>) {
        let Some(cause) = dropped.cause() else {
            tracing::debug!(?address, "connection dropped: {dropped}");
            return;
        };
        if self.role != Role::Push {
            self.gateway.sessions.actions.metrics.handshake(cause);
        }
        if let Some(times) = self.gateway.log_limit.count(cause) {
            tracing::warn!(cause, ?address, times, "connection dropped: {dropped}");
        }
    }
}

/// An IPv6 listener sees an IPv4 address as `::ffff:192.0.2.1`; everybody else is to see it as what it is.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl From<HeaderError> for Dropped {
    fn from(error: HeaderError) -> Self {
        match error {
            HeaderError::Ended(error) => Self::Gone(error),
            error => Self::Header(error),
        }
    }
}

impl From<io::Error> for Dropped {
    /// Whether a TLS handshake broke the protocol, which is reported as invalid data.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData => Self::Tls(error),
            _ => Self::Gone(error),
        }
    }
}

/// Adds to each request where it comes from, and tells how far it is.
#[derive(Clone)]
struct Staged {
    router: Router,
    remote: Option<Remote>,
    place: Arc<Place>,
}

impl Service<hyper::Request<hyper::body::Incoming>> for Staged {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: hyper::Request<hyper::body::Incoming>) -> Self::Future {
        let place = self.place.clone();
        place.asks();
        if let Some(remote) = self.remote {
            request.extensions_mut().insert(remote);
        }
        let answering = self.router.call(request.map(Body::new));
        Box::pin(async move {
            let answer = answering.await;
            place.waits();
            answer
        })
    }
}
