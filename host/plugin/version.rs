//! One version of one plugin: checked code with its settings. It serves until the last event that began with it is done.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use wasmtime::component::InstancePre;

use super::bindings::Exports;
use super::guest::{Guest, Shared};
use super::instance::{CallError, CallResult, Instance};
use super::lane::{self, Lane};
use super::pool::Pool;
use super::probation::{Failure, Probation, Verdict};
use super::slowness::{self, Debt, Weight};
use crate::config::{OnFailure, PathPattern};
use crate::message::{Connection, Event, Outcome, Payload, excerpt};
use crate::metrics::{Metrics, PluginMetrics};

/// This many calls of a thread are added to the metrics together, or fewer when somebody looks.
const TOLD_TOGETHER: usize = 64;

/// The most calls of one plugin for one event, with the reports and answers that follow from it. A plugin that asks for another
/// call each time would never come to an end.
pub const MAX_CALLS: u32 = 100;

/// A version that was loaded, tried and found good.
pub struct Version {
    /// The file's name without its extension, or `default` for the built-in one.
    pub name: Arc<str>,
    /// Where it came from; none for the built-in one.
    pub file: Option<PathBuf>,
    /// SHA-256 of the file's content, in hex.
    pub hash: String,
    /// The version of the WIT package that it was built against.
    pub interface: String,
    /// What happens to an event when the plugin fails on it.
    pub on_failure: OnFailure,
    /// None if it serves without one.
    pub(super) probation: Option<Probation>,
    pub(super) exports: Exports,
    pub(super) interest: Interest,
    pub(super) settings: Vec<(String, String)>,
    pub(super) code: InstancePre<Guest>,
    pub(super) shared: Arc<Shared>,
    pub(super) instances: Instances,
    pub(super) counters: PluginMetrics,
    pub(super) metrics: Arc<Metrics>,
}

/// A call that was made, or that waits for its turn.
pub enum Call {
    /// Done.
    Done(CallResult),
    /// Its result comes through this channel.
    Queued(oneshot::Receiver<CallResult>),
}

/// The instances of a version, and on which threads they are called: the usual plugin on the thread that has the event, one
/// that is found to be slow on threads of its own.
pub(super) struct Instances {
    pool: Pool<ThreadState>,
    /// That of a slow version.
    debt: Debt,
    /// None if no thread could be started.
    lane: OnceLock<Option<Lane<Job>>>,
}

/// What one thread keeps for a version.
#[derive(Default)]
struct ThreadState {
    instance: Option<Instance>,
    /// The durations of calls that are not in the metrics yet. Threads share the metrics, and would wait for each other if
    /// they added each call.
    untold: Vec<Duration>,
    weight: Weight,
    /// Of the last call; nothing if it was quick.
    cpu_time: Duration,
}

struct Job {
    event: Event,
    done: oneshot::Sender<CallResult>,
}

impl Instances {
    /// Begins with the instance that was made to try the version out.
    pub(super) fn new(first: Instance) -> Self {
        Self {
            pool: Pool::new(ThreadState {
                instance: Some(first),
                ..ThreadState::default()
            }),
            debt: Debt::default(),
            lane: OnceLock::new(),
        }
    }
}

/// Which events a version wants, and what it wants to know with them.
#[derive(Debug, Default)]
pub(super) struct Interest {
    pub(super) facts: Vec<String>,
    /// Empty: all.
    pub(super) paths: Vec<PathPattern>,
    pub(super) frames: FrameKinds,
    /// None: all.
    pub(super) response_headers: Option<Vec<String>>,
}

/// Which kinds of frames a version wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum FrameKinds {
    #[default]
    All,
    Text,
    Binary,
}

impl Version {
    /// Whether its handler has to be called for an event; otherwise the event goes on to the next plugin.
    pub fn wants(&self, event: &Event) -> bool {
        match event {
            Event::Open { connection, .. } => self.wants_handshake(connection),
            Event::Frame { connection, message } => {
                self.exports.frames
                    && self.interest.wants_path(&connection.path)
                    && self.interest.wants_kind(message)
            }
            Event::Close { connection, .. } => {
                self.exports.closings && self.interest.wants_path(&connection.path)
            }
            Event::Push(request) => self.exports.pushes && self.interest.wants_path(&request.path),
            Event::Schedule(_) => self.exports.schedules,
            // These go to the plugin that caused them, whatever its interest.
            Event::Timer { .. } => self.exports.timers,
            Event::Verdict { .. } => self.exports.handshakes,
            Event::Response { .. } => self.exports.responses,
            Event::Report { .. } => self.exports.reports,
        }
    }

