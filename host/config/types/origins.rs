//! The web pages from which browsers may connect. A browser sends a site's cookies along even if the page that connects
//! belongs to someone else, so a gateway that lets every page in lets every page act as its users (RFC 6455 section 10.2).

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

/// The origins (RFC 6454) of pages that may connect. A client that sends none is not a browser, and may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Pages of the host that is connected to; as with cookies, the port does not matter. If the connection is encrypted,
    /// the page must be, too.
    SameHost,
    /// All.
    Any,
    /// These, and with `*.` for a part of the host all below it.
    Listed(Vec<String>),
}

impl Origins {
    /// Whether a page may connect. `host` is the value of that header. A page that came without TLS may have been changed
    /// on its way, so it is not of the same host if the connection is known to be encrypted.
    pub fn allows(&self, origin: &str, host: &str, is_encrypted: bool) -> bool {
        match self {
            Self::Any => true,
            Self::SameHost => origin.split_once("://").is_some_and(|(scheme, rest)| {
                without_port(rest).eq_ignore_ascii_case(without_port(host))
                    && !(is_encrypted && scheme.eq_ignore_ascii_case("http"))
            }),
            Self::Listed(origins) => origins.iter().any(|allowed| matches(allowed, origin)),
        }
    }
}

/// `[::1]:80` has its port behind the bracket.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty() => name,
        _ => host,
    }
}

fn matches(allowed: &str, origin: &str) -> bool {
    let Some((scheme, domain)) = allowed.split_once("://*.") else {
        return allowed.eq_ignore_ascii_case(origin);
    };
    let Some((of_scheme, host)) = origin.split_once("://") else {
        return false;
    };
    let Some(start) = host.len().checked_sub(domain.len() + 1) else {
        return false;
    };
    let below = host.get(start..).and_then(|end| end.strip_prefix('.'));
    scheme.eq_ignore_ascii_case(of_scheme)
        && start > 0
        && below.is_some_and(|end| end.eq_ignore_ascii_case(domain))
}

/// What the file says: one word, or a list.
#[derive(Clone, Debug)]
pub(in crate::config) struct RawOrigins(Vec<String>);

impl Default for RawOrigins {
    fn default() -> Self {
        Self(vec![SAME_HOST.to_owned()])
    }
}

const SAME_HOST: &str = "same-host";

impl RawOrigins {
    pub(in crate::config) fn check(self) -> Result<Origins, String> {
        match self.0.as_slice() {
            [one] if one == SAME_HOST => Ok(Origins::SameHost),
            [one] if one == "*" => Ok(Origins::Any),
            _ => {
                for origin in &self.0 {
                    check(origin)?;
                }
                Ok(Origins::Listed(self.0))
            }
        }
    }
}

/// As browsers write it: scheme and host, and the port if it is not the usual one.
fn check(origin: &str) -> Result<(), String> {
    let host = origin.split_once("://").map_or("", |(_, host)| host);
    let is_wrong = host.is_empty() || host.contains('/') || host.trim_start_matches("*.").contains('*');
    if is_wrong && origin != "null" {
        return Err(format!(
            "`{origin}` is not an origin; write \"https://example.org\", \"https://*.example.org\", or for all of it \
             \"same-host\" or \"*\""
        ));
    }
    Ok(())
}

struct OriginsVisitor;

impl<'de> Visitor<'de> for OriginsVisitor {
    type Value = RawOrigins;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"same-host\", \"*\", or a list such as [\"https://example.org\"]")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<RawOrigins, E> {
        Ok(RawOrigins(vec![text.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<RawOrigins, A::Error> {
        let mut origins = Vec::new();
        while let Some(origin) = items.next_element()? {
            origins.push(origin);
        }
        Ok(RawOrigins(origins))
    }
}

impl<'de> Deserialize<'de> for RawOrigins {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OriginsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_the_same_host_may_connect_whatever_its_port() {
        let table = [
            ("http://example.org", "example.org", true),
            ("https://Example.org:8443", "example.org:8080", true),
            ("http://127.0.0.1:8000", "127.0.0.1:8080", true),
            ("http://[::1]:8000", "[::1]:8080", true),
            ("http://[::1]", "[::1]:8080", true),
            ("http://evil.example", "example.org", false),
            ("http://example.org.evil.example", "example.org", false),
            ("http://localhost:8000", "127.0.0.1:8080", false),
            ("null", "example.org", false),
            ("", "", false),
        ];
        for (origin, host, expected) in table {
            assert_eq!(
                Origins::SameHost.allows(origin, host, false),
                expected,
                "{origin} to {host}"
            );
        }
        let encrypted = |origin| Origins::SameHost.allows(origin, "example.org", true);
        assert!(encrypted("https://example.org") && !encrypted("http://example.org"));
    }

    #[test]
    fn a_list_names_origins_and_whole_domains() {
        let listed = [
            "https://example.org",
            "https://*.example.com",
            "http://localhost:5173",
        ];
        let origins = RawOrigins(listed.map(str::to_owned).into()).check().unwrap();
        let table = [
            ("https://example.org", true),
            ("https://EXAMPLE.org", true),
            ("http://example.org", false),
            ("https://example.org:8443", false),
            ("https://a.example.com", true),
            ("https://a.b.example.com", true),
            ("https://example.com", false),
            ("https://.example.com", false),
            ("https://evilexample.com", false),
            ("http://a.example.com", false),
            ("http://localhost:5173", true),
            ("null", false),
        ];
        for (origin, expected) in table {
            assert_eq!(origins.allows(origin, "host", true), expected, "{origin}");
        }
        assert!(Origins::Any.allows("null", "host", true));
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for bad in [
            "example.org",
            "https://",
            "https://example.org/",
            "https://a.*.org",
            "same-host",
        ] {
            let list = vec![bad.to_owned(), "https://example.org".to_owned()];
            assert!(RawOrigins(list).check().is_err(), "{bad}");
        }
        assert_eq!(
            RawOrigins(vec!["null".to_owned()]).check(),
            Ok(Origins::Listed(vec!["null".to_owned()]))
        );
    }
}
