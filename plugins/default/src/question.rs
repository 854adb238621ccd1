//! What PHP is asked about a frame.

use aileron_plugin::{Exchange, Payload, form};

/// The context that comes back with the answer to a text frame.
pub const TEXT: &str = "text";
/// The context that comes back with the answer to a binary frame.
pub const BINARY: &str = "binary";

/// The form that goes to the upstream of the connection's route.
pub fn ask(client_id: &str, message: &Payload) -> Exchange {
    let kind = match message {
        Payload::Text(_) => TEXT,
        Payload::Binary(_) => BINARY,
    };
    Exchange {
        upstream: None,
        request: form::post(&[
            ("type", b"server"),
            ("message", message.as_bytes()),
            ("client_id", client_id.as_bytes()),
        ]),
        context: Payload::Text(kind.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aileron_plugin::Request;

    #[test]
    fn a_text_frame_becomes_a_form() {
        let exchange = ask("127.0.0.1:51110", &Payload::Text("a&b=c d+é%".into()));
        let expected = Exchange {
            upstream: None,
            request: Request {
                method: "POST".into(),
                path: String::new(),
                query: String::new(),
                headers: vec![("content-type".into(), "application/x-www-form-urlencoded".into())],
                body: Payload::Text(
                    "type=server&message=a%26b%3Dc+d%2B%C3%A9%25&client_id=127.0.0.1%3A51110".into(),
                ),
            },
            context: Payload::Text("text".into()),
        };
        assert_eq!(exchange, expected);
    }

    #[test]
    fn a_binary_frame_arrives_byte_by_byte() {
        let exchange = ask("a", &Payload::Binary(vec![0, b'A', 0xff]));
        let body = Payload::Text("type=server&message=%00A%FF&client_id=a".into());
        assert_eq!(exchange.request.body, body);
        assert_eq!(exchange.context, Payload::Text("binary".into()));
    }

    #[test]
    fn an_empty_frame_is_a_message_too() {
        let exchange = ask("a", &Payload::Text(String::new()));
        let body = Payload::Text("type=server&message=&client_id=a".into());
        assert_eq!(exchange.request.body, body);
    }
}
