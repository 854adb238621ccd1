//! One connection: reads frames, sends each on its journey, writes what comes back and what is pushed.
//!
//! A session is one task. It is idle most of its life, so it keeps little: a small read buffer, an empty queue. It never
//! ends because of a plugin or an upstream, only because of its peer, a `close` action or the shutdown.

mod goodbye;
mod pipeline;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::effects;
use crate::journey::{Journey, Step};
use crate::message::{Action, Event, Exchange, Payload, Peer};
use crate::metrics::Metrics;
use crate::outbox::{Outbound, Outbox};
use crate::plugin::Plugins;
use crate::registry::Registry;
use crate::upstream::Upstreams;
use pipeline::{Pipeline, Ticket};

/// The library's default of 128 KiB would be the whole memory of an idle connection.
const READ_BUFFER: usize = 2 * 1024;
/// Frames that wait are written together up to this many bytes.
const WRITE_BATCH: usize = 64 * 1024;
/// Frames that leave together are one write up to this many bytes; allocated as needed.
const WRITE_BUFFER: usize = 16 * 1024;
/// A client that takes nothing for so long is given up.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);

/// What all sessions share.
pub struct Sessions {
    /// Who is connected.
    pub registry: Arc<Registry>,
    /// Who decides.
    pub plugins: Arc<Plugins>,
    /// Who is asked.
    pub upstreams: Arc<Upstreams>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Frames of one connection handled at a time.
    pub in_flight: usize,
    /// The longest message, in bytes.
    pub max_message: usize,
    /// The longest outbound queue, in bytes.
    pub max_queue: usize,
}

/// How a session ended, for the log.
enum End {
    /// The peer closed.
    Peer(Option<CloseFrame>),
    /// We closed.
    Closed(u16),
    /// The peer broke the protocol and was told by this code.
    Violation(CloseCode, String),
    /// The socket is gone.
    Lost(String),
}

/// What woke the session.
enum Happened {
    Received(Option<Result<Message, WsError>>),
    Resumed(Ticket, Journey),
    Queued(Outbound),
}

impl Sessions {
    /// Runs a session to its end. `route` is the index of the connection's route, `upstream` that of its upstream.
    pub async fn run<S>(&self, socket: S, read_already: Vec<u8>, peer: Peer, route: usize, upstream: usize)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            .max_message_size(Some(self.max_message))
            .max_frame_size(Some(self.max_message));
        let socket =
            WebSocketStream::from_partially_read(socket, read_already, Role::Server, Some(config)).await;
        let peer = Arc::new(peer);
        let outbox = Arc::new(Outbox::new(self.max_queue));
        let registration = self.registry.register(peer.clone(), outbox.clone());
        self.metrics.connections.inc();
        self.metrics.connections_total.inc();
        tracing::info!(connection = &*peer.id, path = &*peer.path, "connection opened");
        let opened = Instant::now();

        let mut session = Session {
            shared: self,
            socket,
            peer: peer.clone(),
            route,
            upstream,
            pipeline: Pipeline::new(self.in_flight),
        };
        let end = session.serve(&outbox).await;

        drop(registration);
        self.metrics.connections.dec();
        let lasted = opened.elapsed();
        let connection = &*peer.id;
        match end {
            End::Peer(frame) => {
                let code = frame.map_or(1005, |frame| frame.code.into());
                tracing::info!(connection, code, ?lasted, "connection closed by the client");
            }
            End::Closed(code) => tracing::info!(connection, code, ?lasted, "connection closed"),
            End::Violation(code, cause) => {
                tracing::warn!(
                    connection,
                    code = u16::from(code),
                    cause,
                    ?lasted,
                    "connection closed for a violation"
                );
            }
            End::Lost(cause) => tracing::info!(connection, cause, ?lasted, "connection lost"),
        }
    }
}

struct Session<'a, S> {
    shared: &'a Sessions,
    socket: WebSocketStream<S>,
    peer: Arc<Peer>,
    route: usize,
    upstream: usize,
    pipeline: Pipeline<Message>,
}

/// Journeys that wait for an upstream or a slow plugin.
type Waiting<'a> = FuturesUnordered<BoxFuture<'a, (Ticket, Journey)>>;

