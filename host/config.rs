//! The validated configuration: plain data that the rest of the gateway takes as given.
//!
//! There are two levels: `raw` is what the TOML says, this is what it means. Everything that can be wrong is found on the
//! way from one to the other, before anything listens, and is reported with the file, the line and what would be right.

mod align;
mod error;
mod push;
mod raw;
mod types;
mod validate;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use error::{ConfigError, ConfigProblem};
pub use push::{Exposure, Push, PushAccess};
pub use types::{Listen, Networks, Origins, PathPattern, Secret, UpstreamUrl};

use error::Source;
use validate::Validator;

/// The name of the upstream of `[upstream]`, and of the built-in plugin.
pub const DEFAULT: &str = "default";

/// Everything that the gateway is told when it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// How connections are named.
    pub client_id: ClientIds,
    /// Frames of one connection that are handled at the same time; their answers keep their order.
    pub in_flight: usize,
    /// The longest message a client may send, in bytes. A longer one closes with 1009.
    pub max_message: usize,
    /// The most bytes that wait to be sent to one client. A message that would not fit is refused.
    pub max_queue: usize,
    /// The most bytes that wait to be sent to all clients together.
    pub max_queues: usize,
    /// All that comes in from clients and is not done with, in bytes.
    pub max_inbound: usize,
    /// What happens to a subscriber whose queue is full.
    pub slow_clients: SlowClients,
    /// Frames that one client may send per second, pings included; 0 for no limit. More than that closes with 1008.
    pub max_frames_per_second: usize,
    /// Bytes that are read from one client per second; 0 for no limit. The rest waits.
    pub max_bytes_per_second: usize,
    /// How long a message may take from its first byte to its last; none for no limit. One that takes longer closes with
    /// 1008.
    pub message_timeout: Option<Duration>,
    /// Whether compression is agreed on, and from how many bytes on a message is compressed.
    pub compression: Option<usize>,
    /// How long a shutdown may take.
    pub grace: Duration,
    /// The web pages from which browsers may connect.
    pub origins: Origins,
    /// How many clients may connect, how fast, and how long that may take.
    pub clients: ClientLimits,
    /// Who may say where a client comes from.
    pub proxies: Proxies,
    /// TLS where clients connect; none for plain text.
    pub tls: Option<Tls>,
    /// Topics of one connection.
    pub max_topics: usize,
    /// All attributes of one connection, in bytes.
    pub max_attributes: usize,
    /// All topics with a history together, in bytes.
    pub max_history: usize,
    /// Topics with a history and without subscribers.
    pub max_idle_topics: usize,
    /// Pings, and how long connections may last.
    pub heartbeat: Heartbeat,
    /// The push listener.
    pub push: Push,
    /// How plugins and PHP are told which clients have gone.
    pub closings: Closings,
    /// Topics that keep a history; the first that matches counts.
    pub topics: Vec<Topic>,
    /// What happens at intervals.
    pub schedules: Vec<Schedule>,
    /// Never empty; the first is `default`.
    pub upstreams: Vec<Upstream>,
    /// The plugin directory and what plugins may use.
    pub plugins: Plugins,
    /// Never empty; no path occurs twice.
    pub routes: Vec<Route>,
    /// What is logged, and how.
    pub log: Log,
}

/// How connections are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientIds {
    /// The peer's address and port.
    Address,
    /// A random UUID (RFC 9562, version 4).
    Uuid,
}

/// What happens to a subscriber whose queue is full when something is published. If the topic has a history, and no other
/// publications can make room, the subscriber is closed in any case, and can resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SlowClients {
    /// It is closed with 1008.
    Close,
    /// The oldest publications of topics without a history make room.
    DropOldest,
    /// It does not get the message.
    Skip,
}

/// How many clients may connect, how fast, and how long that may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// Connections at the same time; at least 1.
    pub max_connections: usize,
    /// Those from one client address; none for no limit.
    pub max_connections_per_address: Option<usize>,
    /// Handshakes per second; none for no limit.
    pub max_handshakes_per_second: Option<usize>,
    /// The time from accepting the socket to having the whole request.
    pub handshake_timeout: Duration,
}

