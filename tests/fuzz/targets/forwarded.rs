//! What proxies, and clients that pretend to be some, say of where a client comes from. The first line of the input is the
//! address of the peer, each other line is a header. Only whom the gateway trusts is believed, and nobody further than to
//! the first address that it does not trust.

#![no_main]
#![allow(dead_code, reason = "a target uses a part of what it includes")]

use std::net::IpAddr;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;

#[path = "../../../host/config"]
mod config {
    #[path = "types/networks.rs"]
    pub mod networks;

    pub use networks::Networks;

    pub fn networks(texts: &[&str]) -> Networks {
        let parsed = texts
            .iter()
            .map(|text| networks::parse_network(text).expect("a network"));
        Networks::new(parsed.collect())
    }
}
#[path = "../../../host/server/proxies.rs"]
mod proxies;

use proxies::{Remote, client_address};

const TRUSTED: [&str; 3] = ["127.0.0.0/8", "10.0.0.0/8", "::1"];

fuzz_target!(|input: &str| {
    let mut lines = input.split('\n');
    let Some(peer) = lines.next().and_then(|line| line.parse::<IpAddr>().ok()) else {
        return;
    };
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.trim().parse::<HeaderValue>()) {
            headers.append(name, value);
        }
    }
    let trusted = config::networks(&TRUSTED);
    let remote = Remote {
        address: (peer, 80).into(),
        is_encrypted: false,
    };
    let before = headers.clone();
    let client = client_address(&trusted, remote, &mut headers);
    assert_eq!(client, client.to_canonical());
    if trusted.contains(peer) {
        assert_eq!(headers, before);
        assert_eq!(
            client,
            believed(peer, &headers, |address| trusted.contains(address))
        );
    } else {
        assert_eq!(client, peer.to_canonical());
        let is_claim = |name: &HeaderName| {
            let name = name.as_str();
            name == "forwarded" || name == "x-real-ip" || name.starts_with("x-forwarded-")
        };
        assert!(!headers.keys().any(is_claim), "{headers:?}");
        assert!(
            before
                .iter()
                .all(|(name, _)| is_claim(name) || headers.contains_key(name))
        );
    }
});

/// From the right: as long as whoever has spoken is trusted, what it says is the client, if it says an address.
fn believed(peer: IpAddr, headers: &HeaderMap, is_trusted: impl Fn(IpAddr) -> bool) -> IpAddr {
    let mut said = Vec::new();
    for value in headers.get_all("x-forwarded-for") {
        said.extend(value.to_str().unwrap_or_default().split(',').map(str::trim));
    }
    let mut client = peer;
    while is_trusted(client) {
        let Some(text) = said.pop() else {
            break;
        };
        let bare = text.parse().ok();
        let with_port = || {
            text.parse::<std::net::SocketAddr>()
                .ok()
                .map(|address| address.ip())
        };
        let Some(address) = bare.or_else(with_port) else {
            break;
        };
        client = address;
    }
    client.to_canonical()
}
