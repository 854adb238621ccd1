//! Clients that send more than they should, or more than anybody can handle, and read nothing meanwhile: pings, fragments of
//! nothing, messages whose answers they leave lying, the longest messages while PHP is busy, goodbyes right behind a message,
//! and compressed messages of which little becomes much. Whatever they do, what they are due comes, and in order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use crate::gateway::support::{Frame, PATIENCE};
use crate::load::{Load, pause};
use crate::wire;

/// The plugin lets them in, and does what they say.
const LET_IN: &str = "/events?accept";

/// A WebSocket made by hand, of which the half that is read is by itself.
struct Reader {
    socket: OwnedReadHalf,
    read: Vec<u8>,
}

/// Connects by a handshake of `wire`.
async fn connect(load: &Load, handshake: &[u8]) -> (Reader, OwnedWriteHalf) {
    let socket = TcpStream::connect(load.gateway.clients).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let (socket, mut write) = socket.into_split();
    let mut reader = Reader {
        socket,
        read: Vec::new(),
    };
    write.write_all(handshake).await.unwrap();
    let end = |read: &[u8]| read.windows(4).position(|end| end == b"\r\n\r\n");
    let head = reader.take(|read| end(read).map(|at| at + 4)).await;
    assert!(
        head.starts_with(b"HTTP/1.1 101 "),
        "{}",
        String::from_utf8_lossy(&head)
    );
    (reader, write)
}

impl Reader {
    /// The next frame but for pings, which are left unanswered.
    async fn frame(&mut self) -> Vec<u8> {
        loop {
            let frame = self.take(wire::whole_frame).await;
            if frame[0] != 0x89 {
                return frame;
            }
        }
    }

    /// The next message, which is text.
    async fn message(&mut self) -> String {
        let (message, _) = wire::message(&self.frame().await);
        String::from_utf8(message).unwrap()
    }

    /// What has come, once it is whole.
    async fn take(&mut self, whole: impl Fn(&[u8]) -> Option<usize>) -> Vec<u8> {
        let coming = async {
            loop {
                if let Some(length) = whole(&self.read) {
                    return self.read.drain(..length).collect();
                }
                let n = self.socket.read_buf(&mut self.read).await.unwrap();
                assert_ne!(n, 0, "the gateway has gone");
            }
        };
        timeout(PATIENCE, coming).await.expect("it comes in time")
    }
}

/// Masked with zeros, as all that follows.
fn ping(payload: &[u8]) -> Vec<u8> {
    [
        &[0x89, 0x80 | u8::try_from(payload.len()).unwrap(), 0, 0, 0, 0],
        payload,
    ]
    .concat()
}

/// Sends pings and reads none of the pongs. When it reads at last, the last ping is answered.
pub async fn ping_and_never_read(load: Arc<Load>) {
    while load.goes_on() {
        let (mut reader, mut write) = connect(&load, &wire::handshake(LET_IN)).await;
        let burst = ping(&[b'x'; 100]).repeat(1000);
        let length = Duration::from_secs(fastrand::u64(3..12));
        let began = Instant::now();
        while load.goes_on() && began.elapsed() < length {
            write.write_all(&burst).await.unwrap();
            load.count_more("pings of a flood", 1000);
            pause(20, 60).await;
        }
        write.write_all(&ping(b"the last")).await.unwrap();
        loop {
            let pong = reader.frame().await;
            assert_eq!(pong[0], 0x8a);
            if pong.ends_with(b"the last") {
                break;
            }
        }
    }
}

/// Sends a message in a beginning, any number of fragments of nothing and an end. It is answered as if it were one piece.
pub async fn send_empty_fragments(load: Arc<Load>) {
    while load.goes_on() {
        let (mut reader, mut write) = connect(&load, &wire::handshake(LET_IN)).await;
        write.write_all(b"\x01\x86\0\0\0\0reply:").await.unwrap();
        let nothing = b"\0\x80\0\0\0\0".repeat(2000);
        let length = Duration::from_secs(fastrand::u64(3..15));
        let began = Instant::now();
        while load.goes_on() && began.elapsed() < length {
            write.write_all(&nothing).await.unwrap();
            load.count_more("fragments of nothing", 2000);
            pause(20, 60).await;
        }
        write.write_all(b"\x80\x84\0\0\0\0done").await.unwrap();
        assert_eq!(reader.message().await, "done");
    }
}

