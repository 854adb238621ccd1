//! `wit/` in Rust: the types that cross into a plugin and back, and the conversions from and to the host's vocabulary.
//!
//! What goes in is borrowed, so that a call copies a payload once, into the plugin's memory. `bindgen!` would make one
//! owned type of everything that goes both ways; hence these derives. That they agree with the WIT is checked against
//! each plugin when it is loaded.

use wasmtime::component::{ComponentNamedList, ComponentType, Func, Instance, Lift, Lower, TypedFunc};
use wasmtime::{AsContextMut, Store};

use crate::message::{Action, Event, Exchange, Failure, Outcome, Payload, Peer, Request, Response};

/// The package whose interfaces plugins export.
pub(super) const PACKAGE: &str = "aileron:gateway/";
/// The version of `wit/` that this host was built with. Lookups match any compatible one.
pub(super) const VERSION: &str = "0.1.0";

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
#[expect(
    dead_code,
    reason = "settled in the WIT, not done by this version of the host"
)]
struct PublicationOut {
    topic: String,
    message: PayloadOut,
    except: Vec<String>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
#[expect(
    dead_code,
    reason = "settled in the WIT, not done by this version of the host"
)]
struct MembershipOut {
    connection: String,
    topic: String,
}

#[derive(ComponentType, Lift)]
#[component(record)]
#[expect(
    dead_code,
    reason = "settled in the WIT, not done by this version of the host"
)]
struct AttributeOut {
    connection: String,
    name: String,
    value: Option<String>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
#[expect(
    dead_code,
    reason = "settled in the WIT, not done by this version of the host"
)]
struct TimerOut {
    connection: String,
    name: String,
    #[component(name = "delay-ms")]
    delay_ms: u32,
}

#[derive(ComponentType, Lift)]
#[component(record)]
#[expect(
    dead_code,
    reason = "settled in the WIT, not done by this version of the host"
)]
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
#[expect(
    dead_code,
    reason = "settled in the WIT, not done by this version of the host"
)]
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
type Actions = (Vec<ActionOut>,);

/// The handlers that an instance exports. Each is checked against its WIT type before it gets here.
pub(super) struct Hooks {
    configure: Option<Func>,
    on_frame: Option<Func>,
    on_response: Option<Func>,
    on_push: Option<Func>,
}

/// Which handlers a plugin has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Exports {
    pub(super) lifecycle: bool,
    pub(super) frames: bool,
    pub(super) responses: bool,
    pub(super) pushes: bool,
}

impl Hooks {
    /// Looks up what the instance exports and checks the types. A mismatch is an error that names the function.
    pub(super) fn find<T: 'static>(store: &mut Store<T>, instance: &Instance) -> wasmtime::Result<Self> {
        Ok(Self {
            configure: find::<T, Settings<'_>, (Result<InterestOut, String>,)>(
                store,
                instance,
                "lifecycle",
                "configure",
            )?,
            on_frame: find::<T, FrameIn<'_>, Actions>(store, instance, "frames", "on-frame")?,
            on_response: find::<T, OutcomeIn<'_>, Actions>(store, instance, "responses", "on-response")?,
            on_push: find::<T, PushIn<'_>, Actions>(store, instance, "pushes", "on-push")?,
        })
    }

    pub(super) fn exports(&self) -> Exports {
        Exports {
            lifecycle: self.configure.is_some(),
            frames: self.on_frame.is_some(),
            responses: self.on_response.is_some(),
            pushes: self.on_push.is_some(),
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
        let actions = match event {
            Event::Frame { peer, message } => {
                let Some(func) = self.on_frame else {
                    return Ok(None);
                };
                with_connection(peer, facts, |connection| {
                    call::<FrameIn<'_>, Actions>(func, store, (connection, payload(message)))
                })
            }
            Event::Response {
                peer,
                context,
                outcome,
            } => {
                let Some(func) = self.on_response else {
                    return Ok(None);
                };
                let (context, outcome) = (payload(context), outcome_in(outcome));
                match peer {
                    Some(peer) => with_connection(peer, facts, |connection| {
                        call::<OutcomeIn<'_>, Actions>(func, store, (Some(connection), context, outcome))
                    }),
                    None => call::<OutcomeIn<'_>, Actions>(func, store, (None, context, outcome)),
                }
            }
            Event::Push(request) => {
                let Some(func) = self.on_push else { return Ok(None) };
                call::<PushIn<'_>, Actions>(func, store, (request_in(request),))
            }
        };
        actions.map(|(actions,)| Some(actions.into_iter().map(Action::from).collect()))
    }
}

fn find<T: 'static, P, R>(
    store: &mut Store<T>,
    instance: &Instance,
    interface: &str,
    function: &str,
) -> wasmtime::Result<Option<Func>>
where
    P: ComponentNamedList + Lower,
    R: ComponentNamedList + Lift,
{
    let interface = format!("{PACKAGE}{interface}@{VERSION}");
    let Some(index) = instance.get_export_index(&mut *store, None, &interface) else {
        return Ok(None);
    };
    let func = instance
        .get_export_index(&mut *store, Some(&index), function)
        .and_then(|index| instance.get_func(&mut *store, index))
        .ok_or_else(|| wasmtime::Error::msg(format!("`{interface}` lacks the function `{function}`")))?;
    func.typed::<P, R>(&*store).map_err(|cause| {
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

impl From<ActionOut> for Action {
    fn from(action: ActionOut) -> Self {
        match action {
            ActionOut::Next(payload) => Self::Next(payload.map(Payload::from)),
            ActionOut::Reply(payload) => Self::Reply(payload.into()),
            ActionOut::Respond(ResponseOut {
                status,
                headers,
                body,
            }) => Self::Respond(Response {
                status,
                headers,
                body: body.into(),
            }),
            ActionOut::Forward(ExchangeOut {
                upstream,
                request,
                context,
            }) => Self::Forward(Exchange {
                upstream,
                request: request.into(),
                context: context.into(),
            }),
            ActionOut::Send(DeliveryOut { connection, message }) => Self::Send {
                connection,
                message: message.into(),
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
            ActionOut::Publish(_) => Self::Unsupported("publish".to_owned()),
            ActionOut::Subscribe(_) => Self::Unsupported("subscribe".to_owned()),
            ActionOut::Unsubscribe(_) => Self::Unsupported("unsubscribe".to_owned()),
            ActionOut::SetAttribute(_) => Self::Unsupported("set-attribute".to_owned()),
            ActionOut::SetTimer(_) => Self::Unsupported("set-timer".to_owned()),
            ActionOut::CancelTimer(_) => Self::Unsupported("cancel-timer".to_owned()),
            ActionOut::Other((name, _)) => Self::Unsupported(name),
        }
    }
}
