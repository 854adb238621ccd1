//! What the TOML says, before anything is checked: the names of all keys and their defaults.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::types::{Bytes, Seconds};
pub(super) use super::types::{RawOrigins as Origins, RawSecrets as Secrets};
use super::{BuiltIn, ClientIds, LogFormat, OnFailure, SlowClients};

pub(super) const DEFAULT_URL: &str = "http://localhost/websocket.php";

const MIB: usize = 1024 * 1024;

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    default,
    rename_all = "kebab-case",
    expecting = "a table"
)]
pub(super) struct Config {
    pub(super) listen: Spanned<String>,
    pub(super) path: Spanned<String>,
    pub(super) client_id: Option<ClientIds>,
    pub(super) in_flight: Spanned<usize>,
    pub(super) max_message: Bytes,
    pub(super) max_queue: Bytes,
    pub(super) max_queues: Bytes,
    pub(super) max_inbound: Option<Spanned<Bytes>>,
    pub(super) slow_clients: SlowClients,
    pub(super) max_frames_per_second: usize,
    pub(super) max_bytes_per_second: Bytes,
    pub(super) message_timeout: Seconds,
    pub(super) compression: bool,
    pub(super) compression_threshold: Bytes,
    pub(super) grace: Seconds,
    pub(super) origins: Spanned<Origins>,
    pub(super) max_connections: Spanned<usize>,
    pub(super) max_connections_per_address: usize,
    pub(super) max_handshakes_per_second: usize,
    pub(super) handshake_timeout: Spanned<Seconds>,
    pub(super) trusted_proxies: Vec<Spanned<String>>,
    pub(super) proxy_protocol: Spanned<bool>,
    pub(super) tls: Option<Tls>,
    pub(super) max_topics: usize,
    pub(super) max_attributes: Bytes,
    pub(super) max_history: Bytes,
    pub(super) max_idle_topics: usize,
    pub(super) ping_interval: Seconds,
    pub(super) pong_timeout: Seconds,
    pub(super) idle_timeout: Seconds,
    pub(super) max_age: Seconds,
    pub(super) push: Push,
    pub(super) closings: Closings,
    pub(super) topic: Vec<Topic>,
    pub(super) schedule: Vec<Schedule>,
    pub(super) upstream: Upstream,
    pub(super) upstreams: BTreeMap<String, Spanned<Upstream>>,
    pub(super) plugins: Plugins,
    pub(super) route: Vec<Route>,
    pub(super) log: Log,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: unplaced("127.0.0.1:8080".to_owned()),
            path: unplaced("/ws".to_owned()),
            client_id: None,
            in_flight: unplaced(1),
            max_message: Bytes(MIB),
            max_queue: Bytes(MIB),
            max_queues: Bytes(1024 * MIB),
            max_inbound: None,
            slow_clients: SlowClients::Close,
            max_frames_per_second: 0,
            max_bytes_per_second: Bytes(0),
            message_timeout: Seconds::from_secs(60),
            compression: false,
            compression_threshold: Bytes(1024),
            grace: Seconds::from_secs(10),
            origins: unplaced(Origins::default()),
            max_connections: unplaced(100_000),
            max_connections_per_address: 0,
            max_handshakes_per_second: 0,
            handshake_timeout: unplaced(Seconds::from_secs(10)),
            trusted_proxies: ["127.0.0.0/8", "::1"]
                .map(|network| unplaced(network.to_owned()))
                .into(),
            proxy_protocol: unplaced(false),
            tls: None,
            max_topics: 128,
            max_attributes: Bytes(16 * 1024),
            max_history: Bytes(64 * MIB),
            max_idle_topics: 40_000,
            ping_interval: Seconds::from_secs(30),
            pong_timeout: Seconds::from_secs(10),
            idle_timeout: Seconds::NEVER,
            max_age: Seconds::NEVER,
            push: Push::default(),
            closings: Closings::default(),
            topic: Vec::new(),
            schedule: Vec::new(),
            upstream: Upstream::default(),
            upstreams: BTreeMap::new(),
            plugins: Plugins::default(),
            route: Vec::new(),
            log: Log::default(),
        }
    }
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    default,
    rename_all = "kebab-case",
    expecting = "a table"
)]
pub(super) struct Push {
    pub(super) listen: Option<Spanned<String>>,
    pub(super) path: Spanned<String>,
    pub(super) token: Option<Spanned<Secrets>>,
    pub(super) token_file: Option<Spanned<PathBuf>>,
    pub(super) token_env: Option<Spanned<String>>,
    pub(super) signature_key: Option<Spanned<Secrets>>,
    pub(super) allow: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) hosts: Vec<String>,
}

