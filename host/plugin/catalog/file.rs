//! What is known of one plugin file.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use crate::message::excerpt;
use crate::plugin::changelog::{self, Change, Changelog};
use crate::plugin::directory;
use crate::plugin::probation::Failure;
use crate::plugin::reload::Known;
use crate::plugin::report::{Report, Service, State};
use crate::plugin::version::Version;

#[derive(Clone, Default)]
pub(super) struct File {
    pub(super) serving: Option<Arc<Version>>,
    /// While what serves is on probation.
    pub(super) trial: Option<Trial>,
    pub(super) refused: Option<Refusal>,
    pub(super) changelog: Changelog,
    /// When it was removed.
    pub(super) gone: Option<SystemTime>,
}

/// What the file has to do with a probation.
#[derive(Clone)]
pub(super) struct Trial {
    /// What served before, and would serve again.
    pub(super) fallback: Option<Arc<Version>>,
}

/// A content that does not serve, and why.
#[derive(Clone)]
pub(in crate::plugin) struct Refusal {
    /// Empty for a file that cannot be read.
    pub(super) hash: String,
    pub(super) failure: Failure,
    /// It served, and failed its probation.
    pub(super) is_rolled_back: bool,
}

impl File {
    pub(super) fn known(&self) -> Known {
        Known {
            serving: self.serving.as_ref().map(|version| version.hash.clone()),
            refused: self.refused.as_ref().map(|refusal| refusal.hash.clone()),
            is_gone: self.gone.is_some(),
        }
    }

    pub(super) fn record(&mut self, change: Change, hash: &str, failure: Option<&Failure>) {
        let at = failure.map_or_else(SystemTime::now, |failure| failure.at);
        let cause = failure.map(|failure| failure.error.as_str());
        self.changelog.record(change, at, hash, cause);
    }

    pub(super) fn report(&self, name: &str, dir: Option<&Path>) -> Report {
        let serving = self.serving.as_deref();
        let refused = self.refused.as_ref();
        let failing = serving.and_then(Version::failure);
        let failure = refused.map(|refusal| &refusal.failure).or(failing);
        let refused_hash = refused.map(|refusal| refusal.hash.clone());
        Report {
            name: directory::plugin_name(name).to_owned(),
            file: dir.map(|dir| dir.join(name)),
            state: match (serving, refused) {
                (None, _) => State::Refused,
                (Some(_), Some(refusal)) if refusal.is_rolled_back => State::RolledBack,
                (Some(_), Some(_)) => State::Stale,
                (Some(_), None) if failing.is_some() => State::Failing,
                (Some(_), None) => State::Serving,
            },
            hash: serving.map(|version| version.hash.clone()),
            refused_hash: refused_hash.filter(|hash| !hash.is_empty()),
            last_error: failure.map(|failure| failure.error.clone()),
            last_error_at: failure.map(|failure| changelog::time(failure.at)),
            previous: self.changelog.clone(),
            service: serving.map(Service::of).unwrap_or_default(),
        }
    }
}

impl Refusal {
    pub(in crate::plugin) fn new(hash: String, error: &str) -> Self {
        Self {
            hash,
            failure: Failure {
                error: excerpt(error).into_owned(),
                at: SystemTime::now(),
            },
            is_rolled_back: false,
        }
    }

    pub(in crate::plugin) fn unreadable(error: &std::io::Error) -> Self {
        Self::new(String::new(), &format!("it cannot be read: {error}"))
    }

    pub(super) fn rolled_back(hash: &str, failure: &Failure) -> Self {
        Self {
            hash: hash.to_owned(),
            failure: failure.clone(),
            is_rolled_back: true,
        }
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        (&self.hash, &self.failure.error) == (&other.hash, &other.failure.error)
    }
}
