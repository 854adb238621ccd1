//! `wit/` in Rust: the types that cross into a plugin and back, and the conversions from and to the host's own types.
//!
//! What goes in is borrowed, so that a call copies a payload once, into the plugin's memory. `bindgen!` would make one
//! owned type of everything that goes both ways; hence these derives. Whether they agree with the WIT is checked
//! against each plugin when it is loaded.

mod input;
mod output;

use wasmtime::component::{ComponentNamedList, Func, Instance, Lift, Lower, TypedFunc};
use wasmtime::{AsContextMut, Store};

use crate::message::{Admission, Decision, Event};
use input::{
    ConnectionIn, EffectIn, FailureIn, NOBODY, PayloadIn, RequestIn, ResponseIn, outcome_in, payload,
    request_in, with_connection, with_effects,
};
pub(super) use output::InterestOut;
use output::{ActionOut, AdmissionOut, actions};

/// The package whose interfaces plugins export.
pub(super) const PACKAGE: &str = "aileron:gateway/";
/// The version of `wit/` that this host was built with. Lookups match any compatible one.
pub(super) const VERSION: &str = "0.1.1";

type Settings<'a> = (&'a [(String, String)],);
type FrameIn<'a> = (ConnectionIn<'a>, PayloadIn<'a>);
type OutcomeIn<'a> = (
    Option<ConnectionIn<'a>>,
    PayloadIn<'a>,
    Result<ResponseIn<'a>, FailureIn<'a>>,
);
type PushIn<'a> = (RequestIn<'a>,);
type OpenIn<'a> = (ConnectionIn<'a>, RequestIn<'a>);
type VerdictIn<'a> = (
    ConnectionIn<'a>,
    PayloadIn<'a>,
    Result<ResponseIn<'a>, FailureIn<'a>>,
);
type CloseIn<'a> = (ConnectionIn<'a>, u16, &'a str);
type TimerIn<'a> = (ConnectionIn<'a>, &'a str);
type ScheduleIn<'a> = (&'a str,);
type ReportIn<'a> = (Option<ConnectionIn<'a>>, PayloadIn<'a>, &'a [EffectIn<'a>]);
type ActionsOut = (Vec<ActionOut>,);
type AdmittedOut = (AdmissionOut,);

/// The handlers that an instance exports. Each is checked against its WIT type before it gets here.
pub(super) struct Hooks {
    configure: Option<Func>,
    on_open: Option<Func>,
    on_verdict: Option<Func>,
    on_frame: Option<Func>,
    on_response: Option<Func>,
    on_push: Option<Func>,
    on_close: Option<Func>,
    on_timer: Option<Func>,
    on_schedule: Option<Func>,
    on_report: Option<Func>,
}

/// Which handlers a plugin has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Exports {
    pub(super) handshakes: bool,
    pub(super) frames: bool,
    pub(super) responses: bool,
    pub(super) pushes: bool,
    pub(super) closings: bool,
    pub(super) timers: bool,
    pub(super) schedules: bool,
    pub(super) reports: bool,
}

impl Exports {
    /// Whether there is a handler at all: `lifecycle` alone handles nothing.
    pub(super) fn any(self) -> bool {
        self != Self::default()
    }
}

impl Hooks {
    /// Looks up what the instance exports and checks the types. A mismatch is an error that names the function.
    pub(super) fn find<T: 'static>(store: &mut Store<T>, instance: &Instance) -> wasmtime::Result<Self> {
        let at = &mut (store, instance);
        Ok(Self {
            configure: find::<T, Settings<'_>, (Result<InterestOut, String>,)>(at, "lifecycle", "configure")?,
            on_open: find::<T, OpenIn<'_>, AdmittedOut>(at, "handshakes", "on-open")?,
            on_verdict: find::<T, VerdictIn<'_>, AdmittedOut>(at, "handshakes", "on-verdict")?,
            on_frame: find::<T, FrameIn<'_>, ActionsOut>(at, "frames", "on-frame")?,
            on_response: find::<T, OutcomeIn<'_>, ActionsOut>(at, "responses", "on-response")?,
            on_push: find::<T, PushIn<'_>, ActionsOut>(at, "pushes", "on-push")?,
            on_close: find::<T, CloseIn<'_>, ActionsOut>(at, "closings", "on-close")?,
            on_timer: find::<T, TimerIn<'_>, ActionsOut>(at, "timers", "on-timer")?,
            on_schedule: find::<T, ScheduleIn<'_>, ActionsOut>(at, "schedules", "on-schedule")?,
            on_report: find::<T, ReportIn<'_>, ActionsOut>(at, "reports", "on-report")?,
        })
    }

    pub(super) fn exports(&self) -> Exports {
        Exports {
            handshakes: self.on_open.is_some(),
            frames: self.on_frame.is_some(),
            responses: self.on_response.is_some(),
            pushes: self.on_push.is_some(),
            closings: self.on_close.is_some(),
            timers: self.on_timer.is_some(),
            schedules: self.on_schedule.is_some(),
            reports: self.on_report.is_some(),
        }
    }

    /// Hands over the settings. Without the hook, the interest is empty.
    pub(super) fn configure(
        &self,
        store: impl AsContextMut,
        settings: &[(String, String)],
    ) -> wasmtime::Result<Result<InterestOut, String>> {
        let Some(func) = self.configure else {
            return Ok(Ok(InterestOut::default()));
        };
        call::<Settings<'_>, (Result<InterestOut, String>,)>(func, store, (settings,)).map(|(result,)| result)
    }

    /// Calls the handler of an event; gives none if the plugin has no such handler. `facts` names what the plugin wants to
    /// know.
    pub(super) fn handle(
        &self,
        store: impl AsContextMut,
        event: &Event,
        facts: &[String],
    ) -> wasmtime::Result<Option<Decision>> {
        let handler = match event {
            Event::Open { .. } => self.on_open,
            Event::Verdict { .. } => self.on_verdict,
            Event::Frame { .. } => self.on_frame,
            Event::Response { .. } => self.on_response,
            Event::Timer { .. } => self.on_timer,
            Event::Close { .. } => self.on_close,
            Event::Push(_) => self.on_push,
            Event::Schedule(_) => self.on_schedule,
            Event::Report { .. } => self.on_report,
        };
        let Some(func) = handler else { return Ok(None) };
        let Some(connection) = event.connection() else {
            return decide(func, store, event, None).map(Some);
        };
        with_connection(connection, facts, |connection| {
            decide(func, store, event, Some(connection)).map(Some)
        })
    }
}

