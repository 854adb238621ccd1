//! Tokens from everywhere, several at once; signatures that PHP makes; addresses; and that nothing of it is ever shown.

use reqwest::Method;
use ring::hmac;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::process::Command;

use super::said;
use crate::support::{Answer, Gateway, answer, command, repository};

async fn metrics(gateway: &Gateway, credential: Option<(&str, &str)>) -> Answer {
    let request = gateway.request(Method::GET, "/metrics");
    answer(match credential {
        Some((name, value)) => request.header(name, value),
        None => request,
    })
    .await
}

async fn with_token(gateway: &Gateway, token: &str) -> u16 {
    let value = format!("Bearer {token}");
    metrics(gateway, Some(("authorization", &value))).await.status
}

/// Pushes as PHP does with a key, its clock so many seconds off.
async fn php(gateway: &Gateway, key: &str, target: &str, body: &str, seconds: i64) -> Answer {
    let output = Command::new("php")
        .arg(repository("tests/php/signed.php"))
        .args([&gateway.push.to_string(), target, body, &seconds.to_string()])
        .env("SIGNATURE_KEY", key)
        .output()
        .await
        .unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let (status, body) = output.split_once(' ').unwrap();
    said(status.parse().unwrap(), body)
}

fn unix_time() -> u64 {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

fn sign(key: &str, text: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    let tag = hmac::sign(&key, text.as_bytes());
    tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// So one can be exchanged: add the new one, have it used everywhere, remove the old one.
#[tokio::test]
async fn tokens_come_from_the_configuration_a_file_and_the_environment_and_all_are_good() {
    let dir = TempDir::new().unwrap();
    std::fs::write(
        dir.path().join("tokens"),
        "\u{feff}file-new\n# of March\n\n  file-old  \n",
    )
    .unwrap();
    let config = "listen = \"127.0.0.1:0\"\n[push]\ntoken = [\"list-new\", \"list-old\"]\n\
        token-file = \"tokens\"\ntoken-env = \"PUSH_TOKEN\"\n";
    std::fs::write(dir.path().join("aileron.toml"), config).unwrap();
    let mut command = command(dir.path());
    command.env("PUSH_TOKEN", "from-environment");
    let gateway = Gateway::start_by(command, dir).await;
    for token in ["list-new", "list-old", "file-new", "file-old", "from-environment"] {
        assert_eq!(with_token(&gateway, token).await, 200, "{token}");
    }
    for wrong in [
        "",
        "# of March",
        "of March",
        "list",
        "PUSH_TOKEN",
        "file-new\tfile-old",
    ] {
        assert_eq!(with_token(&gateway, wrong).await, 401, "{wrong}");
    }
    assert_eq!(metrics(&gateway, None).await.status, 401);
}

#[tokio::test]
async fn php_signs_what_it_pushes_with_any_key_that_is_configured() {
    let mut gateway = Gateway::start("[push]\nsignature-key = [\"new key\", \"old key\"]").await;
    let mut client = gateway.connect().await;
    let form = format!("client_id={}&message=signed", client.id);
    for key in ["new key", "old key"] {
        let pushed = php(&gateway, key, "/send", &form, 0).await;
        assert_eq!(pushed, said(200, "Message sent"), "{key}");
        assert_eq!(client.text().await, "signed");
    }
    let query = format!("/send?client_id={}&message=100%25&x=%c3%a9", client.id);
    let pushed = php(&gateway, "new key", &query, "", 0).await;
    assert_eq!(
        pushed,
        said(200, "Message sent"),
        "path and query are signed as they are sent"
    );
    assert_eq!(client.text().await, "100%");

    let refused = php(&gateway, "another key", "/send", &form, 0).await;
    assert_eq!(refused.status, 401);
    assert!(refused.body.contains("does not fit key"), "{refused:?}");
    for seconds in [-320, 320] {
        let refused = php(&gateway, "new key", "/send", &form, seconds).await;
        assert_eq!(refused.status, 401, "{seconds}");
        assert!(refused.body.contains("five minutes"), "{refused:?}");
    }
    for seconds in [-270, 270] {
        let pushed = php(&gateway, "new key", "/send", &form, seconds).await;
        assert_eq!(pushed.status, 200, "{seconds}");
        assert_eq!(client.text().await, "signed");
    }
    let unsigned = gateway.push(&form).await;
    assert_eq!(unsigned.status, 401);
    assert!(
        unsigned.body.contains("`Aileron-Signature: t=…,v1=…`"),
        "{unsigned:?}"
    );
    gateway
        .logged(&["WARN", "push refused", "Aileron-Signature"])
        .await;
    client.is_quiet().await;
}

const FORM: &str = "application/x-www-form-urlencoded";

/// What is signed of a push with an idempotency key.
fn signed(time: impl std::fmt::Display, body: &str) -> String {
    format!("{time}\nPOST\n/send\n{FORM}\nkey-1\n{body}")
}

#[tokio::test]
async fn a_signature_is_for_one_request_with_all_that_decides_what_it_does() {
    let gateway = Gateway::start("[push]\nsignature-key = \"key\"").await;
    let mut client = gateway.connect().await;
    let form = format!("client_id={}&message=m", client.id);
    let time = unix_time();
    let send = async |method: Method, target: &str, headers: [&str; 2], body: &str, signature: &str| {
        let request = gateway.request(method, target).body(body.to_owned());
        let request = request.header("content-type", headers[0]);
        let request = request.header("idempotency-key", headers[1]);
        answer(request.header("aileron-signature", signature))
            .await
            .status
    };
    let headers = [FORM, "key-1"];
    let code = sign("key", &signed(time, &form));
    let good = format!("t={time},v1={code}");
    let another = format!("{form}!");
    for (method, target, headers, body, signature) in [
        (Method::PUT, "/send", headers, &form, good.clone()),
        (Method::POST, "/send?", headers, &form, good.clone()),
        (Method::POST, "/sent", headers, &form, good.clone()),
        (
            Method::POST,
            "/send",
            ["application/json", "key-1"],
            &form,
            good.clone(),
        ),
        (Method::POST, "/send", [FORM, "key-2"], &form, good.clone()),
        (Method::POST, "/send", headers, &another, good.clone()),
        (
            Method::POST,
            "/send",
            headers,
            &form,
            format!("t={},v1={code}", time + 1),
        ),
        (
            Method::POST,
            "/send",
            headers,
            &form,
            format!("t={time}.0,v1={code}"),
        ),
        (
            Method::POST,
            "/send",
            headers,
            &form,
            format!("t={time},v1={}", &code[..62]),
        ),
        (Method::POST, "/send", headers, &form, format!("t={time},v1=")),
        (
            Method::POST,
            "/send",
            headers,
            &form,
            format!("t={time},v2={code}"),
        ),
        (Method::POST, "/send", headers, &form, format!("v1={code}")),
        (Method::POST, "/send", headers, &form, code.clone()),
    ] {
        let status = send(method.clone(), target, headers, body, &signature).await;
        assert_eq!(status, 401, "{method} {target} {headers:?} {signature}");
    }
    client.is_quiet().await;
    assert_eq!(send(Method::POST, "/send", headers, &form, &good).await, 200);
    assert_eq!(client.text().await, "m");
    let several = |code: &str| {
        let of_another_key = sign("old", "");
        format!(
            "t={time}, v1={of_another_key}, v1={}, v2=later",
            code.to_uppercase()
        )
    };
    for again in [good, several(&code)] {
        let status = send(Method::POST, "/send", headers, &form, &again).await;
        assert_eq!(status, 409, "{again}");
    }
    client.is_quiet().await;
    let code = sign("key", &format!("{time}\nGET\n/metrics\n\n\n"));
    let shown = metrics(&gateway, Some(("aileron-signature", &several(&code)))).await;
    assert_eq!(shown.status, 200);
}

/// Whoever has no key can have the gateway receive bodies, since those are signed, too.
#[tokio::test]
async fn what_strangers_send_with_wrong_signatures_is_bounded_and_keeps_nobody_out() {
    let gateway = Gateway::start("[push]\nsignature-key = \"key\"").await;
    let mut client = gateway.connect().await;
    let before = gateway.own_memory();
    let mut strangers = Vec::new();
    let length = 4 * 1024 * 1024;
    let time = unix_time();
    for _ in 0..40 {
        let mut stranger = TcpStream::connect(gateway.push).await.unwrap();
        let head = format!(
            "POST /send HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\
             Aileron-Signature: t={time},v1=00\r\n\r\n"
        );
        stranger.write_all(head.as_bytes()).await.unwrap();
        // All except for the last byte; one who is given up meanwhile may not get that far.
        let _ = stranger.write_all(&vec![b'x'; length - 1]).await;
        strangers.push(stranger);
    }
    let grown = gateway.own_memory().saturating_sub(before);
    assert!(grown < 64 * 1024 * 1024, "{grown} bytes for 160 MB");
    let given_up = gateway.request(Method::GET, "/metrics");
    let code = sign("key", &format!("{time}\nGET\n/metrics\n\n\n"));
    let page = answer(given_up.header("aileron-signature", format!("t={time},v1={code}"))).await;
    let line = "aileron_pushes_refused_total{cause=\"crowded\"} 3";
    assert!(page.body.contains(line), "{}", page.body);
    let form = format!("client_id={}&message=signed", client.id);
    assert_eq!(php(&gateway, "key", "/send", &form, 0).await.status, 200);
    assert_eq!(client.text().await, "signed");
}

#[tokio::test]
async fn with_both_configured_either_will_do() {
    let gateway = Gateway::start("[push]\ntoken = \"token\"\nsignature-key = \"key\"").await;
    let mut client = gateway.connect().await;
    let form = format!("client_id={}&message=m", client.id);
    assert_eq!(with_token(&gateway, "token").await, 200);
    assert_eq!(php(&gateway, "key", "/send", &form, 0).await.status, 200);
    assert_eq!(client.text().await, "m");
    for refused in [
        metrics(&gateway, None).await,
        metrics(&gateway, Some(("authorization", "Bearer key"))).await,
        php(&gateway, "token", "/send", &form, 0).await,
    ] {
        assert_eq!(refused.status, 401, "{refused:?}");
    }
    client.is_quiet().await;
}

#[tokio::test]
async fn pushes_come_from_allowed_addresses_only_and_need_their_credential_all_the_same() {
    let mut gateway = Gateway::start("[push]\ntoken = \"t\"\nallow = [\"10.0.0.0/8\", \"127.0.0.2\"]").await;
    let mut client = gateway.connect().await;
    let refused = metrics(&gateway, Some(("authorization", "Bearer t"))).await;
    assert_eq!(refused.status, 403);
    assert!(refused.body.contains("`allow` of [push]"), "{refused:?}");
    // What a header claims does not count.
    let claimed = gateway
        .request(Method::GET, "/metrics")
        .header("x-forwarded-for", "10.0.0.1");
    assert_eq!(answer(claimed.bearer_auth("t")).await.status, 403);
    gateway.logged(&["WARN", "push refused", "`allow`"]).await;

    let from = reqwest::Client::builder().local_address(std::net::IpAddr::from([127, 0, 0, 2]));
    let allowed = from.no_proxy().build().unwrap();
    let url = format!("http://{}/metrics", gateway.push);
    assert_eq!(answer(allowed.get(&url)).await.status, 401);
    let metrics = answer(allowed.get(&url).bearer_auth("t")).await;
    assert_eq!(metrics.status, 200);
    for line in [
        "aileron_pushes_refused_total{cause=\"address\"} 2",
        "aileron_pushes_refused_total{cause=\"credential\"} 1",
    ] {
        assert!(metrics.body.contains(line), "{line} is not in {}", metrics.body);
    }
    client.is_quiet().await;
}

#[tokio::test]
async fn credentials_are_never_shown() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("tokens"), "hunter2-file\n").unwrap();
    let config = "[push]\ntoken = [\"hunter2-list\"]\ntoken-file = \"tokens\"\ntoken-env = \"PUSH_TOKEN\"\n\
        signature-key = \"hunter2-key\"\n[log]\nfilter = \"trace\"\n";
    std::fs::write(
        dir.path().join("aileron.toml"),
        format!("listen = \"127.0.0.1:0\"\n{config}"),
    )
    .unwrap();
    let mut starting = command(dir.path());
    starting.env("PUSH_TOKEN", "hunter2-env");
    let gateway = Gateway::start_by(starting, dir).await;
    gateway.connect().await.is_quiet().await;
    for page in [
        "/live",
        "/ready",
        "/metrics",
        "/plugins",
        "/connections",
        "/topics",
        "/nothing",
    ] {
        let request = gateway.request(Method::GET, page).bearer_auth("hunter2-env");
        let shown = answer(request).await.body;
        assert!(!shown.contains("hunter2"), "{page}: {shown}");
    }
    for wrong in ["hunter2-lis", "hunter2-listed"] {
        let request = gateway.request(Method::GET, "/metrics").bearer_auth(wrong);
        let refused = answer(request).await;
        assert_eq!(refused.status, 401);
        assert!(!refused.body.contains("hunter2"), "{refused:?}");
    }
    php(&gateway, "hunter2-key", "/send", "client_id=1", -1000).await;
    assert_eq!(gateway.count_logged(&["hunter2"]), 0);

    // Nor by the complaints about the line where they stand.
    for wrong in [
        "token = [\"hunter2\", \"\"]",
        "token = hunter2",
        "signature-key = [\"hunter2\", 1]",
    ] {
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("aileron.toml"), format!("[push]\n{wrong}\n")).unwrap();
        let output = command(dir.path()).arg("check").output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert!(said.contains("*******") && !said.contains("hunter2"), "{said}");
    }
}