/// Who may say where a client comes from.
#[derive(Clone, Debug)]
pub struct Proxies {
    /// Their addresses.
    pub trusted: Networks,
    /// Whether each client connection begins with a PROXY protocol header.
    pub protocol: bool,
}

/// The files of a certificate, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate, followed by those that lead to the root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Pings, and how long connections may last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// How often a client is pinged; none for never.
    pub ping_interval: Option<Duration>,
    /// A client that sends nothing for this long after a ping counts as gone.
    pub pong_timeout: Duration,
    /// A connection without a message in either direction is closed after this time; none for never.
    pub idle_timeout: Option<Duration>,
    /// Every connection is closed about this long after it opened; none for never.
    pub max_age: Option<Duration>,
}

/// How close events are delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closings {
    /// The most requests per second; at least 1.
    pub rate: u32,
    /// How many requests may wait; any more are lost.
    pub max_waiting: usize,
    /// What these requests may hold together, in bytes.
    pub max_bytes: usize,
    /// How long a request is retried.
    pub retry_for: Duration,
}

/// Topics that keep a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// The topic, or with a `*` at its end, all topics with this prefix.
    pub name: String,
    /// The most messages.
    pub history: usize,
    /// The greatest age of a message.
    pub history_time: Duration,
}

/// What happens at an interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The name that plugins and PHP are told.
    pub name: String,
    /// The time from one start to the next, give or take a tenth.
    pub every: Duration,
    /// Index into [`Config::upstreams`].
    pub upstream: usize,
}

/// An application to forward to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The name by which plugins and routes refer to it.
    pub name: String,
    /// Where it is, and which protocol it speaks.
    pub url: UpstreamUrl,
    /// The longest time from the decision to forward to the complete answer, including the wait for a turn.
    pub timeout: Duration,
    /// The longest body of an answer, in bytes.
    pub max_answer: usize,
    /// Requests under way at the same time.
    pub max_requests: usize,
    /// How many requests may wait for their turn; with one more, one is refused as overloaded.
    pub max_waiting: usize,
    /// How long a request may wait; after that it is refused as overloaded.
    pub max_wait: Duration,
    /// Retries of a request if nothing of it could be sent.
    pub retries: usize,
    /// Consecutive failures after which nothing is sent for a while; 0 for never.
    pub breaker_failures: usize,
    /// How long that is the first time.
    pub breaker_pause: Duration,
    /// What requests are signed with: the first. Empty means that they are not.
    pub secrets: Vec<Secret>,
    /// FastCGI connections that are kept open. This is also the most that are open at all, and so the most requests under
    /// way. 0 keeps none.
    pub keep: usize,
    /// Whether symbolic links in the path of a FastCGI script are resolved at each request.
    pub resolve_links: bool,
    /// The document root of a FastCGI script; none for the directory that it is in.
    pub root: Option<String>,
    /// What a FastCGI script finds as the path and query that a browser has asked for; none for its own path.
    pub path: Option<String>,
    /// FastCGI variables beside the usual ones, or in place of them.
    pub params: Vec<(String, String)>,
    /// Headers of each request that has none of the name. Names in lower case.
    pub headers: Vec<(String, String)>,
}

/// The plugin that is built into the gateway and last in every chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BuiltIn {
    /// Frames to PHP, answers back, `/send`.
    Default,
    /// In addition, PHP is told about connections and steers the gateway.
    Application,
}

/// Plugins and their bounds.
#[derive(Clone, Debug)]
pub struct Plugins {
    /// Which plugin is last.
    pub built_in: BuiltIn,
    /// The directory whose `*.wasm` files form the chain.
    pub dir: Option<PathBuf>,
    /// Where compiled code is kept; none keeps it in the user's cache directory.
    pub cache: Option<PathBuf>,
    /// How long the directory must be quiet before a change is picked up.
    pub settle: Duration,
    /// How often the directory is checked without a notice of a change.
    pub poll: Duration,
    /// CPU time that one call may take.
    pub time_limit: Duration,
    /// Linear memory that one instance may have, in bytes.
    pub memory_limit: usize,
    /// What all plugins together may keep in `wasi:keyvalue`, in bytes.
    pub keyvalue_limit: usize,
    /// The trial of a version that replaces another one.
    pub probation: Probation,
    /// `[plugins.config.NAME]`, sorted by key.
    pub settings: BTreeMap<String, Vec<(String, String)>>,
    /// `[plugins.policy.NAME]`
    pub policies: BTreeMap<String, Policy>,
}