    /// Whether it has a say in the handshake of a connection.
    pub fn wants_handshake(&self, connection: &Connection) -> bool {
        self.exports.handshakes && self.interest.wants_path(&connection.path)
    }

    /// Removes from an upstream's answer what the plugin does not want to know.
    pub fn trim(&self, outcome: &mut Outcome) {
        if let (Some(wanted), Ok(response)) = (&self.interest.response_headers, outcome) {
            let is_wanted = |name: &String| wanted.iter().any(|wanted| wanted.eq_ignore_ascii_case(name));
            response.headers.retain(|(name, _)| is_wanted(name));
        }
    }

    /// Calls the handler of an event: here and now, or in its turn if the version is slow. `origin` is what came from outside:
    /// the event itself, or the one to which a report or an answer belongs. `nth` counts the calls for it.
    pub fn call(self: &Arc<Self>, event: &Event, origin: &Event, nth: u32) -> Call {
        if nth > MAX_CALLS {
            let result = Err(self.refuse(CallError::Calls(MAX_CALLS)));
            if let Some(probation) = &self.probation {
                probation.count(&result);
            }
            Call::Done(result)
        } else if self.is_slow() {
            self.call_on_lane(event, origin)
        } else {
            Call::Done(self.call_here(event))
        }
    }

    fn call_on_lane(self: &Arc<Self>, event: &Event, origin: &Event) -> Call {
        let lane = self.instances.lane.get_or_init(|| {
            let version = Arc::downgrade(self);
            // The caller holds the version; when it no longer does, nobody waits for the result.
            Lane::start(move |job: Job| {
                if let Some(version) = version.upgrade() {
                    let _ = job.done.send(version.call_here(&job.event));
                }
            })
        });
        let Some(lane) = lane else {
            return Call::Done(self.call_here(event));
        };
        let (done, result) = oneshot::channel();
        let job = Job {
            event: event.clone(),
            done,
        };
        // What follows from an event that was let in is not more than those events; and nobody would notice that a close
        // event was lost.
        let is_refusable = matches!(
            event,
            Event::Open { .. }
                | Event::Frame { .. }
                | Event::Timer { .. }
                | Event::Push(_)
                | Event::Schedule(_)
        );
        let refused = lane.push(origin.flow(), job, is_refusable);
        if let Some(refused) = refused {
            let _ = refused
                .done
                .send(Err(self.refuse(CallError::Overloaded(lane::LENGTH))));
        }
        Call::Queued(result)
    }

    /// Counts a call that is not made.
    fn refuse(&self, error: CallError) -> CallError {
        self.counters.failure(error.kind());
        error
    }

    /// Takes the instance of the calling thread and gives it back, which is a part of each call. Gives whether there is one.
    /// For benchmarks.
    #[doc(hidden)]
    pub fn check_out(&self) -> bool {
        self.instances.pool.slot().instance.is_some()
    }

    /// How many calls have been made.
    pub fn calls(&self) -> u64 {
        self.tell_all();
        self.counters.calls.get()
    }

    /// How many calls have failed for a cause.
    pub fn failures(&self, cause: &str) -> u64 {
        self.counters.failures(cause)
    }

    /// Instances now, and their memory together in bytes.
    pub fn usage(&self) -> (usize, usize) {
        let memory = |slot: &ThreadState| slot.instance.as_ref().map(Instance::memory);
        let memories = self.instances.pool.all().filter_map(|slot| memory(&slot));
        memories.fold((0, 0), |(n, sum), memory| (n + 1, sum + memory))
    }

    /// Whether it is called on threads of its own.
    pub fn is_slow(&self) -> bool {
        self.instances.debt.is_owed()
    }

    /// Whether it is still on trial.
    pub(super) fn is_on_probation(&self) -> bool {
        self.probation
            .as_ref()
            .is_some_and(|probation| probation.verdict().is_none())
    }

    /// How its probation ended; none while it lasts, or if there was none.
    pub(super) fn verdict(&self) -> Option<&Verdict> {
        self.probation.as_ref()?.verdict()
    }

