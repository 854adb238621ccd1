//! How many clients may connect: in all, from one address, and per second. Clients over a limit are refused before any
//! plugin or PHP hears of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::RETRY_AFTER;

use super::handshake_rate::HandshakeRate;
use crate::config::ClientLimits;
use crate::message::network;

/// Counts the clients that are connected, or about to be.
#[derive(Default)]
pub(super) struct Limiter(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    connections: usize,
    by_address: HashMap<IpAddr, usize>,
    /// None until there is a limit.
    handshakes: Option<HandshakeRate>,
}

/// Allows one client to be connected, until this is dropped.
pub(super) struct ClientPermit {
    limiter: Arc<Limiter>,
    address: IpAddr,
}

/// A limit that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    Connections,
    ConnectionsPerAddress,
    HandshakesPerSecond,
    Inbound,
    /// The gateway ends.
    Shutdown,
}

impl Limiter {
    /// Gives a permit, unless a limit is reached. The rate is checked last: what the other limits refuse does not use it up.
    pub(super) fn admit(
        self: &Arc<Self>,
        limits: &ClientLimits,
        address: IpAddr,
        now: Instant,
    ) -> Result<ClientPermit, Reached> {
        let address = network(address);
        let mut counts = self.lock();
        if counts.connections >= limits.max_connections {
            return Err(Reached::Connections);
        }
        let of_address = counts.by_address.get(&address).copied().unwrap_or_default();
        if limits
            .max_connections_per_address
            .is_some_and(|max| of_address >= max)
        {
            return Err(Reached::ConnectionsPerAddress);
        }
        if let Some(rate) = limits.max_handshakes_per_second
            && !counts.take_handshake(rate, address, now)
        {
            return Err(Reached::HandshakesPerSecond);
        }
        counts.connections += 1;
        counts.by_address.insert(address, of_address + 1);
        drop(counts);
        Ok(ClientPermit {
            limiter: self.clone(),
            address,
        })
    }

    /// Nothing here leaves the counts half changed, so a panic elsewhere does not spoil them.
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ClientPermit {
    fn drop(&mut self) {
        let mut counts = self.limiter.lock();
        counts.connections -= 1;
        if let Some(n) = counts.by_address.get_mut(&self.address) {
            *n -= 1;
            if *n == 0 {
                counts.by_address.remove(&self.address);
            }
        }
    }
}

impl Counts {
    /// The rate may have changed since the last handshake.
    fn take_handshake(&mut self, rate: usize, network: IpAddr, now: Instant) -> bool {
        match &mut self.handshakes {
            Some(handshakes) => handshakes.set_rate(rate),
            none => *none = HandshakeRate::new(rate, now),
        }
        let handshakes = self.handshakes.as_mut();
        handshakes.is_none_or(|handshakes| handshakes.try_take(network, now))
    }
}

impl Reached {
    /// The key that sets it, which is also its name in the metric.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Connections => "max-connections",
            Self::ConnectionsPerAddress => "max-connections-per-address",
            Self::HandshakesPerSecond => "max-handshakes-per-second",
            Self::Inbound => "max-inbound",
            Self::Shutdown => "shutdown",
        }
    }
}

impl IntoResponse for Reached {
    fn into_response(self) -> Response {
        let key = self.key();
        match self {
            Self::Connections => {
                let text = format!("all connections are taken (`{key}`); try again later\n");
                (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "10")], text).into_response()
            }
            Self::Inbound => {
                let text = format!(
                    "there is no room for such long headers at the moment (`{key}`); try again later\n"
                );
                (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "10")], text).into_response()
            }
            Self::Shutdown => {
                let text = "the gateway is shutting down; try again\n";
                (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], text).into_response()
            }
            Self::ConnectionsPerAddress => {
                let text =
                    format!("there are as many connections from this address as there may be (`{key}`)\n");
                (StatusCode::TOO_MANY_REQUESTS, text).into_response()
            }
            Self::HandshakesPerSecond => {
                let text = format!("more clients connect than a second may have (`{key}`); try again\n");
                (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], text).into_response()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NONE: ClientLimits = ClientLimits {
        max_connections: usize::MAX,
        max_connections_per_address: None,
        max_handshakes_per_second: None,
        handshake_timeout: Duration::MAX,
    };

    fn admit(limiter: &Arc<Limiter>, limits: &ClientLimits, address: &str) -> Result<ClientPermit, Reached> {
        limiter.admit(limits, address.parse().unwrap(), Instant::now())
    }

    #[test]
    fn a_permit_that_is_given_back_can_be_taken_again() {
        let limiter = Arc::default();
        let limits = ClientLimits {
            max_connections: 2,
            ..NONE
        };
        let first = admit(&limiter, &limits, "192.0.2.1").ok();
        let _second = admit(&limiter, &limits, "192.0.2.2").ok();
        let full = admit(&limiter, &limits, "192.0.2.3").err();
        assert_eq!(full, Some(Reached::Connections));
        drop(first);
        assert!(admit(&limiter, &limits, "192.0.2.3").is_ok());
        assert_eq!(
            limiter.lock().by_address.len(),
            1,
            "the addresses of those who went are forgotten"
        );
    }

    #[test]
    fn addresses_count_by_themselves_and_those_of_one_network_of_ipv6_together() {
        let limiter = Arc::default();
        let limits = ClientLimits {
            max_connections_per_address: Some(1),
            ..NONE
        };
        let mut permits = Vec::new();
        for (address, expected) in [
            ("192.0.2.1", true),
            ("192.0.2.1", false),
            ("::ffff:192.0.2.1", false),
            ("192.0.2.2", true),
            ("2001:db8::1", true),
            ("2001:db8::ffff:1", false),
            ("2001:db8:0:1::1", true),
        ] {
            let permit = admit(&limiter, &limits, address);
            assert_eq!(permit.is_ok(), expected, "{address}");
            permits.extend(permit);
        }
    }

    #[test]
    fn handshakes_have_a_rate() {
        let limiter = Arc::default();
        let limits = ClientLimits {
            max_handshakes_per_second: Some(2),
            ..NONE
        };
        let now = Instant::now();
        let address = "192.0.2.1".parse().unwrap();
        let refused = || Limiter::admit(&limiter, &limits, address, now).err();
        assert_eq!(
            [refused(), refused(), refused()],
            [None, None, Some(Reached::HandshakesPerSecond)]
        );
    }
}
