//! Where a client comes from, according to proxies in front of the gateway. Trusted ones are believed, and what others claim
//! is removed from the handshake, so that neither plugins nor PHP believe it.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};

use crate::config::Networks;

/// Where a connection comes from.
#[derive(Clone, Copy)]
pub(super) struct Remote {
    /// The address of the socket, or the one in the PROXY protocol.
    pub(super) address: SocketAddr,
    /// Whether TLS ends here.
    pub(super) is_encrypted: bool,
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Whether the client spoke TLS: set for those whose TLS ends here, unless a trusted proxy says it.
pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The client's address. Leaves only the headers about it that can be trusted.
pub(super) fn client_address(trusted: &Networks, remote: Remote, headers: &mut HeaderMap) -> IpAddr {
    let peer = remote.address.ip();
    let client = if trusted.contains(peer) {
        forwarded_for(trusted, peer, headers)
    } else {
        remove_claims(headers);
        peer
    };
    if remote.is_encrypted && !headers.contains_key(X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
    }
    client.to_canonical()
}

/// Each proxy appends the address of its own client, so the rightmost address that is not a trusted proxy is the client.
/// Whatever is to the left of it may have been written by the client itself.
fn forwarded_for(trusted: &Networks, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let values = headers.get_all(X_FORWARDED_FOR).iter();
    // A value that is not text is not an address either.
    let addresses: Vec<_> = values
        .flat_map(|value| value.to_str().unwrap_or_default().split(','))
        .collect();
    let mut client = peer;
    for text in addresses.iter().rev() {
        let Some(address) = parse(text.trim()) else {
            break;
        };
        client = address;
        if !trusted.contains(address) {
            break;
        }
    }
    client
}

/// Some proxies write a port too.
fn parse(text: &str) -> Option<IpAddr> {
    let with_port = || text.parse::<SocketAddr>().map(|address| address.ip());
    text.parse().or_else(|_| with_port()).ok()
}

fn remove_claims(headers: &mut HeaderMap) {
    let is_claim = |name: &&HeaderName| {
        let name = name.as_str();
        name == FORWARDED || name == "x-real-ip" || name.starts_with("x-forwarded-")
    };
    let claims: Vec<_> = headers.keys().filter(is_claim).cloned().collect();
    for name in claims {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Overrides};

    /// The default: loopback.
    fn trusted() -> Networks {
        Config::load(None, Overrides::default()).unwrap().proxies.trusted
    }

    fn remote(address: &str) -> Remote {
        Remote {
            address: (address.parse::<IpAddr>().unwrap(), 80).into(),
            is_encrypted: false,
        }
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_trusted_proxy_names_the_client() {
        for (values, client) in [
            (vec![], "127.0.0.1"),
            (vec!["192.0.2.1"], "192.0.2.1"),
            (vec!["10.9.8.7, 192.0.2.1"], "192.0.2.1"),
            (vec!["10.9.8.7", "192.0.2.1"], "192.0.2.1"),
            (vec!["192.0.2.1, 127.0.0.1,::1"], "192.0.2.1"),
            (vec!["127.0.0.9, 127.0.0.1"], "127.0.0.9"),
            (vec!["192.0.2.1:4711"], "192.0.2.1"),
            (vec!["[2001:db8::1]:4711"], "2001:db8::1"),
            (vec!["2001:db8::1"], "2001:db8::1"),
            (vec!["::ffff:192.0.2.1"], "192.0.2.1"),
            (vec!["192.0.2.1, unknown"], "127.0.0.1"),
            (vec!["192.0.2.1, junk, 127.0.0.1"], "127.0.0.1"),
            (vec![""], "127.0.0.1"),
        ] {
            let pairs: Vec<_> = values.iter().map(|value| ("x-forwarded-for", *value)).collect();
            let mut headers = headers(&pairs);
            let found = client_address(&trusted(), remote("127.0.0.1"), &mut headers);
            assert_eq!(found.to_string(), client, "{values:?}");
            assert_eq!(headers.get_all("x-forwarded-for").iter().count(), values.len());
        }
    }

    #[test]
    fn what_others_claim_is_taken_out() {
        let claims = [
            ("forwarded", "for=10.0.0.1"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-for", "10.0.0.2"),
            ("x-forwarded-host", "admin.example"),
            ("x-forwarded-proto", "https"),
            ("x-real-ip", "10.0.0.1"),
            ("cookie", "a=b"),
        ];
        let mut headers = headers(&claims);
        let found = client_address(&trusted(), remote("192.0.2.7"), &mut headers);
        assert_eq!(found.to_string(), "192.0.2.7");
        assert_eq!(
            headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(),
            ["cookie"]
        );
    }

    #[test]
    fn tls_that_ends_here_is_told_unless_a_proxy_knows_better() {
        let encrypted = |address| Remote {
            is_encrypted: true,
            ..remote(address)
        };
        let mut own = headers(&[]);
        client_address(&trusted(), encrypted("192.0.2.7"), &mut own);
        assert_eq!(own["x-forwarded-proto"], "https");
        let mut told = headers(&[("x-forwarded-proto", "http")]);
        client_address(&trusted(), encrypted("127.0.0.1"), &mut told);
        assert_eq!(told["x-forwarded-proto"], "http");
    }
}
