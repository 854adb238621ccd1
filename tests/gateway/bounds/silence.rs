//! Silence: of a client that is not read from it says nothing, of any other that it is gone. And messages that never end.

use tokio::io::AsyncWriteExt;

use super::CONNECTIONS;
use crate::support::{Bare, Frame, Gateway, masked};
use crate::upstreams::guarded::Guarded;

const TEXT: u8 = 0x81;

async fn impatient(php: &Guarded) -> Gateway {
    let config = format!(
        "ping-interval = \"200ms\"\npong-timeout = \"300ms\"\n[upstream]\ntimeout = \"60s\"\n{}",
        php.upstream()
    );
    Gateway::start(&config).await
}

/// Waits until the gateway has given up a client that does not answer pings.
async fn is_given_up(gateway: &mut Gateway, id: &str) {
    gateway
        .logged(&["connection lost", "no pong within 300ms (pong-timeout)", id])
        .await;
}

/// Lets time pass until the gateway has given up some that are silent, one after the other: 400 ms each at least.
async fn give_up_some(gateway: &mut Gateway, n: usize) {
    for _ in 0..n {
        let silent = Bare::connect(gateway.clients, "/ws").await;
        is_given_up(gateway, &silent.id()).await;
    }
}

/// More than is read ahead.
fn long_messages() -> impl Iterator<Item = String> {
    (0..4).map(|n| format!("{n}{}", "x".repeat(3000)))
}

/// It answers each ping; but its pongs stand behind messages that wait for PHP, and whoever does not read them must not take
/// it for dead.
#[tokio::test]
async fn a_client_whose_messages_wait_for_php_is_not_taken_for_dead() {
    let php = Guarded::start(2).await;
    let mut gateway = impatient(&php).await;
    let mut client = gateway.connect().await;
    let id = client.id.clone();
    client.send("hold").await;
    php.has_noted("hold").await;
    for message in long_messages() {
        client.send(&message).await;
    }
    let reading = tokio::spawn(async move {
        assert_eq!(client.text().await, "hold");
        for message in long_messages() {
            assert_eq!(client.text().await, message);
        }
        client
    });
    give_up_some(&mut gateway, 4).await;
    assert_eq!(gateway.metric(CONNECTIONS).await, 1.0);
    php.let_go();
    let mut client = reading.await.unwrap();
    assert_eq!(client.ask("again").await, "again");
    assert_eq!(gateway.count_logged(&["connection lost", &id]), 0);
}

/// Nothing hides its pongs: what is excused here would keep the dead as long as PHP takes.
#[tokio::test]
async fn a_silent_client_whose_message_is_at_php_is_given_up() {
    let php = Guarded::start(2).await;
    let mut gateway = impatient(&php).await;
    let mut client = Bare::connect(gateway.clients, "/ws").await;
    client.send(TEXT, b"hold").await;
    php.has_noted("hold").await;
    is_given_up(&mut gateway, &client.id()).await;
}

/// And so is one that is silent when it is read from again.
#[tokio::test]
async fn a_silent_client_is_given_up_when_its_messages_are_handled() {
    let php = Guarded::start(2).await;
    let mut gateway = impatient(&php).await;
    let mut client = Bare::connect(gateway.clients, "/ws").await;
    client.send(TEXT, b"hold").await;
    for message in long_messages() {
        client.send(TEXT, message.as_bytes()).await;
    }
    php.has_noted("hold").await;
    give_up_some(&mut gateway, 3).await;
    assert_eq!(gateway.count_logged(&["connection lost", &client.id()]), 0);
    php.let_go();
    is_given_up(&mut gateway, &client.id()).await;
    assert_eq!(php.notes().len(), 5, "all of it was handled");
}

/// The clock of a message starts with its first byte, whenever that comes: what came in the packet of the handshake is read
/// before there is a session.
#[tokio::test]
async fn a_message_that_begins_with_the_handshake_and_never_ends_closes_the_connection() {
    let gateway = Gateway::start("message-timeout = \"500ms\"").await;
    let mut neighbour = gateway.connect().await;
    let whole = masked(TEXT, &[b'x'; 1000]);
    let beginnings = [
        // A byte of a header, a header, a part of a frame, and a fragment.
        whole[..1].to_vec(),
        whole[..8].to_vec(),
        whole[..500].to_vec(),
        masked(0x01, b"fragment"),
    ];
    for beginning in beginnings {
        let (client, _) = Bare::connect_with(gateway.clients, "/ws", "", &beginning).await;
        assert_eq!(
            client.close().await,
            (
                1008,
                "a message was not there in time (message-timeout)".to_owned()
            ),
            "{} bytes",
            beginning.len()
        );
        neighbour.is_quiet().await;
    }
    // What is whole there is handled, and what begins behind it has its time.
    let mut behind = masked(0x89, b"ping");
    behind.push(0x81);
    let (mut client, _) = Bare::connect_with(gateway.clients, "/ws", "", &behind).await;
    assert_eq!(client.frame().await, (0x8a, "ping".into()));
    client.socket.write_all(&[0x80 | 4]).await.unwrap();
    assert_eq!(client.close().await.0, 1008);
}

/// Neither is a client idle whose question PHP has not answered yet, nor is an old connection closed before the answer.
#[tokio::test]
async fn an_answer_that_takes_long_comes_before_the_end_of_an_idle_or_an_old_connection() {
    for (key, reason) in [
        ("idle-timeout", "idle for 300ms"),
        ("max-age", "older than 300ms; connect again"),
    ] {
        let php = Guarded::start(2).await;
        let config = format!(
            "{key} = \"300ms\"\n[upstream]\ntimeout = \"60s\"\n{}",
            php.upstream()
        );
        let gateway = Gateway::start(&config).await;
        let mut client = gateway.connect().await;
        client.send("hold").await;
        php.has_noted("hold").await;
        // One after the other: their time is over several times.
        for _ in 0..3 {
            let silent = Bare::connect(gateway.clients, "/ws").await;
            assert_eq!(silent.close().await, (1001, reason.to_owned()));
        }
        php.let_go();
        assert_eq!(client.text().await, "hold");
        assert_eq!(client.next().await, Frame::Close(1001, reason.to_owned()));
    }
}
