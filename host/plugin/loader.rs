//! Makes a version of the content of a file, with what the configuration says about the plugin of that name.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::directory::{self, Content};
use super::engine::Engine;
use super::load::{self, Candidate, LoadError};
use super::probation::Probation;
use super::version::Version;
use crate::config::{self, Config, Policy};
use crate::metrics::Metrics;

pub(super) struct Loader {
    engine: Engine,
    metrics: Arc<Metrics>,
    wishes: ArcSwap<Wishes>,
    /// Notified when a probation is over.
    pub(super) concluded: Arc<Notify>,
}

/// What the configuration says about plugins by name.
struct Wishes {
    /// `[plugins.config.NAME]`
    settings: BTreeMap<String, Vec<(String, String)>>,
    /// `[plugins.policy.NAME]`
    policies: BTreeMap<String, Policy>,
    probation: config::Probation,
    /// `[push] path`, which is for the built-in plugin too.
    push_path: String,
}

impl Loader {
    pub(super) fn new(engine: Engine, metrics: Arc<Metrics>, config: &Config) -> Self {
        Self {
            engine,
            metrics,
            wishes: ArcSwap::from_pointee(Wishes::of(config)),
            concluded: Arc::new(Notify::new()),
        }
    }

    /// Applies another configuration from now on.
    pub(super) fn change(&self, config: &Config) {
        self.wishes.store(Arc::new(Wishes::of(config)));
    }

    /// Applies other limits.
    pub(super) fn limit(&self, plugins: &config::Plugins) {
        self.engine.shared.limits.change(plugins);
        self.engine.shared.keyvalue.write().limit(plugins.keyvalue_limit);
    }

    /// Whether the configuration has changed since a version was made.
    pub(super) fn is_outdated(&self, version: &Version) -> bool {
        let wishes = self.wishes.load();
        let settings = match version.file {
            Some(_) => by_name(&wishes.settings, &version.name),
            None => wishes.of_built_in(&version.name),
        };
        let policy = by_name(&wishes.policies, &version.name);
        settings != version.settings
            || policy.on_failure != version.on_failure
            || policy.sha256.is_some_and(|pin| pin != version.hash)
    }

    /// Loads and tries the content of a file. Blocks for as long as the compiler takes.
    pub(super) fn load(
        &self,
        file: PathBuf,
        name: &str,
        content: &Content,
        trial: Trial,
    ) -> Result<Version, LoadError> {
        let wishes = self.wishes.load();
        let candidate = Candidate {
            name: name.into(),
            file: Some(file),
            bytes: &content.bytes,
            hash: content.hash.clone(),
            settings: by_name(&wishes.settings, name),
            policy: by_name(&wishes.policies, name),
            probation: self.begin(trial),
        };
        load::load(&self.engine, &self.metrics, candidate)
    }

    /// Loads a plugin that comes with the gateway.
    pub(super) fn load_built_in(&self, name: &str, bytes: &[u8]) -> Result<Version, LoadError> {
        let wishes = self.wishes.load();
        let candidate = Candidate {
            name: name.into(),
            file: None,
            bytes,
            hash: load::hash(bytes),
            settings: wishes.of_built_in(name),
            policy: by_name(&wishes.policies, name),
            probation: None,
        };
        load::load(&self.engine, &self.metrics, candidate)
    }

    /// The names of plugins that have a policy.
    pub(super) fn names_of_policies(&self) -> Vec<String> {
        self.wishes.load().policies.keys().cloned().collect()
    }

    fn begin(&self, trial: Trial) -> Option<Probation> {
        let probation = self.wishes.load().probation;
        let is_wanted = trial == Trial::Probation && probation.events > 0;
        is_wanted.then(|| Probation::new(probation, self.concluded.clone()))
    }
}

impl Wishes {
    fn of(config: &Config) -> Self {
        Self {
            settings: config.plugins.settings.clone(),
            policies: config.plugins.policies.clone(),
            probation: config.plugins.probation,
            push_path: config.push.path.clone(),
        }
    }

    fn of_built_in(&self, name: &str) -> Vec<(String, String)> {
        let mut settings = by_name(&self.settings, name);
        settings.retain(|(key, _)| key != "push-path");
        settings.push(("push-path".to_owned(), self.push_path.clone()));
        settings
    }
}

/// Whether a version is watched after it has taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trial {
    /// Not at the start, where nothing served before.
    Waived,
    /// For the number of calls in the configuration.
    Probation,
}

/// What a table of the configuration says about a plugin: by the full name, or by the one without its number.
fn by_name<T: Clone + Default>(all: &BTreeMap<String, T>, name: &str) -> T {
    all.get(name)
        .or_else(|| all.get(directory::short_name(name)))
        .cloned()
        .unwrap_or_default()
}
