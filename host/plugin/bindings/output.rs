//! What comes out of a plugin, and its conversion to the host's own types.

use std::time::Duration;

use wasmtime::component::{ComponentType, Lift};

use crate::message::{Acceptance, Action, Admission, Exchange, Payload, Request, Response, excerpt};

#[derive(ComponentType, Lift)]
#[component(variant)]
pub(super) enum PayloadOut {
    #[component(name = "text")]
    Text(String),
    #[component(name = "binary")]
    Binary(Vec<u8>),
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct RequestOut {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: PayloadOut,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct ResponseOut {
    status: u16,
    headers: Vec<(String, String)>,
    body: PayloadOut,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct ExchangeOut {
    upstream: Option<String>,
    request: RequestOut,
    context: PayloadOut,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct DeliveryOut {
    connection: String,
    message: PayloadOut,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct PublicationOut {
    topic: String,
    message: PayloadOut,
    except: Vec<String>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct MembershipOut {
    connection: String,
    topic: String,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct AttributeOut {
    connection: String,
    name: String,
    value: Option<String>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct TimerOut {
    connection: String,
    name: String,
    #[component(name = "delay-ms")]
    delay_ms: u32,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct TimerNameOut {
    connection: String,
    name: String,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct ClosingOut {
    connection: String,
    code: u16,
    reason: String,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
pub(super) enum ActionOut {
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
pub(super) struct AcceptanceOut {
    subprotocol: Option<String>,
    headers: Vec<(String, String)>,
    actions: Vec<ActionOut>,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
pub(super) enum AdmissionOut {
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
pub(in crate::plugin) struct InterestOut {
    pub(in crate::plugin) facts: Vec<String>,
    pub(in crate::plugin) paths: Vec<String>,
    pub(in crate::plugin) others: Vec<(String, String)>,
}

impl From<AdmissionOut> for Admission {
    fn from(admission: AdmissionOut) -> Self {
        match admission {
            AdmissionOut::Next(list) => Self::Next(actions(list)),
            AdmissionOut::Accept(acceptance) => Self::Accept(Acceptance {
                subprotocol: acceptance.subprotocol,
                headers: acceptance.headers,
                actions: actions(acceptance.actions),
            }),
            AdmissionOut::Reject(response) => Self::Reject(response.into()),
            AdmissionOut::Ask(exchange) => Self::Ask(exchange.into()),
            AdmissionOut::Other((name, _)) => Self::Unsupported(excerpt(&name).into_owned()),
        }
    }
}

/// Converts a list of actions.
pub(super) fn actions(list: Vec<ActionOut>) -> Vec<Action> {
    list.into_iter().map(Action::from).collect()
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
            ActionOut::Other((name, _)) => Self::Unsupported(excerpt(&name).into_owned()),
        }
    }
}
