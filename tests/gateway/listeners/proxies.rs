use super::{connect_from, connections, fact, handshake, head_of, telling};
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
