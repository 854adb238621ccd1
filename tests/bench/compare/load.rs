//! The load: a closed loop over many sockets by one thread, which does nothing but write what is ready made and count what
//! comes back. Each socket sends its next request when the answer to the last is there.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use mio::event::Source;
use mio::{Events, Interest, Poll, Token};
use rustix::time::{ClockId, clock_gettime};
use socket2::{Domain, Type};

use crate::wire;

/// How long an answer may take before it is missed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A kind of exchange.
pub struct Exchange {
    /// Where it goes.
    pub place: Place,
    /// What is sent and answered once, before the first request: a handshake. May be empty.
    pub hello: Vec<u8>,
    pub request: Vec<u8>,
    /// What each answer holds: another one would be an error, which is quickly made.
    pub answer: Vec<u8>,
    /// The length of the answer at the front of these bytes, once it is there as a whole.
    pub whole: fn(&[u8]) -> Option<usize>,
}

pub enum Place {
    Tcp(SocketAddr),
    Unix(String),
}

/// What came of a load.
pub struct Measured {
    pub elapsed: Duration,
    /// For each answer when it came, after the start, and how long it took.
    pub answers: Vec<(Duration, Duration)>,
    /// What the load itself took of the processors.
    pub cpu: Duration,
}

impl Measured {
    pub fn per_second(&self) -> f64 {
        self.answers.len() as f64 / self.elapsed.as_secs_f64()
    }

    pub fn percentile(&self, share: f64) -> Duration {
        percentile(self.answers.iter().map(|(_, took)| *took), share)
    }
}

pub fn percentile(durations: impl Iterator<Item = Duration>, share: f64) -> Duration {
    let mut sorted: Vec<_> = durations.collect();
    sorted.sort_unstable();
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

pub trait Stream: Read + Write + Source + Send + Sync {}
impl<S: Read + Write + Source + Send + Sync> Stream for S {}

pub trait ReadWrite: Read + Write {}
impl<S: Read + Write> ReadWrite for S {}

/// Waits for each answer in the kernel.
pub struct Client<'a> {
    exchange: &'a Exchange,
    stream: Box<dyn ReadWrite>,
    buffer: Vec<u8>,
}

pub struct Socket {
    /// The address of its own, by which the gateway knows it; empty if it has none.
    pub id: String,
    stream: Box<dyn Stream>,
    sent: Instant,
    /// What has come of an answer that is not whole.
    rest: Vec<u8>,
}

impl Exchange {
    /// A text over a WebSocket, and the same text back.
    pub fn text(address: SocketAddr, path: &str, text: &str) -> Self {
        Self {
            place: Place::Tcp(address),
            hello: wire::handshake(path),
            request: wire::text_frame(text),
            answer: text.into(),
            whole: wire::whole_frame,
        }
    }

    /// The length of the answer at the front of these bytes, once it is there as a whole. It must be the right one.
    fn answered(&self, bytes: &[u8]) -> Option<usize> {
        let length = (self.whole)(bytes)?;
        let answer = &bytes[..length];
        let is_right = answer.windows(self.answer.len()).any(|part| part == self.answer);
        assert!(is_right, "{:?}", String::from_utf8_lossy(answer));
        Some(length)
    }

    /// Connects, and shakes hands. From an address of loopback, of which each has ports of its own.
    pub fn connect(&self, n: usize) -> Socket {
        let mut id = String::new();
        let stream: Box<dyn Stream> = match &self.place {
            Place::Tcp(address) => {
                let stream = connect_from(n, *address);
                id = stream.local_addr().unwrap().to_string();
                stream.set_nodelay(true).unwrap();
                self.shake_hands(&stream);
                stream.set_nonblocking(true).unwrap();
                Box::new(mio::net::TcpStream::from_std(stream))
            }
            Place::Unix(path) => {
                let stream = UnixStream::connect(path).unwrap();
                stream.set_nonblocking(true).unwrap();
                Box::new(mio::net::UnixStream::from_std(stream))
            }
        };
        Socket {
            id,
            stream,
            sent: Instant::now(),
            rest: Vec::new(),
        }
    }

    pub fn connect_all(&self, sockets: usize) -> Vec<Socket> {
        (0..sockets).map(|n| self.connect(n)).collect()
    }

