//! The values that are more than text or a number: sizes, durations, addresses, paths, origins, credentials.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};

mod listen;
mod networks;
mod origins;
mod secrets;

pub use listen::Listen;
pub(super) use listen::{parse_listen, parse_listen_anywhere};
pub use networks::Networks;
pub(super) use networks::parse_network;
pub use origins::Origins;
pub(super) use origins::RawOrigins;
pub(super) use secrets::RawSecrets;
pub use secrets::Secret;
pub(super) use secrets::lines;

/// A duration: a number of seconds, or text such as `"500ms"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seconds(pub(super) Duration);

const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

impl Seconds {
    /// 0 where that means no limit.
    pub(super) const NEVER: Self = Self(Duration::ZERO);

    /// Anything longer than a century is cut to one, so that it can be added to the time of day.
    fn new(duration: Duration) -> Self {
        Self(duration.min(CENTURY))
    }

    /// None for 0, which means no limit.
    pub(super) fn or_never(self) -> Option<Duration> {
        Some(self.0).filter(|duration| !duration.is_zero())
    }

    pub(super) const fn from_secs(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }

    pub(super) const fn from_millis(n: u64) -> Self {
        Self(Duration::from_millis(n))
    }
}

/// A size: a number of bytes, or text such as `"1MiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) usize);

/// Splits `10ms` into 10 and `ms`.
fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim()))
}

fn parse_seconds(text: &str) -> Option<Seconds> {
    let (number, unit) = number_and_unit(text)?;
    let factor = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    Some(Seconds::new(Duration::try_from_secs_f64(number * factor).ok()?))
}

fn parse_bytes(text: &str) -> Option<Bytes> {
    let (number, unit) = number_and_unit(text)?;
    let factor = match unit {
        "" | "B" => 1.0,
        "KB" | "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    // Float to integer conversion saturates, so a size that is out of range becomes the largest one.
    Some(Bytes((number * factor) as usize))
}

struct SecondsVisitor;

impl Visitor<'_> for SecondsVisitor {
    type Value = Seconds;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of seconds, or text such as \"500ms\", \"10s\", \"2m\", \"1h\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Seconds, E> {
        parse_seconds(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }

    fn visit_i64<E: de::Error>(self, n: i64) -> Result<Seconds, E> {
        u64::try_from(n)
            .map(|seconds| Seconds::new(Duration::from_secs(seconds)))
            .map_err(|_| E::invalid_value(de::Unexpected::Signed(n), &self))
    }

    fn visit_f64<E: de::Error>(self, n: f64) -> Result<Seconds, E> {
        Duration::try_from_secs_f64(n)
            .map(Seconds::new)
            .map_err(|_| E::invalid_value(de::Unexpected::Float(n), &self))
    }
}

struct BytesVisitor;

impl Visitor<'_> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of bytes, or text such as \"64KiB\", \"1MiB\", \"2MB\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
        parse_bytes(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }

    fn visit_i64<E: de::Error>(self, n: i64) -> Result<Bytes, E> {
        usize::try_from(n)
            .map(Bytes)
            .map_err(|_| E::invalid_value(de::Unexpected::Signed(n), &self))
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecondsVisitor)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BytesVisitor)
    }
}

/// Where an upstream is, and which protocol it speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamUrl {
    /// `http://` or `https://`: a web server in front of PHP-FPM.
    Http(String),
    /// `fastcgi://host:port`: PHP-FPM itself.
    FastCgiTcp {
        /// `host:port`
        address: String,
        /// The PHP file that it runs.
        script: String,
    },
    /// `fastcgi+unix:///path/of.sock`: PHP-FPM itself.
    FastCgiUnix {
        /// Of the socket.
        path: PathBuf,
        /// The PHP file that it runs.
        script: String,
    },
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(url) => f.write_str(&without_credentials(url)),
            Self::FastCgiTcp { address, .. } => write!(f, "fastcgi://{address}"),
            Self::FastCgiUnix { path, .. } => write!(f, "fastcgi+unix://{}", path.display()),
        }
    }
}

