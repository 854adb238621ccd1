//! Plugins: which there are, in which order they are asked, and how they are replaced while connections stay open.
//!
//! The rest of the gateway sees chains of versions and calls them; everything about WebAssembly is below here. A chain is
//! read with each event and replaced as a whole: an event goes through the chain that was there when it began.

mod bindings;
mod catalog;
mod directory;
mod engine;
mod guest;
mod imports;
mod instance;
mod keyvalue;
mod load;
mod pool;
mod reload;
mod report;
mod stdio;
mod version;
mod wasi;
mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::config::{BuiltIn, Config};
use crate::metrics::Metrics;
use catalog::{Catalog, Loader};
use directory::Stamps;
use engine::Engine;
use guest::{Limits, Shared};
use keyvalue::KeyValue;
use load::Candidate;
use watch::Watch;

pub use engine::EngineError;
pub use guest::Connections;
pub use instance::CallError;
pub use load::LoadError;
pub use pool::{Call, CallResult};
pub use report::{Report, State};
pub use version::Version;

/// The built-in plugins, compiled by `plugins/build --embed` so that building the gateway needs no WebAssembly toolchain.
const DEFAULT: &[u8] = include_bytes!("../plugins/default/default.wasm");
const APPLICATION: &[u8] = include_bytes!("../plugins/application/application.wasm");

/// The versions that an event goes through, in order. The built-in one is last.
pub type Chain = [Arc<Version>];

/// All plugins and their chains.
pub struct Plugins {
    engine: Engine,
    metrics: Arc<Metrics>,
    dir: Option<PathBuf>,
    settings: BTreeMap<String, Vec<(String, String)>>,
    built_in: Arc<Version>,
    /// For each route of the configuration the names of its plugins; none means all.
    routes: Vec<Option<Vec<String>>>,
    chains: ArcSwap<Chains>,
    catalog: Mutex<Catalog>,
}

struct Chains {
    routes: Vec<Arc<Chain>>,
    all: Arc<Chain>,
}

/// Plugins cannot be set up at all.
#[derive(Debug, thiserror::Error)]
pub enum PluginsError {
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The built-in plugin; its settings in `[plugins.config]` are the only thing that can be wrong with it.
    #[error("the built-in plugin cannot be used")]
    BuiltIn(#[source] LoadError),
    /// The configured directory.
    #[error("the plugin directory {dir} cannot be read (create it, or set another one by [plugins] dir)")]
    Directory {
        /// Which.
        dir: PathBuf,
        /// Why.
        source: std::io::Error,
    },
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
        let built_in = built_in(&engine, &metrics, config).map_err(PluginsError::BuiltIn)?;
        let plugins = Self {
            chains: ArcSwap::from_pointee(Chains {
                routes: Vec::new(),
                all: Arc::new([]),
            }),
            engine,
            metrics,
            dir: own.dir.clone(),
            settings: own.settings.clone(),
            built_in: Arc::new(built_in),
            routes: config.routes.iter().map(|route| route.plugins.clone()).collect(),
            catalog: Mutex::default(),
        };
        plugins.publish(&Catalog::default());
        if let Some(dir) = &plugins.dir {
            let failed = |source| PluginsError::Directory {
                dir: dir.clone(),
                source,
            };
            plugins.update(dir, &directory::stamps(dir).map_err(failed)?);
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
    pub async fn watch(self: Arc<Self>, poll: Duration, settle: Duration) {
        let Some(dir) = self.dir.clone() else { return };
        let mut watch = Watch::new(&dir, poll, settle);
        // What `new` saw may be old by now.
        let mut stamps = watch.settled().await;
        loop {
            match &stamps {
                Some(stamps) => {
                    let (plugins, dir, stamps) = (self.clone(), dir.clone(), stamps.clone());
                    // The compiler takes seconds; a panic in it must not end the watch.
                    let updated = tokio::task::spawn_blocking(move || plugins.update(&dir, &stamps)).await;
                    if let Err(error) = updated {
                        tracing::error!(%error, "the change of the plugin directory was not taken up");
                    }
                }
                None => {
                    tracing::error!(dir = %dir.display(), "the plugin directory is gone; what serves goes on")
                }
            }
            stamps = watch.changed(&stamps).await;
        }
    }

    /// What `/plugins` shows, in the order of the chain.
    pub fn report(&self) -> Vec<Report> {
        let mut reports = self.catalog().report(self.dir.as_deref());
        reports.push(Report::serving(&self.built_in, None));
        reports
    }

    /// The names in routes that no plugin file has now.
    pub fn unknown_names(&self) -> Vec<String> {
        let catalog = self.catalog();
        let is_known = |name: &str| catalog.names().any(|known| is_called(known, name));
        self.routes
            .iter()
            .flatten()
            .flatten()
            .filter(|name| !is_known(name))
            .cloned()
            .collect()
    }

    /// Brings the chains in line with the directory. One at a time: called at the start, then by `watch` alone.
    fn update(&self, dir: &Path, stamps: &Stamps) {
        let loader = Loader {
            engine: &self.engine,
            metrics: &self.metrics,
            settings: &self.settings,
        };
        // On a copy: operators may look while the compiler is at work.
        let mut catalog = self.catalog().clone();
        catalog.update(&loader, dir, stamps, |catalog| self.publish(catalog));
    }

    /// Lets events and operators see a state of the catalog.
    fn publish(&self, catalog: &Catalog) {
        let chain = |versions: Vec<&Arc<Version>>| -> Arc<Chain> {
            versions.into_iter().chain([&self.built_in]).cloned().collect()
        };
        let all = chain(catalog.serving().collect());
        let named = |name: &String| catalog.serving().find(|version| is_called(&version.name, name));
        let routes = self.routes.iter().map(|names| match names {
            None => all.clone(),
            Some(names) => chain(names.iter().filter_map(named).collect()),
        });
        let routes = routes.collect();
        self.chains.store(Arc::new(Chains { routes, all }));
        catalog.clone_into(&mut self.catalog());
    }

    fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The configuration may leave out the number of a file's name.
fn is_called(plugin: &str, name: &str) -> bool {
    plugin == name || directory::short_name(plugin) == name
}

fn built_in(engine: &Engine, metrics: &Arc<Metrics>, config: &Config) -> Result<Version, LoadError> {
    let (name, bytes) = match config.plugins.built_in {
        BuiltIn::Default => ("default", DEFAULT),
        BuiltIn::Application => ("application", APPLICATION),
    };
    let mut settings = config.plugins.settings.get(name).cloned().unwrap_or_default();
    // One key says it for all: `[push] path`.
    settings.retain(|(key, _)| key != "push-path");
    settings.push(("push-path".to_owned(), config.push.path.clone()));
    load::load(
        engine,
        metrics,
        Candidate {
            name: name.into(),
            file: None,
            bytes: bytes.to_vec(),
            settings,
        },
    )
}
