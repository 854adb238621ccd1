//! A plugin as operators see it: an entry of `/plugins`, a line of `aileron check`.

use std::path::PathBuf;

use serde::Serialize;

use super::changelog::Changelog;
use super::version::Version;
use crate::config::OnFailure;

/// One plugin of the chain.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// As the configuration and the log name it.
    pub name: String,
    /// Where it came from; none for the built-in one.
    pub file: Option<PathBuf>,
    /// Its state.
    pub state: State,
    /// SHA-256 of the content that serves.
    pub hash: Option<String>,
    /// SHA-256 of the file's content, if that does not serve.
    pub refused_hash: Option<String>,
    /// Why the file's content was refused or rolled back, or should be.
    pub last_error: Option<String>,
    /// When that was, by RFC 3339.
    pub last_error_at: Option<String>,
    /// What happened to the file, newest first.
    pub(super) previous: Changelog,
    /// What serves; none if nothing does.
    #[serde(flatten)]
    pub(super) service: Service,
}

/// The state of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The content of its file serves.
    Serving,
    /// The content of its file failed its probation, but serves: there was no previous one.
    Failing,
    /// The content of its file was refused; an older one serves.
    Stale,
    /// The content of its file failed its probation; an older one serves again.
    RolledBack,
    /// The content of its file was refused; nothing serves.
    Refused,
}

/// What is known about a version that serves.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Service {
    /// Version of the WIT package that it was built against.
    interface: Option<String>,
    /// What happens to an event when it fails on it.
    on_failure: Option<OnFailure>,
    /// Whether its first calls are being watched.
    on_probation: bool,
    /// Calls of handlers since the start of the gateway, in all versions of this name.
    calls: u64,
    /// How many of these trapped or exceeded a limit.
    traps: u64,
    /// Instances now.
    instances: usize,
    /// Linear memory of all instances together, in bytes.
    memory: usize,
    /// Whether it is called on threads of its own.
    slow: bool,
}

impl Service {
    pub(super) fn of(version: &Version) -> Self {
        let (instances, memory) = version.usage();
        let traps = ["trap", "time", "memory"].map(|cause| version.failures(cause));
        Self {
            interface: Some(version.interface.clone()),
            on_failure: Some(version.on_failure),
            on_probation: version.is_on_probation(),
            calls: version.calls(),
            traps: traps.iter().sum(),
            instances,
            memory,
            slow: version.is_slow(),
        }
    }
}

impl Report {
    /// Of a plugin that comes with the gateway.
    pub(super) fn built_in(version: &Version) -> Self {
        Self {
            name: version.name.to_string(),
            file: None,
            state: State::Serving,
            hash: Some(version.hash.clone()),
            refused_hash: None,
            last_error: None,
            last_error_at: None,
            previous: Changelog::default(),
            service: Service::of(version),
        }
    }
}
