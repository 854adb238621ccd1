//! The headers that PHP gets as if the browser had asked it.

use aileron_plugin::{Connection, Headers};

/// Headers of the handshake that are passed on as they came.
const PASSED_ON: [&str; 5] = [
    "cookie",
    "authorization",
    "user-agent",
    "accept-language",
    "origin",
];

/// What the facts of a connection say about the browser and the way that its handshake took.
#[derive(Default)]
struct Browser<'a> {
    /// In the order of `PASSED_ON`.
    passed_on: [Option<&'a str>; PASSED_ON.len()],
    remote_address: Option<&'a str>,
    host: Option<&'a str>,
    forwarded_for: Option<&'a str>,
    forwarded_host: Option<&'a str>,
    forwarded_proto: Option<&'a str>,
}

impl<'a> Browser<'a> {
    /// Goes through the facts once: they come with each message.
    fn read(connection: &'a Connection) -> Self {
        let mut browser = Self::default();
        for (name, value) in &connection.facts {
            let field = match name.strip_prefix("header.") {
                None if name == "remote-address" => &mut browser.remote_address,
                None => continue,
                Some("host") => &mut browser.host,
                Some("x-forwarded-for") => &mut browser.forwarded_for,
                Some("x-forwarded-host") => &mut browser.forwarded_host,
                Some("x-forwarded-proto") => &mut browser.forwarded_proto,
                Some(header) => match PASSED_ON.iter().position(|name| *name == header) {
                    Some(index) => &mut browser.passed_on[index],
                    None => continue,
                },
            };
            field.get_or_insert(value);
        }
        browser
    }
}

/// The headers of a request that is about a connection.
pub fn headers(connection: &Connection) -> Headers {
    let browser = Browser::read(connection);
    let mut headers = Vec::with_capacity(PASSED_ON.len() + 3);
    let mut add = |name: &str, value: Option<String>| {
        headers.extend(value.map(|value| (name.to_owned(), value)));
    };
    for (name, value) in PASSED_ON.iter().zip(browser.passed_on) {
        add(name, value.map(str::to_owned));
    }
    let peer = browser.remote_address.map(without_port);
    let route = match (browser.forwarded_for, peer) {
        (Some(before), Some(peer)) => Some(format!("{before}, {peer}")),
        (before, peer) => before.or(peer).map(str::to_owned),
    };
    add("x-forwarded-for", route);
    let host = browser.forwarded_host.or(browser.host);
    add("x-forwarded-host", host.map(str::to_owned));
    // Where TLS ends in the gateway, it adds this header to the handshake itself.
    let proto = browser.forwarded_proto.unwrap_or("http");
    add("x-forwarded-proto", Some(proto.to_owned()));
    headers
}

fn without_port(address: &str) -> &str {
    address
        .rsplit_once(':')
        .map_or(address, |(ip, _)| ip.trim_matches(['[', ']']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(pairs: &[(&str, &str)]) -> Headers {
        pairs
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect()
    }

    fn forwarded(facts: &[(&str, &str)]) -> Headers {
        headers(&Connection {
            id: "a".into(),
            facts: owned(facts),
        })
    }

    #[test]
    fn the_browser_is_passed_on() {
        let facts = [
            ("path", "/ws"),
            ("remote-address", "192.0.2.7:5"),
            ("header.cookie", "PHPSESSID=1"),
            ("header.authorization", "Basic YQ=="),
            ("header.user-agent", "Firefox"),
            ("header.accept-language", "de"),
            ("header.origin", "https://example.org"),
            ("header.host", "example.org"),
        ];
        let expected = [
            ("cookie", "PHPSESSID=1"),
            ("authorization", "Basic YQ=="),
            ("user-agent", "Firefox"),
            ("accept-language", "de"),
            ("origin", "https://example.org"),
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-host", "example.org"),
            ("x-forwarded-proto", "http"),
        ];
        assert_eq!(forwarded(&facts), owned(&expected));
    }

    #[test]
    fn what_a_proxy_said_counts() {
        let facts = [
            ("remote-address", "[2001:db8::1]:5"),
            ("header.x-forwarded-for", "192.0.2.7, 192.0.2.8"),
            ("header.x-forwarded-host", "example.org"),
            ("header.x-forwarded-proto", "https"),
            ("header.host", "gateway:8080"),
        ];
        let expected = [
            ("x-forwarded-for", "192.0.2.7, 192.0.2.8, 2001:db8::1"),
            ("x-forwarded-host", "example.org"),
            ("x-forwarded-proto", "https"),
        ];
        assert_eq!(forwarded(&facts), owned(&expected));
        assert_eq!(forwarded(&[]), owned(&[("x-forwarded-proto", "http")]));
    }

    #[test]
    fn an_address_without_a_port_stays() {
        for (address, ip) in [("127.0.0.1:1", "127.0.0.1"), ("[::1]:1", "::1"), ("unix", "unix")] {
            assert_eq!(without_port(address), ip);
        }
    }
}
