//! The plugin files and what became of each: which version serves, which content was refused.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::directory::{self, Content, Stamps};
use super::engine::Engine;
use super::load::{self, Candidate};
use super::reload::{self, Known, Step};
use super::report::Report;
use super::version::Version;
use crate::metrics::Metrics;

/// By file name, which is the order of the chain.
#[derive(Clone, Default)]
pub(super) struct Catalog(BTreeMap<String, File>);

/// A plugin file: what serves, and what was refused since.
#[derive(Clone, Default)]
struct File {
    serving: Option<Arc<Version>>,
    refused: Option<Refusal>,
}

/// Why a content does not serve.
#[derive(Clone, PartialEq, Eq)]
struct Refusal {
    /// Empty for a file that cannot be read.
    hash: String,
    error: String,
}

/// What it takes to make a version of a file.
pub(super) struct Loader<'a> {
    pub(super) engine: &'a Engine,
    pub(super) metrics: &'a Arc<Metrics>,
    /// `[plugins.config.NAME]`
    pub(super) settings: &'a BTreeMap<String, Vec<(String, String)>>,
}

impl Catalog {
    /// The versions that serve, in order.
    pub(super) fn serving(&self) -> impl Iterator<Item = &Arc<Version>> {
        self.0.values().filter_map(|file| file.serving.as_ref())
    }

    /// The names of all files, whether anything serves from them or not.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|file| directory::plugin_name(file))
    }

    pub(super) fn report(&self, dir: Option<&Path>) -> Vec<Report> {
        let report = |(name, file): (&String, &File)| {
            let error = file.refused.as_ref().map(|refusal| refusal.error.clone());
            match &file.serving {
                Some(version) => Report::serving(version, error),
                None => Report::refused(directory::plugin_name(name), dir.map(|dir| dir.join(name)), error),
            }
        };
        self.0.iter().map(report).collect()
    }

    /// Brings the catalog in line with the directory. `publish` is called after each step, since each plugin that is
    /// ready shall serve at once: the next one may compile for seconds.
    pub(super) fn update(
        &mut self,
        loader: &Loader<'_>,
        dir: &Path,
        stamps: &Stamps,
        publish: impl Fn(&Self),
    ) {
        let (mut contents, found) = self.read(loader.metrics, dir, stamps);
        let known = self
            .0
            .iter()
            .map(|(name, file)| (name.clone(), file.known()))
            .collect();
        for step in reload::plan(&known, &found) {
            match step {
                Step::Load(name) => {
                    if let Some(content) = contents.remove(&name) {
                        self.load(loader, dir, &name, content);
                    }
                }
                Step::Forgive(name) => {
                    tracing::info!(file = name, "the plugin file holds again what serves");
                    self.0.entry(name).or_default().refused = None;
                }
                Step::Remove(name) => {
                    self.0.remove(&name);
                    loader.metrics.reload("removed");
                    tracing::info!(file = name, "plugin removed");
                }
            }
            publish(self);
        }
        publish(self);
    }

    /// Reads all files. Gives their contents, and the hash of each file that is there.
    fn read(
        &mut self,
        metrics: &Metrics,
        dir: &Path,
        stamps: &Stamps,
    ) -> (BTreeMap<String, Content>, BTreeMap<String, String>) {
        let (mut contents, mut found) = (BTreeMap::new(), BTreeMap::new());
        for name in stamps.keys() {
            match directory::read(&dir.join(name)) {
                Ok(content) => {
                    found.insert(name.clone(), content.hash.clone());
                    contents.insert(name.clone(), content);
                }
                // It has gone since the stamps were taken.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                // It is there, whatever it holds: what serves goes on.
                Err(error) => {
                    found.insert(name.clone(), String::new());
                    self.refuse(
                        metrics,
                        name,
                        Refusal {
                            hash: String::new(),
                            error: format!("it cannot be read: {error}"),
                        },
                    );
                }
            }
        }
        (contents, found)
    }

    fn load(&mut self, loader: &Loader<'_>, dir: &Path, file: &str, content: Content) {
        let name: Arc<str> = directory::plugin_name(file).into();
        let started = Instant::now();
        let hash = content.hash;
        let candidate = Candidate {
            settings: settings(loader.settings, &name),
            file: Some(dir.join(file)),
            bytes: content.bytes,
            name: name.clone(),
        };
        match load::load(loader.engine, loader.metrics, candidate) {
            Ok(version) => {
                let fresh = File {
                    serving: Some(Arc::new(version)),
                    refused: None,
                };
                let before = self
                    .0
                    .insert(file.to_owned(), fresh)
                    .and_then(|before| before.serving);
                let what = if before.is_some() {
                    "plugin replaced"
                } else {
                    "plugin loaded"
                };
                tracing::info!(plugin = &*name, file, hash, took = ?started.elapsed(), "{what}");
                loader.metrics.reload("loaded");
            }
            Err(error) => self.refuse(
                loader.metrics,
                file,
                Refusal {
                    hash,
                    error: error.to_string(),
                },
            ),
        }
    }

    /// Keeps what serves, and says so loudly, once for each content.
    fn refuse(&mut self, metrics: &Metrics, name: &str, refusal: Refusal) {
        let file = self.0.entry(name.to_owned()).or_default();
        if file.refused.as_ref() == Some(&refusal) {
            return;
        }
        metrics.reload("refused");
        let consequence = match &file.serving {
            Some(_) => "the version before goes on serving",
            None => "the chain goes on without it",
        };
        tracing::error!(
            file = name,
            cause = refusal.error,
            "plugin file refused; {consequence}"
        );
        file.refused = Some(refusal);
    }
}

impl File {
    fn known(&self) -> Known {
        Known {
            serving: self.serving.as_ref().map(|version| version.hash.clone()),
            refused: self.refused.as_ref().map(|refusal| refusal.hash.clone()),
        }
    }
}

/// By the full name, or by the one without its number.
fn settings(all: &BTreeMap<String, Vec<(String, String)>>, name: &str) -> Vec<(String, String)> {
    all.get(name)
        .or_else(|| all.get(directory::short_name(name)))
        .cloned()
        .unwrap_or_default()
}
