//! How many clients may connect: in all, of one address, and per second. Who is over a limit is refused before any plugin
//! or PHP hears of it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::RETRY_AFTER;

use crate::config::ClientLimits;

/// Counts the clients that are connected, or about to be.
#[derive(Default)]
pub(super) struct Limiter(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    connections: usize,
    by_address: HashMap<IpAddr, usize>,
    bucket: Bucket,
}

/// A token bucket that holds as many handshakes as a second may have.
#[derive(Default)]
struct Bucket {
    handshakes: f64,
    /// When it was looked at; never means that it is full.
    filled: Option<Instant>,
}

/// A place of one client. It is free again when this is dropped.
pub(super) struct Place {
    limiter: Arc<Limiter>,
    address: IpAddr,
}

/// A limit that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    Connections,
    ConnectionsPerAddress,
    HandshakesPerSecond,
}

impl Limiter {
    /// Takes a place, unless a limit is reached. The rate is asked last: what the others refuse does not use it up.
    pub(super) fn admit(
        self: &Arc<Self>,
        limits: &ClientLimits,
        address: IpAddr,
        now: Instant,
    ) -> Result<Place, Reached> {
        let address = counted(address);
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
            && !counts.bucket.take(rate, now)
        {
            return Err(Reached::HandshakesPerSecond);
        }
        counts.connections += 1;
        counts.by_address.insert(address, of_address + 1);
        drop(counts);
        Ok(Place {
            limiter: self.clone(),
            address,
        })
    }

    /// Nothing here leaves the counts half changed, so a panic elsewhere does not spoil them.
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who has one IPv6 address has all of its /64 network.
fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

impl Drop for Place {
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

impl Bucket {
    fn take(&mut self, rate: usize, now: Instant) -> bool {
        let rate = rate as f64;
        let passed = self.filled.map(|then| now.saturating_duration_since(then));
        let fresh = passed.map_or(rate, |passed| passed.as_secs_f64() * rate);
        self.handshakes = (self.handshakes + fresh).min(rate);
        self.filled = Some(now);
        let has_one = self.handshakes >= 1.0;
        if has_one {
            self.handshakes -= 1.0;
        }
        has_one
    }
}

impl Reached {
    /// The key that sets it, which is also the metric's name for it.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Connections => "max-connections",
            Self::ConnectionsPerAddress => "max-connections-per-address",
            Self::HandshakesPerSecond => "max-handshakes-per-second",
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

    fn admit(limiter: &Arc<Limiter>, limits: &ClientLimits, address: &str) -> Result<Place, Reached> {
        limiter.admit(limits, address.parse().unwrap(), Instant::now())
    }

    #[test]
    fn a_place_that_is_given_up_can_be_taken_again() {
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
        let mut places = Vec::new();
        for (address, expected) in [
            ("192.0.2.1", true),
            ("192.0.2.1", false),
            ("::ffff:192.0.2.1", false),
            ("192.0.2.2", true),
            ("2001:db8::1", true),
            ("2001:db8::ffff:1", false),
            ("2001:db8:0:1::1", true),
        ] {
            let place = admit(&limiter, &limits, address);
            assert_eq!(place.is_ok(), expected, "{address}");
            places.extend(place);
        }
    }

    #[test]
    fn a_second_may_have_its_handshakes_at_once_or_one_after_the_other() {
        let mut bucket = Bucket::default();
        let start = Instant::now();
        let mut take = |ms| bucket.take(2, start + Duration::from_millis(ms));
        assert!(take(0) && take(0) && !take(0));
        assert!(!take(400) && take(500) && !take(600));
        assert!(
            take(10_000) && take(10_000) && !take(10_000),
            "no more than a second's"
        );
    }
}
