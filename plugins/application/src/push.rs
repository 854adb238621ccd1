//! What PHP asks of the gateway by itself, by a request to the push listener.

mod form;
mod item;
mod json;
mod results;

use aileron_plugin::form::{fields, looks_like_json, media_type};
use aileron_plugin::{Action, Payload, Request, Response};
use serde::Serialize;

use item::Item;
pub use results::answer;

/// How many actions a push may come to: a target counts once for each thing that is done to it.
const MAX_ACTIONS: usize = 10_000;

/// How many bytes of messages a push may come to. Each target has a copy, and the memory of a plugin has a limit.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Decides about a request to the push listener.
pub fn handle(request: &Request, push_path: &str) -> Vec<Action> {
    if request.path != push_path {
        return vec![Action::Next(None)];
    }
    if !matches!(request.method.as_str(), "POST" | "GET" | "PUT") {
        let refusal = error(405, "Method Not Allowed\n").with_header("allow", "GET, POST");
        return vec![Action::Respond(refusal)];
    }
    let items = if is_json(request) {
        json::items(request.body.as_bytes())
    } else if looks_like_json(request) {
        Err(
            "the body is JSON, but content-type does not say so; send `Content-Type: application/json`"
                .to_owned(),
        )
    } else {
        match fields(request) {
            Err(_) => return vec![Action::Respond(Response::text(400, "Bad Request"))],
            Ok(fields) if form::is_plain(&fields) => return send(fields),
            Ok(fields) => form::item(fields).map(|item| vec![item]),
        }
    };
    match items.and_then(actions) {
        Ok(actions) => actions,
        Err(problem) => vec![Action::Respond(json_response(400, &Problem { error: problem }))],
    }
}

/// Without a body it is a matter of the query, whatever the `content-type`.
fn is_json(request: &Request) -> bool {
    let content_type = request.header("content-type").unwrap_or_default();
    media_type(content_type) == "application/json" && !request.body.as_bytes().is_empty()
}

/// One message for one client, answered as by the default plugin.
fn send(fields: Vec<(String, Vec<u8>)>) -> Vec<Action> {
    match form::delivery(fields) {
        Some(delivery) => vec![
            Action::Send(delivery),
            Action::Respond(Response::text(200, "Message sent")),
        ],
        None => vec![Action::Respond(error(404, "Client not found\n"))],
    }
}

/// Everything else is done first, and answered when it is known how it went. An error says which item is wrong; nothing
/// is done then.
fn actions(items: Vec<Item>) -> Result<Vec<Action>, String> {
    let (mut count, mut bytes) = (0_usize, 0_usize);
    for (number, item) in (1..).zip(&items) {
        item.check()
            .map_err(|problem| format!("item {number}: {problem}"))?;
        let size = item.size();
        count = count.saturating_add(size.actions);
        bytes = bytes.saturating_add(size.bytes);
        if count > MAX_ACTIONS {
            return Err(format!("item {number}: a push may come to {MAX_ACTIONS} actions"));
        }
        if bytes > MAX_BYTES {
            return Err(format!(
                "item {number}: a push may come to {MAX_BYTES} bytes of messages"
            ));
        }
    }
    let mut actions = Vec::new();
    let mut targets = Vec::new();
    for item in items {
        item.act(&mut actions, &mut targets);
    }
    actions.push(Action::report(results::context(&targets)));
    Ok(actions)
}

#[derive(Serialize)]
struct Problem {
    error: String,
}

fn json_response(status: u16, body: &impl Serialize) -> Response {
    Response {
        status,
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: Payload::Text(serde_json::to_string(body).unwrap_or_default()),
    }
}

/// As Go's `http.Error` writes it, for senders that compare.
fn error(status: u16, body: &str) -> Response {
    Response::text(status, body).with_header("x-content-type-options", "nosniff")
}

#[cfg(test)]
mod tests;
