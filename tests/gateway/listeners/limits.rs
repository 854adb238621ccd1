use futures_util::future::join_all;

use super::{connect_from, ends, handshake, handshakes, head_of};
use crate::support::{Answer, Client, Frame, Gateway, eventually};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::frame::{Frame as RawFrame, coding};
use tokio_tungstenite::tungstenite::{Message, protocol::frame::coding::OpCode};

/// With its pages where no limit of clients counts.
async fn gateway(config: &str) -> Gateway {
    let config = format!("listen = \"127.0.0.1:0\"\n{config}\n[push]\nlisten = \"127.0.0.1:0\"");
    Gateway::start(&config).await
}

async fn try_connect(gateway: &Gateway, headers: &[(&'static str, &str)]) -> Result<Client, Answer> {
    Client::try_connect(gateway.clients, "/ws", headers).await
}

/// Connects as soon as there is a place.
async fn get_in(gateway: &Gateway, headers: &[(&'static str, &str)]) -> Client {
    loop {
        if let Ok(client) = try_connect(gateway, headers).await {
            return client;
        }
    }
}

#[tokio::test]
async fn over_all_connections_that_there_may_be_clients_are_refused_until_one_goes() {
    let mut gateway = gateway("max-connections = 2").await;
    let mut first = gateway.connect().await;
    let second = gateway.connect().await;
    let mut refused = TcpStream::connect(gateway.clients).await.unwrap();
    let head = head_of(&mut refused, handshake("").as_bytes()).await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert!(head.contains("\r\nretry-after: 10\r\n"), "{head}");
    let refused = try_connect(&gateway, &[]).await.err().unwrap();
    assert!(refused.body.contains("`max-connections`"), "{refused:?}");
    assert_eq!(gateway.metric(&handshakes("max-connections")).await, 2.0);
    gateway
        .logged(&[
            "WARN",
            "a limit is reached",
            "limit=\"max-connections\"",
            "times=1",
        ])
        .await;
    first.is_quiet().await;

    second.close().await;
    get_in(&gateway, &[]).await.is_quiet().await;
    first.is_quiet().await;
}

#[tokio::test]
async fn one_address_has_its_share_and_others_get_in() {
    let mut gateway = gateway("max-connections-per-address = 2").await;
    let ann = [("x-forwarded-for", "192.0.2.1")];
    let mut clients = vec![
        try_connect(&gateway, &ann).await.unwrap(),
        try_connect(&gateway, &ann).await.unwrap(),
    ];
    let refused = try_connect(&gateway, &ann).await.err().unwrap();
    assert_eq!(refused.status, 429);
    assert!(
        refused.body.contains("`max-connections-per-address`"),
        "{refused:?}"
    );
    gateway
        .logged(&[
            "WARN",
            "limit=\"max-connections-per-address\"",
            "client=192.0.2.1",
        ])
        .await;
    assert_eq!(
        gateway.metric(&handshakes("max-connections-per-address")).await,
        1.0
    );
    for other in ["192.0.2.2", "2001:db8::1"] {
        clients.push(
            try_connect(&gateway, &[("x-forwarded-for", other)])
                .await
                .unwrap(),
        );
    }
    // Without a proxy the address of the socket counts.
    for _ in 0..2 {
        let socket = connect_from("127.0.0.9", gateway.clients).await;
        let id = socket.local_addr().unwrap().to_string();
        let url = format!("ws://{}/ws", gateway.clients);
        clients.push(Client::over(socket, id, url).await.unwrap());
    }
    let mut socket = connect_from("127.0.0.9", gateway.clients).await;
    let head = head_of(&mut socket, handshake("").as_bytes()).await;
    assert!(head.starts_with("HTTP/1.1 429 "), "{head}");
    for client in &mut clients {
        client.is_quiet().await;
    }
    clients.remove(0).close().await;
    get_in(&gateway, &ann).await.is_quiet().await;
}

/// The log stays readable, and who is in does not notice.
#[tokio::test]
async fn a_flood_of_handshakes_is_cut_to_its_rate() {
    let gateway = gateway("max-handshakes-per-second = 5").await;
    let mut beside = gateway.connect().await;
    let flood = join_all((0..100).map(|_| try_connect(&gateway, &[]))).await;
    let (accepted, refused): (Vec<_>, Vec<_>) = flood.into_iter().partition(Result::is_ok);
    assert!(
        !accepted.is_empty() && refused.len() > 10,
        "{} of 100",
        refused.len()
    );
    let refused: Vec<_> = refused.into_iter().filter_map(Result::err).collect();
    for answer in &refused {
        assert_eq!(answer.status, 503);
        assert!(answer.body.contains("`max-handshakes-per-second`"), "{answer:?}");
    }
    assert_eq!(
        gateway.metric(&handshakes("max-handshakes-per-second")).await,
        refused.len() as f64
    );
    let lines = gateway.count_logged(&["a limit is reached", "max-handshakes-per-second"]);
    assert!(lines * 5 < refused.len(), "{lines} lines");
    beside.is_quiet().await;
    get_in(&gateway, &[]).await.is_quiet().await;
}

/// It could take all of them, second after second.
#[tokio::test]
async fn a_flood_of_handshakes_from_one_address_leaves_some_to_the_others() {
    let gateway = gateway("max-handshakes-per-second = 20").await;
    let flooder = [("x-forwarded-for", "192.0.2.1")];
    for _ in 0..5 {
        let flood = join_all((0..50).map(|_| try_connect(&gateway, &flooder))).await;
        assert!(flood.iter().any(Result::is_err));
        assert!(try_connect(&gateway, &[]).await.is_ok());
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let gateway = gateway("").await;
    let mut beside = gateway.connect().await;
    for headers in [
        format!("X-Large: {}\r\n", "x".repeat(40_000)),
        "X-Many: x\r\n".repeat(5_000),
    ] {
        let mut socket = TcpStream::connect(gateway.clients).await.unwrap();
        let head = head_of(&mut socket, handshake(&headers).as_bytes()).await;
        // What is closed before all of it is read may lose the answer on its way.
        assert!(head.is_empty() || head.starts_with("HTTP/1.1 431 "), "{head}");
        ends(&mut socket).await;
    }
    beside.is_quiet().await;
    let most = format!("X-Large: {}\r\n", "x".repeat(30_000));
    let mut socket = TcpStream::connect(gateway.clients).await.unwrap();
    let head = head_of(&mut socket, handshake(&most).as_bytes()).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
}

/// Compressed messages of strangers are a way to take memory and time.
#[tokio::test]
async fn compression_is_never_agreed_on() {
    let gateway = gateway("").await;
    let offer = "permessage-deflate; client_max_window_bits, permessage-deflate";
    let mut client = try_connect(&gateway, &[("sec-websocket-extensions", offer)])
        .await
        .unwrap();
    assert!(client.headers.get("sec-websocket-extensions").is_none());
    client.is_quiet().await;
    // A compressed message all the same breaks the protocol (RFC 6455 section 5.2).
    let mut frame = RawFrame::message("packed", OpCode::Data(coding::Data::Text), true);
    frame.header_mut().rsv1 = true;
    client.send_frame(Message::Frame(frame)).await;
    assert!(matches!(client.next().await, Frame::Close(1002, _)));
    let gone = || (gateway.count_logged(&["closed for a violation"]) == 1).then_some(());
    eventually("the violation is logged", gone).await;
}

/// A connection of the clients' listener is for one handshake.
#[tokio::test]
async fn who_asks_for_something_else_gets_one_answer() {
    let gateway = gateway("").await;
    let mut socket = TcpStream::connect(gateway.clients).await.unwrap();
    let request = "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let head = head_of(&mut socket, request.repeat(2).as_bytes()).await;
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    ends(&mut socket).await;
}
