//! Messages that PHP sends by itself, by a request to the push listener.

use aileron_plugin::{Action, Delivery, Payload, Request, Response, form};

/// Decides about a request to the push listener.
pub fn handle(request: &Request, push_path: &str) -> Vec<Action> {
    if request.path != push_path {
        return vec![Action::Next(None)];
    }
    if !matches!(request.method.as_str(), "POST" | "GET" | "PUT") {
        let refusal = error(405, "Method Not Allowed\n").with_header("allow", "GET, POST");
        return vec![Action::Respond(refusal)];
    }
    if form::looks_like_json(request) {
        let text = "Bad Request: the body is JSON, and this plugin takes a form with client_id and message; \
                    `built-in = \"application\"` in [plugins] takes JSON too, as `Content-Type: application/json`\n";
        return vec![Action::Respond(error(400, text))];
    }
    let Ok(mut fields) = form::fields(request) else {
        return vec![Action::Respond(Response::text(400, "Bad Request"))];
    };
    let client_id = take(&mut fields, "client_id");
    let client_id = String::from_utf8(client_id).unwrap_or_default();
    if client_id.is_empty() {
        return vec![Action::Respond(error(404, "Client not found\n"))];
    }
    let delivery = Delivery {
        connection: client_id,
        message: Payload::from_bytes(take(&mut fields, "message")),
    };
    vec![
        Action::Send(delivery),
        Action::Respond(Response::text(200, "Message sent")),
    ]
}

/// The first value of that name; empty without one.
fn take(fields: &mut [(String, Vec<u8>)], name: &str) -> Vec<u8> {
    fields
        .iter_mut()
        .find(|(key, _)| key == name)
        .map(|(_, value)| std::mem::take(value))
        .unwrap_or_default()
}

/// As Go's `http.Error` writes it, for senders that compare.
fn error(status: u16, body: &str) -> Response {
    Response::text(status, body).with_header("x-content-type-options", "nosniff")
}

#[cfg(test)]
mod tests;
