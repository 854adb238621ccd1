//! What the host keeps for one instance: its view of WASI, its limits, and the budget of the current call.
//!
//! The time limit counts CPU time of the thread, not the clock. On a busy machine a thread may be off its processor for
//! many milliseconds in the middle of a call of a microsecond; by the clock, innocent calls would be killed. The thread's
//! CPU time is read at the first tick of a call and at each later one, so that the usual call, which no tick meets,
//! reads no clock at all. A far longer limit by the clock stops a call that burns no CPU either.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::thread::ClockId;
use wasmtime::component::ResourceTable;
use wasmtime::{ResourceLimiter, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_config::WasiConfigVariables;

use super::clock::Clock;
use super::keyvalue::KeyValue;
use super::limits::{Limits, by_the_clock};
use super::lines::Lines;
use super::stdio::LogStream;
use crate::message::Connection;

/// What plugins may look up. Implemented by the registry; a plugin waits for each call, so they must be quick.
pub trait Connections: Send + Sync {
    /// The connection with this id, and whether its queue is full.
    fn find(&self, id: &str) -> Option<(Arc<Connection>, bool)>;
    /// How many are open.
    fn count(&self) -> usize;
    /// The topics of a connection, sorted.
    fn topics_of(&self, id: &str) -> Vec<String>;
    /// The number of subscribers of a topic.
    fn subscriber_count(&self, topic: &str) -> usize;
    /// The subscribers of a topic, up to a limit.
    fn subscribers(&self, topic: &str, limit: usize) -> Vec<Arc<Connection>>;
    /// The members of a topic with the number of their connections, up to a limit.
    fn members(&self, topic: &str, limit: usize) -> Vec<(Arc<str>, usize)>;
}

/// What all instances of all plugins share.
pub(super) struct Shared {
    pub(super) connections: Arc<dyn Connections>,
    pub(super) keyvalue: KeyValue,
    pub(super) limits: Limits,
    pub(super) clock: Arc<Clock>,
}

/// Bytes of an element of a table, at most: wasmtime keeps a pointer for a function and less for a reference.
const TABLE_ELEMENT: usize = size_of::<usize>();

/// Handles on resources of the host that one instance may have: buckets, streams, timers. Plugins have a few.
pub(super) const MAX_HANDLES: usize = 1000;

/// The data of a store.
pub(super) struct Guest {
    pub(super) plugin: Arc<str>,
    pub(super) shared: Arc<Shared>,
    pub(super) settings: WasiConfigVariables,
    pub(super) table: ResourceTable,
    /// It asked for another handle when it had `MAX_HANDLES`, some of which it has perhaps forgotten.
    pub(super) is_out_of_handles: bool,
    pub(super) memory: MemoryLimiter,
    pub(super) budget: Budget,
    pub(super) lines: Lines,
    wasi: WasiCtx,
}

impl Guest {
    pub(super) fn new(plugin: Arc<str>, shared: Arc<Shared>, settings: &[(String, String)]) -> Self {
        let lines = Lines::new();
        let wasi = WasiCtx::builder()
            .stdout(LogStream::out(plugin.clone(), lines.clone()))
            .stderr(LogStream::err(plugin.clone(), lines.clone()))
            .allow_blocking_current_thread(true)
            .build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_HANDLES);
        Self {
            plugin,
            settings: settings.iter().cloned().collect(),
            table,
            is_out_of_handles: false,
            memory: MemoryLimiter {
                used: 0,
                limit: shared.limits.now().memory,
                refused: false,
            },
            budget: Budget::default(),
            lines,
            wasi,
            shared,
        }
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

/// Limits the memory of an instance.
pub(super) struct MemoryLimiter {
    /// Bytes of linear memory and tables now.
    pub(super) used: usize,
    pub(super) limit: usize,
    /// Whether the current call was refused memory: a trap after that is its consequence.
    pub(super) refused: bool,
}

impl MemoryLimiter {
    fn grow(&mut self, current: usize, desired: usize) -> bool {
        let used = self.used.saturating_sub(current).saturating_add(desired);
        let fits = used <= self.limit;
        if fits {
            self.used = used;
        }
        self.refused |= !fits;
        fits
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _max: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(current, desired))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _max: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(
            current.saturating_mul(TABLE_ELEMENT),
            desired.saturating_mul(TABLE_ELEMENT),
        ))
    }
}

/// The time that the current call may take.
#[derive(Default)]
pub(super) struct Budget {
    /// CPU time in nanoseconds.
    limit: u64,
    first_tick: Option<(Duration, Instant)>,
}

/// Why a call was stopped; the source of the trap that ends it.
#[derive(Debug, thiserror::Error)]
#[error("it took more than {0:?} of CPU time (time-limit)")]
pub(super) struct OutOfTime(Duration);

impl Budget {
    /// Before each call.
    pub(super) fn renew(&mut self, limit: u64) {
        self.limit = limit;
        self.first_tick = None;
    }

    /// What the call has used since the first tick; nothing if there was none.
    pub(super) fn used(&self) -> Duration {
        self.first_tick
            .map_or(Duration::ZERO, |(cpu, _)| thread_cpu_time().saturating_sub(cpu))
    }

    /// At each tick during a call.
    pub(super) fn tick(&mut self) -> wasmtime::Result<UpdateDeadline> {
        let now = (thread_cpu_time(), Instant::now());
        let (cpu, clock) = *self.first_tick.get_or_insert(now);
        let limit = Duration::from_nanos(self.limit);
        let over =
            now.0.saturating_sub(cpu) >= limit || now.1.duration_since(clock) >= by_the_clock(self.limit);
        if over {
            Err(OutOfTime(limit).into())
        } else {
            Ok(UpdateDeadline::Continue(1))
        }
    }
}

fn thread_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_goes_on_while_it_burns_no_cpu_and_ends_when_it_has_burned_its_share() {
        let mut budget = Budget {
            limit: 20_000_000,
            first_tick: None,
        };
        assert!(budget.tick().is_ok());
        std::thread::sleep(Duration::from_millis(40));
        assert!(budget.tick().is_ok(), "off the processor is not on it");
        let start = thread_cpu_time();
        while thread_cpu_time() - start < Duration::from_millis(25) {
            std::hint::spin_loop();
        }
        assert!(budget.tick().is_err());
        budget.renew(20_000_000);
        assert!(budget.tick().is_ok(), "each call has its own");
    }

    #[test]
    fn memory_is_counted_over_all_memories_and_tables_of_an_instance() {
        let mut memory = MemoryLimiter {
            used: 0,
            limit: 100,
            refused: false,
        };
        assert!(memory.memory_growing(0, 60, None).unwrap());
        assert!(!memory.memory_growing(0, 60, None).unwrap());
        assert!(memory.refused);
        assert!(memory.table_growing(0, 5, None).unwrap(), "40 bytes");
        assert!(!memory.table_growing(5, 6, None).unwrap());
        assert!(!memory.memory_growing(60, 61, None).unwrap());
        assert_eq!(memory.used, 100);
    }
}
