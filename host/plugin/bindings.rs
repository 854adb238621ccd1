//! `wit/` in Rust: the types that cross into a plugin and back, and the conversions from and to the host's vocabulary.
//!
//! What goes in is borrowed, so that a call copies a payload once, into the plugin's memory. `bindgen!` would make one
//! owned type of everything that goes both ways; hence these derives. That they agree with the WIT is checked against
//! each plugin when it is loaded.

use std::time::Duration;

use wasmtime::component::{ComponentNamedList, ComponentType, Func, Instance, Lift, Lower, TypedFunc};
use wasmtime::{AsContextMut, Store};

use crate::message::{Action, Effect, Event, Exchange, Failure, Outcome, Payload, Peer, Request, Response};

/// The package whose interfaces plugins export.
pub(super) const PACKAGE: &str = "aileron:gateway/";
/// The version of `wit/` that this host was built with. Lookups match any compatible one.
pub(super) const VERSION: &str = "0.1.1";

#[derive(ComponentType, Lower, Clone, Copy)]
#[component(variant)]
enum PayloadIn<'a> {
    #[component(name = "text")]
    Text(&'a str),
    #[component(name = "binary")]
    Binary(&'a [u8]),
}

#[derive(ComponentType, Lower, Clone, Copy)]
#[component(record)]
struct ConnectionIn<'a> {
    id: &'a str,
    facts: &'a [(&'a str, &'a str)],
}

#[derive(ComponentType, Lower, Clone, Copy)]
#[component(record)]
struct RequestIn<'a> {
    method: &'a str,
    path: &'a str,
    query: &'a str,
    headers: &'a [(String, String)],
    body: PayloadIn<'a>,
}

#[derive(ComponentType, Lower, Clone, Copy)]
#[component(record)]
struct ResponseIn<'a> {
    status: u16,
    headers: &'a [(String, String)],
    body: PayloadIn<'a>,
}

