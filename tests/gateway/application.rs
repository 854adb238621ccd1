//! Plain PHP behind the built-in plugin `application`: no plugin is written, and PHP decides who connects, hears who goes,
//! steers by headers and pushes to whomever it likes.

mod library;
mod pushing;
mod steering;

use serde_json::Value;

use crate::support::{Answer, Client, Fpm, Frame, Gateway, Nginx};

/// A gateway in front of `tests/php/application.php`.
pub(crate) async fn gateway(fpm: &Fpm, config: &str) -> Gateway {
    let upstream = fpm.upstream("application.php");
    Gateway::start(&format!(
        "{config}\n[upstream]\n{upstream}[plugins]\nbuilt-in = \"application\"\n"
    ))
    .await
}

/// Connects with a wish for PHP's answer to `open`.
pub(crate) async fn connect(
    gateway: &Gateway,
    wish: Value,
    headers: &[(&'static str, &str)],
) -> Result<Client, Answer> {
    let query: String = form_urlencoded::Serializer::new(String::new())
        .append_pair("wish", &wish.to_string())
        .finish();
    Client::try_connect(gateway.clients, &format!("/ws?{query}"), headers).await
}

/// What PHP answers to a message, as headers and a body.
pub(crate) fn wish(headers: &[&str], body: &str) -> String {
    serde_json::json!({"headers": headers, "body": body}).to_string()
}

#[tokio::test]
async fn php_lets_in_greets_and_sets_a_cookie() {
    let fpm = Fpm::start(2).await;
    let gateway = gateway(&fpm, "").await;
    let wish = serde_json::json!({
        "body": "welcome",
        "headers": ["Set-Cookie: seen=1; Path=/", "Aileron-Subprotocol: chat.v2", "Aileron-Attribute: user=ann+b"],
    });
    let mut client = connect(&gateway, wish, &[("sec-websocket-protocol", "chat.v2")])
        .await
        .unwrap();
    assert_eq!(client.headers["set-cookie"], "seen=1; Path=/");
    assert_eq!(client.headers["sec-websocket-protocol"], "chat.v2");
    assert!(client.headers.get("aileron-attribute").is_none());
    assert_eq!(client.text().await, "welcome");
    let post: Value = serde_json::from_str(&client.ask("post").await).unwrap();
    let expected = serde_json::json!({
        "type": "server", "message": "post", "client_id": client.id, "attributes": {"user": "ann b"},
    });
    assert_eq!(post, expected);
}

#[tokio::test]
async fn php_is_told_which_subprotocols_are_offered() {
    let fpm = Fpm::start(2).await;
    let gateway = gateway(&fpm, "").await;
    let offers = [("sec-websocket-protocol", "chat.v1, chat.v2")];
    let mut client = Client::try_connect(gateway.clients, "/ws?choose=1", &offers)
        .await
        .unwrap();
    assert_eq!(client.headers["sec-websocket-protocol"], "chat.v2");
    assert_eq!(client.ask("next").await, "next");
}

/// As in a browser: what `open` sets goes along with all that follows.
#[tokio::test]
async fn cookies_that_open_sets_count_from_then_on() {
    let sessions = tempfile::tempdir().unwrap();
    let pool = format!(
        "php_admin_value[session.save_path] = {}",
        sessions.path().display()
    );
    let fpm = Fpm::start_with(2, &pool).await;
    let gateway = gateway(&fpm, "").await;
    let cookies = [
        "Set-Cookie: a=2; Path=/",
        "Set-Cookie: b=; Max-Age=0",
        "Set-Cookie: c=3; Path=/elsewhere",
    ];
    let mut client = connect(
        &gateway,
        serde_json::json!({"headers": cookies}),
        &[("cookie", "a=1; b=1; d=4")],
    )
    .await
    .unwrap();
    assert_eq!(client.ask("HTTP_COOKIE").await, "d=4; a=2");

    let mut client = Client::try_connect(gateway.clients, "/ws?begin=ann", &[])
        .await
        .unwrap();
    assert!(
        client.headers["set-cookie"]
            .to_str()
            .unwrap()
            .starts_with("PHPSESSID=")
    );
    assert_eq!(client.ask("whoami").await, "ann");
}

#[tokio::test]
async fn php_refuses_with_its_own_status_and_body() {
    let fpm = Fpm::start(2).await;
    let gateway = gateway(&fpm, "").await;
    for status in [401, 403, 404, 500, 503] {
        let wish = serde_json::json!({"status": status, "body": "log in first"});
        let refused = connect(&gateway, wish, &[]).await.err().unwrap();
        assert_eq!((refused.status, refused.body.as_str()), (status, "log in first"));
    }
    assert_eq!(gateway.metric("aileron_connections_accepted_total").await, 0.0);
}

#[tokio::test]
async fn when_php_cannot_be_asked_nobody_is_let_in() {
    let mut fpm = Fpm::start(1).await;
    let gateway = gateway(&fpm, "").await;
    fpm.stop().await;
    assert_eq!(
        connect(&gateway, serde_json::json!({}), &[])
            .await
            .err()
            .unwrap()
            .status,
        502
    );
    fpm.restart().await;
    let upstream = fpm.upstream("application.php");
    let config =
        format!("[upstream]\ntimeout = \"200ms\"\n{upstream}[plugins]\nbuilt-in = \"application\"\n");
    let gateway = Gateway::start(&config).await;
    let wish = serde_json::json!({"sleep": 2000});
    assert_eq!(connect(&gateway, wish, &[]).await.err().unwrap().status, 504);
}

/// The browser's cookie goes along with every request, so `session_start()` knows the user as on any page.
#[tokio::test]
async fn a_php_session_identifies_the_user_over_the_websocket() {
    let sessions = tempfile::tempdir().unwrap();
    let path = format!(
        "php_admin_value[session.save_path] = {}",
        sessions.path().display()
    );
    let fpm = Fpm::start_with(2, &path).await;
    let nginx = Nginx::start(&fpm).await;
    // Straight to PHP-FPM, and by way of nginx.
    for upstream in [fpm.upstream("application.php"), nginx.upstream("application.php")] {
        let config = format!("[upstream]\n{upstream}[plugins]\nbuilt-in = \"application\"\n");
        let gateway = Gateway::start(&config).await;
        let page = nginx.address().parse().unwrap();
        let login = gateway.request_at(page, reqwest::Method::POST, "/application.php");
        let form = login
            .header("content-type", "application/x-www-form-urlencoded")
            .body("type=login&user=ann");
        let logged_in = form.send().await.unwrap();
        let cookie = logged_in.headers()["set-cookie"].to_str().unwrap();
        let cookie = cookie.split(';').next().unwrap().to_owned();
        assert!(cookie.starts_with("PHPSESSID="), "{cookie}");

        let mut client = Client::try_connect(gateway.clients, "/ws?session=1", &[("cookie", &cookie)])
            .await
            .unwrap();
        assert_eq!(client.ask("whoami").await, "ann");
        let post: Value = serde_json::from_str(&client.ask("post").await).unwrap();
        assert_eq!(post["attributes"]["user"], "ann");
        let mut stranger = Client::try_connect(gateway.clients, "/ws?session=1", &[])
            .await
            .unwrap();
        assert_eq!(stranger.ask("whoami").await, "nobody");
    }
}

#[tokio::test]
async fn the_browsers_headers_go_along_with_every_request() {
    let fpm = Fpm::start(2).await;
    let gateway = gateway(&fpm, "").await;
    let headers = [
        ("cookie", "a=1; b=2"),
        ("authorization", "Basic YTpi"),
        ("user-agent", "Firefox"),
        ("accept-language", "de, en;q=0.5"),
        ("origin", "https://127.0.0.1"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-proto", "https"),
    ];
    let mut client = Client::try_connect(gateway.clients, "/ws", &headers)
        .await
        .unwrap();
    let host = gateway.clients.to_string();
    for (variable, value) in [
        ("HTTP_COOKIE", "a=1; b=2"),
        ("HTTP_AUTHORIZATION", "Basic YTpi"),
        ("HTTP_USER_AGENT", "Firefox"),
        ("HTTP_ACCEPT_LANGUAGE", "de, en;q=0.5"),
        ("HTTP_ORIGIN", "https://127.0.0.1"),
        ("HTTP_X_FORWARDED_FOR", "192.0.2.1, 127.0.0.1"),
        ("HTTP_X_FORWARDED_PROTO", "https"),
        ("HTTP_X_FORWARDED_HOST", &host),
        ("HTTP_UPGRADE", ""),
        ("HTTP_SEC_WEBSOCKET_KEY", ""),
    ] {
        assert_eq!(client.ask(variable).await, value, "{variable}");
    }
}

/// What the article's application gets and gives is what it is with the default plugin.
#[tokio::test]
async fn the_articles_application_works_as_it_is() {
    let fpm = Fpm::start(2).await;
    let upstream = fpm.upstream("article.php");
    let gateway = Gateway::start(&format!(
        "[upstream]\n{upstream}[plugins]\nbuilt-in = \"application\"\n"
    ))
    .await;
    let mut client = gateway.connect().await;
    assert_eq!(
        client.text().await,
        "something wrong",
        "its word to an `open`, which it does not know"
    );
    assert_eq!(client.ask("name").await, format!("aileron to {}", client.id));
    client.send_binary(b"name").await;
    assert_eq!(
        client.next().await,
        Frame::Binary(format!("aileron to {}", client.id).into_bytes())
    );
}

#[tokio::test]
async fn a_schedule_asks_php_whose_answer_is_published() {
    let fpm = Fpm::start(2).await;
    let gateway = gateway(&fpm, "[[schedule]]\nname = \"prices\"\nevery = \"200ms\"\n").await;
    let wish = serde_json::json!({"headers": ["Aileron-Subscribe: ticks"]});
    let mut client = connect(&gateway, wish, &[]).await.unwrap();
    for _ in 0..2 {
        assert_eq!(client.text().await, "prices");
    }
}

/// After a crash, or a lost close event, PHP compares this with what it believes.
#[tokio::test]
async fn the_pages_tell_who_is_really_connected_and_in_which_topics() {
    let fpm = Fpm::start(2).await;
    let gateway = gateway(&fpm, "").await;
    let subscribed = |user: &str, topic: &str| {
        let user = format!("Aileron-Attribute: user={user}");
        serde_json::json!({"headers": [user, format!("Aileron-Subscribe: {topic}")]})
    };
    let ann = connect(&gateway, subscribed("ann", "a, b"), &[]).await.unwrap();
    let bob = connect(&gateway, subscribed("bob", "b"), &[]).await.unwrap();
    let page = async |path: &str| -> Value { serde_json::from_str(&gateway.get(path).await.body).unwrap() };

    let all = page("/connections").await;
    assert_eq!(all["count"], 2);
    assert!(all["node"]["started"].as_str().unwrap().ends_with('Z'), "{all}");
    let found = all["connections"]
        .as_array()
        .unwrap()
        .iter()
        .find(|found| found["id"] == *ann.id)
        .unwrap();
    assert_eq!(found["attributes"], serde_json::json!({"user": "ann"}));
    assert_eq!(found["topics"], serde_json::json!(["a", "b"]));
    assert_eq!(
        (&found["path"], &found["remote-address"]),
        (&"/ws".into(), &ann.id.as_str().into())
    );
    assert!(
        found["opened"].as_str() >= all["node"]["started"].as_str(),
        "{all}"
    );
    assert_eq!(
        page("/connections?topic=a").await["connections"][0]["id"],
        *ann.id
    );

    assert_eq!(page("/topics").await, serde_json::json!({"a": 1, "b": 2}));
    let b = page("/topics?name=b").await;
    assert_eq!(b["count"], 2);
    let members = serde_json::json!([{"name": "ann", "connections": 1}, {"name": "bob", "connections": 1}]);
    assert_eq!(b["members"], members);
    assert!(
        b["clients"].as_array().unwrap().contains(&bob.id.clone().into()),
        "{b}"
    );
    assert_eq!(page("/topics?name=none").await["count"], 0);
}
