//! Makes versions of contents: adds to each what the configuration says about the plugin of that name.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Notify;

use super::directory;
use super::engine::Engine;
use super::load::{self, Candidate, LoadError};
use super::probation::Probation;
use super::version::Version;
use crate::config::{self, Policy};
use crate::metrics::Metrics;

pub(super) struct Loader {
    engine: Engine,
    metrics: Arc<Metrics>,
    /// `[plugins.config.NAME]`
    settings: BTreeMap<String, Vec<(String, String)>>,
    /// `[plugins.policy.NAME]`
    policies: BTreeMap<String, Policy>,
    probation: config::Probation,
    /// Told when a probation is over.
    pub(super) concluded: Arc<Notify>,
}

impl Loader {
    pub(super) fn new(engine: Engine, metrics: Arc<Metrics>, config: &config::Plugins) -> Self {
        Self {
            engine,
            metrics,
            settings: config.settings.clone(),
            policies: config.policies.clone(),
            probation: config.probation,
            concluded: Arc::new(Notify::new()),
        }
    }

    /// Loads and tries the content of a file. Blocks for as long as the compiler takes.
    pub(super) fn load(
        &self,
        file: PathBuf,
        name: &str,
        bytes: Vec<u8>,
        trial: Trial,
    ) -> Result<Version, LoadError> {
        let candidate = Candidate {
            name: name.into(),
            file: Some(file),
            bytes,
            settings: by_name(&self.settings, name),
            policy: by_name(&self.policies, name),
            probation: self.begin(trial),
        };
        load::load(&self.engine, &self.metrics, candidate)
    }

    /// Loads a plugin that comes with the gateway. These settings win.
    pub(super) fn load_built_in(
        &self,
        name: &str,
        bytes: &[u8],
        own: [(&str, String); 1],
    ) -> Result<Version, LoadError> {
        let mut settings = by_name(&self.settings, name);
        for (key, value) in own {
            settings.retain(|(other, _)| other != key);
            settings.push((key.to_owned(), value));
        }
        let candidate = Candidate {
            name: name.into(),
            file: None,
            bytes: bytes.to_vec(),
            settings,
            policy: by_name(&self.policies, name),
            probation: None,
        };
        load::load(&self.engine, &self.metrics, candidate)
    }

    /// The names that policies are for.
    pub(super) fn names_of_policies(&self) -> impl Iterator<Item = &str> {
        self.policies.keys().map(String::as_str)
    }

    fn begin(&self, trial: Trial) -> Option<Probation> {
        let is_wanted = trial == Trial::Probation && self.probation.events > 0;
        is_wanted.then(|| Probation::new(self.probation, self.concluded.clone()))
    }
}

/// Whether a version is watched when it has taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trial {
    /// Not at the start, where nothing served before.
    Waived,
    /// For as many calls as the configuration says.
    Probation,
}

/// What a table of the configuration says about a plugin: by the full name, or by the one without its number.
fn by_name<T: Clone + Default>(all: &BTreeMap<String, T>, name: &str) -> T {
    all.get(name)
        .or_else(|| all.get(directory::short_name(name)))
        .cloned()
        .unwrap_or_default()
}
