//! The one wasmtime engine: how code is compiled, and what it is linked to.
//!
//! Calls are synchronous on the thread that has the event: no fiber, no task, no lock. So a call must end soon, which the
//! epoch ensures: `clock` advances it, and at each tick the budget of the call decides whether it may go on (see `guest`).

use std::path::Path;
use std::sync::Arc;

use rustix::process::{Resource, getrlimit};
use wasmtime::Config;
use wasmtime::component::{Component, Linker};

use super::compiled::Compiled;
use super::guest::{Guest, Shared};
use super::{background, imports, wasi};

/// Compiles and links; cheap to share.
pub(super) struct Engine {
    wasmtime: wasmtime::Engine,
    linker: Linker<Guest>,
    compiled: Compiled,
    /// What all instances of all plugins share.
    pub(super) shared: Arc<Shared>,
}

/// The engine cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// wasmtime refused.
    #[error("the WebAssembly engine cannot be set up")]
    Engine(#[from] wasmtime::Error),
    /// The thread that advances the epoch could not be started.
    #[error("the thread that times plugins cannot be started")]
    Ticker(#[source] std::io::Error),
}

impl Engine {
    pub(super) fn new(cache: Option<&Path>, shared: Arc<Shared>) -> Result<Self, EngineError> {
        warn_of_address_space();
        let mut config = Config::new();
        config.epoch_interruption(true);
        // It makes each call 3.4 times as expensive, and nothing here needs the component model's own concurrency.
        config.concurrency_support(false);
        let compiled = Compiled::open(cache);
        background::prepare_compiler();
        let wasmtime = wasmtime::Engine::new(&config)?;
        let mut linker = Linker::new(&wasmtime);
        wasi::add_to_linker(&mut linker)?;
        imports::add_to_linker(&mut linker)?;
        shared.clock.start(wasmtime.weak()).map_err(EngineError::Ticker)?;
        Ok(Self {
            wasmtime,
            linker,
            compiled,
            shared,
        })
    }

    /// Compiles a component, whose SHA-256 in hex is `hash`. Takes up to seconds on all cores, unless it was compiled before.
    pub(super) fn component(&self, hash: &str, bytes: &[u8]) -> wasmtime::Result<Component> {
        self.compiled.component(&self.wasmtime, hash, bytes)
    }

    pub(super) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.wasmtime
    }

    pub(super) fn linker(&self) -> &Linker<Guest> {
        &self.linker
    }
}

/// An instance has few pages, but reserves so many addresses that it need not check each access to its memory.
fn warn_of_address_space() {
    if let Some(limit) = getrlimit(Resource::As).current {
        tracing::warn!(
            limit,
            "the address space is limited (`ulimit -v`, LimitAS=), and each instance of a plugin reserves 4 GiB of it, of \
             which it uses little: plugins may fail with `Cannot allocate memory`; lift this limit, and limit the memory \
             that is used (MemoryMax=) instead"
        );
    }
}
