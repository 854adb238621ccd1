//! What comes in and is not done with is bounded by `max-inbound`: handshakes, messages that are not whole, and messages that
//! wait for PHP, with the requests that are made of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::MIB;
use crate::support::{Bare, Client, Gateway, QUICK, guest, masked};
use crate::upstreams::guarded::Guarded;

const INBOUND: &str = "aileron_inbound_bytes";
const CLOSED: &str = "aileron_inbound_closed_total";
const BOUND: usize = 32 * MIB;
const CLIENTS: usize = 400;
/// Until the last of all these messages has been answered.
const LONGEST: Duration = Duration::from_secs(100);

/// What became of a message.
enum Fate {
    /// It was answered; the client is still there.
    Answered { _client: Bare },
    /// The client was closed because there was no room.
    Closed,
    /// The gateway was gone before its close frame could be read.
    Lost,
}

/// Sends a message, and waits for what becomes of it.
async fn send(address: SocketAddr, message: Arc<Vec<u8>>) -> Fate {
    let mut client = Bare::connect(address, "/ws").await;
    if client.socket.write_all(&message).await.is_err() {
        return Fate::Lost;
    }
    let frame = timeout(LONGEST, client.try_frame()).await;
    match frame.expect("an answer or a close frame") {
        Some((0x81, text)) => {
            assert_eq!(text, answer());
            Fate::Answered { _client: client }
        }
        Some(frame) => {
            let reason = b"too much has come in (max-inbound); connect again later";
            let payload = [&1013_u16.to_be_bytes()[..], reason].concat();
            assert_eq!(frame, (0x88, payload.into()));
            Fate::Closed
        }
        None => Fate::Lost,
    }
}

/// Sends all but the end of a message, as far as the gateway takes it, and never reads.
async fn send_in_part(address: SocketAddr, message: Arc<Vec<u8>>) -> TcpStream {
    let mut client = Bare::connect(address, "/ws").await;
    let _ = client.socket.write_all(&message[..message.len() - 1]).await;
    client.socket
}

/// A gateway whose PHP has its one place taken until the test lets go, with a neighbour who does not need that place.
struct Busy {
    php: Guarded,
    gateway: Gateway,
    neighbour: Client,
    holder: Client,
    before: usize,
    most: usize,
    most_counted: f64,
    asked: usize,
}

impl Busy {
    async fn start() -> Self {
        let php = Guarded::start(4).await;
        let script = php.fpm.upstream("parting.php");
        let config = format!(
            "max-inbound = \"32MiB\"\nping-interval = 0\n[upstream]\nmax-requests = 1\nmax-wait = \"120s\"\n\
             timeout = \"120s\"\n{script}[upstreams.beside]\n{script}[plugins]\ntime-limit = \"5s\"\n\
             [[route]]\npath = \"/beside\"\nupstream = \"beside\"\n"
        );
        let gateway = Gateway::start(&config).await;
        let mut neighbour = gateway.connect_to("/beside").await;
        // Plugins have seen messages of this size before it counts.
        for _ in 0..4 {
            assert_eq!(neighbour.ask(&"&".repeat(MIB)).await, answer());
        }
        let mut holder = gateway.connect().await;
        holder.send("hold").await;
        php.has_noted(&format!("{} begin hold", holder.id)).await;
        let before = gateway.memory();
        Self {
            php,
            gateway,
            neighbour,
            holder,
            before,
            most: before,
            most_counted: 0.0,
            asked: 0,
        }
    }

    /// Looks at what is held.
    async fn look(&mut self) {
        self.most = self.most.max(self.gateway.memory());
        self.most_counted = self.most_counted.max(self.gateway.metric(INBOUND).await);
    }

    /// Whether so many clients have been closed because nobody else could go on. The neighbour is answered meanwhile.
    async fn has_closed(&mut self, n: usize) -> bool {
        self.look().await;
        let question = format!("beside {}", self.asked);
        let answer = format!("{question} ({})", question.len());
        assert_eq!(self.neighbour.ask(&question).await, answer);
        self.asked += 1;
        self.gateway.metric(CLOSED).await >= n as f64
    }

