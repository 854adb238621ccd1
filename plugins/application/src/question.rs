//! What PHP is asked.

use aileron_plugin::{Connection, Exchange, Payload, form};

use crate::forwarding;
use crate::subject::{Kind, Subject};

/// The facts that the questions are made of.
pub const FACTS: [&str; 13] = [
    "path",
    "query",
    "attributes",
    "remote-address",
    "header.cookie",
    "header.authorization",
    "header.user-agent",
    "header.accept-language",
    "header.origin",
    "header.host",
    "header.x-forwarded-for",
    "header.x-forwarded-host",
    "header.x-forwarded-proto",
];

/// Whether a client may connect. The subprotocols are those that it offers, as its handshake lists them.
pub fn open(connection: &Connection, subprotocols: &str) -> Exchange {
    let path = connection.fact("path").unwrap_or_default();
    let query = connection.fact("query").unwrap_or_default();
    let mut own = vec![("path", path.as_bytes()), ("query", query.as_bytes())];
    let names = subprotocols.split(',').map(str::trim);
    own.extend(
        names
            .filter(|name| !name.is_empty())
            .map(|name| ("subprotocols[]", name.as_bytes())),
    );
    ask(Kind::Open, connection, &own)
}

/// What to answer to a message.
pub fn message(connection: &Connection, message: &Payload) -> Exchange {
    let kind = match message {
        Payload::Text(_) => Kind::Text,
        Payload::Binary(_) => Kind::Binary,
    };
    ask(kind, connection, &[("message", message.as_bytes())])
}

/// What to do now that a timer has run out.
pub fn timer(connection: &Connection, name: &str) -> Exchange {
    ask(Kind::Timer, connection, &[("name", name.as_bytes())])
}

/// What to do now that a client has gone.
pub fn close(connection: &Connection, code: u16, reason: &str) -> Exchange {
    let path = connection.fact("path").unwrap_or_default();
    ask(
        Kind::Close,
        connection,
        &[
            ("code", code.to_string().as_bytes()),
            ("reason", reason.as_bytes()),
            ("path", path.as_bytes()),
        ],
    )
}

/// What to do now that a schedule is due.
pub fn schedule(name: &str) -> Exchange {
    let kind = Kind::Schedule;
    exchange(
        Subject::new(kind, name),
        &[("type", kind.form_type().as_bytes()), ("name", name.as_bytes())],
    )
}

/// A question about a connection, with the fields of its own.
fn ask(kind: Kind, connection: &Connection, own: &[(&str, &[u8])]) -> Exchange {
    let attributes = attributes(connection);
    let mut fields = vec![
        ("type", kind.form_type().as_bytes()),
        ("client_id", connection.id.as_bytes()),
    ];
    fields.extend(own);
    fields.extend(
        attributes
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice())),
    );
    let mut exchange = exchange(Subject::new(kind, &connection.id), &fields);
    exchange.request.headers.extend(forwarding::headers(connection));
    exchange
}

fn exchange(subject: Subject, fields: &[(&str, &[u8])]) -> Exchange {
    Exchange {
        upstream: None,
        request: form::post(fields),
        context: Payload::Text(subject.to_string()),
    }
}

/// The attributes, named so that PHP makes an array of them.
fn attributes(connection: &Connection) -> Vec<(String, Vec<u8>)> {
    let attributes = connection.fact("attributes").unwrap_or_default();
    form::decode(attributes.as_bytes())
        .unwrap_or_default()
        .into_iter()
        .map(|(name, value)| (format!("attributes[{name}]"), value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        let facts = [
            ("path", "/ws"),
            ("query", "token=1&x=%20"),
            ("attributes", "room=5&user=ann+b"),
            ("remote-address", "127.0.0.1:1"),
            ("header.cookie", "PHPSESSID=1"),
        ];
        Connection {
            id: "127.0.0.1:1".into(),
            facts: facts.map(|(name, value)| (name.into(), value.into())).to_vec(),
        }
    }

    #[test]
    fn each_question_is_a_form() {
        let connection = connection();
        let about = "&client_id=127.0.0.1%3A1";
        let attributes = "&attributes%5Broom%5D=5&attributes%5Buser%5D=ann+b";
        for (exchange, kind, own, context) in [
            (
                open(&connection, ""),
                "open",
                "&path=%2Fws&query=token%3D1%26x%3D%2520",
                "open",
            ),
            (
                open(&connection, "chat.v2, chat.v1,"),
                "open",
                "&path=%2Fws&query=token%3D1%26x%3D%2520&subprotocols%5B%5D=chat.v2&subprotocols%5B%5D=chat.v1",
                "open",
            ),
            (
                message(&connection, &Payload::Text("a&b".into())),
                "server",
                "&message=a%26b",
                "text",
            ),
            (
                message(&connection, &Payload::Binary(vec![0xff])),
                "server",
                "&message=%FF",
                "binary",
            ),
            (timer(&connection, "tea"), "timer", "&name=tea", "timer"),
            (
                close(&connection, 4001, "bye"),
                "close",
                "&code=4001&reason=bye&path=%2Fws",
                "close",
            ),
        ] {
            let body = format!("type={kind}{about}{own}{attributes}");
            assert_eq!(exchange.request.body, Payload::Text(body));
            assert_eq!(exchange.context, Payload::Text(format!("{context} 127.0.0.1:1")));
            assert_eq!(exchange.upstream, None);
            assert_eq!(exchange.request.header("content-type"), Some(form::URLENCODED));
            assert_eq!(exchange.request.header("cookie"), Some("PHPSESSID=1"));
            assert_eq!(exchange.request.header("x-forwarded-for"), Some("127.0.0.1"));
        }
    }

    #[test]
    fn a_schedule_is_about_nobody() {
        let exchange = schedule("tick");
        assert_eq!(
            exchange.request,
            form::post(&[("type", b"schedule"), ("name", b"tick")])
        );
        assert_eq!(exchange.context, Payload::Text("schedule tick".into()));
    }

    #[test]
    fn a_connection_without_facts_has_a_form_too() {
        let connection = Connection {
            id: "a".into(),
            facts: Vec::new(),
        };
        let body = "type=open&client_id=a&path=&query=";
        assert_eq!(open(&connection, "").request.body, Payload::Text(body.into()));
    }
}
