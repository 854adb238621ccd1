//! What comes in and is not done with is bounded by `max-inbound`: handshakes, messages that are not whole, and messages that
//! wait for PHP, with the requests that are made of them.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::MIB;
use crate::support::{Bare, Gateway, masked};
use crate::upstreams::guarded::Guarded;

const INBOUND: &str = "aileron_inbound_bytes";
const CLOSED: &str = "aileron_inbound_closed_total";
const BOUND: usize = 32 * MIB;
/// Half of them send a whole message, half of them one of which a byte is missing.
const CLIENTS: usize = 400;
/// Closings while PHP is busy: with the memory of those that are closed the process would be far over its bound.
const CLOSINGS: f64 = 12.0;

/// What became of a message.
enum Fate {
    /// It was answered; the client is still there.
    Answered {
        _client: Bare,
    },
    Closed(u16, String),
    /// The gateway was gone before its close frame could be read.
    Lost,
}

/// Sends a message, and waits for what becomes of it.
async fn send(address: SocketAddr, message: Arc<Vec<u8>>) -> Fate {
    let mut client = Bare::connect(address, "/ws").await;
    if client.socket.write_all(&message).await.is_err() {
        return Fate::Lost;
    }
    match client.try_frame().await {
        Some((0x81, text)) => {
            assert_eq!(text, format!("{} ({MIB})", "&".repeat(20)));
            Fate::Answered { _client: client }
        }
        Some((0x88, close)) => {
            let (code, reason) = close.split_first_chunk().unwrap();
            let reason = String::from_utf8_lossy(reason).into_owned();
            Fate::Closed(u16::from_be_bytes(*code), reason)
        }
        other => {
            assert!(other.is_none(), "{other:?}");
            Fate::Lost
        }
    }
}

/// Sends all but the end of a message, as far as the gateway takes it, and never reads.
async fn send_in_part(address: SocketAddr, message: Arc<Vec<u8>>) -> TcpStream {
    let mut client = Bare::connect(address, "/ws").await;
    let _ = client.socket.write_all(&message[..message.len() - 1]).await;
    client.socket
}

/// Each message is a mebibyte, of bytes that are three in a form. Without the bound they are 400 MiB before the first form
/// is made; and with a bound for what is read, but not for the requests, or not for those who are being closed, far more
/// than it says.
#[tokio::test]
async fn messages_that_php_does_not_take_cost_no_more_than_the_bound_and_disturb_nobody() {
    let php = Guarded::start(4).await;
    let script = php.fpm.upstream("parting.php");
    let config = format!(
        "max-inbound = \"32MiB\"\nping-interval = 0\n[upstream]\nmax-requests = 1\nmax-wait = \"120s\"\ntimeout = \"120s\"\n{script}\
         [upstreams.beside]\n{script}[[route]]\npath = \"/beside\"\nupstream = \"beside\"\n"
    );
    let gateway = Gateway::start(&config).await;
    let mut neighbour = gateway.connect_to("/beside").await;
    // Plugins have seen messages of this size before it counts.
    for _ in 0..4 {
        let large = "&".repeat(MIB);
        assert_eq!(neighbour.ask(&large).await, format!("{} ({MIB})", "&".repeat(20)));
    }
    let mut holder = gateway.connect().await;
    holder.send("hold").await;
    php.has_noted(&format!("{} begin hold", holder.id)).await;
    let before = gateway.memory();

    let t0 = std::time::Instant::now();
    let message = Arc::new(masked(0x81, "&".repeat(MIB).as_bytes()));
    let (mut whole, mut in_part) = (JoinSet::new(), JoinSet::new());
    for _ in 0..CLIENTS / 2 {
        whole.spawn(send(gateway.clients, message.clone()));
        in_part.spawn(send_in_part(gateway.clients, message.clone()));
    }
    let (mut most, mut most_counted, mut n) = (0, 0.0_f64, 0);
    while gateway.metric(CLOSED).await < CLOSINGS {
        most = most.max(gateway.memory());
        most_counted = most_counted.max(gateway.metric(INBOUND).await);
        let question = format!("beside {n}");
        let answer = format!("{question} ({})", question.len());
        assert_eq!(neighbour.ask(&question).await, answer);
        n += 1;
    }
    println!("T {:?}", t0.elapsed());
    php.let_go();
    in_part.abort_all();
    while in_part.join_next().await.is_some() {}
    println!("T {:?}", t0.elapsed());
    let (mut answered, mut closed, mut lost) = (Vec::new(), 0, 0);
    while let Some(fate) = whole.join_next().await {
        most = most.max(gateway.memory());
        most_counted = most_counted.max(gateway.metric(INBOUND).await);
        match fate.unwrap() {
            answer @ Fate::Answered { .. } => answered.push(answer),
            Fate::Closed(code, reason) => {
                let expected = "too much has come in (max-inbound); connect again later";
                assert_eq!((code, reason.as_str()), (1013, expected));
                closed += 1;
            }
            Fate::Lost => lost += 1,
        }
    }
    println!("T {:?}", t0.elapsed());
    let more = most - before;
    println!(
        "{CLIENTS} clients with a mebibyte each: {more} bytes resident more, {most_counted} counted at most; {n} answers beside \
         it; of the whole messages {} answered, {closed} closed, {lost} lost",
        answered.len()
    );
    assert!(most_counted <= BOUND as f64, "{most_counted} bytes counted");
    assert!(more <= BOUND + CLIENTS * 4096 + 24 * MIB, "{more} bytes");
    assert!(closed > 0 && !answered.is_empty());
    assert_eq!(holder.text().await, "hold (4)");
    gateway.measures(INBOUND, 0.0).await;
    assert_eq!(neighbour.ask("after").await, "after (5)");
    assert_eq!(holder.ask("after").await, "after (5)");
}

/// Headers are kept as long as their connection.
#[tokio::test]
async fn long_heads_count_as_what_comes_in() {
    const HEADS: usize = 300;
    const HEAD: usize = 25_000;
    const FREE: usize = 4096;
    let gateway = Gateway::start("ping-interval = 0").await;
    let small = gateway.connect().await;
    let line = format!("X-More: {}\r\n", "x".repeat(4990));
    assert_eq!(line.len(), 5000);
    let headers = line.repeat(HEAD / line.len());
    let connect = || Bare::connect_with(gateway.clients, "/ws", &headers, b"");
    let clients = join_all((0..HEADS).map(|_| connect())).await;
    let expected = (HEADS * (HEAD - FREE)) as f64;
    gateway
        .shows_metric("all heads counted", INBOUND, |bytes| bytes >= expected)
        .await;
    let counted = gateway.metric(INBOUND).await;
    println!("{HEADS} heads of {HEAD} bytes: {counted} bytes counted");
    // The other lines of the request are short.
    assert!(counted <= expected + (HEADS * 500) as f64, "{counted} bytes");
    drop(clients);
    gateway.measures(INBOUND, 0.0).await;
    drop(small);
}
