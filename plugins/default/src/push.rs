//! Messages that PHP sends by itself, by a request to the push listener.

use aileron_plugin::form::{self, FormError};
use aileron_plugin::{Action, Delivery, Headers, Payload, Request, Response};

/// Decides about a request to the push listener.
pub fn handle(request: &Request, push_path: &str) -> Vec<Action> {
    if request.path != push_path {
        return vec![Action::Next(None)];
    }
    if !matches!(request.method.as_str(), "POST" | "GET" | "PUT") {
        let mut refusal = error(405, "Method Not Allowed\n");
        refusal.headers.push(header("allow", "GET, POST"));
        return vec![Action::Respond(refusal)];
    }
    let Ok(mut fields) = fields(request) else {
        return vec![Action::Respond(plain(400, "Bad Request"))];
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
        Action::Respond(plain(200, "Message sent")),
    ]
}

/// The fields of the body, then those of the query.
fn fields(request: &Request) -> Result<Vec<(String, Vec<u8>)>, Malformed> {
    let mut fields = body_fields(request)?;
    fields.extend(form::decode(request.query.as_bytes())?);
    Ok(fields)
}

fn body_fields(request: &Request) -> Result<Vec<(String, Vec<u8>)>, Malformed> {
    let body = request.body.as_bytes();
    if body.is_empty() {
        return Ok(Vec::new());
    }
    let content_type = request.header("content-type").unwrap_or_default();
    match form::media_type(content_type).as_str() {
        form::URLENCODED => Ok(form::decode(body)?),
        form::MULTIPART => {
            let boundary = form::boundary(content_type).ok_or(Malformed)?;
            let parts = form::multipart(&boundary, body)?;
            let fields = parts.into_iter().map(|part| (part.name, part.data.to_vec()));
            Ok(fields.collect())
        }
        _ => Err(Malformed),
    }
}

/// The sender is told no more than that it is a bad request.
struct Malformed;

impl From<FormError> for Malformed {
    fn from(_: FormError) -> Self {
        Self
    }
}

/// The first value of that name; empty without one.
fn take(fields: &mut [(String, Vec<u8>)], name: &str) -> Vec<u8> {
    fields
        .iter_mut()
        .find(|(key, _)| key == name)
        .map(|(_, value)| std::mem::take(value))
        .unwrap_or_default()
}

fn plain(status: u16, body: &str) -> Response {
    Response {
        status,
        headers: vec![header("content-type", "text/plain; charset=utf-8")],
        body: Payload::Text(body.to_owned()),
    }
}

/// As Go's `http.Error` writes it, for senders that compare.
fn error(status: u16, body: &str) -> Response {
    let mut response = plain(status, body);
    response.headers.push(header("x-content-type-options", "nosniff"));
    response
}

fn header(name: &str, value: &str) -> <Headers as IntoIterator>::Item {
    (name.to_owned(), value.to_owned())
}

#[cfg(test)]
mod tests;
