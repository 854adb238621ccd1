//! How many clients may connect in a second. Pure: the time is given.
//!
//! A network may only take what is left for all others: if it has taken more lately, it has to wait. So one that wants all of
//! them leaves half of a second's handshakes to those who come now and then.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

use crate::token_bucket::TokenBucket;

/// A token for each handshake.
pub(super) struct HandshakeRate {
    rate: usize,
    all: TokenBucket,
    /// Those of the networks that have taken some lately.
    by_network: HashMap<IpAddr, TokenBucket>,
}

impl HandshakeRate {
    /// None if there is no limit.
    pub(super) fn new(rate: usize, now: Instant) -> Option<Self> {
        Some(Self {
            rate,
            all: TokenBucket::new(rate, now)?,
            by_network: HashMap::new(),
        })
    }

    /// From now on another rate counts.
    pub(super) fn set_rate(&mut self, rate: usize) {
        if rate != self.rate {
            self.rate = rate;
            self.all.set_rate(rate);
            self.by_network.clear();
        }
    }

    /// Takes a token for a client of a network, if there is one for it.
    pub(super) fn try_take(&mut self, network: IpAddr, now: Instant) -> bool {
        let rate = self.rate as f64;
        // Nobody who has taken none for a second is remembered, so there are few.
        if self.by_network.len() > 4 * self.rate {
            self.by_network.retain(|_, own| own.left(now) < rate);
        }
        let left = self.all.left(now);
        let taken = self
            .by_network
            .get_mut(&network)
            .map_or(0.0, |own| rate - own.left(now));
        if left < 1.0 || taken > left {
            return false;
        }
        let Some(full) = TokenBucket::new(self.rate, now) else {
            return true;
        };
        self.all.take(1, now);
        self.by_network.entry(network).or_insert(full).take(1, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn network(n: u8) -> IpAddr {
        [192, 0, 2, n].into()
    }

    #[test]
    fn the_rate_is_for_all_of_them() {
        let now = Instant::now();
        let mut rate = HandshakeRate::new(3, now).unwrap();
        let taken = (0..9).filter(|n| rate.try_take(network(*n), now)).count();
        assert_eq!(taken, 3);
        let later = now + Duration::from_millis(334);
        assert!(rate.try_take(network(9), later) && !rate.try_take(network(10), later));
        rate.set_rate(1000);
        assert!(rate.try_take(network(11), later + Duration::from_millis(2)));
        assert!(HandshakeRate::new(0, now).is_none());
    }

    #[test]
    fn one_network_leaves_half_of_them_to_the_others_and_gets_all_that_they_do_not_take() {
        let start = Instant::now();
        let mut rate = HandshakeRate::new(100, start).unwrap();
        let flood =
            |rate: &mut HandshakeRate, now| (0..1000).filter(|_| rate.try_take(network(1), now)).count();
        assert_eq!(flood(&mut rate, start), 51);
        let others = (0..100)
            .filter(|n| rate.try_take(network(2 + n % 25), start))
            .count();
        assert_eq!(others, 49);
        let start = start + Duration::from_secs(1);
        let taken: usize = (0..1000)
            .map(|ms| flood(&mut rate, start + Duration::from_millis(ms)))
            .sum();
        assert!((145..=151).contains(&taken), "{taken}");
        assert!((2..50).all(|n| rate.try_take(network(n), start + Duration::from_secs(1))));
    }

    #[test]
    fn networks_are_forgotten() {
        let start = Instant::now();
        let mut rate = HandshakeRate::new(10, start).unwrap();
        for n in 0..250 {
            assert!(rate.try_take(network(n), start + Duration::from_millis(100) * u32::from(n)));
            assert!(rate.by_network.len() <= 41);
        }
    }
}
