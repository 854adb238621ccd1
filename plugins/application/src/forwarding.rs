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

/// The headers of a request that is about a connection.
pub fn headers(connection: &Connection) -> Headers {
    let of_browser = |name: &str| connection.fact(&format!("header.{name}"));
    let mut headers = Vec::new();
    let mut add = |name: &str, value: Option<&str>| {
        headers.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    };
    for name in PASSED_ON {
        add(name, of_browser(name));
    }
    let peer = connection.fact("remote-address").map(without_port);
    let route: Vec<_> = of_browser("x-forwarded-for").into_iter().chain(peer).collect();
    if !route.is_empty() {
        add("x-forwarded-for", Some(&route.join(", ")));
    }
    add(
        "x-forwarded-host",
        of_browser("x-forwarded-host").or(of_browser("host")),
    );
    // Where TLS ends in the gateway, it adds this header to the handshake itself.
    add(
        "x-forwarded-proto",
        of_browser("x-forwarded-proto").or(Some("http")),
    );
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
