//! What applications push by `/send`: every kind of form, every byte, and what they are told when it does not work.

/// Who may push, and where.
mod access;
/// What a push carries: tokens and signatures.
mod credentials;
/// Pushes by a Unix socket.
mod unix;

use reqwest::Method;
use tokio::process::Command;

use crate::support::{Answer, Fpm, Frame, Gateway, answer};

pub(crate) fn said(status: u16, body: &str) -> Answer {
    Answer {
        status,
        body: body.to_owned(),
    }
}

fn sent() -> Answer {
    said(200, "Message sent")
}

/// Runs curl, the command, against `/send`.
async fn curl(gateway: &Gateway, arguments: &[&str]) -> Answer {
    let output = Command::new("curl")
        .args(["-s", "-w", "\n%{http_code}"])
        .args(arguments)
        .arg(format!("http://{}/send", gateway.push))
        .output()
        .await
        .unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let (body, status) = output.rsplit_once('\n').unwrap();
    said(status.parse().unwrap(), body)
}

/// `/send` with a query, and a body of some type.
async fn send(gateway: &Gateway, method: Method, query: &str, body_type: &str, body: &[u8]) -> Answer {
    let request = gateway.request(method, &format!("/send?{query}"));
    answer(request.header("content-type", body_type).body(body.to_vec())).await
}

const FORM: &str = "application/x-www-form-urlencoded";

#[tokio::test]
async fn a_form_in_the_body_is_pushed() {
    let gateway = Gateway::start("").await;
    let mut client = gateway.connect().await;
    let id = client.id.clone();
    let form = format!("message=hello_world_from_curl&type=client&client_id={id}");
    assert_eq!(curl(&gateway, &["-d", &form]).await, sent());
    assert_eq!(client.text().await, "hello_world_from_curl");

    let (id, message) = (format!("client_id={id}"), "message=in=two;parts & \"more\"");
    let form = ["--form-string", message, "-F", "type=client", "-F", id.as_str()];
    assert_eq!(curl(&gateway, &form).await, sent());
    assert_eq!(client.text().await, "in=two;parts & \"more\"");
}

#[tokio::test]
async fn a_query_is_a_form_too_and_a_body_wins_over_it() {
    let gateway = Gateway::start("").await;
    let mut client = gateway.connect().await;
    let id = client.id.clone();
    for method in [Method::GET, Method::POST] {
        let query = format!("client_id={id}&message=by%20{method}");
        let answer = answer(gateway.request(method.clone(), &format!("/send?{query}"))).await;
        assert_eq!(answer, sent());
        assert_eq!(client.text().await, format!("by {method}"));
    }
    let query = "client_id=127.0.0.1:1&message=query";
    let body = format!("client_id={id}&message=body");
    assert_eq!(
        send(&gateway, Method::POST, query, FORM, body.as_bytes()).await,
        sent()
    );
    assert_eq!(client.text().await, "body");
    let query = format!("client_id={id}&message=query");
    assert_eq!(
        send(&gateway, Method::POST, &query, FORM, b"type=client").await,
        sent()
    );
    assert_eq!(client.text().await, "query");
}

#[tokio::test]
async fn text_arrives_as_text_and_any_other_bytes_in_a_binary_frame() {
    let gateway = Gateway::start("").await;
    let mut client = gateway.connect().await;
    let id = client.id.clone();
    let text = "\u{feff}翼 🪽 e\u{301} \0 \r\n 100% & + = ; \u{10ffff}";
    let encode = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("%{byte:02x}"))
            .collect::<String>()
    };
    let form = format!("client_id={id}&message={}", encode(text.as_bytes()));
    assert_eq!(gateway.push(&form).await, sent());
    assert_eq!(client.text().await, text);

    let bytes: Vec<u8> = (0..=255).collect();
    let form = format!("client_id={id}&message={}", encode(&bytes));
    assert_eq!(gateway.push(&form).await, sent());
    assert_eq!(client.next().await, Frame::Binary(bytes.clone()));

    // As they are, in a part of their own.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &bytes).unwrap();
    let message = format!("message=<{}", file.path().display());
    let form = ["-F", message.as_str(), "-F", &format!("client_id={id}")];
    assert_eq!(curl(&gateway, &form).await, sent());
    assert_eq!(client.next().await, Frame::Binary(bytes));
}

#[tokio::test]
async fn a_message_may_be_empty_or_a_mebibyte_long() {
    let gateway = Gateway::start("").await;
    let mut client = gateway.connect().await;
    let id = client.id.clone();
    for form in [format!("client_id={id}&message="), format!("client_id={id}")] {
        assert_eq!(gateway.push(&form).await, sent());
        assert_eq!(client.text().await, "");
    }
    let long: String = "a&b=".chars().cycle().take(1024 * 1024).collect();
    let form = format!(
        "client_id={id}&message={}",
        long.replace('&', "%26").replace('=', "%3D")
    );
    assert_eq!(gateway.push(&form).await, sent());
    assert!(client.text().await == long, "the message came changed");
}