impl<'a, S: AsyncRead + AsyncWrite + Unpin + Send> Session<'a, S> {
    async fn serve(&mut self, outbox: &Outbox) -> End {
        let mut waiting = Waiting::new();
        // One message is read ahead while all places are taken, so that a close or a ping behind the running request is
        // seen at once.
        let mut ahead = None;
        // Farewells are boxed: their state would lie idle in the memory of every connection.
        loop {
            if let Some(message) = ahead.take_if(|_| !self.pipeline.is_full()) {
                self.receive(message, &waiting);
            }
            if let Err(end) = self.write_answers().await {
                return end;
            }
            if ahead.is_some() && !self.pipeline.is_full() {
                continue;
            }
            let happened = tokio::select! {
                biased;
                item = outbox.next() => Happened::Queued(item),
                Some((ticket, journey)) = waiting.next() => Happened::Resumed(ticket, journey),
                message = self.socket.next(), if ahead.is_none() => Happened::Received(message),
            };
            match happened {
                Happened::Queued(item) => {
                    if let Err(end) = self.write_queued(Some(item), outbox, WRITE_BATCH).await {
                        return end;
                    }
                }
                Happened::Resumed(ticket, journey) => {
                    // What the application pushed before it answered leaves before its answer.
                    if let Err(end) = self
                        .write_queued(outbox.try_next(), outbox, self.shared.max_queue)
                        .await
                    {
                        return end;
                    }
                    self.advance(ticket, journey, &waiting);
                }
                Happened::Received(Some(Ok(Message::Text(text)))) => ahead = Some(Payload::Text(text)),
                Happened::Received(Some(Ok(Message::Binary(bytes)))) => ahead = Some(Payload::Binary(bytes)),
                Happened::Received(Some(Ok(Message::Close(frame)))) => {
                    Box::pin(goodbye::answer_close(&mut self.socket)).await;
                    return End::Peer(frame);
                }
                // Pings are answered by the library (RFC 6455 section 5.5.2).
                Happened::Received(Some(Ok(_))) => {}
                Happened::Received(Some(Err(error))) => {
                    return match Box::pin(goodbye::refuse(&mut self.socket, &error)).await {
                        Some(code) => End::Violation(code, error.to_string()),
                        None => End::Lost(error.to_string()),
                    };
                }
                Happened::Received(None) => return End::Lost("it ended without a close frame".to_owned()),
            }
        }
    }

    /// A message comes in: its journey begins, and mostly ends here and now or waits for an upstream.
    fn receive(&mut self, message: Payload, waiting: &Waiting<'a>) {
        self.shared.metrics.frames_in.inc();
        tracing::debug!(
            connection = &*self.peer.id,
            bytes = message.len(),
            "frame received"
        );
        let ticket = self.pipeline.begin();
        let event = Event::Frame {
            peer: self.peer.clone(),
            message,
        };
        let journey = Journey::begin(self.shared.plugins.chain(self.route), event);
        self.advance(ticket, journey, waiting);
    }

    /// Goes on with a journey as far as it goes without waiting.
    fn advance(&mut self, ticket: Ticket, mut journey: Journey, waiting: &Waiting<'a>) {
        loop {
            match journey.step() {
                Step::Act(action) => self.act(ticket, action),
                Step::Ask(exchange) => {
                    waiting.push(ask(self.shared, self.upstream, exchange, ticket, journey).boxed());
                    return;
                }
                Step::Wait(result) => {
                    waiting.push(
                        async move {
                            journey.decided(result.await.ok());
                            (ticket, journey)
                        }
                        .boxed(),
                    );
                    return;
                }
                Step::Done => {
                    self.pipeline.finish(ticket);
                    return;
                }
            }
        }
    }

    fn act(&mut self, ticket: Ticket, action: Action) {
        match action {
            Action::Reply(payload) => self.pipeline.answer(ticket, frame(payload)),
            other => effects::perform(&self.shared.registry, &self.shared.metrics, other),
        }
    }

    /// Writes the answers that may leave now.
    async fn write_answers(&mut self) -> Result<(), End> {
        let mut written = false;
        while let Some(message) = self.pipeline.next() {
            self.feed(message).await?;
            written = true;
        }
        if written { self.flush().await } else { Ok(()) }
    }

    /// Writes what was pushed: the first, and as much as is there behind it up to a bound, at once.
    async fn write_queued(
        &mut self,
        first: Option<Outbound>,
        outbox: &Outbox,
        bound: usize,
    ) -> Result<(), End> {
        if first.is_none() {
            return Ok(());
        }
        let mut bytes = 0;
        let mut item = first;
        while let Some(outbound) = item {
            match outbound {
                Outbound::Message(payload) => {
                    bytes += payload.len();
                    self.feed(frame(payload)).await?;
                }
                Outbound::Close { code, reason } => {
                    self.flush().await?;
                    Box::pin(goodbye::close(&mut self.socket, code, reason)).await;
                    return Err(End::Closed(code));
                }
            }
            item = if bytes < bound { outbox.try_next() } else { None };
        }
        self.flush().await
    }

    async fn feed(&mut self, message: Message) -> Result<(), End> {
        self.shared.metrics.frames_out.inc();
        patiently(self.socket.feed(message)).await
    }

    async fn flush(&mut self) -> Result<(), End> {
        patiently(self.socket.flush()).await
    }
}

/// Asks an upstream on behalf of a journey.
async fn ask(
    shared: &Sessions,
    default: usize,
    exchange: Exchange,
    ticket: Ticket,
    mut journey: Journey,
) -> (Ticket, Journey) {
    let (context, outcome) = effects::ask(&shared.upstreams, default, exchange).await;
    journey.answered(context, outcome);
    (ticket, journey)
}

fn frame(payload: Payload) -> Message {
    match payload {
        Payload::Text(text) => Message::Text(text),
        Payload::Binary(bytes) => Message::Binary(bytes),
    }
}

/// Most writes are done at once; only one that must wait gets a timer.
async fn patiently(write: impl Future<Output = Result<(), WsError>>) -> Result<(), End> {
    let mut write = std::pin::pin!(write);
    let result = match (&mut write).now_or_never() {
        Some(result) => result,
        None => match timeout(WRITE_PATIENCE, write).await {
            Ok(result) => result,
            Err(_) => {
                return Err(End::Lost(format!(
                    "the client took nothing for {WRITE_PATIENCE:?}"
                )));
            }
        },
    };
    result.map_err(|error| End::Lost(error.to_string()))
}
