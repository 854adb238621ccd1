//! Addresses and networks: who is trusted, who may push.

use std::net::IpAddr;

use ipnet::IpNet;

/// A set of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    pub(in crate::config) fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether an address is one of these. An IPv6 listener sees IPv4 addresses as `::ffff:192.0.2.1`.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// An address, or a network such as `10.0.0.0/8`.
pub(in crate::config) fn parse_network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(|_| address()).map_err(|_| {
        format!(
            "`{text}` is neither address nor network; write such as \"10.0.0.0/8\", \"192.0.2.1\" or \"::1\""
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_addresses() {
        let texts = ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "::1"];
        let networks = Networks::new(texts.iter().map(|text| parse_network(text).unwrap()).collect());
        for (address, expected) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("::ffff:10.0.0.1", true),
            ("2001:db8::1", true),
            ("2001:db9::1", false),
            ("::1", true),
        ] {
            assert_eq!(networks.contains(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for bad in [
            "",
            "10.0.0.0/33",
            "10.0.0",
            "localhost",
            "10.0.0.0/",
            "127.0.0.1:80",
        ] {
            assert!(parse_network(bad).is_err(), "{bad}");
        }
    }
}
