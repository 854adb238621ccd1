//! The one wasmtime engine: how code is compiled, and what it is linked to.
//!
//! Calls are synchronous on the thread that has the event: no fiber, no task, no lock. So a call must end soon, which the
//! epoch sees to: `clock` advances it, and each call's budget decides at each tick whether it may go on (see `guest`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use wasmtime::component::{Component, Linker};
use wasmtime::{Cache, CacheConfig, Config};

use super::guest::{Guest, Shared};
use super::{background, imports, wasi};

/// Compiles and links; cheap to share.
pub(super) struct Engine {
    wasmtime: wasmtime::Engine,
    linker: Linker<Guest>,
    /// What all instances of all plugins share.
    pub(super) shared: Arc<Shared>,
}

/// The engine cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The directory for compiled code cannot be used.
    #[error("the directory for compiled plugins {dir} cannot be used ([plugins] cache sets another one)")]
    Cache {
        /// Which.
        dir: PathBuf,
        /// Why.
        source: wasmtime::Error,
    },
    /// wasmtime refused.
    #[error("the WebAssembly engine cannot be set up")]
    Engine(#[from] wasmtime::Error),
    /// No thread for the epoch.
    #[error("the thread that times plugins cannot be started")]
    Ticker(#[source] std::io::Error),
}

impl Engine {
    pub(super) fn new(cache: Option<&Path>, shared: Arc<Shared>) -> Result<Self, EngineError> {
        let mut config = Config::new();
        config.epoch_interruption(true);
        // Costs 3.4 times as much for each call, and nothing here needs the component model's own concurrency.
        config.concurrency_support(false);
        config.cache(Some(open_cache(cache)?));
        background::prepare_compiler();
        let wasmtime = wasmtime::Engine::new(&config)?;
        let mut linker = Linker::new(&wasmtime);
        wasi::add_to_linker(&mut linker)?;
        imports::add_to_linker(&mut linker)?;
        let longest = shared.limits.longest_call();
        shared
            .clock
            .start(wasmtime.weak(), longest)
            .map_err(EngineError::Ticker)?;
        Ok(Self {
            wasmtime,
            linker,
            shared,
        })
    }

    /// Compiles a component, or takes it from the cache. Takes from milliseconds to seconds on all cores.
    pub(super) fn compile(&self, bytes: &[u8]) -> wasmtime::Result<Component> {
        Component::new(&self.wasmtime, bytes)
    }

    pub(super) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.wasmtime
    }

    pub(super) fn linker(&self) -> &Linker<Guest> {
        &self.linker
    }
}

/// Opens the cache of compiled code. wasmtime's own, whose key holds content, exact version and settings. It maps these
/// files into memory, so the directory is closed to other users.
fn open_cache(dir: Option<&Path>) -> Result<Cache, EngineError> {
    let dir = dir.map_or_else(default_cache_dir, Path::to_owned);
    let failed = |source| EngineError::Cache {
        dir: dir.clone(),
        source,
    };
    private_dir(&dir).map_err(|e| failed(e.into()))?;
    // wasmtime wants a path without links and dots.
    let real = dir.canonicalize().map_err(|e| failed(e.into()))?;
    let mut config = CacheConfig::new();
    config.with_directory(real);
    Cache::new(config).map_err(failed)
}

/// `$XDG_CACHE_HOME/aileron`, `~/.cache/aileron`, or a directory of the user's own among the temporary ones.
fn default_cache_dir() -> PathBuf {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    match base {
        Some(base) if std::fs::create_dir_all(&base).is_ok() => base.join("aileron"),
        _ => std::env::temp_dir().join(format!("aileron-{}", rustix::process::geteuid().as_raw())),
    }
}

fn private_dir(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)?;
    let found = std::fs::metadata(dir)?;
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(std::io::Error::other(
            "it belongs to another user, who could put code there",
        ));
    }
    if found.permissions().mode() & 0o077 != 0 {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}
