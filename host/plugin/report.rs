//! A plugin as operators see it: an entry of `/plugins`, a line of `aileron check`.

use std::path::PathBuf;

use serde::Serialize;

use super::version::Version;

/// One plugin of the chain.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// As the configuration and the log name it.
    pub name: String,
    /// Where it came from; none for the built-in one.
    pub file: Option<PathBuf>,
    /// How it is.
    pub state: State,
    /// SHA-256 of the content that serves.
    pub hash: Option<String>,
    /// Version of the WIT package that it was built against.
    pub interface: Option<String>,
    /// Why the file's content was refused.
    pub last_error: Option<String>,
    /// Handlers called since the start of the gateway, by all versions of the name.
    pub calls: u64,
    /// Of these, how many trapped or overran a limit.
    pub traps: u64,
    /// Instances now.
    pub instances: usize,
    /// Linear memory of all instances together, in bytes.
    pub memory: usize,
    /// Whether it is called on threads of its own.
    pub slow: bool,
}

/// How a plugin is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The content of its file serves.
    Serving,
    /// The content of its file was refused; an older one serves.
    Stale,
    /// The content of its file was refused; nothing serves.
    Refused,
}

impl Report {
    /// Of a version that serves. The error is that of the file's content, if it is another one.
    pub(super) fn serving(version: &Version, last_error: Option<String>) -> Self {
        let (instances, memory) = version.usage();
        let traps = ["trap", "time", "memory"].map(|cause| version.failures(cause));
        Self {
            name: version.name.to_string(),
            file: version.file.clone(),
            state: if last_error.is_some() {
                State::Stale
            } else {
                State::Serving
            },
            hash: Some(version.hash.clone()),
            interface: Some(version.interface.clone()),
            last_error,
            calls: version.calls(),
            traps: traps.iter().sum(),
            instances,
            memory,
            slow: version.is_slow(),
        }
    }

    /// Of a file from which nothing serves.
    pub(super) fn refused(name: &str, file: Option<PathBuf>, last_error: Option<String>) -> Self {
        Self {
            name: name.to_owned(),
            file,
            state: State::Refused,
            hash: None,
            interface: None,
            last_error,
            calls: 0,
            traps: 0,
            instances: 0,
            memory: 0,
            slow: false,
        }
    }
}
