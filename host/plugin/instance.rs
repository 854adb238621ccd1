//! One instance of a plugin: its store, its handlers, and when it has to be replaced.
//!
//! An instance is kept and called again and again, because a fresh one for each call costs a hundred times as much. But
//! guests leak, so it is replaced after a number of calls, an age, or a share of its memory limit, each drawn at random
//! around a mean, so that the instances of all threads do not end together. After a trap it cannot be entered again.

use std::time::{Duration, Instant};

use prometheus_client::metrics::gauge::Gauge;
use wasmtime::component::InstancePre;
use wasmtime::{Store, Trap, WasmBacktrace};

use super::bindings::{Exports, Hooks, InterestOut};
use super::guest::{Guest, MAX_HANDLES, OutOfTime};
use crate::message::{Action, Decision, Event, excerpt};

/// Mean number of calls of an instance.
const CALLS: u64 = 1_000_000;
/// Mean age of an instance.
const AGE: Duration = Duration::from_secs(3600);
/// Share of the memory limit over which an instance is replaced, in percent.
const MEMORY_SHARE: usize = 75;

pub(super) struct Instance {
    store: Store<Guest>,
    hooks: Hooks,
    calls_left: u64,
    expires: Instant,
    /// Bytes of memory when it was new.
    initial_memory: usize,
    _counted: Counted,
}

/// A call that did not end normally. The event is dropped, and so is the instance.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The plugin failed, and how.
    #[error("it trapped: {0}")]
    Trap(String),
    /// It took too long.
    #[error("{0}")]
    Time(String),
    /// It trapped because it was refused memory.
    #[error("it asked for more than {limit} bytes of memory (memory-limit), and trapped: {trap}")]
    Memory {
        /// The bound.
        limit: usize,
        /// The trap that followed.
        trap: String,
    },
    /// It handed over too much.
    #[error("it handed over more than {0} bytes in one call, which is twice its memory-limit{1}")]
    Transfer(usize, String),
    /// No instance could be created.
    #[error("it could not be started: {0}")]
    Start(String),
    /// One event led to too many calls.
    #[error(
        "one event has led to {0} calls of it already, which is the most: its answers to `on-report` or `on-response` ask for \
         another call each time"
    )]
    Calls(u32),
    /// Too many events are waiting for a slow plugin.
    #[error("it is slow, and {0} events wait for it already")]
    Overloaded(usize),
}

/// The result of a call.
pub type CallResult = Result<Decision, CallError>;

impl CallError {
    /// Whether it was over one of its limits, so that it may do better with less.
    pub fn is_over_a_limit(&self) -> bool {
        matches!(self, Self::Time(_) | Self::Memory { .. } | Self::Transfer(..))
    }

    /// The kind, as metrics name it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Trap(_) => "trap",
            Self::Time(_) => "time",
            Self::Memory { .. } => "memory",
            Self::Transfer(..) => "transfer",
            Self::Start(_) => "start",
            Self::Calls(_) => "calls",
            Self::Overloaded(_) => "overloaded",
        }
    }
}

impl Instance {
    /// Instantiates; runs the plugin's start code within the limits of a call.
    pub(super) fn new(pre: &InstancePre<Guest>, guest: Guest, gauge: &Gauge) -> Result<Self, CallError> {
        let mut store = Store::new(pre.engine(), guest);
        store.limiter(|guest| &mut guest.memory);
        store.set_max_component_handles(MAX_HANDLES);
        store.epoch_deadline_callback(|mut store| store.data_mut().budget.tick());
        begin(&mut store, 0);
        let found = pre
            .instantiate(&mut store)
            .and_then(|instance| Hooks::find(&mut store, &instance));
        match found {
            Ok(hooks) => Ok(Self {
                initial_memory: store.data().memory.used,
                store,
                hooks,
                calls_left: around(CALLS),
                expires: Instant::now() + Duration::from_secs(around(AGE.as_secs())),
                _counted: Counted::new(gauge),
            }),
            Err(error) => Err(explain(&error, store.data())),
        }
    }