/// Without the password, which must not appear in the log.
fn without_credentials(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

/// What is wrong with an upstream: its `url`, or the `script` beside it.
pub(super) enum UrlProblem {
    Url(String),
    Script(String),
}

pub(super) fn parse_upstream_url(text: &str, script: Option<String>) -> Result<UpstreamUrl, UrlProblem> {
    if let Some(address) = text.strip_prefix("fastcgi://") {
        let port = address
            .rsplit_once(':')
            .and_then(|(host, port)| (!host.is_empty()).then_some(port));
        if port.is_none_or(|port| port.parse::<u16>().is_err()) {
            let problem = format!("`{text}` lacks host or port; write \"fastcgi://127.0.0.1:9000\"");
            return Err(UrlProblem::Url(problem));
        }
        return Ok(UpstreamUrl::FastCgiTcp {
            address: address.to_owned(),
            script: fastcgi_script(script)?,
        });
    }
    if let Some(path) = text.strip_prefix("fastcgi+unix://") {
        if !path.starts_with('/') {
            return Err(UrlProblem::Url(format!(
                "`{text}` lacks an absolute path; write \"fastcgi+unix:///run/php/php-fpm.sock\" (three slashes)"
            )));
        }
        return Ok(UpstreamUrl::FastCgiUnix {
            path: path.into(),
            script: fastcgi_script(script)?,
        });
    }
    if !text.starts_with("http://") && !text.starts_with("https://") {
        return Err(UrlProblem::Url(format!(
            "`{text}` is not an upstream; write http://…, https://…, fastcgi://host:port or fastcgi+unix:///path/of.sock"
        )));
    }
    if script.is_some() {
        let problem = "`script` is for FastCGI only; with http:// the path of `url` names the PHP file";
        return Err(UrlProblem::Script(problem.to_owned()));
    }
    match check_url(text) {
        Ok(()) => Ok(UpstreamUrl::Http(text.to_owned())),
        Err(cause) => Err(UrlProblem::Url(format!(
            "`{text}` is not a URL ({cause}); write one such as \"http://localhost/websocket.php\""
        ))),
    }
}

fn fastcgi_script(script: Option<String>) -> Result<String, UrlProblem> {
    match script {
        Some(script) if script.starts_with('/') => Ok(script),
        Some(script) => Err(UrlProblem::Script(format!(
            "`script` is `{script}`; PHP-FPM needs an absolute path, from its `/` on"
        ))),
        None => Err(UrlProblem::Url(
            "FastCGI needs `script`, the absolute path of the PHP file to run".to_owned(),
        )),
    }
}

/// The web client will parse it again; this check is here so that the error comes before the start.
fn check_url(text: &str) -> Result<(), String> {
    let uri: hyper::Uri = text
        .parse()
        .map_err(|e: hyper::http::uri::InvalidUri| e.to_string())?;
    let host = uri.host().filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| "it has no host".to_owned())?;
    // What is behind the host and is not a port is not reported by the library.
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let has_port = authority
        .rsplit_once(host)
        .is_some_and(|(_, port)| !port.is_empty());
    if has_port && uri.port_u16().is_none_or(|port| port == 0) {
        return Err("its port must be a number from 1 to 65535".to_owned());
    }
    Ok(())
}

/// Likewise for the log.
pub(super) fn check_filter(text: &str) -> Result<(), String> {
    match text.parse::<tracing_subscriber::filter::Targets>() {
        Ok(_) => Ok(()),
        Err(_) => Err(format!(
            "`{text}` is not a log filter; write a level such as \"info\", or \"info,aileron::session=debug\""
        )),
    }
}

/// A path, or everything below one: `/ws`, `/rooms/*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    /// Just this path.
    Exact(String),
    /// All paths with this prefix, which ends with `/`.
    Below(String),
}

impl PathPattern {
    /// Parses `/a` or `/a/*`; the error text says what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let pattern = match text.strip_suffix('*') {
            Some(prefix) if prefix.ends_with('/') => Self::Below(prefix.to_owned()),
            _ => Self::Exact(text.to_owned()),
        };
        let (Self::Exact(path) | Self::Below(path)) = &pattern;
        if !path.starts_with('/') || path.contains(['*', '?', '#', ' ']) {
            return Err(format!(
                "`{text}` is not a path; write \"/chat\", or \"/rooms/*\" for everything below"
            ));
        }
        Ok(pattern)
    }

    /// Whether it matches the path of a request.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(own) => own == path,
            Self::Below(prefix) => path.starts_with(prefix.as_str()),
        }
    }

    /// How specific it is: if several patterns match, the most specific one wins.
    pub fn precision(&self) -> usize {
        match self {
            Self::Exact(_) => usize::MAX,
            Self::Below(prefix) => prefix.len(),
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => f.write_str(path),
            Self::Below(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// A plugin's setting as the plugin sees it: text as it is, other scalars in their usual notation, the rest as JSON.
pub(super) fn setting_text(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(_) | toml::Value::Table(_) => json(value).to_string(),
        scalar => scalar.to_string(),
    }
}

fn json(value: &toml::Value) -> serde_json::Value {
    match value {
        toml::Value::String(text) => text.as_str().into(),
        toml::Value::Integer(n) => (*n).into(),
        toml::Value::Float(n) => (*n).into(),
        toml::Value::Boolean(b) => (*b).into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(items) => items.iter().map(json).collect(),
        toml::Value::Table(table) => table
            .iter()
            .map(|(key, value)| (key.clone(), json(value)))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_have_units() {
        let durations = [
            ("500ms", 500),
            ("10s", 10_000),
            ("1.5s", 1500),
            ("2m", 120_000),
            ("1h", 3_600_000),
        ];
        for (text, ms) in durations {
            assert_eq!(parse_seconds(text), Some(Seconds::from_millis(ms)), "{text}");
        }
        for text in ["10", "s", "-1s", "10 parsecs", ""] {
            assert_eq!(parse_seconds(text), None, "{text}");
        }
        for (text, n) in [
            ("10", 10),
            ("64KiB", 65_536),
            ("1MiB", 1_048_576),
            ("2 MB", 2_000_000),
            ("1.5KB", 1500),
        ] {
            assert_eq!(parse_bytes(text), Some(Bytes(n)), "{text}");
        }
    }

    #[test]
    fn patterns_match_paths() {
        let below = PathPattern::parse("/rooms/*").unwrap();
        assert!(below.matches("/rooms/1") && below.matches("/rooms/") && !below.matches("/rooms"));
        let exact = PathPattern::parse("/ws").unwrap();
        assert!(exact.matches("/ws") && !exact.matches("/ws/"));
        assert!(exact.precision() > below.precision());
        for bad in ["ws", "/a*", "/a/*/b", ""] {
            assert!(PathPattern::parse(bad).is_err(), "{bad}");
        }
    }
}
