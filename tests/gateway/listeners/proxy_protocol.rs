use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::{connect_from, connections, ends, fact, handshake, handshakes, head_of, telling};
use crate::support::{Client, Gateway};

const ON: &str = "proxy-protocol = true";
const V1: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.9 4711 443\r\n";

/// A header of version 2 (command, family, addresses), by the specification and not by the parser's own builder.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    let signature = b"\r\n\r\n\0\r\nQUIT\n";
    [&signature[..], &[0x20 | command, family], &length, rest].concat()
}

/// Connects as a proxy does that was connected to from elsewhere.
async fn through(gateway: &Gateway, header: &[u8], headers: &[(&'static str, &str)]) -> Client {
    let mut socket = TcpStream::connect(gateway.clients).await.unwrap();
    let id = socket.local_addr().unwrap().to_string();
    socket.write_all(header).await.unwrap();
    let mut request = format!("ws://{}/ws", gateway.clients)
        .into_client_request()
        .unwrap();
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    Client::over(socket, id, request).await.unwrap()
}

#[tokio::test]
async fn both_versions_name_the_client_everywhere() {
    let gateway = telling(ON).await;
    let v4 = [192, 0, 2, 2, 198, 51, 100, 9, 0x12, 0x34, 0x01, 0xbb];
    // With what a proxy adds of its own, here the name that TLS was asked for.
    let with_more = [&v4[..], &[0x02, 0, 11], b"example.org"].concat();
    let v6 = [
        &[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..],
        &[0; 16],
        &[0, 80, 1, 0xbb],
    ]
    .concat();
    for (header, source, address) in [
        (V1.to_vec(), "192.0.2.1:4711", "192.0.2.1"),
        (
            b"PROXY TCP6 2001:db8::7 2001:db8::9 1 2\r\n".to_vec(),
            "[2001:db8::7]:1",
            "2001:db8::7",
        ),
        (v2(1, 0x11, &v4), "192.0.2.2:4660", "192.0.2.2"),
        (v2(1, 0x11, &with_more), "192.0.2.2:4660", "192.0.2.2"),
        (v2(1, 0x21, &v6), "[2001:db8::1]:80", "2001:db8::1"),
    ] {
        let mut client = through(&gateway, &header, &[]).await;
        assert_eq!(fact(&mut client, "remote-address").await.unwrap(), source);
        assert_eq!(fact(&mut client, "client-address").await.unwrap(), address);
        let listed = connections(&gateway).await;
        assert_eq!(
            (&listed[0]["id"], &listed[0]["remote-address"]),
            (&source.into(), &source.into())
        );
        client.close().await;
        gateway.measures("aileron_connections", 0.0).await;
    }
}

/// It passes bytes on, so what looks like a proxy's header was written by the client.
#[tokio::test]
async fn headers_of_a_client_behind_it_are_not_believed_unless_the_client_is_a_proxy_itself() {
    let gateway = telling(&format!(
        "{ON}\ntrusted-proxies = [\"127.0.0.1\", \"203.0.113.1\"]"
    ))
    .await;
    let claim = [("x-forwarded-for", "10.0.0.1")];
    let mut liar = through(&gateway, V1, &claim).await;
    assert_eq!(fact(&mut liar, "client-address").await.unwrap(), "192.0.2.1");
    assert_eq!(fact(&mut liar, "header.x-forwarded-for").await, None);
    let proxy = b"PROXY TCP4 203.0.113.1 198.51.100.9 4711 443\r\n";
    let mut proxied = through(&gateway, proxy, &claim).await;
    assert_eq!(fact(&mut proxied, "client-address").await.unwrap(), "10.0.0.1");
}

/// As when it looks whether the gateway is there.
#[tokio::test]
async fn a_proxy_may_speak_for_itself() {
    let gateway = telling(ON).await;
    for header in [v2(0, 0, &[]), b"PROXY UNKNOWN\r\n".to_vec()] {
        let mut client = through(&gateway, &header, &[]).await;
        assert_eq!(fact(&mut client, "remote-address").await.unwrap(), client.id);
    }
}

#[tokio::test]
async fn without_its_header_or_with_a_bad_one_a_connection_is_dropped_and_logged() {
    let mut gateway = telling(ON).await;
    let mut beside = through(&gateway, V1, &[]).await;
    let long = [&b"PROXY TCP4 "[..], &[b'1'; 200]].concat();
    let bad = [
        handshake("").into_bytes(),
        b"PROXY TCP4 192.0.2.1\r\n and more\r\n".to_vec(),
        long,
        v2(1, 0x11, &[1, 2, 3]),
        v2(1, 0x11, &[0; 5000]),
    ];
    for bytes in &bad {
        let mut socket = TcpStream::connect(gateway.clients).await.unwrap();
        let head = head_of(&mut socket, bytes).await;
        assert_eq!(head, "", "{}", bytes.escape_ascii());
    }
    gateway
        .measures(&handshakes("proxy-protocol"), bad.len() as f64)
        .await;
    gateway
        .logged(&[
            "WARN",
            "connection dropped",
            "does not begin with a header",
            "`proxy-protocol`",
        ])
        .await;
    beside.is_quiet().await;
}

#[tokio::test]
async fn only_trusted_proxies_may_connect() {
    let mut gateway = telling(&format!("{ON}\ntrusted-proxies = [\"127.0.0.2\"]")).await;
    let mut trusted = connect_from("127.0.0.2", gateway.clients).await;
    trusted.write_all(V1).await.unwrap();
    let url = format!("ws://{}/ws", gateway.clients);
    let mut beside = Client::over(trusted, String::new(), url).await.unwrap();
    let mut stranger = TcpStream::connect(gateway.clients).await.unwrap();
    let bytes = [V1, handshake("").as_bytes()].concat();
    assert_eq!(head_of(&mut stranger, &bytes).await, "");
    gateway
        .logged(&["WARN", "connection dropped", "`trusted-proxies`", "127.0.0.1:"])
        .await;
    gateway.measures(&handshakes("proxy-protocol"), 1.0).await;
    beside.is_quiet().await;
}

#[tokio::test]
async fn a_header_that_does_not_come_is_not_waited_for() {
    let gateway = telling(&format!("{ON}\nhandshake-timeout = \"2s\"")).await;
    let mut beside = through(&gateway, V1, &[]).await;
    for begun in [&b""[..], b"PROXY TCP4 192.0.2.1", &v2(1, 0x11, &[0; 12])[..20]] {
        let mut socket = TcpStream::connect(gateway.clients).await.unwrap();
        socket.write_all(begun).await.unwrap();
        ends(&mut socket).await;
    }
    gateway.measures(&handshakes("timeout"), 3.0).await;
    beside.is_quiet().await;
}

/// Pushes come by the same listener, and so by the same proxy.
#[tokio::test]
async fn curl_speaks_it_too() {
    let gateway = Gateway::start(&format!("{ON}\n[push]\ntoken = \"t\"")).await;
    let output = Command::new("curl")
        .args(["-s", "--haproxy-protocol", "-H", "Authorization: Bearer t"])
        .arg(format!("http://{}/live", gateway.push))
        .output()
        .await
        .unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "live\n");
}
