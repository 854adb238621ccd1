//! Plugins: which there are, in which order they are asked, and how they are replaced while connections stay open.
//!
//! The rest of the gateway sees chains of versions and calls them; everything about WebAssembly is below here. A chain is
//! read with each event and replaced as a whole: an event goes through the chain that was there when it began.

mod bindings;
mod directory;
mod engine;
mod guest;
mod imports;
mod instance;
mod keyvalue;
mod load;
mod pool;
mod reload;
mod stdio;
mod version;
mod wasi;
mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use serde::Serialize;

use crate::config::{self, Config};
use crate::metrics::Metrics;
use directory::Stamps;
use engine::Engine;
use guest::{Limits, Shared};
use keyvalue::KeyValue;
use load::Candidate;
use reload::{Known, Step};
use watch::Watch;

pub use engine::EngineError;
pub use guest::Connections;
pub use instance::CallError;
pub use load::LoadError;
pub use pool::{Call, CallResult};
pub use version::Version;

/// The built-in plugin: `plugins/default`, compiled by `plugins/build --embed` so that building the gateway needs no
/// WebAssembly toolchain.
const BUILT_IN: &[u8] = include_bytes!("../plugins/default/default.wasm");

/// The versions that an event goes through, in order. The built-in default is last.
pub type Chain = [Arc<Version>];

/// All plugins and their chains.
pub struct Plugins {
    engine: Engine,
    metrics: Arc<Metrics>,
    dir: Option<PathBuf>,
    settings: BTreeMap<String, Vec<(String, String)>>,
    default: Arc<Version>,
    /// For each route of the configuration the names of its plugins; none means all.
    routes: Vec<Option<Vec<String>>>,
    chains: ArcSwap<Chains>,
    /// By file name.
    files: Mutex<BTreeMap<String, File>>,
}

struct Chains {
    routes: Vec<Arc<Chain>>,
    all: Arc<Chain>,
}

/// A plugin file: what serves, and what was refused since.
#[derive(Clone, Default)]
struct File {
    serving: Option<Arc<Version>>,
    refused: Option<Refusal>,
}

#[derive(Clone)]
struct Refusal {
    hash: String,
    error: String,
}

