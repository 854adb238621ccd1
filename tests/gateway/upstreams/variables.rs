//! What PHP finds in `$_SERVER`, beside what nginx would have told it of the same browser: `tests/php/fastcgi/server.golden`
//! has both. `UPDATE_GOLDEN=1` writes it anew.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::{Client, Fpm, Gateway, Nginx, repository};

const BROWSER: [(&str, &str); 5] = [
    ("host", "shop.example"),
    ("cookie", "PHPSESSID=1; theme=dark"),
    ("user-agent", "Firefox"),
    ("accept-language", "de"),
    ("origin", "http://shop.example"),
];

#[tokio::test]
async fn php_finds_what_nginx_would_have_told_it() {
    let fpm = Fpm::start(2).await;
    let root = repository("tests/php/fastcgi");
    let nginx = Nginx::with_front_controller(&fpm, &root, "server.php").await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut request = reqwest::Client::builder()
        .no_proxy()
        .build()
        .unwrap()
        .post(format!("http://{}/websocket", nginx.address()))
        .header("accept", "application/json")
        .header("content-type", "application/x-www-form-urlencoded")
        .body("type=open");
    for (name, value) in BROWSER {
        request = request.header(name, value);
    }
    let by_nginx = variables(&request.send().await.unwrap().text().await.unwrap());

    let gateway = Gateway::start(&format!(
        "[upstream]\n{}path = \"/websocket\"\n[plugins]\nbuilt-in = \"application\"\n",
        fpm.upstream(root.join("server.php").to_str().unwrap())
    ))
    .await;
    let mut client = Client::try_connect(gateway.clients, "/ws", &BROWSER)
        .await
        .unwrap();
    // The answer to `open` is the first message.
    let by_gateway = variables(&client.text().await);
    assert_eq!(by_gateway["REMOTE_PORT"], client.id.rsplit_once(':').unwrap().1);

    let mut lines = Vec::new();
    let names: BTreeSet<_> = by_nginx.keys().chain(by_gateway.keys()).collect();
    for name in names {
        let shown = |side: &BTreeMap<String, String>| {
            side.get(name).map_or("-".to_owned(), |value| shown(name, value))
        };
        let (nginx, gateway) = (shown(&by_nginx), shown(&by_gateway));
        lines.push(if nginx == gateway {
            format!("{name}: {nginx}\n")
        } else {
            format!("{name}: nginx {nginx}, aileron {gateway}\n")
        });
    }
    let (golden, found) = (root.join("server.golden"), lines.concat());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &found).unwrap();
    }
    assert_eq!(found, std::fs::read_to_string(&golden).unwrap_or_default());
}

/// Over TLS, by a proxy that is trusted, and by one that is not.
#[tokio::test]
async fn php_knows_whether_the_browser_is_far_away_and_encrypted() {
    let fpm = Fpm::start(2).await;
    let upstream = format!("[upstream]\n{}", fpm.upstream("fastcgi/server.php"));
    let claims = [
        ("host", "shop.example"),
        ("x-forwarded-for", "192.0.2.7"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "https"),
    ];
    for (trusted, expected) in [
        (
            "trusted-proxies = [\"127.0.0.1\"]",
            [
                ("REMOTE_ADDR", Some("192.0.2.7")),
                ("REMOTE_PORT", Some("0")),
                ("HTTP_HOST", Some("shop.example")),
                ("SERVER_NAME", Some("shop.example")),
                ("SERVER_PORT", Some("443")),
                ("HTTPS", Some("on")),
                ("REQUEST_SCHEME", Some("https")),
            ],
        ),
        (
            "trusted-proxies = []",
            [
                ("REMOTE_ADDR", Some("127.0.0.1")),
                ("HTTP_HOST", Some("shop.example")),
                ("SERVER_NAME", Some("shop.example")),
                ("SERVER_PORT", Some("80")),
                ("HTTPS", None),
                ("REQUEST_SCHEME", Some("http")),
                ("HTTP_X_FORWARDED_FOR", None),
            ],
        ),
    ] {
        let gateway = Gateway::start(&format!("{trusted}\n{upstream}")).await;
        let mut client = Client::try_connect(gateway.clients, "/ws", &claims)
            .await
            .unwrap();
        let found = variables(&client.ask("variables").await);
        for (name, value) in expected {
            assert_eq!(found.get(name).map(String::as_str), value, "{trusted}: {name}");
        }
    }
}

fn variables(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// What differs from run to run is shown as a word.
fn shown(name: &str, value: &str) -> String {
    let root = repository("tests/php/fastcgi").display().to_string();
    match name {
        "SERVER_SOFTWARE" | "REMOTE_PORT" | "CONTENT_LENGTH" | "HTTP_AILERON_DEADLINE" | "USER" | "HOME" => {
            "…".to_owned()
        }
        "SERVER_PORT" if value != "80" => "…".to_owned(),
        _ => format!("`{}`", value.replace(&root, "ROOT")),
    }
}