    /// What was wrong, if it failed its probation.
    pub(super) fn failure(&self) -> Option<&Failure> {
        match self.verdict()? {
            Verdict::Failed(failure) => Some(failure),
            Verdict::Passed => None,
        }
    }

    fn call_here(&self, event: &Event) -> CallResult {
        let mut slot = self.instances.pool.slot();
        let started = Instant::now();
        let result = self.call_in(&mut slot, event);
        let took = started.elapsed();
        slot.untold.push(took);
        if slot.untold.len() >= TOLD_TOGETHER {
            self.tell(&mut slot);
        }
        if let Err(error) = &result {
            self.counters.failure(error.kind());
        }
        if let Some(probation) = &self.probation {
            probation.count(&result);
        }
        self.judge(&mut slot, took, event.size(), &result);
        result
    }

    /// Finds out whether the version is slow, or is no longer.
    fn judge(&self, slot: &mut ThreadState, took: Duration, bytes: usize, result: &CallResult) {
        let is_out_of_time = matches!(result, Err(CallError::Time(_)));
        // Most calls need no look at the CPU time.
        let is_slow =
            is_out_of_time || (slowness::is_slow(took, bytes) && slowness::is_slow(slot.cpu_time, bytes));
        let debt = &self.instances.debt;
        if debt.is_owed() {
            if debt.count(is_slow) {
                tracing::info!(
                    plugin = &*self.name,
                    "the plugin is quick again: it is called where its events are"
                );
            }
        } else if slot.weight.count(is_slow, is_out_of_time) && debt.incur() {
            tracing::warn!(plugin = &*self.name, last_call = ?took, "slow plugin: it gets threads of its own");
        }
    }

    /// Adds all calls to the metrics, except those in slots that are in use: these are added later.
    pub(super) fn tell_all(&self) {
        for mut slot in self.instances.pool.at_rest() {
            self.tell(&mut slot);
        }
    }

    fn tell(&self, slot: &mut ThreadState) {
        self.counters.calls.inc_by(slot.untold.len() as u64);
        for took in slot.untold.drain(..) {
            self.counters.duration.observe(took.as_secs_f64());
        }
    }

    fn call_in(&self, slot: &mut ThreadState, event: &Event) -> CallResult {
        slot.cpu_time = Duration::ZERO;
        let instance = match &mut slot.instance {
            Some(instance) if !instance.is_spent() && !instance.is_short_of_room(event.size()) => instance,
            kept => self.renew(kept)?,
        };
        let result = instance.handle(event, &self.interest.facts);
        slot.cpu_time = instance.cpu_time();
        if result.is_err() {
            // A trapped instance cannot be entered again.
            slot.instance = None;
        }
        result
    }

    /// Creates the new instance before it drops the old one: an old one is better than none.
    fn renew<'a>(&self, kept: &'a mut Option<Instance>) -> Result<&'a mut Instance, CallError> {
        match self.instance() {
            Ok(fresh) => Ok(kept.insert(fresh)),
            Err(error) => match kept {
                Some(old) => {
                    tracing::warn!(plugin = &*self.name, %error, "cannot be recycled; the old instance goes on");
                    Ok(old)
                }
                None => Err(error),
            },
        }
    }

    fn instance(&self) -> Result<Instance, CallError> {
        let guest = Guest::new(self.name.clone(), self.shared.clone(), &self.settings);
        let mut instance = Instance::new(&self.code, guest, &self.metrics.instances)?;
        match instance.configure(&self.settings)? {
            Ok(_) => Ok(instance),
            Err(refusal) => Err(CallError::Start(format!(
                "it refused the settings that it took before: {}",
                excerpt(&refusal)
            ))),
        }
    }
}

impl Drop for Version {
    fn drop(&mut self) {
        self.tell_all();
        self.metrics.generations.dec();
        tracing::debug!(
            plugin = &*self.name,
            hash = self.hash,
            "a version has done its last event and is gone"
        );
    }
}

impl Interest {
    fn wants_path(&self, path: &str) -> bool {
        self.paths.is_empty() || self.paths.iter().any(|pattern| pattern.matches(path))
    }

    fn wants_kind(&self, message: &Payload) -> bool {
        match self.frames {
            FrameKinds::All => true,
            FrameKinds::Text => matches!(message, Payload::Text(_)),
            FrameKinds::Binary => matches!(message, Payload::Binary(_)),
        }
    }
}