    pub(super) fn exports(&self) -> Exports {
        self.hooks.exports()
    }

    /// Hands over the settings; the inner error is the plugin's refusal.
    pub(super) fn configure(
        &mut self,
        settings: &[(String, String)],
    ) -> Result<Result<InterestOut, String>, CallError> {
        begin(&mut self.store, 0);
        self.hooks
            .configure(&mut self.store, settings)
            .map_err(|error| explain(&error, self.store.data()))
    }

    /// Calls the handler of an event. After an error the instance must not be used again.
    pub(super) fn handle(&mut self, event: &Event, facts: &[String]) -> CallResult {
        begin(&mut self.store, event.size());
        self.calls_left = self.calls_left.saturating_sub(1);
        match self.hooks.handle(&mut self.store, event, facts) {
            Ok(decision) => Ok(decision.unwrap_or_else(|| Decision::Actions(vec![Action::Next(None)]))),
            Err(error) => Err(explain(&error, self.store.data())),
        }
    }

    /// What the last call has used, if that was more than a moment.
    pub(super) fn cpu_time(&self) -> Duration {
        self.store.data().budget.used()
    }

    /// Whether it is time for a new one. The clock is read only once in a while.
    pub(super) fn is_spent(&self) -> bool {
        self.calls_left == 0
            || self.store.data().is_out_of_handles
            || self.memory() > self.store.data().memory.limit / 100 * MEMORY_SHARE
            || (self.calls_left.is_multiple_of(256) && Instant::now() >= self.expires)
    }

    /// Whether a new one would have more room for what the next call is handed, with a copy and an answer. Memory never
    /// shrinks, and what is free of it may be in pieces.
    pub(super) fn is_short_of_room(&self, bytes: usize) -> bool {
        let guest = self.store.data();
        guest.memory.used + bytes.saturating_mul(3) > guest.memory.limit
            && guest.memory.used > self.initial_memory
    }

    /// Bytes of linear memory and tables.
    pub(super) fn memory(&self) -> usize {
        self.store.data().memory.used
    }
}

/// Before each call, which is handed so many bytes.
fn begin(store: &mut Store<Guest>, bytes: usize) {
    let guest = store.data_mut();
    let limits = guest.shared.limits.now();
    let time = limits.time(bytes);
    guest.budget.renew(time);
    guest.memory.limit = limits.memory;
    guest.memory.refused = false;
    guest.shared.clock.call_begins(time);
    store.set_hostcall_fuel(limits.transfer());
    store.set_epoch_deadline(1);
}

/// Counts an instance while it lives.
struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// From three quarters to five quarters of the mean.
fn around(mean: u64) -> u64 {
    mean - mean / 4 + fastrand::u64(..=mean / 2)
}

/// What happened, in one line: the cause, and where in the plugin.
fn explain(error: &wasmtime::Error, guest: &Guest) -> CallError {
    if let Some(out_of_time) = error.downcast_ref::<OutOfTime>() {
        return CallError::Time(format!("{out_of_time}{}", place(error)));
    }
    let cause = match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    // wasmtime has no type for this one.
    if cause.ends_with("fuel allocated for hostcalls has been exhausted") {
        return CallError::Transfer(guest.shared.limits.now().transfer(), place(error));
    }
    let trap = format!("{}{}", excerpt(&cause), place(error));
    if guest.memory.refused {
        return CallError::Memory {
            limit: guest.memory.limit,
            trap,
        };
    }
    CallError::Trap(trap)
}

/// The innermost functions of the plugin that have names.
fn place(error: &wasmtime::Error) -> String {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return String::new();
    };
    let names: Vec<_> = backtrace
        .frames()
        .iter()
        .filter_map(|frame| frame.func_name())
        .take(3)
        .map(|name| format!("`{}`", excerpt(name)))
        .collect();
    if names.is_empty() {
        String::new()
    } else {
        format!(" (in {})", names.join(", called by "))
    }
}
