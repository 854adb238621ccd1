//! Who may connect: origins, and what a plugin decides, by itself and after it has asked PHP.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{Answer, Client, Fpm, Frame, Gateway, QUICK, guest, put};

async fn gateway(config: &str) -> Gateway {
    Gateway::with_plugins(&[("10-events", &guest("events"))], &format!("{QUICK}{config}")).await
}

async fn connect(gateway: &Gateway, query: &str) -> Result<Client, Answer> {
    Client::try_connect(gateway.clients, &format!("/ws?{query}"), &[]).await
}

fn text(text: &str) -> Frame {
    Frame::Text(text.to_owned())
}

#[tokio::test]
async fn a_plugin_accepts_with_a_subprotocol_headers_and_a_greeting_and_the_connection_has_what_it_was_given()
{
    let gateway = gateway("").await;
    let path = "/ws?accept:chat.v2;set:user=ann;subscribe:news;reply:welcome;publish:news=first";
    let offers = [("sec-websocket-protocol", "chat.v1, chat.v2")];
    let mut client = Client::try_connect(gateway.clients, path, &offers).await.unwrap();
    assert_eq!(client.headers["sec-websocket-protocol"], "chat.v2");
    assert_eq!(client.headers["x-greeting"], "hello");
    assert_eq!(client.next().await, text("welcome"));
    assert_eq!(
        client.next().await,
        text("first"),
        "it hears what it publishes itself"
    );
    let id = client.id.clone();
    assert_eq!(
        client.ask(&format!("fact:{id}=attribute.user")).await,
        "Some(\"ann\")"
    );
    assert_eq!(
        client.ask(&format!("fact:{id}=subprotocol")).await,
        "Some(\"chat.v2\")"
    );
    assert_eq!(client.ask("topics").await, "news");
}

#[tokio::test]
async fn a_subprotocol_that_the_client_does_not_offer_is_not_agreed_on() {
    let mut gateway = gateway("").await;
    // A client that offers none would refuse an answer with one.
    let mut client = connect(&gateway, "accept:chat.v2;reply:in").await.unwrap();
    assert_eq!(client.next().await, text("in"));
    gateway.logged(&["WARN", "does not offer", "chat.v2"]).await;
}

#[tokio::test]
async fn a_plugin_refuses_with_status_headers_and_body() {
    let gateway = gateway("").await;
    for (wish, status) in [("reject:403", 403), ("reject:302", 302), ("reject:418", 418)] {
        let refused = connect(&gateway, wish).await.err().unwrap();
        assert_eq!(
            (refused.status, refused.body.as_str()),
            (status, "not you"),
            "{wish}"
        );
    }
    let answer = gateway
        .request_at(gateway.clients, reqwest::Method::GET, "/ws?reject:403")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["x-why"], "because");
    assert_eq!(
        gateway
            .metric("aileron_handshakes_total{result=\"plugin\"}")
            .await,
        4.0
    );
    assert_eq!(gateway.metric("aileron_connections_accepted_total").await, 0.0);
}

/// Who may connect is not decided by an accident.
#[tokio::test]
async fn a_plugin_that_traps_lets_nobody_in_and_the_next_handshake_works() {
    let mut gateway = gateway("").await;
    let refused = connect(&gateway, "trap").await.err().unwrap();
    assert_eq!(refused.status, 500);
    assert!(refused.body.contains("could not be decided"), "{refused:?}");
    gateway
        .logged(&["ERROR", "plugin failed", "event=\"open\""])
        .await;
    let mut client = connect(&gateway, "next;reply:in").await.unwrap();
    assert_eq!(client.next().await, text("in"));
}

/// Each hands on, and all that they want is done once the connection is open; a later one knows what an earlier one set.
#[tokio::test]
async fn handshakes_go_through_the_chain() {
    let gateway = gateway("").await;
    put(&gateway.plugin_file("20-events"), &guest("events"));
    gateway.serves("20-events", &guest("events")).await;
    let mut client = connect(&gateway, "next;set:user=ann;reply:hello").await.unwrap();
    assert_eq!(client.next().await, text("hello"));
    assert_eq!(client.next().await, text("hello"), "both greet");
    let mut client = connect(&gateway, "accept;reply:hello").await.unwrap();
    assert_eq!(client.next().await, text("hello"));
    client.is_quiet().await;
}

