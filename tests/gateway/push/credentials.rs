//! Tokens from everywhere, several at once; signatures that PHP makes; addresses; and that nothing of it is ever shown.

use reqwest::Method;
use ring::hmac;
use tempfile::TempDir;
use tokio::process::Command;

use super::said;
use crate::support::{Answer, Gateway, answer, command, repository};

async fn live(gateway: &Gateway, credential: Option<(&str, &str)>) -> Answer {
    let request = gateway.request(Method::GET, "/live");
    answer(match credential {
        Some((name, value)) => request.header(name, value),
        None => request,
    })
    .await
}

async fn with_token(gateway: &Gateway, token: &str) -> u16 {
    let value = format!("Bearer {token}");
    live(gateway, Some(("authorization", &value))).await.status
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
        "# of March\nfile-new\n\n  file-old  \n",
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
    assert_eq!(live(&gateway, None).await.status, 401);
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

#[tokio::test]
async fn a_signature_is_for_one_method_one_target_and_one_body() {
    let gateway = Gateway::start("[push]\nsignature-key = \"key\"").await;
    let mut client = gateway.connect().await;
    let form = format!("client_id={}&message=m", client.id);
    let time = unix_time();
    let send = async |method: Method, target: &str, body: &str, signature: &str| {
        let request = gateway.request(method, target).body(body.to_owned());
        let form = "application/x-www-form-urlencoded";
        let request = request.header("content-type", form);
        answer(request.header("aileron-signature", signature))
            .await
            .status
    };
    let code = sign("key", &format!("{time}\nPOST\n/send\n{form}"));
    let good = format!("t={time},v1={code}");
    assert_eq!(send(Method::POST, "/send", &form, &good).await, 200);
    assert_eq!(client.text().await, "m");
    let several = format!(
        "t={time}, v1={}, v1={}, v2=later",
        sign("old", ""),
        code.to_uppercase()
    );
    assert_eq!(send(Method::POST, "/send", &form, &several).await, 200);
    assert_eq!(client.text().await, "m");

    let another = format!("{form}!");
    for (method, target, body, signature) in [
        (Method::PUT, "/send", &form, good.clone()),
        (Method::POST, "/send?", &form, good.clone()),
        (Method::POST, "/sent", &form, good.clone()),
        (Method::POST, "/send", &another, good.clone()),
        (Method::POST, "/send", &form, format!("t={},v1={code}", time + 1)),
        (
            Method::POST,
            "/send",
            &form,
            format!("t={time},v1={}", &code[..62]),
        ),
        (Method::POST, "/send", &form, format!("t={time},v1=")),
        (Method::POST, "/send", &form, format!("t={time},v2={code}")),
        (Method::POST, "/send", &form, format!("v1={code}")),
        (Method::POST, "/send", &form, code.clone()),
    ] {
        let status = send(method.clone(), target, body, &signature).await;
        assert_eq!(status, 401, "{method} {target} {signature}");
    }
    client.is_quiet().await;
    let code = sign("key", &format!("{time}\nGET\n/live\n"));
    let signature = format!("t={time},v1={code}");
    assert_eq!(
        live(&gateway, Some(("aileron-signature", &signature))).await,
        said(200, "live\n")
    );
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
        live(&gateway, None).await,
        live(&gateway, Some(("authorization", "Bearer key"))).await,
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
    let refused = live(&gateway, Some(("authorization", "Bearer t"))).await;
    assert_eq!(refused.status, 403);
    assert!(refused.body.contains("`allow` of [push]"), "{refused:?}");
    // What a header claims does not count.
    let claimed = gateway
        .request(Method::GET, "/live")
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
        let request = gateway.request(Method::GET, "/live").bearer_auth(wrong);
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
