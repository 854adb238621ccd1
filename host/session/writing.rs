//! What a session writes: answers in the order of their frames, and what is pushed in between. Frames that are there
//! together leave together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{FutureExt, SinkExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::pipeline::Ticket;
use super::{End, Session, goodbye};
use crate::message::Payload;
use crate::send_queue::Outbound;

/// A client that takes nothing for so long is given up.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Session<'_, S> {
    /// Answers a frame. What was sent to this connection before, perhaps by the actions before this one, leaves before it.
    pub(super) fn reply(&mut self, ticket: Ticket, payload: Payload) {
        if self.pipeline.is_first(ticket) {
            for sent in self.send_queue.take_messages() {
                self.pipeline.answer(ticket, frame(sent));
            }
        }
        self.pipeline.answer(ticket, frame(payload));
    }

    /// Writes the answers that may leave now.
    pub(super) async fn write_answers(&mut self) -> Result<(), End> {
        let mut written = false;
        while let Some(message) = self.pipeline.next() {
            self.feed(message).await?;
            written = true;
        }
        if written { self.flush().await } else { Ok(()) }
    }

    /// Writes what was pushed: the first, and as much as is there behind it up to a bound, at once.
    pub(super) async fn write_queued(&mut self, first: Option<Outbound>, bound: usize) -> Result<(), End> {
        if first.is_none() {
            return Ok(());
        }
        let mut bytes = 0;
        let mut item = first;
        while let Some(outbound) = item {
            match outbound {
                Outbound::Message(payload) | Outbound::Published(payload) => {
                    bytes += payload.len();
                    self.feed(frame(payload)).await?;
                }
                Outbound::Timer { plugin, name, delay } => self.set_timer(&plugin, &name, delay),
                Outbound::Close {
                    code,
                    reason,
                    is_patient: true,
                } => {
                    self.leaving = Some(Box::new((code, reason)));
                    break;
                }
                Outbound::Close { code, reason, .. } => {
                    self.flush().await?;
                    Box::pin(goodbye::close(&mut self.socket, code, reason.clone())).await;
                    return Err(End::Closed(code, reason));
                }
            }
            item = if bytes < bound {
                self.send_queue.try_next()
            } else {
                None
            };
        }
        self.flush().await
    }

    fn set_timer(&mut self, plugin: &Arc<str>, name: &Arc<str>, delay: Option<Duration>) {
        self.is_rearmed = true;
        let connection = &*self.connection.id;
        if !self
            .deadlines
            .set(plugin.clone(), name.clone(), delay, Instant::now())
        {
            tracing::warn!(
                connection,
                plugin = &**plugin,
                timer = &**name,
                "the connection has as many timers as it may; one more is not set"
            );
        }
    }

    async fn feed(&mut self, message: Message) -> Result<(), End> {
        if self.settings.heartbeat.idle_timeout.is_some() {
            self.deadlines.active(Instant::now());
        }
        self.shared.actions.metrics.frames_out.inc();
        patiently(self.socket.feed(message)).await
    }

    pub(super) async fn flush(&mut self) -> Result<(), End> {
        patiently(self.socket.flush()).await
    }
}

fn frame(payload: Payload) -> Message {
    match payload {
        Payload::Text(text) => Message::Text(text),
        Payload::Binary(bytes) => Message::Binary(bytes),
    }
}

/// Most writes are done at once; only one that must wait gets a timer.
pub(super) async fn patiently(write: impl Future<Output = Result<(), WsError>>) -> Result<(), End> {
    let mut write = std::pin::pin!(write);
    let result = match (&mut write).now_or_never() {
        Some(result) => result,
        // Boxed: it is rare, and its timer would lie idle in the memory of every connection.
        None => match Box::pin(timeout(WRITE_PATIENCE, write)).await {
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
