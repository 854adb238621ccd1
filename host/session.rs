//! One connection: reads frames, sends each on its dispatch, writes what comes back and what is pushed.
//!
//! A session is one task. It is idle most of its life, so it keeps little: a small read buffer, an empty queue. It never
//! ends because of a plugin or an upstream, only because of its peer, a `close` action or the shutdown.

mod deadlines;
mod end;
mod goodbye;
mod intake;
mod opening;
mod pipeline;
mod waiting;
mod writing;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::sleep_until;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::actions::Actions;
use crate::close_events::CloseEvents;
use crate::config::Heartbeat;
use crate::dispatch::{Dispatch, Step};
use crate::message::{Action, Connection, Effect, Event, Exchange, Payload};
use crate::plugin::Plugins;
use crate::send_queue::{Outbound, SendQueue};
use crate::token_bucket::TokenBucket;
use deadlines::{Deadlines, Due};
use end::End;
use intake::Intake;
pub use opening::Opened;
use pipeline::{Pipeline, Ticket};
use waiting::Waiting;
use writing::patiently;

/// What the library reads at a time, and holds for each connection. It reads out of what the intake has read.
const READ_BUFFER: usize = 512;
/// Frames that wait are written together up to this many bytes.
const WRITE_BATCH: usize = 64 * 1024;
/// Frames that leave together are one write up to this many bytes; allocated as needed.
const WRITE_BUFFER: usize = 16 * 1024;
/// What a connection without deadlines waits for: the clock of the runtime takes no longer spans for granted.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// What all sessions share.
pub struct Sessions {
    /// What actions act upon.
    pub actions: Arc<Actions>,
    /// Who decides.
    pub plugins: Arc<Plugins>,
    /// What is asked for when a connection has gone.
    pub close_events: Arc<CloseEvents>,
    /// What new connections are bound by.
    pub settings: ArcSwap<Settings>,
}

/// What one connection is bound by, from its beginning to its end.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Frames of one connection handled at a time.
    pub in_flight: usize,
    /// The longest message, in bytes.
    pub max_message: usize,
    /// The longest outbound queue, in bytes.
    pub max_queue: usize,
    /// Frames that one client may send in a second, pings among them; 0 for no limit.
    pub max_frames_per_second: usize,
    /// Bytes that are read of one client in a second; 0 for no limit.
    pub max_bytes_per_second: usize,
    /// How long a message may take from its first bytes to its last; none for no limit.
    pub message_timeout: Option<Duration>,
    /// Pings, and how long connections may last.
    pub heartbeat: Heartbeat,
    /// How long a shutdown may take.
    pub grace: Duration,
}

/// What woke the session.
enum Happened {
    Received(Option<Result<Message, WsError>>),
    Resumed(Ticket, Dispatch),
    Queued(Outbound),
    Rang,
}

/// RFC 6455 section 7.4.1: the endpoint is going away.
const GOING_AWAY: u16 = 1001;

impl Opened {
    /// Runs the session to its end. It holds its `place` among all connections until then.
    pub async fn run<S>(mut self, socket: S, read_already: Vec<u8>, _place: impl Send)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let sessions = self.sessions.clone();
        let settings = sessions.settings.load_full();
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            .max_message_size(Some(settings.max_message))
            .max_frame_size(Some(settings.max_message));
        let socket = Intake::new(socket, settings.max_bytes_per_second, settings.message_timeout);
        // It waits for nothing, and awaited it would lie in the memory of every connection.
        let Some(socket) =
            WebSocketStream::from_partially_read(socket, read_already, Role::Server, Some(config))
                .now_or_never()
        else {
            return;
        };
        tracing::info!(
            connection = &*self.connection.id,
            client = %self.connection.client_address,
            path = &*self.connection.path,
            "connection opened"
        );
        let opened = Instant::now();
        let mut session = Session {
            shared: &sessions,
            socket,
            connection: self.connection.clone(),
            send_queue: self.send_queue.clone(),
            route: self.route,
            upstream: self.upstream,
            pipeline: Pipeline::new(settings.in_flight),
            deadlines: Deadlines::new(settings.heartbeat, opened, fastrand::f64()),
            is_rearmed: true,
            frames: TokenBucket::new(settings.max_frames_per_second, opened).map(Box::new),
            leaving: None,
            settings,
        };
        let end = session.serve().await;
        drop(session);
        (self.code, self.reason) = end.tell(&self.connection, opened.elapsed());
    }
}