    fn shake_hands(&self, mut stream: &TcpStream) {
        if self.hello.is_empty() {
            return;
        }
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&self.hello).unwrap();
        let mut head = Vec::new();
        // Byte by byte: what comes behind the head is a frame.
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        let head = String::from_utf8_lossy(&head);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    }

    /// The simplest of all clients, connected.
    pub fn client(&self) -> Client<'_> {
        let stream: Box<dyn ReadWrite> = match &self.place {
            Place::Tcp(address) => {
                let stream = TcpStream::connect(address).unwrap();
                stream.set_nodelay(true).unwrap();
                self.shake_hands(&stream);
                Box::new(stream)
            }
            Place::Unix(path) => Box::new(UnixStream::connect(path).unwrap()),
        };
        Client {
            exchange: self,
            stream,
            buffer: vec![0; 64 * 1024],
        }
    }

    /// One request after the other by one client.
    pub fn alone(&self, time: Duration) -> Measured {
        let mut client = self.client();
        measure(|start| {
            let mut answers = Vec::new();
            while start.elapsed() < time {
                let sent = Instant::now();
                client.ask();
                answers.push((start.elapsed(), sent.elapsed()));
            }
            answers
        })
    }

    /// Over all these sockets at once for so long, to the last answer. `meanwhile` is called again and again.
    pub fn run(
        &self,
        sockets: &mut [Socket],
        time: Duration,
        mut meanwhile: impl FnMut(Duration),
    ) -> Measured {
        measure(|start| {
            let mut answers = Vec::new();
            let mut under_way = sockets.len();
            for socket in &mut *sockets {
                socket.ask(&self.request);
            }
            let is_done = Attention::to(sockets).attend(PATIENCE, |socket, bytes| {
                socket.take(bytes, self, |socket| {
                    let now = start.elapsed();
                    answers.push((now, socket.sent.elapsed()));
                    if now < time {
                        socket.ask(&self.request);
                    } else {
                        under_way -= 1;
                    }
                });
                meanwhile(start.elapsed());
                under_way > 0
            });
            assert!(is_done, "{under_way} answers did not come within {PATIENCE:?}");
            answers
        })
    }

    /// Waits until so many frames have come by these sockets as there are sockets, which is what `publish` is for, or none
    /// comes for so long. All of them are listened to before it begins.
    pub fn receive(
        &self,
        sockets: &mut [Socket],
        patience: Duration,
        publish: impl FnOnce() + Send,
    ) -> Measured {
        let mut missing = sockets.len();
        let mut attention = Attention::to(sockets);
        measure(|start| {
            let mut answers = Vec::with_capacity(missing);
            std::thread::scope(|scope| {
                scope.spawn(publish);
                attention.attend(patience, |socket, bytes| {
                    socket.take(bytes, self, |_| {
                        let now = start.elapsed();
                        answers.push((now, now));
                        missing -= 1;
                    });
                    missing > 0
                });
            });
            answers
        })
    }

    /// The first frame that comes by a socket, as it comes.
    pub fn first_frame(&self, socket: &mut Socket, publish: impl FnOnce() + Send) -> Vec<u8> {
        let mut frame = Vec::new();
        let mut attention = Attention::to(std::slice::from_mut(socket));
        std::thread::scope(|scope| {
            scope.spawn(publish);
            attention.attend(PATIENCE, |_, bytes| {
                frame.extend(bytes);
                (self.whole)(&frame).is_none()
            });
        });
        assert_eq!((self.whole)(&frame), Some(frame.len()));
        frame
    }
}

/// Ports of one address are few where tens of thousands connect.
fn connect_from(n: usize, to: SocketAddr) -> TcpStream {
    let from = SocketAddr::from(([127, 0, 1, u8::try_from(n / 2000).unwrap()], 0));
    let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&from.into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

fn measure(run: impl FnOnce(Instant) -> Vec<(Duration, Duration)>) -> Measured {
    let cpu = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
    };
    let (start, before) = (Instant::now(), cpu());
    let answers = run(start);
    Measured {
        elapsed: start.elapsed(),
        answers,
        cpu: cpu() - before,
    }
}

/// Sockets that are listened to, until this is dropped.
struct Attention<'a> {
    sockets: &'a mut [Socket],
    poll: Poll,
}

impl<'a> Attention<'a> {
    fn to(sockets: &'a mut [Socket]) -> Self {
        let poll = Poll::new().unwrap();
        for (n, socket) in sockets.iter_mut().enumerate() {
            poll.registry()
                .register(&mut socket.stream, Token(n), Interest::READABLE)
                .unwrap();
        }
        Self { sockets, poll }
    }

    /// Reads what comes, by whichever socket, as long as it is wanted. False: nothing more came for so long.
    fn attend(&mut self, patience: Duration, mut received: impl FnMut(&mut Socket, &[u8]) -> bool) -> bool {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; 64 * 1024];
        let mut is_wanted = true;
        while is_wanted {
            self.poll.poll(&mut events, Some(patience)).unwrap();
            if events.is_empty() {
                break;
            }
            for event in &events {
                let socket = &mut self.sockets[event.token().0];
                loop {
                    let n = match socket.stream.read(&mut buffer) {
                        Ok(n) => n,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => panic!("a connection is lost: {error}"),
                    };
                    assert_ne!(n, 0, "the server has closed a connection");
                    is_wanted &= received(socket, &buffer[..n]);
                    // Less than there was room for is all there was.
                    if n < buffer.len() {
                        break;
                    }
                }
            }
        }
        !is_wanted
    }
}

impl Drop for Attention<'_> {
    fn drop(&mut self) {
        for socket in &mut *self.sockets {
            self.poll.registry().deregister(&mut socket.stream).unwrap();
        }
    }
}

impl Client<'_> {
    /// Sends the request and reads the answer.
    pub fn ask(&mut self) {
        self.stream.write_all(&self.exchange.request).unwrap();
        let mut filled = 0;
        while self.exchange.answered(&self.buffer[..filled]).is_none() {
            let n = self.stream.read(&mut self.buffer[filled..]).unwrap();
            assert_ne!(n, 0, "the server has gone");
            filled += n;
        }
    }
}

impl Socket {
    fn ask(&mut self, request: &[u8]) {
        self.sent = Instant::now();
        // Small enough for the socket's buffer, which is empty.
        self.stream.write_all(request).unwrap();
    }

    /// Takes bytes in, and tells of each answer that is whole.
    fn take(&mut self, bytes: &[u8], exchange: &Exchange, mut answered: impl FnMut(&mut Self)) {
        if self.rest.is_empty() && exchange.answered(bytes) == Some(bytes.len()) {
            return answered(self);
        }
        self.rest.extend_from_slice(bytes);
        while let Some(length) = exchange.answered(&self.rest) {
            self.rest.drain(..length);
            answered(self);
        }
    }
}