#[derive(ComponentType, Lower, Clone, Copy)]
#[component(variant)]
enum FailureIn<'a> {
    #[component(name = "timeout")]
    Timeout(&'a str),
    #[component(name = "unreachable")]
    Unreachable(&'a str),
    #[component(name = "overloaded")]
    Overloaded(&'a str),
    #[component(name = "too-large")]
    TooLarge(&'a str),
    #[component(name = "other")]
    Other((&'a str, &'a str)),
}

#[derive(ComponentType, Lower, Clone, Copy)]
#[component(record)]
struct EffectIn<'a> {
    outcome: &'a str,
    facts: &'a [(&'a str, &'a str)],
}

#[derive(ComponentType, Lift)]
#[component(variant)]
enum PayloadOut {
    #[component(name = "text")]
    Text(String),
    #[component(name = "binary")]
    Binary(Vec<u8>),
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct RequestOut {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: PayloadOut,
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct ResponseOut {
    status: u16,
    headers: Vec<(String, String)>,
    body: PayloadOut,
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct ExchangeOut {
    upstream: Option<String>,
    request: RequestOut,
    context: PayloadOut,
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct DeliveryOut {
    connection: String,
    message: PayloadOut,
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct PublicationOut {
    topic: String,
    message: PayloadOut,
    except: Vec<String>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct MembershipOut {
    connection: String,
    topic: String,
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct AttributeOut {
    connection: String,
    name: String,
    value: Option<String>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct TimerOut {
    connection: String,
    name: String,
    #[component(name = "delay-ms")]
    delay_ms: u32,
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct TimerNameOut {
    connection: String,
    name: String,
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct ClosingOut {
    connection: String,
    code: u16,
    reason: String,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
enum ActionOut {
    #[component(name = "next")]
    Next(Option<PayloadOut>),
    #[component(name = "reply")]
    Reply(PayloadOut),
    #[component(name = "respond")]
    Respond(ResponseOut),
    #[component(name = "forward")]
    Forward(ExchangeOut),
    #[component(name = "send")]
    Send(DeliveryOut),
    #[component(name = "publish")]
    Publish(PublicationOut),
    #[component(name = "subscribe")]
    Subscribe(MembershipOut),
    #[component(name = "unsubscribe")]
    Unsubscribe(MembershipOut),
    #[component(name = "set-attribute")]
    SetAttribute(AttributeOut),
    #[component(name = "set-timer")]
    SetTimer(TimerOut),
    #[component(name = "cancel-timer")]
    CancelTimer(TimerNameOut),
    #[component(name = "close")]
    Close(ClosingOut),
    #[component(name = "other")]
    Other((String, PayloadOut)),
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct AcceptanceOut {
    subprotocol: Option<String>,
    headers: Vec<(String, String)>,
    actions: Vec<ActionOut>,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
enum AdmissionOut {
    #[component(name = "next")]
    Next(Vec<ActionOut>),
    #[component(name = "accept")]
    Accept(AcceptanceOut),
    #[component(name = "reject")]
    Reject(ResponseOut),
    #[component(name = "ask")]
    Ask(ExchangeOut),
    #[component(name = "other")]
    Other((String, PayloadOut)),
}

/// What a plugin's `configure` asks for.
#[derive(ComponentType, Lift, Debug, Default)]
#[component(record)]
pub(super) struct InterestOut {
    pub(super) facts: Vec<String>,
    pub(super) paths: Vec<String>,
    pub(super) others: Vec<(String, String)>,
}

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
type Actions = (Vec<ActionOut>,);
type Admission = (AdmissionOut,);

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
            on_open: find::<T, OpenIn<'_>, Admission>(at, "handshakes", "on-open")?,
            on_verdict: find::<T, VerdictIn<'_>, Admission>(at, "handshakes", "on-verdict")?,
            on_frame: find::<T, FrameIn<'_>, Actions>(at, "frames", "on-frame")?,
            on_response: find::<T, OutcomeIn<'_>, Actions>(at, "responses", "on-response")?,
            on_push: find::<T, PushIn<'_>, Actions>(at, "pushes", "on-push")?,
            on_close: find::<T, CloseIn<'_>, Actions>(at, "closings", "on-close")?,
            on_timer: find::<T, TimerIn<'_>, Actions>(at, "timers", "on-timer")?,
            on_schedule: find::<T, ScheduleIn<'_>, Actions>(at, "schedules", "on-schedule")?,
            on_report: find::<T, ReportIn<'_>, Actions>(at, "reports", "on-report")?,
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

    /// Hands over the settings. Without the hook the interest is empty.
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

    /// Calls the handler of an event; none if the plugin has none. `facts` names what the plugin wants to know.
    pub(super) fn handle(
        &self,
        store: impl AsContextMut,
        event: &Event,
        facts: &[String],
    ) -> wasmtime::Result<Option<Vec<Action>>> {
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
        let Some(peer) = event.peer() else {
            return decide(func, store, event, None).map(Some);
        };
        with_connection(peer, facts, |connection| {
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
) -> wasmtime::Result<Vec<Action>> {
    let named = connection.unwrap_or(NOBODY);
    let actions = match event {
        Event::Open { request, .. } => {
            return admit::<OpenIn<'_>>(func, store, (named, request_in(request)));
        }
        Event::Verdict { context, outcome, .. } => {
            let verdict = (named, payload(context), outcome_in(outcome));
            return admit::<VerdictIn<'_>>(func, store, verdict);
        }
        Event::Frame { message, .. } => call::<FrameIn<'_>, Actions>(func, store, (named, payload(message))),
        Event::Response { context, outcome, .. } => {
            let response = (connection, payload(context), outcome_in(outcome));
            call::<OutcomeIn<'_>, Actions>(func, store, response)
        }
        Event::Timer { name, .. } => call::<TimerIn<'_>, Actions>(func, store, (named, name)),
        Event::Close { code, reason, .. } => {
            call::<CloseIn<'_>, Actions>(func, store, (named, *code, reason))
        }
        Event::Push(request) => call::<PushIn<'_>, Actions>(func, store, (request_in(request),)),
        Event::Schedule(name) => call::<ScheduleIn<'_>, Actions>(func, store, (name,)),
        Event::Report { context, effects, .. } => with_effects(effects, |effects| {
            call::<ReportIn<'_>, Actions>(func, store, (connection, payload(context), effects))
        }),
    };
    actions.map(|(actions,)| actions.into_iter().map(Action::from).collect())
}

/// Stands where an event without a connection has none; no handler of such an event is given it.
const NOBODY: ConnectionIn<'static> = ConnectionIn { id: "", facts: &[] };

/// Calls a handler of handshakes. What it says becomes actions, so that everything behind here knows one thing only.
fn admit<P>(func: Func, store: impl AsContextMut, params: P) -> wasmtime::Result<Vec<Action>>
where
    P: ComponentNamedList + Lower,
{
    let (admission,) = call::<P, Admission>(func, store, params)?;
    Ok(match admission {
        AdmissionOut::Next(actions) => actions
            .into_iter()
            .map(Action::from)
            .chain([Action::Next(None)])
            .collect(),
        AdmissionOut::Accept(AcceptanceOut {
            subprotocol,
            headers,
            actions,
        }) => std::iter::once(Action::Accept { subprotocol, headers })
            .chain(actions.into_iter().map(Action::from))
            .collect(),
        AdmissionOut::Reject(response) => vec![Action::Reject(response.into())],
        AdmissionOut::Ask(exchange) => vec![Action::Forward(exchange.into())],
        AdmissionOut::Other((name, _)) => vec![Action::Unsupported(name), Action::Next(None)],
    })
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
/// `TypedFunc` itself cannot be kept; checking again would cost more than many a handler.
fn call<P, R>(func: Func, mut store: impl AsContextMut, params: P) -> wasmtime::Result<R>
where
    P: ComponentNamedList + Lower,
    R: ComponentNamedList + Lift,
{
    #[expect(
        unsafe_code,
        reason = "the type was checked by `find`; lifetimes are no part of a component's types"
    )]
    // SAFETY: each `Func` in `Hooks` got there through `find` with the very types that `Hooks` calls it with.
    let func = unsafe { TypedFunc::<P, R>::new_unchecked(func) };
    func.call(store.as_context_mut(), params)
}

/// Collects the facts that a plugin wants and that the connection has.
fn with_connection<R>(peer: &Peer, facts: &[String], call: impl FnOnce(ConnectionIn<'_>) -> R) -> R {
    if facts.is_empty() {
        return call(ConnectionIn {
            id: &peer.id,
            facts: &[],
        });
    }
    let known: Vec<_> = facts
        .iter()
        .filter_map(|name| Some((name.as_str(), peer.fact(name)?)))
        .collect();
    let known: Vec<(&str, &str)> = known.iter().map(|(name, value)| (*name, &**value)).collect();
    call(ConnectionIn {
        id: &peer.id,
        facts: &known,
    })
}

fn with_effects<R>(effects: &[Effect], call: impl FnOnce(&[EffectIn<'_>]) -> R) -> R {
    let facts: Vec<Vec<(&str, &str)>> = effects
        .iter()
        .map(|effect| {
            effect
                .facts
                .iter()
                .map(|(name, value)| (*name, &**value))
                .collect()
        })
        .collect();
    let effects: Vec<_> = effects
        .iter()
        .zip(&facts)
        .map(|(effect, facts)| EffectIn {
            outcome: effect.outcome,
            facts,
        })
        .collect();
    call(&effects)
}

fn payload(payload: &Payload) -> PayloadIn<'_> {
    match payload {
        Payload::Text(text) => PayloadIn::Text(text.as_str()),
        Payload::Binary(bytes) => PayloadIn::Binary(bytes),
    }
}

fn request_in(request: &Request) -> RequestIn<'_> {
    RequestIn {
        method: &request.method,
        path: &request.path,
        query: &request.query,
        headers: &request.headers,
        body: payload(&request.body),
    }
}

fn outcome_in(outcome: &Outcome) -> Result<ResponseIn<'_>, FailureIn<'_>> {
    match outcome {
        Ok(Response {
            status,
            headers,
            body,
        }) => Ok(ResponseIn {
            status: *status,
            headers,
            body: payload(body),
        }),
        Err(failure) => Err(match failure {
            Failure::Timeout(text) => FailureIn::Timeout(text),
            Failure::Unreachable(text) => FailureIn::Unreachable(text),
            Failure::Overloaded(text) => FailureIn::Overloaded(text),
            Failure::TooLarge(text) => FailureIn::TooLarge(text),
            Failure::Other(kind, text) => FailureIn::Other((kind, text)),
        }),
    }
}

impl From<PayloadOut> for Payload {
    fn from(payload: PayloadOut) -> Self {
        match payload {
            PayloadOut::Text(text) => Self::Text(text.into()),
            PayloadOut::Binary(bytes) => Self::Binary(bytes.into()),
        }
    }
}

impl From<RequestOut> for Request {
    fn from(request: RequestOut) -> Self {
        let RequestOut {
            method,
            path,
            query,
            headers,
            body,
        } = request;
        Self {
            method,
            path,
            query,
            headers,
            body: body.into(),
        }
    }
}

impl From<ResponseOut> for Response {
    fn from(response: ResponseOut) -> Self {
        let ResponseOut {
            status,
            headers,
            body,
        } = response;
        Self {
            status,
            headers,
            body: body.into(),
        }
    }
}

impl From<ExchangeOut> for Exchange {
    fn from(exchange: ExchangeOut) -> Self {
        let ExchangeOut {
            upstream,
            request,
            context,
        } = exchange;
        Self {
            upstream,
            request: request.into(),
            context: context.into(),
        }
    }
}

impl From<ActionOut> for Action {
    fn from(action: ActionOut) -> Self {
        match action {
            ActionOut::Next(payload) => Self::Next(payload.map(Payload::from)),
            ActionOut::Reply(payload) => Self::Reply(payload.into()),
            ActionOut::Respond(response) => Self::Respond(response.into()),
            ActionOut::Forward(exchange) => Self::Forward(exchange.into()),
            ActionOut::Send(DeliveryOut { connection, message }) => Self::Send {
                connection,
                message: message.into(),
            },
            ActionOut::Publish(PublicationOut {
                topic,
                message,
                except,
            }) => Self::Publish {
                topic,
                message: message.into(),
                except,
            },
            ActionOut::Subscribe(MembershipOut { connection, topic }) => {
                Self::Subscribe { connection, topic }
            }
            ActionOut::Unsubscribe(MembershipOut { connection, topic }) => {
                Self::Unsubscribe { connection, topic }
            }
            ActionOut::SetAttribute(AttributeOut {
                connection,
                name,
                value,
            }) => Self::SetAttribute {
                connection,
                name,
                value,
            },
            ActionOut::SetTimer(TimerOut {
                connection,
                name,
                delay_ms,
            }) => Self::Timer {
                connection,
                name,
                delay: Some(Duration::from_millis(delay_ms.into())),
            },
            ActionOut::CancelTimer(TimerNameOut { connection, name }) => Self::Timer {
                connection,
                name,
                delay: None,
            },
            ActionOut::Close(ClosingOut {
                connection,
                code,
                reason,
            }) => Self::Close {
                connection,
                code,
                reason,
            },
            ActionOut::Other((name, context)) if name == "report" => Self::Report(context.into()),
            ActionOut::Other((name, _)) => Self::Unsupported(name),
        }
    }
}
