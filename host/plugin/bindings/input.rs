//! What goes into a plugin, borrowed from the host's own types.

use wasmtime::component::{ComponentType, Lower};

use crate::message::{Connection, Effect, Failure, Outcome, Payload, Request, Response};

#[derive(ComponentType, Lower, Clone, Copy)]
#[component(variant)]
pub(super) enum PayloadIn<'a> {
    #[component(name = "text")]
    Text(&'a str),
    #[component(name = "binary")]
    Binary(&'a [u8]),
}

#[derive(ComponentType, Lower, Clone, Copy)]
#[component(record)]
pub(super) struct ConnectionIn<'a> {
    id: &'a str,
    facts: &'a [(&'a str, &'a str)],
}

#[derive(ComponentType, Lower, Clone, Copy)]
#[component(record)]
pub(super) struct RequestIn<'a> {
    method: &'a str,
    path: &'a str,
    query: &'a str,
    headers: &'a [(String, String)],
    body: PayloadIn<'a>,
}

#[derive(ComponentType, Lower, Clone, Copy)]
#[component(record)]
pub(super) struct ResponseIn<'a> {
    status: u16,
    headers: &'a [(String, String)],
    body: PayloadIn<'a>,
}

#[derive(ComponentType, Lower, Clone, Copy)]
#[component(variant)]
pub(super) enum FailureIn<'a> {
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
pub(super) struct EffectIn<'a> {
    outcome: &'a str,
    facts: &'a [(&'a str, &'a str)],
}

/// A placeholder for events without a connection; the handlers of such events never get it.
pub(super) const NOBODY: ConnectionIn<'static> = ConnectionIn { id: "", facts: &[] };

/// Collects the facts that a plugin wants and that the connection has.
pub(super) fn with_connection<R>(
    connection: &Connection,
    facts: &[String],
    call: impl FnOnce(ConnectionIn<'_>) -> R,
) -> R {
    if facts.is_empty() {
        return call(ConnectionIn {
            id: &connection.id,
            facts: &[],
        });
    }
    let known = connection.facts(facts);
    let known: Vec<(&str, &str)> = known.iter().map(|(name, value)| (*name, &**value)).collect();
    call(ConnectionIn {
        id: &connection.id,
        facts: &known,
    })
}

pub(super) fn with_effects<R>(effects: &[Effect], call: impl FnOnce(&[EffectIn<'_>]) -> R) -> R {
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

pub(super) fn payload(payload: &Payload) -> PayloadIn<'_> {
    match payload {
        Payload::Text(text) => PayloadIn::Text(text.as_str()),
        Payload::Binary(bytes) => PayloadIn::Binary(bytes),
    }
}

pub(super) fn request_in(request: &Request) -> RequestIn<'_> {
    RequestIn {
        method: &request.method,
        path: &request.path,
        query: &request.query,
        headers: &request.headers,
        body: payload(&request.body),
    }
}

pub(super) fn outcome_in(outcome: &Outcome) -> Result<ResponseIn<'_>, FailureIn<'_>> {
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
