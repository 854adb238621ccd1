//! What the TOML says, before anything is checked: the names of all keys and their defaults.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::types::{Bytes, Seconds};
use super::{ClientIds, LogFormat};

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
    pub(super) client_id: ClientIds,
    pub(super) in_flight: Spanned<usize>,
    pub(super) max_message: Bytes,
    pub(super) max_queue: Bytes,
    pub(super) push: Push,
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
            client_id: ClientIds::Address,
            in_flight: unplaced(1),
            max_message: Bytes(MIB),
            max_queue: Bytes(MIB),
            push: Push::default(),
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
    pub(super) token: Option<Spanned<String>>,
}

impl Default for Push {
    fn default() -> Self {
        Self {
            listen: None,
            path: unplaced("/send".to_owned()),
            token: None,
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
pub(super) struct Upstream {
    pub(super) url: Option<Spanned<String>>,
    pub(super) script: Option<Spanned<String>>,
    pub(super) timeout: Seconds,
    pub(super) max_answer: Bytes,
    pub(super) max_requests: Spanned<usize>,
    pub(super) max_waiting: usize,
    pub(super) keep: usize,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            url: None,
            script: None,
            timeout: Seconds::from_secs(10),
            max_answer: Bytes(16 * MIB),
            max_requests: unplaced(128),
            max_waiting: 10_000,
            keep: 0,
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
    pub(super) dir: Option<PathBuf>,
    pub(super) cache: Option<PathBuf>,
    pub(super) settle: Seconds,
    pub(super) poll: Seconds,
    pub(super) time_limit: Seconds,
    pub(super) memory_limit: Bytes,
    pub(super) keyvalue_limit: Bytes,
    pub(super) config: BTreeMap<String, BTreeMap<String, toml::Value>>,
}

impl Default for Plugins {
    fn default() -> Self {
        Self {
            dir: None,
            cache: None,
            settle: Seconds::from_millis(200),
            poll: Seconds::from_secs(2),
            time_limit: Seconds::from_millis(50),
            memory_limit: Bytes(64 * MIB),
            keyvalue_limit: Bytes(64 * MIB),
            config: BTreeMap::new(),
        }
    }
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

/// A default stands nowhere.
fn unplaced<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}