    /// PHP is done, and all is let go of.
    async fn ends(mut self, what: &str, clients: usize) {
        let more = self.most - self.before;
        let (counted, asked) = (self.most_counted, self.asked);
        println!("{what}: {more} bytes resident more, {counted} counted at most; {asked} answers beside it");
        assert_eq!(self.holder.text().await, "hold (4)");
        self.gateway.measures(INBOUND, 0.0).await;
        assert_eq!(self.neighbour.ask("after").await, "after (5)");
        assert_eq!(self.holder.ask("after").await, "after (5)");
        assert!(counted <= BOUND as f64, "{counted} bytes counted");
        assert!(more <= BOUND + clients * 4096 + 24 * MIB, "{more} bytes");
    }
}

/// A message of a mebibyte, of which each byte is three in a form.
fn large() -> Arc<Vec<u8>> {
    Arc::new(masked(0x81, "&".repeat(MIB).as_bytes()))
}

fn answer() -> String {
    format!("{} ({MIB})", "&".repeat(20))
}

/// Without the bound they are 400 MiB before the first form is made. Whole messages and such of which a byte is missing, from
/// clients that read and from clients that do not.
#[tokio::test]
async fn messages_that_php_does_not_take_cost_no_more_than_the_bound_and_disturb_nobody() {
    let mut busy = Busy::start().await;
    let (mut whole, mut in_part) = (JoinSet::new(), JoinSet::new());
    for _ in 0..CLIENTS / 2 {
        whole.spawn(send(busy.gateway.clients, large()));
        in_part.spawn(send_in_part(busy.gateway.clients, large()));
    }
    while !busy.has_closed(12).await {}
    busy.php.let_go();
    in_part.abort_all();
    while in_part.join_next().await.is_some() {}
    let (mut answered, mut closed, mut lost) = (Vec::new(), 0, 0);
    while let Some(fate) = whole.join_next().await {
        busy.look().await;
        match fate.unwrap() {
            answer @ Fate::Answered { .. } => answered.push(answer),
            Fate::Closed => closed += 1,
            Fate::Lost => lost += 1,
        }
    }
    assert!(closed > 0);
    // Those who had to wait for room get it when PHP takes messages again.
    assert!(answered.len() > CLIENTS / 4, "{}", answered.len());
    let what = format!(
        "{CLIENTS} clients with a mebibyte each, of the whole ones {} answered, {closed} closed, {lost} lost",
        answered.len()
    );
    busy.ends(&what, CLIENTS).await;
}

/// One client whose message PHP does not take, which is all that it holds, and somebody with many connections.
#[tokio::test]
async fn when_nobody_goes_on_the_address_that_holds_most_makes_room() {
    const CONNECTIONS: usize = 100;
    let mut busy = Busy::start().await;
    let honest = tokio::spawn(send(busy.gateway.clients, large()));
    busy.gateway
        .shows_metric("the message", INBOUND, |bytes| bytes >= 4.0 * MIB as f64)
        .await;
    let opening = (0..CONNECTIONS).map(|_| Bare::connect_from([127, 0, 0, 2], busy.gateway.clients, "/ws"));
    let mut many = JoinSet::new();
    for mut client in join_all(opening).await {
        let message = large();
        many.spawn(async move {
            // As far as the gateway takes it.
            let _ = client.socket.write_all(&message[..MIB / 2]).await;
            client
        });
    }
    while !busy.has_closed(6).await {}
    busy.php.let_go();
    assert!(matches!(honest.await.unwrap(), Fate::Answered { .. }));
    many.abort_all();
    while many.join_next().await.is_some() {}
    busy.ends("a message beside those of another address", CONNECTIONS)
        .await;
}

