//! Who may push where no credential is taken: programs that reach the listener directly. They are on this machine, but so is
//! a browser, which asks for what any page in it wants, and a proxy, behind which is everybody.

use std::net::IpAddr;

use hyper::Uri;
use hyper::header::{FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, USER_AGENT, VIA};

use super::refusal::Refusal;

/// Browsers say how the page that asks is related to the server (Fetch Metadata).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses pages and proxies. `hosts` are the names that may be used for this machine, besides `localhost` and the addresses
/// of loopback; none if it cannot be asked by a name.
pub(super) fn check(headers: &HeaderMap, uri: &Uri, hosts: Option<&[String]>) -> Result<(), Refusal> {
    let is_own = |site: &HeaderValue| site == "none" || site == "same-origin";
    // `Origin` comes with every request of a page except for its images, scripts and links, which are GET. Browsers tell the
    // site only where they trust the way, as that to `localhost`.
    let is_untold =
        !headers.contains_key(SEC_FETCH_SITE) && headers.get_all(USER_AGENT).iter().any(is_browser);
    if headers.contains_key(ORIGIN) || is_untold || !headers.get_all(SEC_FETCH_SITE).iter().all(is_own) {
        return Err(Refusal::Page);
    }
    if let Some(name) = headers.keys().find(|name| is_of_proxies(name)) {
        return Err(Refusal::Proxy(name.clone()));
    }
    let Some(hosts) = hosts else { return Ok(()) };
    // A page whose name has come to mean this machine (DNS rebinding) is asked for by that name.
    let named = headers.get_all(HOST).iter().map(HeaderValue::as_bytes);
    let named = named.chain(uri.authority().map(|authority| authority.as_str().as_bytes()));
    for host in named {
        let host = String::from_utf8_lossy(host);
        if !is_this_machine(&host, hosts) {
            return Err(Refusal::Host(host.chars().take(100).collect()));
        }
    }
    Ok(())
}

/// All of them begin like this, and no page can change it for its images.
fn is_browser(agent: &HeaderValue) -> bool {
    agent.as_bytes().starts_with(b"Mozilla/")
}

fn is_of_proxies(name: &HeaderName) -> bool {
    *name == FORWARDED
        || *name == VIA
        || name.as_str() == "x-real-ip"
        || name.as_str().starts_with("x-forwarded-")
}

/// `host` is as in the header: with or without a port.
fn is_this_machine(host: &str, hosts: &[String]) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let address = address.unwrap_or(name).parse::<IpAddr>();
    address.is_ok_and(|address| address.to_canonical().is_loopback())
        || name.eq_ignore_ascii_case("localhost")
        || hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_few_names() {
        let hosts = ["host.docker.internal".to_owned()];
        for host in [
            "localhost",
            "LocalHost:8080",
            "127.0.0.1",
            "127.9.9.9:8080",
            "[::1]:8080",
            "[::ffff:127.0.0.1]",
            "host.docker.internal:8080",
        ] {
            assert!(is_this_machine(host, &hosts), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "192.0.2.1",
            "0.0.0.0:8080",
            "[2001:db8::1]:8080",
            "",
            ":8080",
        ] {
            assert!(!is_this_machine(host, &hosts), "{host}");
        }
    }
}
