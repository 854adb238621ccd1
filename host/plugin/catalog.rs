//! The plugin files and the state of each: which version serves, which one it would go back to, which content was refused
//! and why.
//!
//! Each function here is one change of that, together with its log line for operators.

mod file;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::changelog::Change;
use super::directory;
use super::probation::Verdict;
use super::reload::Known;
use super::report::Report;
use super::version::Version;
use crate::metrics::Metrics;
pub(super) use file::Refusal;
use file::{File, Trial};

/// How many removed files are remembered; beyond that, those that were removed first are forgotten.
const REMEMBERED: usize = 32;

/// By file name, which is the order of the chain.
#[derive(Clone)]
pub(super) struct Catalog {
    files: BTreeMap<String, File>,
    metrics: Arc<Metrics>,
}

impl Catalog {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            files: BTreeMap::new(),
            metrics,
        }
    }

    /// The versions that serve, in order.
    pub(super) fn serving(&self) -> impl Iterator<Item = &Arc<Version>> {
        self.files.values().filter_map(|file| file.serving.as_ref())
    }

    /// The version that serves from a file.
    pub(super) fn serving_from(&self, file: &str) -> Option<Arc<Version>> {
        self.files.get(file)?.serving.clone()
    }

    /// Whether a content of a file was refused before it served.
    pub(super) fn is_refused(&self, file: &str, hash: &str) -> bool {
        let refused = self.files.get(file).and_then(|file| file.refused.as_ref());
        refused.is_some_and(|refused| refused.hash == hash && !refused.is_rolled_back)
    }

    /// The names of all files, whether anything serves from them or not.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.there().map(|(file, _)| directory::plugin_name(file))
    }

    /// What decides about the next change of the directory.
    pub(super) fn known(&self) -> BTreeMap<String, Known> {
        let files = self.files.iter();
        files.map(|(name, file)| (name.clone(), file.known())).collect()
    }

    pub(super) fn report(&self, dir: Option<&Path>) -> Vec<Report> {
        let reports = self.there().map(|(name, file)| file.report(name, dir));
        reports.collect()
    }

    fn there(&self) -> impl Iterator<Item = (&String, &File)> {
        self.files.iter().filter(|(_, file)| file.gone.is_none())
    }

    /// A version was loaded from a file, and takes over.
    pub(super) fn take_over(&mut self, name: &str, version: Version, took: Duration) {
        // There may have been a verdict about the previous version in the meantime.
        self.conclude();
        let file = self.files.entry(name.to_owned()).or_default();
        let (plugin, hash) = (version.name.clone(), version.hash.clone());
        let is_on_trial = version.is_on_probation();
        let before = file.serving.replace(Arc::new(version));
        let what = if before.is_some() {
            "plugin replaced"
        } else {
            "plugin loaded"
        };
        tracing::info!(plugin = &*plugin, file = name, hash, ?took, "{what}");
        self.metrics.reload("loaded");
        file.record(Change::Loaded, &hash, None);
        // A version that is itself on trial is not a fallback as long as there is a proven one.
        let proven = file.trial.take().and_then(|trial| trial.fallback);
        file.trial = is_on_trial.then(|| Trial {
            fallback: proven.or(before.filter(|before| before.failure().is_none())),
        });
        file.refused = None;
        file.gone = None;
    }

    /// A content is refused. Keeps the version that serves, and logs an error, once for each content.
    pub(super) fn refuse(&mut self, name: &str, refusal: Refusal) {
        let file = self.files.entry(name.to_owned()).or_default();
        if file.gone.is_none() && file.refused.as_ref().is_some_and(|known| known.is_same(&refusal)) {
            return;
        }
        let consequence = match &file.serving {
            Some(_) => "the version before goes on serving",
            None => "the chain goes on without it",
        };
        tracing::error!(
            file = name,
            hash = refusal.hash,
            cause = refusal.failure.error,
            "plugin file refused; {consequence}"
        );
        self.metrics.reload("refused");
        file.record(Change::Refused, &refusal.hash, Some(&refusal.failure));
        file.refused = Some(refusal);
        file.gone = None;
    }

    /// The content that was rolled back before its file was removed is here again.
    pub(super) fn refuse_again(&mut self, name: &str) {
        if let Some(refusal) = self.files.get(name).and_then(|file| file.refused.clone()) {
            self.refuse(name, refusal);
        }
    }

    /// The content that serves is back in its file.
    pub(super) fn forgive(&mut self, name: &str) {
        tracing::info!(file = name, "the plugin file again has the content that serves");
        if let Some(file) = self.files.get_mut(name) {
            file.refused = None;
        }
    }

    /// A file is gone. A content that was rolled back is remembered, since it may come back.
    pub(super) fn remove(&mut self, name: &str) {
        tracing::info!(file = name, "plugin removed");
        self.metrics.reload("removed");
        if let Some(file) = self.files.get_mut(name) {
            file.trial = None;
            let served = file.serving.take();
            file.record(
                Change::Removed,
                served.as_ref().map_or("", |version| &version.hash),
                None,
            );
            file.refused.take_if(|refusal| !refusal.is_rolled_back);
            file.gone = Some(SystemTime::now());
        }
        self.forget();
    }

    fn forget(&mut self) {
        let mut gone: Vec<_> = self.files.values().filter_map(|file| file.gone).collect();
        gone.sort_unstable_by(|a, b| b.cmp(a));
        if let Some(oldest) = gone.get(REMEMBERED) {
            self.files
                .retain(|_, file| file.gone.is_none_or(|gone| gone > *oldest));
        }
    }

    /// Acts on the verdicts that have come in: a version that passed needs no fallback any more, and one that failed is
    /// rolled back to its fallback. Without one it stays, since it may be the plugin that decides who may connect.
    pub(super) fn conclude(&mut self) {
        for (name, file) in &mut self.files {
            let Some(version) = file.serving.clone() else {
                continue;
            };
            let Some(verdict) = version.verdict() else {
                continue;
            };
            let Some(trial) = file.trial.take() else { continue };
            match (verdict, trial.fallback) {
                (Verdict::Passed, _) => {
                    tracing::info!(file = name, hash = version.hash, "plugin passed its probation");
                }
                (Verdict::Failed(failure), Some(fallback)) => {
                    tracing::error!(
                        file = name,
                        hash = version.hash,
                        serving = fallback.hash,
                        cause = failure.error,
                        "plugin rolled back; the version before serves again"
                    );
                    self.metrics.reload("rolled-back");
                    file.record(Change::RolledBack, &version.hash, Some(failure));
                    file.refused = Some(Refusal::rolled_back(&version.hash, failure));
                    file.serving = Some(fallback);
                }
                (Verdict::Failed(failure), None) => {
                    tracing::error!(
                        file = name,
                        hash = version.hash,
                        cause = failure.error,
                        "plugin fails and there is no version to go back to; it stays in the chain"
                    );
                    file.record(Change::Failing, &version.hash, Some(failure));
                }
            }
        }
    }
}