#[tokio::test]
async fn a_plugin_asks_php_before_it_decides() {
    let fpm = Fpm::start(2).await;
    let gateway = gateway(&format!("[upstream]\n{}", fpm.upstream("frames.php"))).await;
    let mut client = connect(&gateway, "ask:come%20in").await.unwrap();
    assert_eq!(client.next().await, text("come%20in"));
    let refused = connect(&gateway, "ask:status:403").await.err().unwrap();
    assert_eq!((refused.status, refused.body.as_str()), (403, "status 403"));
}

#[tokio::test]
async fn nobody_is_let_in_while_php_is_down() {
    let mut fpm = Fpm::start(2).await;
    let gateway = gateway(&format!("[upstream]\n{}", fpm.upstream("frames.php"))).await;
    fpm.stop().await;
    let refused = connect(&gateway, "ask:come").await.err().unwrap();
    assert_eq!(refused.status, 503);
    assert!(refused.body.starts_with("unreachable: "), "{refused:?}");
}

/// PHP has let it in, so PHP must hear that it is not there any more.
#[tokio::test]
async fn a_client_that_goes_while_php_decides_is_closed_like_any_other() {
    let fpm = Fpm::start(2).await;
    let gateway = gateway(&format!("[upstream]\n{}", fpm.upstream("frames.php"))).await;
    let mut watcher = connect(&gateway, "next;subscribe:closings;reply:watching")
        .await
        .unwrap();
    assert_eq!(watcher.next().await, text("watching"));
    let mut socket = TcpStream::connect(gateway.clients).await.unwrap();
    let head = "GET /ws?ask:sleep:500 HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    fpm.has_connections(1).await;
    let id = socket.local_addr().unwrap();
    drop(socket);
    let closed = watcher.text().await;
    assert!(closed.starts_with(&format!("{id} 1006 ")), "{closed}");
    gateway.measures("aileron_connections", 1.0).await;
}

#[tokio::test]
async fn by_default_pages_of_the_same_host_may_connect_and_programs_that_name_none() {
    let mut gateway = Gateway::start("").await;
    let connect = async |origin: &str| {
        Client::try_connect(gateway.clients, "/ws", &[("origin", origin)])
            .await
            .map(drop)
    };
    assert_eq!(connect("http://127.0.0.1:8000").await, Ok(()));
    assert_eq!(connect("https://127.0.0.1").await, Ok(()));
    for origin in ["https://evil.example", "http://localhost:8000", "null"] {
        let refused = connect(origin).await.unwrap_err();
        assert_eq!(refused.status, 403, "{origin}");
        assert!(refused.body.contains("`origins`"), "{refused:?}");
    }
    Client::connect(gateway.clients, "/ws").await.close().await;
    gateway
        .logged(&["WARN", "handshake refused", "https://evil.example", "`origins`"])
        .await;
    assert_eq!(
        gateway
            .metric("aileron_handshakes_total{result=\"origin\"}")
            .await,
        3.0
    );
}

/// Before any plugin: none of them needs to know what a browser does.
#[tokio::test]
async fn the_origins_that_are_listed_may_connect_and_no_plugin_hears_of_others() {
    let gateway = gateway("[log]\nfilter = \"info\"\n").await;
    let refused =
        Client::try_connect(gateway.clients, "/ws?trap", &[("origin", "https://evil.example")]).await;
    assert_eq!(refused.err().unwrap().status, 403, "not the 500 of the trap");

    let config = "origins = [\"https://example.org\", \"https://*.example.com\"]";
    let gateway = Gateway::start(config).await;
    for (origin, may) in [
        ("https://example.org", true),
        ("https://shop.example.com", true),
        ("http://example.org", false),
        ("http://127.0.0.1", false),
    ] {
        let result = Client::try_connect(gateway.clients, "/ws", &[("origin", origin)]).await;
        assert_eq!(result.is_ok(), may, "{origin}");
    }
    let gateway = Gateway::start("origins = \"*\"").await;
    let anyone = Client::try_connect(gateway.clients, "/ws", &[("origin", "https://evil.example")]).await;
    assert!(anyone.is_ok());
}
