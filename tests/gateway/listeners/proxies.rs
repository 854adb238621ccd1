use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::{connect_from, connections, fact, handshake, handshakes, head_of, telling};
use crate::application;
use crate::support::{Client, Fpm, Gateway, Nginx};

async fn client(gateway: &Gateway, headers: &[(&'static str, &str)]) -> Client {
    Client::try_connect(gateway.clients, "/ws", headers)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_trusted_proxy_names_the_client_and_pages_show_it() {
    let mut gateway = telling("").await;
    let mut direct = client(&gateway, &[]).await;
    assert_eq!(fact(&mut direct, "client-address").await.unwrap(), "127.0.0.1");
    let claims = [
        ("x-forwarded-for", "10.9.8.7, 192.0.2.1"),
        ("x-forwarded-proto", "https"),
    ];
    let mut proxied = client(&gateway, &claims).await;
    assert_eq!(fact(&mut proxied, "client-address").await.unwrap(), "192.0.2.1");
    assert_eq!(fact(&mut proxied, "remote-address").await.unwrap(), proxied.id);
    assert_eq!(
        fact(&mut proxied, "header.x-forwarded-proto").await.unwrap(),
        "https"
    );
    gateway
        .logged(&["connection opened", "client=192.0.2.1", &proxied.id])
        .await;
    let listed = connections(&gateway).await;
    let found = listed.iter().find(|found| found["id"] == *proxied.id).unwrap();
    assert_eq!(found["client-address"], "192.0.2.1");
}

#[tokio::test]
async fn what_a_stranger_claims_is_heard_by_nobody() {
    let gateway = telling("trusted-proxies = [\"192.0.2.0/24\"]").await;
    let claims = [
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-for", "192.0.2.2"),
        ("x-forwarded-host", "admin.example"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=192.0.2.1;proto=https"),
        ("x-real-ip", "192.0.2.1"),
        ("x-kept", "kept"),
    ];
    let mut liar = client(&gateway, &claims).await;
    assert_eq!(fact(&mut liar, "client-address").await.unwrap(), "127.0.0.1");
    for (name, _) in claims {
        let heard = fact(&mut liar, &format!("header.{name}")).await;
        assert_eq!(heard.is_some(), name == "x-kept", "{name}");
    }
}

#[tokio::test]
async fn php_hears_only_what_may_be_believed() {
    let fpm = Fpm::start(2).await;
    for (trusted, heard_for, heard_proto) in [
        ("", "192.0.2.1, 127.0.0.1", "https"),
        ("trusted-proxies = []", "127.0.0.1", "http"),
    ] {
        let gateway = application::gateway(&fpm, trusted).await;
        let claims = [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "https")];
        let mut client = client(&gateway, &claims).await;
        assert_eq!(client.ask("HTTP_X_FORWARDED_FOR").await, heard_for);
        assert_eq!(client.ask("HTTP_X_FORWARDED_PROTO").await, heard_proto);
    }
}

/// nginx comes from an address of its own, and adds the one that it was connected from behind whatever a client claims.
#[tokio::test]
async fn behind_nginx_each_client_has_its_own_address_whatever_it_claims() {
    let gateway = telling("trusted-proxies = [\"127.0.0.2\"]\nmax-connections-per-address = 1").await;
    let nginx = Nginx::in_front_of(gateway.clients, "127.0.0.2").await;
    let nginx = nginx.address().parse().unwrap();
    let mut clients = Vec::new();
    for address in ["127.0.0.3", "127.0.0.4"] {
        let socket = connect_from(address, nginx).await;
        let id = socket.local_addr().unwrap().to_string();
        let mut client = Client::over(socket, id, format!("ws://{nginx}/ws"))
            .await
            .unwrap();
        assert_eq!(fact(&mut client, "client-address").await.unwrap(), address);
        let remote = fact(&mut client, "remote-address").await.unwrap();
        assert!(remote.starts_with("127.0.0.2:"), "{remote}");
        clients.push(client);

        let mut liar = connect_from(address, nginx).await;
        let claim = handshake("X-Forwarded-For: 192.0.2.1\r\n");
        let head = head_of(&mut liar, claim.as_bytes()).await;
        assert!(head.starts_with("HTTP/1.1 429 "), "{head}");
    }
    for client in &mut clients {
        client.is_quiet().await;
    }
}

/// A proxy that appends a line of its own leaves the client's in front of it.
#[tokio::test]
async fn headers_in_several_lines_reach_plugins_and_php_as_one() {
    let headers = [
        ("x-forwarded-for", "10.9.8.7"),
        ("x-forwarded-for", "192.0.2.1"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
    ];
    let gateway = telling("").await;
    let mut told = client(&gateway, &headers).await;
    let forwarded = fact(&mut told, "header.x-forwarded-for").await.unwrap();
    assert_eq!(forwarded, "10.9.8.7, 192.0.2.1");
    assert_eq!(fact(&mut told, "client-address").await.unwrap(), "192.0.2.1");
    assert_eq!(fact(&mut told, "header.cookie").await.unwrap(), "a=1; b=2");
    let fpm = Fpm::start(2).await;
    let gateway = application::gateway(&fpm, "").await;
    let mut heard = client(&gateway, &headers).await;
    assert_eq!(
        heard.ask("HTTP_X_FORWARDED_FOR").await,
        "10.9.8.7, 192.0.2.1, 127.0.0.1"
    );
    assert_eq!(heard.ask("HTTP_COOKIE").await, "a=1; b=2");
}

/// Locations of nginx that are for other applications let nobody into the gateway's routes.
#[tokio::test]
async fn dot_segments_reach_no_route_in_any_spelling() {
    let mut gateway = Gateway::start("[[route]]\npath = \"/admin/*\"\n").await;
    for path in [
        "/public/../admin/ws",
        "/admin/../ws",
        "/admin/%2e%2e/ws",
        "/admin/..%2fws",
        "/admin/..%5Cws",
        "/admin/./ws",
        "/public/..%2f..%2fsend?everyone=1&message=x",
    ] {
        for request in [
            handshake("").replacen("/ws", path, 1),
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ] {
            let mut socket = TcpStream::connect(gateway.clients).await.unwrap();
            let head = head_of(&mut socket, request.as_bytes()).await;
            assert!(head.starts_with("HTTP/1.1 400 "), "{path}: {head}");
        }
    }
    gateway.logged(&["WARN", "handshake refused", "segments"]).await;
    assert!(gateway.metric(&handshakes("violation")).await >= 7.0);
    gateway.connect_to("/admin/ws").await.close().await;
}

/// What somebody sees who has forgotten a line in nginx, or has the path wrong.
#[tokio::test]
async fn a_proxy_without_its_line_and_a_wrong_path_are_told_what_to_change() {
    let mut gateway = Gateway::start("").await;
    let nginx = Nginx::without_http_1_1(gateway.clients).await;
    let mut socket = TcpStream::connect(nginx.address()).await.unwrap();
    let head = head_of(&mut socket, handshake("").as_bytes()).await;
    assert!(head.starts_with("HTTP/1.1 426 "), "{head}");
    gateway
        .logged(&[
            "WARN",
            "handshake refused",
            "HTTP/1.0",
            "`proxy_http_version 1.1;`",
        ])
        .await;
    for path in ["/ws/", "/websocket", "/"] {
        let refused = Client::try_connect(gateway.clients, path, &[])
            .await
            .err()
            .unwrap();
        assert_eq!(refused.status, 404, "{path}");
        assert!(refused.body.contains("the key `path`"), "{refused:?}");
    }
    gateway
        .logged(&["WARN", "handshake refused", "path=\"/ws/\"", "`path`"])
        .await;
    assert_eq!(gateway.metric(&handshakes("path")).await, 3.0);
}

/// The page could have been changed on its way, so it is not the same site.
#[tokio::test]
async fn a_page_without_tls_does_not_connect_with_tls_where_that_is_known() {
    let gateway = Gateway::start("").await;
    for (proto, origin, status) in [
        ("https", "https://127.0.0.1", None),
        ("https", "http://127.0.0.1", Some(403)),
        ("wss, http", "http://127.0.0.1", Some(403)),
        ("http", "http://127.0.0.1", None),
    ] {
        let headers = [("x-forwarded-proto", proto), ("origin", origin)];
        let refused = Client::try_connect(gateway.clients, "/ws", &headers).await.err();
        assert_eq!(refused.map(|refused| refused.status), status, "{proto} {origin}");
    }
}

/// Where IPv4 clients come in by an IPv6 listener.
#[tokio::test]
async fn an_address_of_ipv4_looks_like_one_wherever_it_is_shown() {
    let config = "listen = \"[::]:0\"\n[push]\nlisten = \"127.0.0.1:0\"\n";
    let mut gateway = Gateway::start(config).await;
    let listener = SocketAddr::from(([127, 0, 0, 1], gateway.clients.port()));
    let client = Client::connect(listener, "/ws").await;
    gateway.logged(&["connection opened", &client.id]).await;
    let listed = connections(&gateway).await;
    assert_eq!(listed[0]["id"], *client.id);
    assert_eq!(listed[0]["remote-address"], *client.id);
    assert_eq!(listed[0]["client-address"], "127.0.0.1");
}
