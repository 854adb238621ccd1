//! Frames that ask for nothing and never end: pings, pongs, empty fragments, empty messages, of clients that read nothing.
//!
//! The senders take the processor away from everybody. So a neighbour's time is compared with what it is while the same
//! frames go to readers that do nothing with them, in turns.

use std::io::{Write, copy, sink};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;

use super::median;
use crate::slow::gateway;
use crate::support::{Bare, Client, PATIENCE, masked};

const FRAMES: usize = 200_000;
const ROUNDS: usize = 5;
/// Exchanges of the neighbour, each round.
const ECHOES: usize = 200;

#[derive(Clone, Copy, Debug)]
pub(super) enum Flood {
    Pings,
    Pongs,
    Fragments,
    Messages,
}

impl Flood {
    /// What comes before it, once.
    fn first(self) -> Vec<u8> {
        match self {
            Self::Fragments => masked(0x01, b""),
            _ => Vec::new(),
        }
    }

    fn frame(self) -> Vec<u8> {
        match self {
            Self::Pings => masked(0x89, &[b'x'; 125]),
            Self::Pongs => masked(0x8a, &[b'x'; 125]),
            Self::Fragments => masked(0x00, b""),
            Self::Messages => masked(0x81, b""),
        }
    }

    /// The same, to be sent again and again without anything before it.
    pub(super) fn repeatable(self) -> Vec<u8> {
        match self {
            Self::Fragments => [self.first(), self.frame().repeat(20), masked(0x80, b"")].concat(),
            _ => self.frame(),
        }
    }

    /// A message that says that all before it is read.
    fn last(self) -> Vec<u8> {
        let first = match self {
            Self::Fragments => 0x80,
            _ => 0x81,
        };
        masked(first, b"publish:floods=done")
    }
}

/// What is sent at a time: many frames, so that there are always more than are read in a turn.
const PACKET: usize = 64 * 1024;

/// A flood that goes on.
pub(super) struct Running {
    is_over: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<Vec<TcpStream>>>,
}

/// Threads that send. One alone would not be as fast as the gateway reads.
const THREADS: usize = 4;

impl Running {
    /// Sends a frame again and again by each of these sockets: until it is told to stop, and at least so often.
    pub(super) fn begin(mut sockets: Vec<TcpStream>, frame: &[u8], least: usize) -> Self {
        let frames = PACKET / frame.len();
        let packet = frame.repeat(frames);
        let is_over = Arc::new(AtomicBool::new(false));
        let share = sockets.len().div_ceil(THREADS);
        let mut threads = Vec::new();
        while !sockets.is_empty() {
            let mut sockets = sockets.split_off(sockets.len().saturating_sub(share));
            let (stop, packet) = (is_over.clone(), packet.clone());
            threads.push(thread::spawn(move || {
                let mut sent = 0;
                while sent < least / THREADS || !stop.load(Ordering::Relaxed) {
                    for socket in &mut sockets {
                        socket.write_all(&packet).expect("the gateway reads on");
                        sent += frames;
                    }
                }
                sockets
            }));
        }
        Self { is_over, threads }
    }

    pub(super) fn end(self) -> Vec<TcpStream> {
        self.is_over.store(true, Ordering::Relaxed);
        let sockets = self.threads.into_iter().map(|thread| thread.join().unwrap());
        sockets.flatten().collect()
    }
}

/// Clients that read nothing.
pub(super) async fn deaf(gateway: SocketAddr, path: &str, n: usize) -> Vec<TcpStream> {
    let opening = (0..n).map(|_| Bare::connect(gateway, path));
    let sockets = join_all(opening).await.into_iter();
    let blocking = |client: Bare| blocking(client.socket.into_std().unwrap());
    sockets.map(blocking).collect()
}

fn blocking(socket: TcpStream) -> TcpStream {
    socket.set_nonblocking(false).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    // What waits in kernels is short, so that a flood ends soon after its last frame is sent.
    SockRef::from(&socket).set_send_buffer_size(PACKET).unwrap();
    socket
}

/// Connections to readers that throw away what comes.
fn thrown_away(n: usize) -> Vec<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let connect = |_| {
        let socket = TcpStream::connect(address).unwrap();
        let (mut reader, _) = listener.accept().unwrap();
        thread::spawn(move || copy(&mut reader, &mut sink()));
        blocking(socket)
    };
    (0..n).map(connect).collect()
}

