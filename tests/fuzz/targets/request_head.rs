//! The head of a request, as clients, pages and proxies send it: which paths are let through to a route, which handshakes
//! are valid, who may push without a credential, and what PHP gets of headers that come twice and of cookies.

#![no_main]
#![allow(dead_code, reason = "a target uses a part of what it includes")]

use std::net::IpAddr;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Uri, Version};
use libfuzzer_sys::fuzz_target;

#[path = "../../../host/config"]
mod config {
    #[path = "types/networks.rs"]
    pub mod networks;
    #[path = "types/origins.rs"]
    pub mod origins;

    pub use networks::Networks;
    pub use origins::Origins;
}
#[path = "../../../host"]
mod host {
    #[allow(unused_imports, reason = "a target uses a part of what it includes")]
    pub mod message;
}
use host::message;

#[path = "../../../host/server"]
mod server {
    pub mod convert;
    pub mod handshake;
    pub mod paths;
    pub mod proxies;
    pub mod push {
        mod local;

        pub fn may_push(headers: &hyper::HeaderMap, uri: &hyper::Uri) -> bool {
            local::check(headers, uri, Some(&["host.docker.internal".to_owned()])).is_ok()
        }

        /// Why a push is refused, as far as it is seen by its head.
        pub mod refusal {
            use hyper::header::HeaderName;

            #[derive(Debug)]
            pub enum Refusal {
                Page,
                Proxy(HeaderName),
                Host(String),
            }
        }
    }

    pub fn has_dot_segments(path: &str) -> bool {
        paths::has_dot_segments(path)
    }

    pub fn joined(headers: &hyper::HeaderMap) -> Vec<(String, String)> {
        let joined = convert::joined(headers);
        joined
            .map(|(name, value)| (name.to_string(), value.into_owned()))
            .collect()
    }

    pub fn accepts(request: &hyper::Request<()>) -> bool {
        handshake::check(&crate::config::Origins::SameHost, request).is_ok()
    }
}

fuzz_target!(|input: &[u8]| {
    let Some(request) = parse(input) else {
        return;
    };
    let (headers, uri) = (request.headers(), request.uri());
    let path = uri.path();
    assert_eq!(server::has_dot_segments(path), has_dot_segments(path), "{path}");
    are_joined(headers);
    if server::accepts(&request) {
        is_handshake(&request);
    }
    if server::push::may_push(headers, uri) {
        is_local(headers);
    }
    let cookie = headers.get("cookie").and_then(|value| value.to_str().ok());
    let set = headers.get_all("set-cookie");
    let set: Vec<_> = set.iter().filter_map(|value| value.to_str().ok()).collect();
    let kept = message::cookies::after(cookie.unwrap_or_default(), set.iter().copied(), path);
    assert!(!kept.contains(['\r', '\n']), "{kept:?}");
});

/// As the library of the gateway reads it.
fn parse(input: &[u8]) -> Option<Request<()>> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Request::new(&mut fields);
    if !head.parse(input).ok()?.is_complete() {
        return None;
    }
    let mut request = Request::new(());
    *request.method_mut() = head.method?.parse().ok()?;
    *request.uri_mut() = head.path?.parse::<Uri>().ok()?;
    *request.version_mut() = match head.version? {
        0 => Version::HTTP_10,
        _ => Version::HTTP_11,
    };
    for field in head.headers {
        let name: HeaderName = field.name.parse().ok()?;
        request
            .headers_mut()
            .append(name, HeaderValue::from_bytes(field.value).ok()?);
    }
    Some(request)
}

/// Read in another way: a slash, a backslash and a dot may each be written as they are, or percent-encoded.
fn has_dot_segments(path: &str) -> bool {
    let plain = path.replace("%2e", ".").replace("%2E", ".");
    let plain = plain.replace("%2f", "/").replace("%2F", "/");
    let plain = plain.replace("%5c", "/").replace("%5C", "/").replace('\\', "/");
    plain.split('/').any(|segment| segment == "." || segment == "..")
}

fn are_joined(headers: &HeaderMap) {
    let joined = server::joined(headers);
    assert_eq!(joined.len(), headers.keys_len());
    for (name, value) in joined {
        let separator = if name == "cookie" { "; " } else { ", " };
        let lines = headers.get_all(&name);
        let lines: Vec<_> = lines
            .iter()
            .map(|line| String::from_utf8_lossy(line.as_bytes()))
            .collect();
        assert_eq!(value, lines.join(separator), "{name}");
    }
}

fn is_handshake(request: &Request<()>) {
    let headers = request.headers();
    assert_eq!(
        (request.method().as_str(), request.version()),
        ("GET", Version::HTTP_11)
    );
    for (name, wanted) in [("upgrade", "websocket"), ("connection", "upgrade")] {
        let lines = headers.get_all(name);
        let has = |line: &HeaderValue| {
            line.to_str()
                .is_ok_and(|line| line.to_lowercase().contains(wanted))
        };
        assert!(lines.iter().any(has), "{name}");
    }
    assert!(headers.get_all("host").iter().count() <= 1);
    assert_eq!(headers["sec-websocket-version"], "13");
    assert_eq!(headers["sec-websocket-key"].len(), 24);
    if let Some(origin) = headers.get("origin") {
        let (origin, host) = (origin.as_bytes(), headers["host"].as_bytes());
        let name = host.split(|byte| *byte == b':').next().unwrap_or_default();
        let is_in_it = origin
            .windows(name.len().max(1))
            .any(|part| part.eq_ignore_ascii_case(name));
        assert!(is_in_it, "{headers:?}");
    }
}

fn is_local(headers: &HeaderMap) {
    for name in [
        "origin",
        "forwarded",
        "via",
        "x-real-ip",
        "x-forwarded-for",
        "x-forwarded-host",
    ] {
        assert!(!headers.contains_key(name), "{name}");
    }
    for site in headers.get_all("sec-fetch-site") {
        assert!(site == "none" || site == "same-origin", "{site:?}");
    }
    for host in headers.get_all("host") {
        let host = host.to_str().expect("a name").to_lowercase();
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.parse::<u32>().is_ok() || port.is_empty() => name,
            _ => &host,
        };
        let name = name.trim_start_matches('[').trim_end_matches(']');
        let is_loopback = name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback());
        assert!(
            is_loopback || ["localhost", "host.docker.internal"].contains(&name) || long_port(&host),
            "{host}"
        );
    }
}

/// Digits that are no port, for they are too many.
fn long_port(host: &str) -> bool {
    host.rsplit_once(':')
        .is_some_and(|(name, port)| port.len() > 5 && ["localhost", "host.docker.internal"].contains(&name))
}