impl Default for Push {
    fn default() -> Self {
        Self {
            listen: None,
            path: unplaced("/send".to_owned()),
            token: None,
            token_file: None,
            token_env: None,
            signature_key: None,
            allow: None,
            // By this name, containers reach a port of loopback of the machine they run on.
            hosts: vec!["host.docker.internal".to_owned()],
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "a table")]
pub(super) struct Tls {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    default,
    rename_all = "kebab-case",
    expecting = "a table"
)]
pub(super) struct Closings {
    pub(super) rate: Spanned<usize>,
    pub(super) max_waiting: usize,
    pub(super) max_bytes: Bytes,
    pub(super) retry_for: Seconds,
}

impl Default for Closings {
    fn default() -> Self {
        Self {
            rate: unplaced(200),
            max_waiting: 100_000,
            max_bytes: Bytes(64 * MIB),
            retry_for: Seconds::from_secs(600),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "a table")]
pub(super) struct Topic {
    pub(super) name: Spanned<String>,
    #[serde(default = "default_history")]
    pub(super) history: Spanned<usize>,
    #[serde(default = "default_history_time")]
    pub(super) history_time: Seconds,
}

fn default_history() -> Spanned<usize> {
    unplaced(100)
}

fn default_history_time() -> Seconds {
    Seconds::from_secs(300)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "a table")]
pub(super) struct Schedule {
    pub(super) name: Spanned<String>,
    pub(super) every: Spanned<Seconds>,
    #[serde(default)]
    pub(super) upstream: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    default,
    rename_all = "kebab-case",
    expecting = "a table"
)]
pub(super) struct Upstream {
    pub(super) url: Option<Spanned<String>>,
    pub(super) script: Option<Spanned<String>>,
    pub(super) timeout: Seconds,
    pub(super) max_answer: Option<Spanned<Bytes>>,
    pub(super) max_requests: Spanned<usize>,
    pub(super) max_waiting: usize,
    pub(super) max_wait: Seconds,
    pub(super) retries: usize,
    pub(super) breaker_failures: usize,
    pub(super) breaker_pause: Spanned<Seconds>,
    pub(super) keep: usize,
    pub(super) resolve_links: bool,
    pub(super) root: Option<Spanned<String>>,
    pub(super) path: Option<Spanned<String>>,
    pub(super) params: BTreeMap<Spanned<String>, String>,
    pub(super) headers: BTreeMap<Spanned<String>, String>,
    pub(super) secret: Option<Spanned<Secrets>>,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            url: None,
            script: None,
            timeout: Seconds::from_secs(10),
            max_answer: None,
            max_requests: unplaced(128),
            max_waiting: 10_000,
            max_wait: Seconds::from_secs(5),
            retries: 2,
            breaker_failures: 20,
            breaker_pause: unplaced(Seconds::from_secs(1)),
            keep: 0,
            resolve_links: false,
            root: None,
            path: None,
            params: BTreeMap::new(),
            headers: BTreeMap::new(),
            secret: None,
        }
    }
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    default,
    rename_all = "kebab-case",
    expecting = "a table"
)]
pub(super) struct Plugins {
    pub(super) built_in: BuiltIn,
    pub(super) dir: Option<PathBuf>,
    pub(super) cache: Option<PathBuf>,
    pub(super) settle: Seconds,
    pub(super) poll: Seconds,
    pub(super) time_limit: Seconds,
    pub(super) memory_limit: Option<Spanned<Bytes>>,
    pub(super) keyvalue_limit: Bytes,
    pub(super) probation_events: usize,
    pub(super) probation_failures: Spanned<usize>,
    pub(super) config: BTreeMap<String, BTreeMap<String, toml::Value>>,
    pub(super) policy: BTreeMap<String, Policy>,
}

impl Default for Plugins {
    fn default() -> Self {
        Self {
            built_in: BuiltIn::Default,
            dir: None,
            cache: None,
            settle: Seconds::from_millis(200),
            poll: Seconds::from_secs(2),
            time_limit: Seconds::from_millis(50),
            memory_limit: None,
            keyvalue_limit: Bytes(64 * MIB),
            probation_events: 200,
            probation_failures: unplaced(50),
            config: BTreeMap::new(),
            policy: BTreeMap::new(),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(
    deny_unknown_fields,
    default,
    rename_all = "kebab-case",
    expecting = "a table"
)]
pub(super) struct Policy {
    pub(super) on_failure: OnFailure,
    pub(super) sha256: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "a table")]
pub(super) struct Route {
    pub(super) path: Spanned<String>,
    #[serde(default)]
    pub(super) plugins: Option<Vec<String>>,
    #[serde(default)]
    pub(super) upstream: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    default,
    rename_all = "kebab-case",
    expecting = "a table"
)]
pub(super) struct Log {
    pub(super) filter: Spanned<String>,
    pub(super) format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            filter: unplaced("info".to_owned()),
            format: LogFormat::Text,
        }
    }
}

/// A default has no location in the file.
fn unplaced<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}