async fn time_echoes(neighbour: &mut Client, times: &mut Vec<Duration>) {
    for n in 0..ECHOES {
        let began = Instant::now();
        assert_eq!(neighbour.ask(&format!("reply:{n}")).await, n.to_string());
        times.push(began.elapsed());
    }
}

/// A delay below this is not one that a neighbour notices, whatever else the machine does.
const NOTICED: Duration = Duration::from_micros(100);

async fn costs_nothing_and_disturbs_nobody(flood: Flood, clients: usize) {
    let gateway = gateway("ping-interval = 0").await;
    let mut watcher = gateway.connect_to("/ws?next;subscribe:floods;reply:in").await;
    assert_eq!(watcher.text().await, "in");
    let mut neighbour = gateway.connect().await;
    let mut wasted = thrown_away(clients);
    let mut flooding = deaf(gateway.clients, "/ws", clients).await;
    let [mut quiet, mut elsewhere, mut here] = [(); 3].map(|()| Vec::new());
    time_echoes(&mut neighbour, &mut Vec::new()).await;
    let before = gateway.memory();
    let mut most = before;
    let frame = flood.frame();
    for _ in 0..ROUNDS {
        time_echoes(&mut neighbour, &mut quiet).await;
        let running = Running::begin(wasted, &frame, 0);
        time_echoes(&mut neighbour, &mut elsewhere).await;
        wasted = running.end();
        for client in &mut flooding {
            client.write_all(&flood.first()).unwrap();
        }
        let running = Running::begin(flooding, &frame, FRAMES / ROUNDS);
        time_echoes(&mut neighbour, &mut here).await;
        most = most.max(gateway.memory());
        flooding = running.end();
        for client in &mut flooding {
            client.write_all(&flood.last()).unwrap();
        }
        for _ in 0..clients {
            assert_eq!(watcher.text().await, "done");
        }
        most = most.max(gateway.memory());
    }
    let more = most - before;
    let [quiet, elsewhere, here] = [&mut quiet, &mut elsewhere, &mut here].map(|times| median(times));
    println!(
        "{clients} clients, {flood:?}: {more} bytes resident more; half of a neighbour's answers within {here:?}, {elsewhere:?} \
         when the same goes elsewhere, {quiet:?} without"
    );
    // Answers that pile up would be 26 MB.
    assert!(more < 20_000_000, "{more} bytes");
    // A session that reads on as long as something comes keeps a thread for itself: that was 110 ms and more.
    assert!(here < 3 * elsewhere.max(quiet).max(NOTICED), "{here:?}");
}

#[tokio::test]
async fn a_flood_of_pings_costs_nothing_and_disturbs_nobody() {
    costs_nothing_and_disturbs_nobody(Flood::Pings, 20).await;
}

#[tokio::test]
async fn a_flood_of_pongs_costs_nothing_and_disturbs_nobody() {
    costs_nothing_and_disturbs_nobody(Flood::Pongs, 20).await;
}

#[tokio::test]
async fn a_flood_of_empty_messages_costs_nothing_and_disturbs_nobody() {
    costs_nothing_and_disturbs_nobody(Flood::Messages, 20).await;
}

#[tokio::test]
async fn a_flood_of_empty_fragments_costs_nothing_and_disturbs_nobody() {
    costs_nothing_and_disturbs_nobody(Flood::Fragments, 20).await;
}

/// More than there are processors.
#[tokio::test]
async fn four_clients_with_endless_empty_fragments_disturb_nobody() {
    costs_nothing_and_disturbs_nobody(Flood::Fragments, 4).await;
}

/// Whatever counts messages only never sees these.
#[tokio::test]
async fn fragments_and_pongs_count_as_frames() {
    let gateway = gateway("max-frames-per-second = 50").await;
    let mut neighbour = gateway.connect().await;
    for flood in [Flood::Fragments, Flood::Pongs] {
        let mut client = Bare::connect(gateway.clients, "/ws").await;
        let frames = [flood.first(), flood.frame().repeat(500)].concat();
        client.socket.write_all(&frames).await.unwrap();
        let (code, reason) = client.close().await;
        assert_eq!(code, 1008, "{flood:?}");
        assert_eq!(reason, "more than 50 frames in a second (max-frames-per-second)");
        assert_eq!(neighbour.ask("reply:still here").await, "still here");
    }
}