/// When a version that has replaced another one is rolled back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probation {
    /// How many of its calls are watched; 0 for no probation.
    pub events: u32,
    /// The share of failed calls above which it is rolled back, in percent.
    pub failures: u32,
}

/// What the operator has decided about a plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// What happens to an event when the plugin fails on it.
    pub on_failure: OnFailure,
    /// SHA-256 in lower-case hex of the only content that is loaded; none allows any.
    pub sha256: Option<String>,
}

/// What happens to an event when a plugin fails on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// It is dropped; a handshake is refused.
    #[default]
    Drop,
    /// It goes on to the next plugin, as if this one had returned `next`.
    Next,
    /// Its connection is closed with 1011; an event without a connection is dropped.
    Close,
}

/// A path that clients may connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Which paths.
    pub path: PathPattern,
    /// The plugins of its chain in order; none for all in the directory. The built-in plugin is last in any case.
    pub plugins: Option<Vec<String>>,
    /// Index into [`Config::upstreams`].
    pub upstream: usize,
    /// False for a route that was removed while it had open connections: those go on, new ones are not let in.
    pub is_open: bool,
}

/// What is logged, and how.
#[derive(Clone, Debug)]
pub struct Log {
    /// Directives such as `info` or `info,aileron::session=debug`.
    pub filter: String,
    /// The format of its lines.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// One line of text per event.
    Text,
    /// One JSON object per line.
    Json,
}

/// What the command line says. It takes precedence over the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--listen`
    pub listen: Option<String>,
    /// `--upstream`
    pub upstream: Option<String>,
    /// `--script`
    pub script: Option<String>,
    /// `--plugins`
    pub plugins: Option<PathBuf>,
}

impl Config {
    /// Reads and validates a file, or takes the defaults if there is none.
    pub fn load(file: Option<&Path>, overrides: Overrides) -> Result<Self, ConfigError> {
        let source = match file {
            Some(path) => Source::read(path)?,
            None => Source::none(),
        };
        Self::parse(&source, overrides)
    }

    /// Architecture, invariant 7: beyond loopback, pushing requires a credential.
    fn exposure(&self) -> Option<Exposure> {
        self.push.exposure(self.listen, self.proxies.protocol)
    }

    fn parse(source: &Source, overrides: Overrides) -> Result<Self, ConfigError> {
        let raw: raw::Config =
            toml::from_str(source.text()).map_err(|e| source.syntax_error(e.span(), e.message()))?;
        Validator { source }.config(raw, overrides)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_at_all_is_the_plain_gateway() {
        let config = Config::load(None, Overrides::default()).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(config.routes[0].path.to_string(), "/ws");
        assert_eq!(config.push.path, "/send");
        assert_eq!(
            config.upstreams[0].url.to_string(),
            "http://localhost/websocket.php"
        );
        assert_eq!(config.upstreams[0].timeout, Duration::from_secs(10));
        assert_eq!(config.client_id, ClientIds::Address);
    }

    #[test]
    fn flags_win_over_the_file() {
        let overrides = Overrides {
            listen: Some("127.0.0.1:9".to_owned()),
            upstream: Some("fastcgi://localhost:9000".to_owned()),
            script: Some("/srv/index.php".to_owned()),
            plugins: Some("p".into()),
        };
        let config = Config::load(None, overrides).unwrap();
        assert_eq!(config.listen.port(), 9);
        assert_eq!(config.upstreams[0].url.to_string(), "fastcgi://localhost:9000");
        assert_eq!(config.plugins.dir, Some("p".into()));
    }
}