struct Session<'a, S> {
    shared: &'a Sessions,
    socket: WebSocketStream<Intake<S>>,
    connection: Arc<Connection>,
    send_queue: Arc<SendQueue>,
    route: usize,
    upstream: usize,
    pipeline: Pipeline<Message>,
    deadlines: Deadlines,
    /// The deadlines may ring earlier than it was set to.
    is_rearmed: bool,
    /// What the client may send; none for no limit.
    frames: Option<Box<TokenBucket>>,
    /// Code and reason of a close that waits until the frames that are being handled are answered.
    leaving: Option<Box<(u16, String)>>,
    settings: Arc<Settings>,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin + Send> Session<'a, S> {
    async fn serve(&mut self) -> End {
        let send_queue = self.send_queue.clone();
        let mut waiting = Waiting::default();
        // One message is read ahead while all places are taken, so that a close or a ping behind the running request is
        // seen at once.
        let mut ahead = None;
        let mut bell = std::pin::pin!(sleep_until((Instant::now() + NEVER).into()));
        // Farewells are boxed: their state would lie idle in the memory of every connection.
        loop {
            if let Some(message) = ahead.take_if(|_| !self.pipeline.is_full()) {
                self.receive(message, &mut waiting);
            }
            if let Err(end) = self.write_answers().await {
                return end;
            }
            if self.pipeline.is_empty()
                && let Some(leaving) = self.leaving.take()
            {
                let (code, reason) = *leaving;
                Box::pin(goodbye::close(&mut self.socket, code, reason.clone())).await;
                return End::Closed(code, reason);
            }
            let is_leaving = self.leaving.is_some();
            if is_leaving {
                ahead = None;
            } else if ahead.is_some() && !self.pipeline.is_full() {
                continue;
            }
            if std::mem::take(&mut self.is_rearmed) {
                let next = self.deadlines.next().unwrap_or_else(|| Instant::now() + NEVER);
                bell.as_mut().reset(next.into());
            }
            let happened = tokio::select! {
                biased;
                item = send_queue.next() => Happened::Queued(item),
                (ticket, dispatch) = waiting.next() => Happened::Resumed(ticket, dispatch),
                message = self.socket.next(), if ahead.is_none() && !is_leaving => Happened::Received(message),
                () = &mut bell => Happened::Rang,
            };
            if let Happened::Received(Some(Ok(message))) = &happened
                && let Err(end) = self.heard(message)
            {
                let End::Violation(code, reason) = &end else {
                    return end;
                };
                Box::pin(goodbye::close(&mut self.socket, (*code).into(), reason.clone())).await;
                return end;
            }
            match happened {
                Happened::Queued(item) => {
                    if let Err(end) = self.write_queued(Some(item), WRITE_BATCH).await {
                        return end;
                    }
                }
                Happened::Resumed(ticket, dispatch) => {
                    // What the application pushed before it answered leaves before its answer.
                    if let Err(end) = self
                        .write_queued(send_queue.try_next(), self.settings.max_queue)
                        .await
                    {
                        return end;
                    }
                    self.advance(ticket, dispatch, &mut waiting);
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
                Happened::Rang => {
                    self.is_rearmed = true;
                    while let Some(due) = self.deadlines.due(Instant::now()) {
                        match due {
                            Due::Timer { plugin, name } => self.time_out(&plugin, name, &mut waiting),
                            due => {
                                if let Err(end) = self.beat(due).await {
                                    return end;
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    /// Something came; more of it than the client may send ends the session.
    fn heard(&mut self, message: &Message) -> Result<(), End> {
        let now = Instant::now();
        self.deadlines.heard(now);
        let intake = self.socket.get_mut();
        if message.is_text() || message.is_binary() {
            intake.message_ended();
            self.deadlines.active(now);
        } else {
            intake.control_frame(message.len());
        }
        let wait = self.frames.as_mut().map(|frames| frames.take(1, now));
        if wait.is_none_or(|wait| wait.is_zero()) {
            return Ok(());
        }
        let limit = self.settings.max_frames_per_second;
        let reason = format!("more than {limit} frames in a second (max-frames-per-second)");
        Err(End::Violation(CloseCode::Policy, reason))
    }

    /// A timer has run out: the dispatch of that begins.
    fn time_out(&mut self, plugin: &str, name: Arc<str>, waiting: &mut Waiting<'a>) {
        let ticket = self.pipeline.begin();
        let event = Event::Timer {
            connection: self.connection.clone(),
            name,
        };
        let chain = self.shared.plugins.chain(self.route);
        self.advance(ticket, Dispatch::begin_at(chain, plugin, event), waiting);
    }

    /// Does what is due of the connection itself.
    async fn beat(&mut self, due: Due) -> Result<(), End> {
        let settings = self.settings.heartbeat;
        match due {
            Due::Ping => {
                patiently(self.socket.feed(Message::Ping(Bytes::new()))).await?;
                self.flush().await
            }
            Due::Dead => {
                let timeout = settings.pong_timeout;
                Err(End::Lost(format!("no pong within {timeout:?} (pong-timeout)")))
            }
            Due::Idle => {
                let timeout = settings.idle_timeout.unwrap_or_default();
                Err(self.leave(format!("idle for {timeout:?}")).await)
            }
            Due::Aged => {
                let age = settings.max_age.unwrap_or_default();
                Err(self.leave(format!("older than {age:?}; connect again")).await)
            }
            Due::Timer { .. } => Ok(()),
        }
    }

    /// Closes for a reason of our own.
    async fn leave(&mut self, reason: String) -> End {
        Box::pin(goodbye::close(&mut self.socket, GOING_AWAY, reason.clone())).await;
        End::Closed(GOING_AWAY, reason)
    }

    /// A message comes in: its dispatch begins, and mostly ends here and now or waits for an upstream.
    fn receive(&mut self, message: Payload, waiting: &mut Waiting<'a>) {
        self.shared.actions.metrics.frames_in.inc();
        tracing::debug!(
            connection = &*self.connection.id,
            bytes = message.len(),
            "frame received"
        );
        let ticket = self.pipeline.begin();
        let event = Event::Frame {
            connection: self.connection.clone(),
            message,
        };
        let dispatch = Dispatch::begin(self.shared.plugins.chain(self.route), event);
        self.advance(ticket, dispatch, waiting);
    }

    /// Goes on with a dispatch as far as it goes without waiting.
    fn advance(&mut self, ticket: Ticket, mut dispatch: Dispatch, waiting: &mut Waiting<'a>) {
        loop {
            match dispatch.step() {
                Step::Act(Action::Reply(payload)) => {
                    self.reply(ticket, payload);
                    dispatch.note(Effect::new("sent"));
                }
                Step::Act(action) => {
                    let effect = self.shared.actions.act(&dispatch, action);
                    dispatch.note(effect);
                }
                Step::Ask(exchange) => {
                    waiting.push(ask(self.shared, self.upstream, exchange, ticket, dispatch));
                    return;
                }
                Step::Wait(result) => {
                    waiting.push(async move {
                        dispatch.decided(result.await.ok());
                        (ticket, dispatch)
                    });
                    return;
                }
                Step::Done => {
                    self.pipeline.finish(ticket);
                    return;
                }
            }
        }
    }
}

/// Asks an upstream on behalf of a dispatch.
async fn ask(
    shared: &Sessions,
    default: usize,
    exchange: Exchange,
    ticket: Ticket,
    mut dispatch: Dispatch,
) -> (Ticket, Dispatch) {
    let (context, outcome) = shared.actions.ask(dispatch.flow(), default, exchange).await;
    dispatch.answered(context, outcome);
    (ticket, dispatch)
}