/// Calls the handler that belongs to an event.
fn decide(
    func: Func,
    store: impl AsContextMut,
    event: &Event,
    connection: Option<ConnectionIn<'_>>,
) -> wasmtime::Result<Decision> {
    let named = connection.unwrap_or(NOBODY);
    let list = match event {
        Event::Open { request, .. } => {
            return admit::<OpenIn<'_>>(func, store, (named, request_in(request)));
        }
        Event::Verdict { context, outcome, .. } => {
            let verdict = (named, payload(context), outcome_in(outcome));
            return admit::<VerdictIn<'_>>(func, store, verdict);
        }
        Event::Frame { message, .. } => {
            call::<FrameIn<'_>, ActionsOut>(func, store, (named, payload(message)))
        }
        Event::Response { context, outcome, .. } => {
            let response = (connection, payload(context), outcome_in(outcome));
            call::<OutcomeIn<'_>, ActionsOut>(func, store, response)
        }
        Event::Timer { name, .. } => call::<TimerIn<'_>, ActionsOut>(func, store, (named, name)),
        Event::Close { code, reason, .. } => {
            call::<CloseIn<'_>, ActionsOut>(func, store, (named, *code, reason))
        }
        Event::Push(request) => call::<PushIn<'_>, ActionsOut>(func, store, (request_in(request),)),
        Event::Schedule(name) => call::<ScheduleIn<'_>, ActionsOut>(func, store, (name,)),
        Event::Report { context, effects, .. } => with_effects(effects, |effects| {
            call::<ReportIn<'_>, ActionsOut>(func, store, (connection, payload(context), effects))
        }),
    };
    list.map(|(list,)| Decision::Actions(actions(list)))
}

/// Calls a handler of handshakes.
fn admit<P>(func: Func, store: impl AsContextMut, params: P) -> wasmtime::Result<Decision>
where
    P: ComponentNamedList + Lower,
{
    let (admission,) = call::<P, AdmittedOut>(func, store, params)?;
    Ok(Decision::Admission(Box::new(Admission::from(admission))))
}

fn find<T: 'static, P, R>(
    (store, instance): &mut (&mut Store<T>, &Instance),
    interface: &str,
    function: &str,
) -> wasmtime::Result<Option<Func>>
where
    P: ComponentNamedList + Lower,
    R: ComponentNamedList + Lift,
{
    let interface = format!("{PACKAGE}{interface}@{VERSION}");
    let Some(index) = instance.get_export_index(&mut **store, None, &interface) else {
        return Ok(None);
    };
    let func = instance
        .get_export_index(&mut **store, Some(&index), function)
        .and_then(|index| instance.get_func(&mut **store, index))
        .ok_or_else(|| wasmtime::Error::msg(format!("`{interface}` lacks the function `{function}`")))?;
    func.typed::<P, R>(&**store).map_err(|cause| {
        cause.context(format!(
            "`{function}` of `{interface}` has another type than this host's version of it"
        ))
    })?;
    Ok(Some(func))
}

/// Calls a function whose type `find` has checked. The parameters' lifetime differs with each call, so the checked
/// `TypedFunc` itself cannot be kept; checking again would cost more than many handlers do.
fn call<P, R>(func: Func, mut store: impl AsContextMut, params: P) -> wasmtime::Result<R>
where
    P: ComponentNamedList + Lower,
    R: ComponentNamedList + Lift,
{
    #[expect(
        unsafe_code,
        reason = "the type was checked by `find`; lifetimes are not part of a component's types"
    )]
    // SAFETY: each `Func` in `Hooks` got there through `find` with the very types that `Hooks` calls it with.
    let func = unsafe { TypedFunc::<P, R>::new_unchecked(func) };
    func.call(store.as_context_mut(), params)
}
