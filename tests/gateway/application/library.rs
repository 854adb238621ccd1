//! `examples/php/Aileron.php`, in front of which nothing is installed: an application answers and pushes with it.

use serde_json::{Value, json};

use crate::support::{Client, Fpm, Frame, Gateway, Nginx, free_port, repository};

const APPLICATION: &str = "[plugins]\nbuilt-in = \"application\"\n";

/// With these lines for the pool of PHP-FPM, in the section `[push]`, and in the section `[upstream]`.
async fn start(pool: &str, push: &str) -> (Fpm, Gateway) {
    let fpm = Fpm::start_with(4, pool).await;
    let upstream = fpm.upstream("library.php");
    let config = format!("[push]\n{push}\n[upstream]\n{upstream}{APPLICATION}");
    let gateway = Gateway::start(&config).await;
    (fpm, gateway)
}

async fn enter(gateway: &Gateway, user: &str) -> Client {
    let mut client = Client::try_connect(gateway.clients, &format!("/ws?user={user}"), &[])
        .await
        .unwrap();
    assert_eq!(client.text().await, "welcome to /ws");
    client
}

async fn asked(client: &mut Client, message: &str) -> Value {
    serde_json::from_str(&client.ask(message).await).unwrap()
}

#[tokio::test]
async fn handlers_decide_and_nothing_else_reaches_clients() {
    let (_fpm, gateway) = start("", "").await;
    let refused = Client::try_connect(gateway.clients, "/ws", &[])
        .await
        .err()
        .unwrap();
    assert_eq!((refused.status, &*refused.body), (401, "who are you?"));
    let offer = [("sec-websocket-protocol", "chat.v1, chat.v2")];
    let chosen = Client::try_connect(gateway.clients, "/ws?user=x", &offer)
        .await
        .unwrap();
    assert_eq!(chosen.headers["sec-websocket-protocol"], "chat.v2");

    let mut ann = enter(&gateway, "ann").await;
    let mut bob = enter(&gateway, "bob%20%26%20c").await;
    assert_eq!(ann.ask("hello").await, "HELLO");
    let who = asked(&mut bob, "who").await;
    assert_eq!(who, json!({"user": "bob & c", "id": bob.id}));
    // `print` gives 1, and what it prints is for the log.
    assert_eq!(ann.ask("print").await, "1");
    for failing in ["throw", "fatal", "two bodies"] {
        ann.send(failing).await;
        assert_eq!(ann.ask("next").await, "NEXT", "{failing}");
    }
    ann.send("publish").await;
    assert_eq!([bob.text().await, bob.text().await], ["published", "published"]);
    ann.send("binary").await;
    assert_eq!(ann.next().await, Frame::Binary(vec![0xff, 0]));
    ann.send("timer").await;
    assert_eq!(ann.text().await, "timer tea, time");
    ann.send("bye").await;
    assert_eq!(ann.next().await, Frame::Close(4001, "see you".to_owned()));
    drop(ann);
    assert_eq!(bob.text().await, "gone with 4001");
}

#[tokio::test]
async fn pushes_arrive_by_tcp_with_a_token_or_a_signature_and_by_a_unix_socket() {
    let port = free_port();
    let socket = tempfile::tempdir().unwrap();
    let socket = socket.path().join("push.sock");
    let tcp = format!("listen = \"127.0.0.1:{port}\"");
    let url = format!("env[AILERON_URL] = http://127.0.0.1:{port}");
    for (pool, push) in [
        (url.clone(), tcp.clone()),
        (
            format!("{url}\nenv[AILERON_TOKEN] = abc"),
            format!("{tcp}\ntoken = \"abc\""),
        ),
        (
            format!("{url}\nenv[AILERON_SIGNATURE_KEY] = def"),
            format!("{tcp}\nsignature-key = \"def\""),
        ),
        (
            format!("env[AILERON_URL] = unix:{}", socket.display()),
            format!("listen = \"unix:{}\"", socket.display()),
        ),
    ] {
        let (_fpm, gateway) = start(&pool, &push).await;
        let mut client = enter(&gateway, "ann").await;
        client.send("push").await;
        assert_eq!(client.text().await, "for the user", "{push}");
        assert_eq!(client.text().await, "for a client");
        let results: Value = serde_json::from_str(&client.text().await).unwrap();
        let expected = json!([
            [[client.id, "sent", 0], ["nobody", "not-found", 0]],
            [["news", "sent", 0]],
            [true, 1],
            0,
            1,
            [true, false],
            true,
            "sent",
        ]);
        assert_eq!(results, expected);
        let mistake = client.ask("mistake").await;
        assert!(
            mistake.starts_with("400: ") && mistake.contains("item 1"),
            "{mistake}"
        );
        let unreachable = client.ask("unreachable").await;
        assert!(
            unreachable.contains("cannot be reached at http://127.0.0.1:1"),
            "{unreachable}"
        );
        if push.contains("token") {
            let refused = client.ask("stranger").await;
            assert!(refused.starts_with("401: "), "{refused}");
        }
        let worked = asked(&mut client, "worker").await;
        let expected = json!([true, true, true, true, 1, true, 0, [true, false, false], true]);
        assert_eq!(worked, expected);
    }
}

/// In a document root anybody can ask for it.
#[tokio::test]
async fn only_the_gateway_is_answered() {
    let fpm = Fpm::start_with(2, "env[AILERON_SECRET] = shared").await;
    let nginx = Nginx::start_with_root(&fpm, &repository("tests/php")).await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let stranger = reqwest::Client::builder()
        .no_proxy()
        .build()
        .unwrap()
        .post(format!("http://{}/library.php", nginx.address()))
        .header("content-type", "application/x-www-form-urlencoded")
        .body("type=server&message=hello&attributes[user]=root");
    let refused = stranger.send().await.unwrap();
    assert_eq!(refused.status(), 403);
    let upstream = nginx.upstream("library.php");
    let config = format!("[upstream]\nsecret = \"shared\"\n{upstream}{APPLICATION}");
    let gateway = Gateway::start(&config).await;
    let mut client = enter(&gateway, "ann").await;
    assert_eq!(client.ask("hello").await, "HELLO");
}