/// Plugins cannot be set up at all.
#[derive(Debug, thiserror::Error)]
pub enum PluginsError {
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The built-in plugin; the settings of `[plugins.config.default]` are the only thing that can be wrong with it.
    #[error("the built-in plugin cannot be used")]
    Default(#[source] LoadError),
    /// The configured directory.
    #[error("the plugin directory {dir} cannot be read (create it, or set another one by [plugins] dir)")]
    Directory {
        /// Which.
        dir: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A plugin as `/plugins` shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// As the configuration and the log name it.
    pub name: String,
    /// Where it came from.
    pub file: Option<PathBuf>,
    /// `serving`; `stale`: an older version serves because the file's content was refused; `refused`: nothing serves.
    pub state: &'static str,
    /// SHA-256 of the content that serves.
    pub hash: Option<String>,
    /// Version of the WIT package that it was built against.
    pub interface: Option<String>,
    /// Why the file's content was refused.
    pub last_error: Option<String>,
    /// Handlers called since the start of the gateway, by all versions of the name.
    pub calls: u64,
    /// Of these, how many trapped.
    pub traps: u64,
    /// Instances now.
    pub instances: usize,
    /// Linear memory of all instances together, in bytes.
    pub memory: usize,
    /// Whether it is called on threads of its own.
    pub slow: bool,
}

impl Plugins {
    /// Sets up the engine and loads everything that is there. A file that is refused does not keep the gateway from
    /// starting: it is logged and listed, and the others serve.
    pub fn new(
        config: &Config,
        connections: Arc<dyn Connections>,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, PluginsError> {
        let own = &config.plugins;
        let limits = Limits {
            time: own.time_limit,
            memory: own.memory_limit,
            // A frame may leave a plugin form-encoded, which is three times as long, and with an answer beside it.
            transfer: 4 * config.max_message + 1024 * 1024,
        };
        let shared = Arc::new(Shared {
            connections,
            keyvalue: KeyValue::new(own.keyvalue_limit),
            limits,
        });
        let engine = Engine::new(own.cache.as_deref(), shared)?;
        let default = built_in(&engine, &metrics, config).map_err(PluginsError::Default)?;
        let plugins = Self {
            chains: ArcSwap::from_pointee(Chains {
                routes: Vec::new(),
                all: Arc::new([]),
            }),
            engine,
            metrics,
            dir: own.dir.clone(),
            settings: own.settings.clone(),
            default: Arc::new(default),
            routes: config.routes.iter().map(|route| route.plugins.clone()).collect(),
            files: Mutex::default(),
        };
        match &plugins.dir {
            Some(dir) => {
                let stamps = directory::stamps(dir).map_err(|source| PluginsError::Directory {
                    dir: dir.clone(),
                    source,
                })?;
                plugins.update(dir, &stamps);
            }
            None => plugins.swap(&BTreeMap::new()),
        }
        Ok(Arc::new(plugins))
    }

    /// The chain for the connections of a route.
    pub fn chain(&self, route: usize) -> Arc<Chain> {
        let chains = self.chains.load();
        chains.routes.get(route).unwrap_or(&chains.all).clone()
    }

    /// The chain for pushes: all plugins.
    pub fn push_chain(&self) -> Arc<Chain> {
        self.chains.load().all.clone()
    }

    /// Takes up changes of the directory, for ever.
    pub async fn watch(self: Arc<Self>, poll: std::time::Duration, settle: std::time::Duration) {
        let Some(dir) = self.dir.clone() else { return };
        let mut watch = Watch::new(&dir, poll, settle);
        // What `new` saw may be old by now.
        let mut seen = None;
        loop {
            let stamps = watch.changed(&seen).await;
            match &stamps {
                Some(stamps) => {
                    let (plugins, dir, stamps) = (self.clone(), dir.clone(), stamps.clone());
                    // The compiler takes seconds; a panic in it must not end the watch.
                    let updated = tokio::task::spawn_blocking(move || plugins.update(&dir, &stamps)).await;
                    if let Err(error) = updated {
                        tracing::error!(%error, "the change of the plugin directory was not taken up");
                    }
                }
                None if seen.is_some() => {
                    tracing::error!(dir = %dir.display(), "the plugin directory is gone; what serves goes on");
                }
                None => {}
            }
            seen = stamps;
        }
    }

    /// What `/plugins` shows, in the order of the chain.
    pub fn report(&self) -> Vec<Report> {
        let mut reports: Vec<_> = {
            let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
            files
                .iter()
                .map(|(file, entry)| self.report_file(file, entry))
                .collect()
        };
        reports.push(report_version(&self.default));
        reports
    }

    /// The names in routes that no plugin has now.
    pub fn unknown_names(&self) -> Vec<String> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let known: Vec<_> = files
            .keys()
            .map(|file| directory::plugin_name(file).to_owned())
            .collect();
        let wanted = self.routes.iter().flatten().flatten();
        wanted
            .filter(|name| !known.iter().any(|known| is_called(known, name)))
            .cloned()
            .collect()
    }

    fn report_file(&self, file: &str, entry: &File) -> Report {
        let last_error = entry.refused.as_ref().map(|refusal| refusal.error.clone());
        match &entry.serving {
            Some(version) => {
                let state = if last_error.is_some() { "stale" } else { "serving" };
                Report {
                    state,
                    last_error,
                    ..report_version(version)
                }
            }
            None => Report {
                name: directory::plugin_name(file).to_owned(),
                file: self.dir.as_ref().map(|dir| dir.join(file)),
                state: "refused",
                hash: None,
                interface: None,
                last_error,
                calls: 0,
                traps: 0,
                instances: 0,
                memory: 0,
                slow: false,
            },
        }
    }

    /// Brings the chains in line with the directory. One at a time: called at the start, then by `watch` alone.
    fn update(&self, dir: &Path, stamps: &Stamps) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut contents = BTreeMap::new();
        for file in stamps.keys() {
            match directory::read(&dir.join(file)) {
                Ok(content) => drop(contents.insert(file.clone(), content)),
                Err(error) => {
                    let refusal = Refusal {
                        hash: String::new(),
                        error: format!("it cannot be read: {error}"),
                    };
                    self.refuse(files.entry(file.clone()).or_default(), file, refusal);
                }
            }
        }
        let mut found: BTreeMap<_, _> = contents
            .iter()
            .map(|(file, content)| (file.clone(), content.hash.clone()))
            .collect();
        // A file that is there but cannot be read is not gone.
        for file in stamps.keys().filter(|file| !contents.contains_key(*file)) {
            let serving = files.get(file).and_then(|entry| entry.serving.as_ref());
            found.insert(
                file.clone(),
                serving.map_or_else(String::new, |version| version.hash.clone()),
            );
        }
        let known = files
            .iter()
            .map(|(file, entry)| (file.clone(), entry.known()))
            .collect();
        for step in reload::plan(&known, &found) {
            match step {
                Step::Load(file) => {
                    if let Some(content) = contents.remove(&file) {
                        self.load(dir, files.entry(file.clone()).or_default(), &file, content);
                    }
                }
                Step::Forgive(file) => {
                    tracing::info!(file, "the plugin file holds again what serves");
                    files.entry(file).or_default().refused = None;
                }
                Step::Remove(file) => {
                    files.remove(&file);
                    self.metrics.reload("removed");
                    tracing::info!(file, "plugin removed");
                }
            }
            // Each plugin that is ready serves at once; the next one may compile for seconds.
            self.publish(&files);
        }
        self.publish(&files);
    }

    fn load(&self, dir: &Path, entry: &mut File, file: &str, content: directory::Content) {
        let name: Arc<str> = directory::plugin_name(file).into();
        let started = Instant::now();
        let hash = content.hash;
        let candidate = Candidate {
            settings: self.settings(&name),
            file: Some(dir.join(file)),
            bytes: content.bytes,
            name: name.clone(),
        };
        match load::load(&self.engine, &self.metrics, candidate) {
            Ok(version) => {
                let took = started.elapsed();
                let is_new = entry.serving.is_none();
                let what = if is_new {
                    "plugin loaded"
                } else {
                    "plugin replaced"
                };
                tracing::info!(
                    plugin = &*name,
                    file,
                    hash,
                    interface = version.interface,
                    ?took,
                    "{what}"
                );
                self.metrics.reload("loaded");
                *entry = File {
                    serving: Some(Arc::new(version)),
                    refused: None,
                };
            }
            Err(error) => {
                let refusal = Refusal {
                    hash,
                    error: error.to_string(),
                };
                self.refuse(entry, file, refusal);
            }
        }
    }

    /// Keeps what serves, and says so loudly, once for each content.
    fn refuse(&self, entry: &mut File, file: &str, refusal: Refusal) {
        if entry
            .refused
            .as_ref()
            .is_some_and(|old| old.hash == refusal.hash && old.error == refusal.error)
        {
            return;
        }
        self.metrics.reload("refused");
        let consequence = match &entry.serving {
            Some(_) => "the version before goes on serving",
            None => "the chain goes on without it",
        };
        tracing::error!(file, cause = refusal.error, "plugin file refused; {consequence}");
        entry.refused = Some(refusal);
    }

    /// By the full name, or by the one without its number.
    fn settings(&self, name: &str) -> Vec<(String, String)> {
        let settings = self
            .settings
            .get(name)
            .or_else(|| self.settings.get(directory::short_name(name)));
        settings.cloned().unwrap_or_default()
    }

    /// Lets `report` and events see the state so far.
    fn publish(&self, files: &BTreeMap<String, File>) {
        self.swap(files);
        files.clone_into(&mut self.files.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn swap(&self, files: &BTreeMap<String, File>) {
        let serving: Vec<_> = files.values().filter_map(|entry| entry.serving.clone()).collect();
        let with_default = |mut chain: Vec<Arc<Version>>| -> Arc<Chain> {
            chain.push(self.default.clone());
            chain.into()
        };
        let all = with_default(serving.clone());
        let routes = self.routes.iter().map(|names| match names {
            None => all.clone(),
            Some(names) => with_default(
                names
                    .iter()
                    .filter_map(|name| {
                        serving
                            .iter()
                            .find(|version| is_called(&version.name, name))
                            .cloned()
                    })
                    .collect(),
            ),
        });
        self.chains.store(Arc::new(Chains {
            routes: routes.collect(),
            all: all.clone(),
        }));
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

/// The configuration may leave out the number of a file's name.
fn is_called(plugin: &str, name: &str) -> bool {
    plugin == name || directory::short_name(plugin) == name
}

fn built_in(engine: &Engine, metrics: &Arc<Metrics>, config: &Config) -> Result<Version, LoadError> {
    let mut settings = config
        .plugins
        .settings
        .get(config::DEFAULT)
        .cloned()
        .unwrap_or_default();
    settings.push(("push-path".to_owned(), config.push.path.clone()));
    let candidate = Candidate {
        name: config::DEFAULT.into(),
        file: None,
        bytes: BUILT_IN.to_vec(),
        settings,
    };
    load::load(engine, metrics, candidate)
}

fn report_version(version: &Version) -> Report {
    let (instances, memory) = version.usage();
    Report {
        name: version.name.to_string(),
        file: version.file.clone(),
        state: "serving",
        hash: Some(version.hash.clone()),
        interface: Some(version.interface.clone()),
        last_error: None,
        calls: version.calls(),
        traps: version.failures("trap") + version.failures("time") + version.failures("memory"),
        instances,
        memory,
        slow: version.is_slow(),
    }
}
