//! Plugins: which ones there are, in which order they are asked, and how they are replaced while connections stay open.
//!
//! The rest of the gateway sees chains of versions and calls them; everything about WebAssembly is in the modules below. A
//! chain is read for each event and replaced as a whole: an event goes through the chain that was there when it began.

mod background;
mod bindings;
mod catalog;
mod changelog;
mod clock;
mod compiled;
mod directory;
mod engine;
mod guest;
mod imports;
mod instance;
mod keyvalue;
mod lane;
mod limits;
mod lines;
mod load;
mod loader;
mod pool;
mod probation;
mod reload;
mod report;
mod settling;
mod slowness;
mod sockets;
mod stdio;
mod version;
mod wasi;
mod watch;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::config::{self, BuiltIn, Config};
use crate::metrics::Metrics;
use catalog::{Catalog, Refusal};
use directory::{Directory, Stamps};
use engine::Engine;
use guest::Shared;
use keyvalue::KeyValue;
use limits::Limits;
use loader::{Loader, Trial};
use reload::Step;
use settling::Settled;
use watch::Watch;

pub use engine::EngineError;
pub use guest::Connections;
pub use instance::{CallError, CallResult};
pub use load::LoadError;
pub use report::{Report, State};
pub use version::{Call, MAX_CALLS, Version};

/// The built-in plugins, compiled by `plugins/build --embed` so that building the gateway needs no WebAssembly toolchain.
const DEFAULT: &[u8] = include_bytes!("../plugins/default/default.wasm");
const APPLICATION: &[u8] = include_bytes!("../plugins/application/application.wasm");

/// The versions that an event goes through, in order. The built-in one is last.
pub type Chain = [Arc<Version>];

/// All plugins and their chains.
pub struct Plugins {
    loader: Loader,
    dir: Option<PathBuf>,
    built_in: ArcSwap<Version>,
    /// The names of the plugins of each route in the configuration; none for all.
    routes: ArcSwap<Vec<Option<Vec<String>>>>,
    chains: ArcSwap<Chains>,
    /// The files that `new` has seen.
    seen: Mutex<Stamps>,
    /// Held while plugins are brought in line with the directory or the configuration.
    updating: Mutex<()>,
    /// The newest configuration, until it is applied.
    wanted: Mutex<Option<Config>>,
    /// Changed only by `change`. Never locked while a plugin is compiled or called.
    catalog: Mutex<Catalog>,
}

struct Chains {
    routes: Vec<Arc<Chain>>,
    all: Arc<Chain>,
}

