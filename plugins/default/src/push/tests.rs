//! Tests of what becomes of a push.

use super::*;

fn request(method: &str, query: &str, content_type: &str, body: &[u8]) -> Request {
    Request {
        method: method.into(),
        path: "/send".into(),
        query: query.into(),
        headers: vec![("content-type".into(), content_type.into())],
        body: Payload::from_bytes(body.to_vec()),
    }
}

fn posted(query: &str, body: &str) -> Vec<Action> {
    handle(
        &request("POST", query, form::URLENCODED, body.as_bytes()),
        "/send",
    )
}

fn sent(connection: &str, message: Payload) -> Vec<Action> {
    let delivery = Delivery {
        connection: connection.into(),
        message,
    };
    let response = Response {
        status: 200,
        headers: vec![("content-type".into(), "text/plain; charset=utf-8".into())],
        body: Payload::Text("Message sent".into()),
    };
    vec![Action::Send(delivery), Action::Respond(response)]
}

fn text(text: &str) -> Payload {
    Payload::Text(text.into())
}

fn refusal(actions: &[Action]) -> &Response {
    match actions {
        [Action::Respond(response)] => response,
        _ => panic!("{actions:?}"),
    }
}

#[test]
fn the_form_of_the_article_is_sent() {
    let actions = posted(
        "",
        "message=hello_world_from_curl&type=client&client_id=127.0.0.1:51110",
    );
    assert_eq!(actions, sent("127.0.0.1:51110", text("hello_world_from_curl")));
}

#[test]
fn json_is_told_apart_from_a_client_who_is_gone() {
    let actions = posted("", r#"{"client_id": "a", "message": "hi"}"#);
    assert_eq!(refusal(&actions).status, 400);
    assert!(matches!(&refusal(&actions).body, Payload::Text(body) if body.contains("takes a form")));
}

#[test]
fn the_body_goes_before_the_query_and_the_first_value_wins() {
    let actions = posted("client_id=q&message=q", "client_id=b&client_id=c");
    assert_eq!(actions, sent("b", text("q")));
}

#[test]
fn the_query_alone_will_do() {
    for method in ["GET", "POST", "PUT"] {
        let request = request(method, "client_id=a&message=1+2", "application/json", b"");
        assert_eq!(handle(&request, "/send"), sent("a", text("1 2")));
    }
}

#[test]
fn a_message_is_text_when_it_can_be() {
    assert_eq!(posted("", "client_id=a&message=%C3%A9"), sent("a", text("é")));
    let binary = Payload::Binary(vec![0xe9]);
    assert_eq!(posted("", "client_id=a&message=%E9"), sent("a", binary));
    assert_eq!(posted("", "client_id=a"), sent("a", text("")));
}

#[test]
fn multipart_is_read_too() {
    let body = b"--x\r\nContent-Disposition: form-data; name=\"client_id\"\r\n\r\na\r\n\
        --x\r\nContent-Disposition: form-data; name=\"message\"\r\n\r\n\x00\xff\r\n--x--\r\n";
    let content_type = "Multipart/Form-Data; boundary=\"x\"";
    let request = request("POST", "", content_type, body);
    assert_eq!(
        handle(&request, "/send"),
        sent("a", Payload::Binary(vec![0, 0xff]))
    );
}

#[test]
fn without_a_client_there_is_nobody_to_find() {
    for body in ["message=1", "client_id=&message=1", "client_id=%FF&message=1"] {
        let actions = posted("", body);
        let response = refusal(&actions);
        assert_eq!(response.status, 404);
        assert_eq!(response.body, text("Client not found\n"));
        assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
    }
}

#[test]
fn what_is_no_form_is_a_bad_request() {
    let valid = b"client_id=a&message=1";
    for request in [
        request("POST", "", form::URLENCODED, b"client_id=a&message=%"),
        request("POST", "message=%zz", form::URLENCODED, valid),
        request("POST", "", "application/json", valid),
        request("GET", "", "", valid),
        request("POST", "", form::MULTIPART, valid),
        request("POST", "", "multipart/form-data; boundary=x", valid),
    ] {
        let actions = handle(&request, "/send");
        let response = refusal(&actions);
        assert_eq!(response.status, 400, "{request:?}");
        assert_eq!(response.body, text("Bad Request"));
    }
}

#[test]
fn other_paths_are_left_to_others_and_other_methods_refused() {
    let mut request = request("DELETE", "client_id=a", "", b"");
    let actions = handle(&request, "/send");
    assert_eq!(refusal(&actions).status, 405);
    assert_eq!(refusal(&actions).header("allow"), Some("GET, POST"));
    request.path = "/send/".into();
    assert_eq!(handle(&request, "/send"), [Action::Next(None)]);
}
