//! Who may push, and where: the token, web pages, listeners and paths, and what the gateway refuses to start with.

use std::net::SocketAddr;

use reqwest::Method;
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::Error;

use super::said;
use crate::support::{Answer, Client, Gateway, Nginx, Process, answer, command};

/// The gateway's own pages, and one that nobody answers.
const PAGES: [&str; 6] = [
    "/send",
    "/metrics",
    "/plugins",
    "/connections",
    "/topics",
    "/nothing",
];

async fn with_header(gateway: &Gateway, path: &str, name: &str, value: &str) -> Answer {
    answer(gateway.request(Method::GET, path).header(name, value)).await
}

#[tokio::test]
async fn with_a_token_nothing_is_answered_without_it() {
    let gateway = Gateway::start("[push]\ntoken = \"correct horse\"").await;
    let mut client = gateway.connect().await;
    let form = format!("client_id={}&message=pushed", client.id);
    for path in PAGES {
        assert_eq!(gateway.get(path).await.status, 401, "{path}");
        for wrong in [
            "Bearer wrong",
            "Bearer correct hors",
            "Bearer correct horses",
            "Bearer",
            "Basic correct horse",
            "correct horse",
        ] {
            let refused = with_header(&gateway, path, "authorization", wrong).await;
            assert_eq!(refused.status, 401, "{path} {wrong}");
            assert!(refused.body.contains("Authorization: Bearer"), "{refused:?}");
        }
    }
    assert_eq!(gateway.push(&form).await.status, 401);
    client.is_quiet().await;

    let challenge = gateway.request(Method::POST, "/send").send().await.unwrap();
    assert_eq!(challenge.headers()["www-authenticate"], "Bearer");

    for scheme in ["Bearer", "bearer", "BEARER"] {
        let credential = format!("{scheme} correct horse");
        let pushed = with_header(&gateway, &format!("/send?{form}"), "authorization", &credential).await;
        assert_eq!(pushed, said(200, "Message sent"));
        assert_eq!(client.text().await, "pushed");
        for page in ["/metrics", "/plugins", "/connections", "/topics"] {
            let answer = with_header(&gateway, page, "authorization", &credential).await;
            assert_eq!(answer.status, 200, "{page}");
        }
    }
}

/// Without a token every program on the machine may push, but a browser on it asks for what any page wants, and a proxy for
/// what anybody wants.
#[tokio::test]
async fn without_a_token_no_web_page_and_no_proxy_gets_in() {
    let gateway = Gateway::start("").await;
    let mut client = gateway.connect().await;
    let push = format!("/send?client_id={}&message=evil", client.id);
    let paths = [push.as_str(), "/connections", "/topics", "/plugins", "/metrics"];
    for (name, value, word) in [
        ("origin", "https://evil.example", "web page"),
        ("origin", "http://127.0.0.1:8080", "web page"),
        ("origin", "null", "web page"),
        // An image has no origin.
        ("sec-fetch-site", "cross-site", "web page"),
        ("sec-fetch-site", "same-site", "web page"),
        // DNS rebinding.
        ("host", "evil.example", "`evil.example`"),
        ("host", "localhost.evil.example:8080", "[push] hosts"),
        ("forwarded", "for=192.0.2.1", "`forwarded`"),
        ("via", "1.1 cache", "`via`"),
        ("x-forwarded-for", "192.0.2.1", "`x-forwarded-for`"),
        ("x-forwarded-port", "443", "[push] listen"),
        ("x-real-ip", "192.0.2.1", "`x-real-ip`"),
    ] {
        for path in paths {
            let refused = with_header(&gateway, path, name, value).await;
            assert_eq!(refused.status, 403, "{name}: {value} {path}");
            assert!(refused.body.contains(word), "{refused:?}");
            assert!(refused.body.contains("[push] token"), "{refused:?}");
        }
    }
    client.is_quiet().await;
    let push = format!("/send?client_id={}&message=good", client.id);
    for (name, value) in [
        ("accept", "*/*"),
        ("sec-fetch-site", "none"),
        ("sec-fetch-site", "same-origin"),
        ("host", "localhost"),
        ("host", "host.docker.internal:8080"),
        ("host", "[::1]:8080"),
    ] {
        let pushed = with_header(&gateway, &push, name, value).await;
        assert_eq!(pushed, said(200, "Message sent"), "{name}: {value}");
        assert_eq!(client.text().await, "good");
    }

    let gateway = Gateway::start("[push]\nhosts = [\"gateway.test\"]").await;
    for (host, status) in [("gateway.test:80", 200), ("host.docker.internal", 403)] {
        assert_eq!(
            with_header(&gateway, "/topics", "host", host).await.status,
            status,
            "{host}"
        );
    }
}

