//! What happened to a plugin file, for operators who look later.

use std::collections::VecDeque;
use std::time::SystemTime;

use serde::Serialize;

/// Older entries are forgotten.
const ENTRIES: usize = 5;

/// The last entries, newest first.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Changelog(VecDeque<Entry>);

/// Something that happened to a file.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Entry {
    event: Change,
    /// RFC 3339.
    at: String,
    /// SHA-256 of the content that it happened to; none if it could not be read.
    hash: Option<String>,
    cause: Option<String>,
}

/// What can happen to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Change {
    /// Its content began to serve.
    Loaded,
    /// Its content was not taken into service.
    Refused,
    /// Its content failed its probation, and the previous one serves again.
    RolledBack,
    /// Its content failed its probation and serves on, since there was no previous one.
    Failing,
    /// It was deleted.
    Removed,
}

impl Changelog {
    pub(super) fn record(&mut self, event: Change, at: SystemTime, hash: &str, cause: Option<&str>) {
        self.0.push_front(Entry {
            event,
            at: time(at),
            hash: Some(hash.to_owned()).filter(|hash| !hash.is_empty()),
            cause: cause.map(str::to_owned),
        });
        self.0.truncate(ENTRIES);
    }
}

/// As `/plugins` shows times.
pub(super) fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_entries_are_kept_newest_first() {
        let mut changelog = Changelog::default();
        for n in 0..ENTRIES + 2 {
            changelog.record(Change::Loaded, SystemTime::UNIX_EPOCH, &n.to_string(), None);
        }
        let hashes: Vec<_> = changelog
            .0
            .iter()
            .filter_map(|entry| entry.hash.as_deref())
            .collect();
        assert_eq!(hashes, ["6", "5", "4", "3", "2"]);
    }
}