/// Asks again and again and reads no answer, until neither sockets nor queues take any more. When it reads at last, all of
/// them come in order.
pub async fn ask_and_never_read(load: Arc<Load>) {
    const QUESTIONS: usize = 600;
    while load.goes_on() {
        let (mut reader, mut write) = connect(&load, &wire::handshake(LET_IN)).await;
        let filler = "x".repeat(20_000);
        let asking = tokio::spawn({
            let filler = filler.clone();
            async move {
                for n in 0..QUESTIONS {
                    let question = format!("reply:{n}:{filler}");
                    write.write_all(&wire::text_frame(&question)).await.unwrap();
                }
                write
            }
        });
        pause(3000, 9000).await;
        for n in 0..QUESTIONS {
            assert!(
                reader.message().await == format!("{n}:{filler}"),
                "answer {n} is another"
            );
        }
        load.count_more("answers that waited for their reader", QUESTIONS as u64);
        asking.await.unwrap();
    }
}

/// Has several messages under way that are as long as they may be, on each of which PHP takes its time. They are answered in
/// order, except for those that came while PHP was away.
pub async fn keep_php_busy(load: Arc<Load>) {
    const LONGEST: usize = 1 << 20;
    const MESSAGES: u64 = 4;
    while load.goes_on() {
        let Some(mut client) = load.connect("/php").await else {
            continue;
        };
        let sent = Instant::now();
        for n in 0..MESSAGES {
            let wish = |filler: &str| json!({"sleep": 300, "body": format!("busy {n}"), "filler": filler});
            let room = LONGEST - wish("").to_string().len();
            client.send(&wish(&"x".repeat(room)).to_string()).await;
            load.count("longest messages to PHP");
        }
        let mut missing = 0..MESSAGES;
        while !missing.is_empty() {
            match timeout(Duration::from_secs(5), client.next()).await {
                Ok(Frame::Text(text)) => {
                    let n = text
                        .strip_prefix("busy ")
                        .unwrap_or_else(|| panic!("{text} came"));
                    let n = n.parse().unwrap();
                    assert!(missing.contains(&n), "{n} came, where {missing:?} were due");
                    assert!(
                        n == missing.start || load.outages.overlap(sent),
                        "{n} came instead of {}, and PHP is there",
                        missing.start
                    );
                    missing.start = n + 1;
                    load.count("longest messages answered by PHP");
                }
                Ok(other) => panic!("{other:?} came"),
                Err(_) if load.outages.overlap(sent) => break,
                Err(_) => assert!(sent.elapsed() < PATIENCE, "no answer, and PHP is there"),
            }
        }
        client.cut();
        pause(100, 1000).await;
    }
}

/// Says goodbye in the same breath as something else, which is done all the same: once, and in order.
pub async fn close_behind_a_message(load: Arc<Load>) {
    let mut listener = load
        .gateway
        .connect_to("/events?accept;subscribe:goodbyes;reply:in")
        .await;
    assert_eq!(listener.text().await, "in");
    let mut n = 0_u64;
    while load.goes_on() {
        n += 1;
        let (mut reader, mut write) = connect(&load, &wire::handshake(LET_IN)).await;
        let message = wire::text_frame(&format!("publish:goodbyes=goodbye {n}"));
        let close = b"\x88\x82\0\0\0\0\x03\xe8";
        write.write_all(&[&message[..], close].concat()).await.unwrap();
        assert_eq!(
            reader.frame().await,
            b"\x88\x02\x03\xe8",
            "the close frame is answered"
        );
        assert_eq!(listener.text().await, format!("goodbye {n}"));
        load.count("goodbyes behind a message");
        pause(20, 100).await;
    }
    listener.close().await;
}

/// Speaks and is spoken to in compressed messages. Now and then it sends little that becomes much, and is told so.
pub async fn speak_compressed(load: Arc<Load>) {
    while load.goes_on() {
        let (mut reader, mut write) = connect(&load, &wire::compressed_handshake(LET_IN)).await;
        for _ in 0..fastrand::usize(1..60) {
            let words = std::iter::repeat_with(|| ["lorem", "ipsum", "dolor"][fastrand::usize(..3)]);
            let text: Vec<_> = words.take(fastrand::usize(1..4000)).collect();
            let text = text.join(" ");
            let question = wire::compressed_frame(format!("reply:{text}").as_bytes());
            write.write_all(&question).await.unwrap();
            let frame = reader.frame().await;
            let (answer, is_compressed) = wire::message(&frame);
            assert!(answer == text.as_bytes(), "it is another");
            assert_eq!(is_compressed, text.len() >= 1024, "{}", text.len());
            load.count("compressed messages answered");
            pause(20, 100).await;
            if !load.goes_on() {
                break;
            }
        }
        if fastrand::bool() {
            let bomb = wire::compressed_frame(&vec![0; 16 << 20]);
            write.write_all(&bomb).await.unwrap();
            let close = reader.frame().await;
            assert!(
                close.starts_with(b"\x88") && close[2..4] == 1009_u16.to_be_bytes(),
                "{close:?}"
            );
            load.count("bombs refused");
        }
    }
}