/// Plugins cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum PluginsError {
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The built-in plugin. Only its settings in `[plugins.config]` or its `sha256` in `[plugins.policy]` can be wrong.
    #[error("the built-in plugin cannot be used")]
    BuiltIn(#[source] LoadError),
    /// The configured directory.
    #[error("the plugin directory {dir} cannot be read (create it, or set another one by [plugins] dir)")]
    Directory {
        /// Which.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Plugins {
    /// Sets up the engine and loads all plugins in the directory. A file that is refused does not keep the gateway from
    /// starting: it is logged and listed, and the others serve.
    pub fn new(
        config: &Config,
        connections: Arc<dyn Connections>,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, PluginsError> {
        let own = &config.plugins;
        let shared = Arc::new(Shared {
            connections,
            keyvalue: KeyValue::new(own.keyvalue_limit),
            limits: Limits::new(own),
            clock: Arc::default(),
        });
        let engine = Engine::new(own.cache.as_deref(), shared)?;
        let loader = Loader::new(engine, metrics.clone(), config);
        let (name, bytes) = match own.built_in {
            BuiltIn::Default => ("default", DEFAULT),
            BuiltIn::Application => ("application", APPLICATION),
        };
        let built_in = loader.load_built_in(name, bytes).map_err(PluginsError::BuiltIn)?;
        let plugins = Self {
            chains: ArcSwap::from_pointee(Chains {
                routes: Vec::new(),
                all: Arc::new([]),
            }),
            loader,
            dir: own.dir.clone(),
            built_in: ArcSwap::from_pointee(built_in),
            routes: ArcSwap::from_pointee(routes(config)),
            seen: Mutex::default(),
            updating: Mutex::default(),
            wanted: Mutex::default(),
            catalog: Mutex::new(Catalog::new(metrics)),
        };
        plugins.change(|_| ());
        if let Some(dir) = &plugins.dir {
            let failed = |source| PluginsError::Directory {
                dir: dir.clone(),
                source,
            };
            let dir = Directory::open(dir).map_err(failed)?;
            let seen = dir.stamps().map_err(failed)?;
            let files = seen.keys().map(|file| (file.clone(), true)).collect();
            plugins.update(&dir, &files, Trial::Waived);
            *plugins.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        }
        plugins.warn_of_policies();
        Ok(Arc::new(plugins))
    }

    /// Applies other limits. They count for calls that begin from then on.
    pub fn limit(&self, config: &config::Plugins) {
        self.loader.limit(config);
    }

    /// The configuration that the next `reconfigure` applies.
    pub fn want(&self, config: Config) {
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = Some(config);
    }

    /// Applies the configuration that was wanted last, if that has not been done: routes, and the settings and policies of
    /// plugins. A plugin that refuses its new settings keeps the old ones. Blocks for as long as plugins take to load.
    pub fn reconfigure(&self) {
        let _updating = self.updating.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(config) = self.wanted.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        self.loader.change(&config);
        self.routes.store(Arc::new(routes(&config)));
        let built_in = self.built_in.load_full();
        if self.loader.is_outdated(&built_in) {
            let bytes = match config.plugins.built_in {
                BuiltIn::Default => DEFAULT,
                BuiltIn::Application => APPLICATION,
            };
            match self.loader.load_built_in(&built_in.name, bytes) {
                Ok(version) => self.built_in.store(Arc::new(version)),
                Err(error) => tracing::error!(
                    plugin = &*built_in.name,
                    cause = %error,
                    "the built-in plugin cannot be changed; it goes on as it was before"
                ),
            }
        }
        self.change(|_| ());
        if let Some(dir) = &self.dir
            && let Ok(dir) = Directory::open(dir)
            && let Ok(stamps) = dir.stamps()
        {
            for file in stamps.into_keys() {
                let Ok(hash) = dir.hash(&file) else { continue };
                let serving = self.catalog().serving_from(&file);
                // Perhaps only its settings or a pin kept it from serving.
                let was_refused = self.catalog().is_refused(&file, &hash);
                let (is_due, trial) = match serving {
                    None => (true, Trial::Waived),
                    Some(version) if version.hash == hash => {
                        (was_refused || self.loader.is_outdated(&version), Trial::Waived)
                    }
                    Some(_) => (was_refused, Trial::Probation),
                };
                if is_due {
                    self.load(&dir, &file, trial);
                }
            }
        }
        self.warn_of_policies();
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

    /// Picks up changes of the directory and the ends of probations, forever.
    pub async fn watch(self: Arc<Self>, poll: Duration, settle: Duration) {
        let Some(dir) = self.dir.clone() else { return };
        tokio::join!(self.follow(dir, poll, settle), self.supervise());
    }

    async fn follow(self: &Arc<Self>, dir: PathBuf, poll: Duration, settle: Duration) {
        let seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        let mut watch = Watch::new(&dir, poll, settle, seen);
        loop {
            let (dir, files) = watch.changed().await;
            let plugins = self.clone();
            // A panic of the compiler must not end the watch.
            let updated = background::run("plugins", move || {
                plugins.update(&dir, &files, Trial::Probation);
            })
            .await;
            if let Err(error) = updated {
                tracing::error!(%error, "the change of the plugin directory was not picked up");
            }
        }
    }

    /// Replaces a version that fails by the previous one at once, even while the compiler is at work.
    async fn supervise(&self) {
        loop {
            self.loader.concluded.notified().await;
            self.change(Catalog::conclude);
        }
    }

    /// Brings the metrics of calls up to date. Must be called before they are shown.
    pub fn tell_metrics(&self) {
        for version in self.catalog().serving() {
            version.tell_all();
        }
        self.built_in.load().tell_all();
    }

    /// What `/plugins` shows, in the order of the chain.
    pub fn report(&self) -> Vec<Report> {
        // On a copy, since looking at the memory of an instance means waiting until its call is done.
        let catalog = self.catalog().clone();
        let mut reports = catalog.report(self.dir.as_deref());
        reports.push(Report::built_in(&self.built_in.load()));
        reports
    }

    /// The names in routes for which there is no plugin file now.
    pub fn unknown_names(&self) -> Vec<String> {
        let catalog = self.catalog();
        let is_known = |name: &str| catalog.names().any(|known| is_called(known, name));
        self.routes
            .load()
            .iter()
            .flatten()
            .flatten()
            .filter(|name| !is_known(name))
            .cloned()
            .collect()
    }

    /// A policy for a misspelt name would have no effect.
    fn warn_of_policies(&self) {
        let (catalog, built_in) = (self.catalog(), self.built_in.load());
        let is_known = |name: &str| {
            let mut names = catalog.names().chain([&*built_in.name]);
            names.any(|known| is_called(known, name))
        };
        for plugin in self.loader.names_of_policies() {
            if is_known(&plugin) {
                continue;
            }
            tracing::warn!(
                plugin,
                "there is no plugin for [plugins.policy.{plugin}]; the policy waits for one of that name"
            );
        }
    }

    /// Brings the chains in line with these files of the directory.
    fn update(&self, dir: &Directory, files: &Settled, trial: Trial) {
        let _updating = self.updating.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = self.catalog().known();
        known.retain(|file, _| files.contains_key(file));
        let mut found = BTreeMap::new();
        for file in files
            .iter()
            .filter_map(|(file, is_there)| is_there.then_some(file))
        {
            match dir.hash(file) {
                // It was removed just now. That must settle, too.
                Err(error) if is_missing(&error) && !dir.has(file) => drop(known.remove(file)),
                hash => {
                    // A file that cannot be read is still there: the version that serves goes on.
                    if let Err(error) = &hash {
                        self.change(|catalog| catalog.refuse(file, Refusal::unreadable(error)));
                    }
                    found.insert(file.clone(), hash.unwrap_or_default());
                }
            }
        }
        let mut loads = Vec::new();
        for step in reload::plan(&known, &found) {
            match step {
                // What cannot be read is refused already.
                Step::Load(file) if found.get(&file).is_some_and(String::is_empty) => {}
                Step::Load(file) => loads.push(file),
                Step::Forgive(file) => self.change(|catalog| catalog.forgive(&file)),
                Step::Refuse(file) => self.change(|catalog| catalog.refuse_again(&file)),
                Step::Remove(file) => self.change(|catalog| catalog.remove(&file)),
            }
        }
        background::each(loads, |file| self.load(dir, &file, trial));
    }

    /// Each plugin serves as soon as it is ready: the next one may compile for seconds.
    fn load(&self, dir: &Directory, file: &str, trial: Trial) {
        let started = Instant::now();
        let content = match dir.read(file) {
            Ok(content) => content,
            Err(error) if is_missing(&error) && !dir.has(file) => return,
            Err(error) => return self.change(|catalog| catalog.refuse(file, Refusal::unreadable(&error))),
        };
        let name = directory::plugin_name(file);
        let loaded = self.loader.load(dir.path().join(file), name, &content, trial);
        self.change(|catalog| match loaded {
            Ok(version) => catalog.take_over(file, version, started.elapsed()),
            Err(error) => catalog.refuse(file, Refusal::new(content.hash, &error.to_string())),
        });
    }

    /// Changes the catalog, and the chains together with it.
    fn change(&self, change: impl FnOnce(&mut Catalog)) {
        let mut catalog = self.catalog();
        change(&mut catalog);
        let built_in = self.built_in.load_full();
        let chain = |versions: Vec<&Arc<Version>>| -> Arc<Chain> {
            versions.into_iter().chain([&built_in]).cloned().collect()
        };
        let all = chain(catalog.serving().collect());
        let named = |name: &String| catalog.serving().find(|version| is_called(&version.name, name));
        let named_routes = self.routes.load();
        let routes = named_routes.iter().map(|names| match names {
            None => all.clone(),
            Some(names) => chain(names.iter().filter_map(named).collect()),
        });
        let routes = routes.collect();
        self.chains.store(Arc::new(Chains { routes, all }));
    }

    fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn routes(config: &Config) -> Vec<Option<Vec<String>>> {
    config.routes.iter().map(|route| route.plugins.clone()).collect()
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// The configuration may leave out the number of a file's name.
fn is_called(plugin: &str, name: &str) -> bool {
    plugin == name || directory::short_name(plugin) == name
}