/// Who is to go is still sending, and says nothing to the close frame: what it still sends must not be kept until it is cut off.
#[tokio::test]
async fn those_who_are_closed_in_the_middle_of_a_message_cost_no_more_than_the_bound() {
    let mut busy = Busy::start().await;
    let mut in_part = JoinSet::new();
    for _ in 0..CLIENTS {
        in_part.spawn(send_in_part(busy.gateway.clients, large()));
    }
    while !busy.has_closed(60).await {}
    busy.php.let_go();
    in_part.abort_all();
    while in_part.join_next().await.is_some() {}
    let what = format!("{CLIENTS} clients with a part of a mebibyte each");
    busy.ends(&what, CLIENTS).await;
}

/// A request of one that was closed still waits for its turn, and is held as long as that: others must not get its room. A few
/// at a time, so that their messages get as far as that.
#[tokio::test]
async fn those_who_are_closed_while_php_is_to_be_asked_cost_no_more_than_the_bound() {
    // With their forms eight would just fit.
    const AT_A_TIME: usize = 10;
    let mut busy = Busy::start().await;
    let mut whole = JoinSet::new();
    let mut sent = 0;
    while !busy.has_closed(30).await {
        while whole.len() < AT_A_TIME {
            whole.spawn(send(busy.gateway.clients, large()));
            sent += 1;
        }
        // Whoever is closed makes place for another.
        while whole.try_join_next().is_some() {}
    }
    busy.php.let_go();
    while whole.join_next().await.is_some() {}
    let what = format!("{sent} clients with a mebibyte each, {AT_A_TIME} at a time");
    busy.ends(&what, sent).await;
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

/// A handshake that PHP is asked about takes room as long as that lasts, and a long one is refused where there is none.
#[tokio::test]
async fn handshakes_that_wait_for_php_count_as_what_comes_in() {
    const HEADS: usize = 200;
    let php = Guarded::start(2).await;
    let config = format!(
        "max-inbound = \"16MiB\"\n{QUICK}[upstream]\ntimeout = \"60s\"\nmax-wait = \"60s\"\nmax-requests = 1\n{}",
        php.fpm.upstream("parting.php")
    );
    let gateway = Gateway::with_plugins(&[("events", &guest("events"))], &config).await;
    let line = format!("X-More: {}\r\n", "x".repeat(4990));
    let shake = async |headers: String| {
        let mut socket = TcpStream::connect(gateway.clients).await.unwrap();
        let head = format!(
            "GET /ws?ask:hold HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = vec![0; 12];
        socket.read_exact(&mut answer).await.unwrap();
        (String::from_utf8(answer).unwrap(), socket)
    };
    let long = join_all((0..HEADS).map(|_| shake(line.repeat(5))));
    let short = async {
        gateway
            .shows_metric(
                "refused handshakes",
                "aileron_handshakes_total{result=\"max-inbound\"}",
                |n| n > 0.0,
            )
            .await;
        let counted = gateway.metric(INBOUND).await;
        println!("{HEADS} handshakes of 25 kB: {counted} bytes counted");
        assert!(counted <= 8.2 * MIB as f64, "{counted}");
        let let_in = shake(String::new());
        let go = async {
            gateway
                .shows_metric(
                    "all others refused",
                    "aileron_handshakes_total{result=\"max-inbound\"}",
                    |n| n >= (HEADS - 90) as f64,
                )
                .await;
            php.let_go();
        };
        tokio::join!(let_in, go).0
    };
    let (long, (short, _socket)) = tokio::join!(long, short);
    assert_eq!(short, "HTTP/1.1 101", "a short head is not in anybody's way");
    let (let_in, refused): (Vec<_>, Vec<_>) =
        long.into_iter().partition(|(answer, _)| answer == "HTTP/1.1 101");
    assert!(refused.iter().all(|(answer, _)| answer == "HTTP/1.1 503"));
    assert!((80..90).contains(&let_in.len()), "{} were let in", let_in.len());
    drop((let_in, refused));
    gateway.measures(INBOUND, 0.0).await;
}
