//! Lets clients ask PHP by JSON envelopes, and tells them which answer belongs to which question.

use std::borrow::Cow;

use aileron_plugin::{
    Action, Connection, Exchange, Failure, Frames, Interest, Lifecycle, Payload, Response, Responses, form,
    log,
};
use serde::Deserialize;
use serde_json::value::RawValue;

struct Envelopes;

impl Lifecycle for Envelopes {
    fn configure(settings: Vec<(String, String)>) -> Result<Interest, String> {
        let mut interest = Interest {
            others: vec![("frames".to_owned(), "text".to_owned())],
            ..Interest::default()
        };
        for (name, value) in settings {
            if name != "paths" {
                return Err(format!(
                    "{name}: no such setting; there is paths (an array of paths)"
                ));
            }
            interest.paths = serde_json::from_str::<Vec<String>>(&value)
                .ok()
                .filter(|paths| paths.iter().all(|path| path.starts_with('/')))
                .ok_or_else(|| {
                    format!("paths = {value}: must be an array of paths, such as [\"/app\", \"/app/*\"]")
                })?;
        }
        Ok(interest)
    }
}

impl Frames for Envelopes {
    fn on_frame(connection: Connection, message: Payload) -> Vec<Action> {
        vec![match question(&connection.id, &message) {
            Some(exchange) => Action::Forward(exchange),
            None => Action::Next(None),
        }]
    }
}

impl Responses for Envelopes {
    fn on_response(
        connection: Option<Connection>,
        context: Payload,
        outcome: Result<Response, Failure>,
    ) -> Vec<Action> {
        if let (Err(failure), Some(connection)) = (&outcome, &connection) {
            log::error(&format!("{}: no answer: {failure}", connection.id));
        }
        vec![Action::Reply(Payload::Text(answer(&context, &outcome)))]
    }
}

aileron_plugin::export!(Envelopes: Lifecycle, Frames, Responses);

/// The values that go through are kept as the client wrote them: numbers of any size, members in any order.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: &'a RawValue,
    #[serde(borrow)]
    action: Cow<'a, str>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// The form for PHP. None if the message is no envelope.
fn question(client_id: &str, message: &Payload) -> Option<Exchange> {
    let Payload::Text(text) = message else {
        return None;
    };
    let envelope: Envelope = serde_json::from_str(text).ok()?;
    let data = envelope.data.map_or("", RawValue::get);
    let data = match serde_json::from_str::<Cow<str>>(data) {
        Ok(string) => string,
        Err(_) => Cow::Borrowed(data),
    };
    Some(Exchange {
        upstream: None,
        request: form::post(&[
            ("type", b"server"),
            ("client_id", client_id.as_bytes()),
            ("action", envelope.action.as_bytes()),
            ("message", data.as_bytes()),
        ]),
        context: Payload::Text(envelope.id.get().to_owned()),
    })
}

/// The envelope for the client. `context` is the id in JSON.
fn answer(context: &Payload, outcome: &Result<Response, Failure>) -> String {
    let id = String::from_utf8_lossy(context.as_bytes());
    match outcome {
        Ok(response) => {
            let status = response.status;
            let text = String::from_utf8_lossy(response.body.as_bytes());
            let data = match serde_json::from_str::<&RawValue>(&text) {
                Ok(json) => Cow::Borrowed(json.get()),
                Err(_) => Cow::Owned(quoted(&text)),
            };
            format!(r#"{{"id":{id},"status":{status},"data":{data}}}"#)
        }
        Err(failure) => format!(r#"{{"id":{id},"error":{}}}"#, quoted(failure.kind())),
    }
}

/// A JSON string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