#[tokio::test]
async fn a_body_that_is_no_form_is_a_bad_request_and_nothing_is_sent() {
    let gateway = Gateway::start("").await;
    let mut client = gateway.connect().await;
    let id = client.id.clone();
    let parts = format!("--b\r\ncontent-disposition: form-data; name=\"client_id\"\r\n\r\n{id}\r\n");
    let json = format!("{{\"client_id\":\"{id}\",\"message\":\"x\"}}");
    let broken_escapes = format!("client_id={id}&message=100%");
    let bodies = [
        ("application/json", json.as_str()),
        ("text/plain", "message=x"),
        (FORM, &broken_escapes),
        (FORM, "message=%zz"),
        ("multipart/form-data; boundary=b", &parts),
        ("multipart/form-data; boundary=b", "no boundary in here"),
        ("multipart/form-data", &parts),
    ];
    for (body_type, body) in bodies {
        let query = format!("client_id={id}&message=x");
        let answer = send(&gateway, Method::POST, &query, body_type, body.as_bytes()).await;
        assert_eq!(answer, said(400, "Bad Request"), "{body_type}: {body}");
    }
    let answer = send(&gateway, Method::POST, "message=%", FORM, b"").await;
    assert_eq!(answer, said(400, "Bad Request"), "a query");
    client.is_quiet().await;
}

#[tokio::test]
async fn a_client_that_is_not_there_is_not_found_whatever_the_reason() {
    let gateway = Gateway::start("").await;
    let mut other = gateway.connect().await;
    let gone = gateway.connect().await;
    let id = gone.id.clone();
    gone.close().await;
    for form in [
        format!("client_id={id}&message=x"),
        "client_id=127.0.0.1:1&message=x".to_owned(),
        "client_id=&message=x".to_owned(),
        "client_id=%ff&message=x".to_owned(),
        "message=x".to_owned(),
        String::new(),
    ] {
        assert_eq!(
            gateway.push(&form).await,
            said(404, "Client not found\n"),
            "{form}"
        );
    }
    other.is_quiet().await;
    let refusal = answer(gateway.request(Method::DELETE, "/send")).await;
    assert_eq!(refusal, said(405, "Method Not Allowed\n"));
}

/// Its queue fills behind what the kernel takes. Everyone else goes on, and what was promised arrives when it reads.
#[tokio::test]
async fn a_client_that_does_not_read_is_congested_and_nobody_else() {
    let gateway = Gateway::start("max-queue = \"64KiB\"").await;
    let mut slow = gateway.connect().await;
    let mut quick = gateway.connect().await;
    let filler = "x".repeat(16 * 1024);
    let (mut promised, mut refused) = (0, 0);
    // Twice in a row: the kernel may take a little more while the first is refused.
    while refused < 2 {
        let form = format!("client_id={}&message={promised}:{filler}", slow.id);
        let answer = gateway.push(&form).await;
        if answer == sent() {
            (promised, refused) = (promised + 1, 0);
        } else {
            assert_eq!(answer, said(500, "Failed to send message\n"));
            refused += 1;
        }
        assert!(promised < 10_000, "160 MB are more than any kernel takes");
    }
    assert!(gateway.metric("aileron_frames_congested_total").await >= 2.0);
    for _ in 0..10 {
        let form = format!("client_id={}&message=quick", quick.id);
        assert_eq!(gateway.push(&form).await, sent());
        assert_eq!(quick.text().await, "quick");
    }
    for n in 0..promised {
        let message = slow.text().await;
        assert!(
            message.split_once(':') == Some((&n.to_string(), &filler)),
            "message {n}"
        );
    }
    slow.is_quiet().await;
    let form = format!("client_id={}&message=again", slow.id);
    assert_eq!(gateway.push(&form).await, sent());
    assert_eq!(slow.text().await, "again");
}

#[tokio::test]
async fn a_client_may_be_named_by_a_uuid() {
    let fpm = Fpm::start(1).await;
    let config = format!("client-id = \"uuid\"\n[upstream]\n{}", fpm.upstream("frames.php"));
    let gateway = Gateway::start(&config).await;
    let mut clients = [gateway.connect().await, gateway.connect().await];
    let mut ids = Vec::new();
    for client in &mut clients {
        let form = client.ask("raw").await;
        let id = form.split_once("client_id=").unwrap().1.to_owned();
        assert_eq!(uuid::Uuid::parse_str(&id).unwrap().get_version_num(), 4, "{form}");
        ids.push(id);
    }
    for (client, id) in clients.iter_mut().zip(&ids) {
        let form = format!("client_id={id}&message=for {id}");
        assert_eq!(gateway.push(&form).await, sent());
        assert_eq!(client.text().await, format!("for {id}"));
        let form = format!("client_id={}&message=x", client.id);
        assert_eq!(
            gateway.push(&form).await,
            said(404, "Client not found\n"),
            "by address"
        );
    }
}