/// One whose locations are too wide makes everything public that the gateway answers.
#[tokio::test]
async fn behind_a_real_proxy_only_clients_get_in() {
    let mut gateway = Gateway::start("").await;
    gateway
        .logged(&["WARN", "pushes share the port of the clients", "[push] listen"])
        .await;
    let nginx = Nginx::in_front_of(gateway.clients, "127.0.0.1").await;
    let nginx: SocketAddr = nginx.address().parse().unwrap();
    let mut client = Client::connect(nginx, "/ws").await;
    let everyone = "/send?everyone=1&message=x";
    for path in [everyone, "/connections", "/topics", "/plugins", "/metrics"] {
        let refused = answer(gateway.request_at(nginx, Method::GET, path)).await;
        assert_eq!(refused.status, 403, "{path}");
    }
    client.is_quiet().await;
}

/// Load balancers send no credentials.
#[tokio::test]
async fn whether_it_lives_and_is_ready_anybody_may_ask_on_any_listener() {
    for config in [
        "",
        "listen = \"127.0.0.1:0\"\n[push]\nlisten = \"127.0.0.1:0\"\ntoken = \"t\"",
    ] {
        let gateway = Gateway::start(config).await;
        for listener in [gateway.clients, gateway.push] {
            for (path, body) in [("/live", "live\n"), ("/ready", "ready\n")] {
                let page = gateway.request_at(listener, Method::GET, path);
                let page = page
                    .header("x-forwarded-for", "192.0.2.1")
                    .header("host", "balancer");
                assert_eq!(answer(page).await, said(200, body), "{path} at {listener}");
            }
        }
    }
}

#[tokio::test]
async fn a_listener_of_its_own_parts_pushes_from_clients() {
    let gateway = Gateway::start("listen = \"127.0.0.1:0\"\n[push]\nlisten = \"127.0.0.1:0\"").await;
    assert_ne!(gateway.clients, gateway.push);
    let mut client = gateway.connect().await;
    let form = format!("client_id={}&message=pushed", client.id);
    assert_eq!(gateway.push(&form).await, said(200, "Message sent"));
    assert_eq!(client.text().await, "pushed");

    for path in PAGES {
        let path = format!("{path}?{form}");
        let refused = answer(gateway.request_at(gateway.clients, Method::GET, &path)).await;
        assert_eq!(refused.status, 404, "{path} where clients connect");
    }
    client.is_quiet().await;
    let refused = Client::connect_by(gateway.push, format!("ws://{}/ws", gateway.push)).await;
    match refused {
        Err(Error::Http(response)) => assert_eq!(response.status(), 404),
        other => panic!("{:?}", other.map(|client| client.id)),
    }
}

#[tokio::test]
async fn the_path_of_pushes_is_free_to_choose() {
    let gateway = Gateway::start("[push]\npath = \"/internal/push\"").await;
    let mut client = gateway.connect().await;
    let form = format!("client_id={}&message=pushed", client.id);
    let pushed = answer(gateway.request(Method::GET, &format!("/internal/push?{form}"))).await;
    assert_eq!(pushed, said(200, "Message sent"));
    assert_eq!(client.text().await, "pushed");
    for elsewhere in ["/send", "/internal/push/", "/internal", "/"] {
        let refused = answer(gateway.request(Method::GET, &format!("{elsewhere}?{form}"))).await;
        assert_eq!(refused.status, 404, "{elsewhere}");
    }
    client.is_quiet().await;
}

#[tokio::test]
async fn beyond_loopback_it_does_not_start_without_a_token() {
    for config in [
        "listen = \"0.0.0.0:0\"",
        "listen = \"127.0.0.1:0\"\n[push]\nlisten = \"0.0.0.0:0\"",
    ] {
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("aileron.toml"), config).unwrap();
        let mut process = Process::start(command(dir.path()));
        assert_eq!(process.exit_code().await, Some(64), "{config}");
        process
            .said(&["anyone who reaches 0.0.0.0:0 could push", "[push] token"])
            .await;

        let token = if config.contains("[push]") {
            "token = \"t\""
        } else {
            "[push]\ntoken = \"t\""
        };
        let gateway = Gateway::start(&format!("{config}\n{token}")).await;
        assert_eq!(gateway.get("/topics").await.status, 401);
        let topics = with_header(&gateway, "/topics", "authorization", "Bearer t").await;
        assert_eq!(topics.status, 200);
    }
}

/// What only clients reach may be open to all.
#[tokio::test]
async fn clients_may_come_from_everywhere_when_pushes_stay_on_loopback() {
    let gateway = Gateway::start("listen = \"0.0.0.0:0\"\n[push]\nlisten = \"127.0.0.1:0\"").await;
    assert!(gateway.clients.ip().is_unspecified());
    assert_eq!(gateway.get("/live").await, said(200, "live\n"));
}
