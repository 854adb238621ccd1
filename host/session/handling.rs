//! The messages of one connection that are being handled: each is dispatched, and its answers leave in the order of the
//! messages. Nothing here knows the socket, so that what has begun goes on when it is gone.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::task::yield_now;

use super::inbound::form;
use super::pipeline::{Pipeline, Ticket};
use super::waiting::Waiting;
use super::{Opened, Sessions};
use crate::actions::{self, Performed};
use crate::budget::FREE;
use crate::dispatch::{Dispatch, Step};
use crate::message::{Action, Connection, Effect, Event, Exchange, Payload};
use crate::send_queue::SendQueue;
use crate::websocket::Frame;

pub(super) struct Handling<'a> {
    shared: &'a Sessions,
    connection: Arc<Connection>,
    send_queue: Arc<SendQueue>,
    route: usize,
    upstream: usize,
    pipeline: Pipeline<Frame>,
    waiting: Waiting<'a>,
    has_finished_long: bool,
}

impl<'a> Handling<'a> {
    /// At most so many messages at a time.
    pub(super) fn new(shared: &'a Sessions, opened: &Opened, limit: usize) -> Self {
        Self {
            shared,
            connection: opened.connection.clone(),
            send_queue: opened.send_queue.clone(),
            route: opened.route,
            upstream: opened.upstream,
            pipeline: Pipeline::new(limit),
            waiting: Waiting::default(),
            has_finished_long: false,
        }
    }

    pub(super) fn connection_id(&self) -> &str {
        &self.connection.id
    }

    pub(super) fn is_full(&self) -> bool {
        self.pipeline.is_full()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pipeline.is_empty()
    }

    /// Bytes that are held for it.
    pub(super) fn bytes(&self) -> usize {
        self.pipeline.bytes()
    }

    /// Whether a message that held more than a little has been done with since this was last asked.
    pub(super) fn take_finished_long(&mut self) -> bool {
        std::mem::take(&mut self.has_finished_long)
    }

    /// A message comes in: mostly it is done with here and now, or waits for an upstream.
    pub(super) fn begin(&mut self, message: Payload) {
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
        self.advance(ticket, dispatch);
    }

    /// A timer of a plugin has run out.
    pub(super) fn time_out(&mut self, plugin: &str, name: Arc<str>) {
        let ticket = self.pipeline.begin();
        let event = Event::Timer {
            connection: self.connection.clone(),
            name,
        };
        let chain = self.shared.plugins.chain(self.route);
        self.advance(ticket, Dispatch::begin_at(chain, plugin, event));
    }

    /// Goes on with what need not wait any longer. Whether there was anything.
    pub(super) fn resume(&mut self, cx: &mut Context<'_>) -> bool {
        let mut has_resumed = false;
        while let Poll::Ready((ticket, dispatch)) = self.waiting.poll_next(cx) {
            has_resumed = true;
            match dispatch {
                Some(dispatch) => self.advance(ticket, dispatch),
                None => self.done_with(ticket),
            }
        }
        has_resumed
    }

    /// Hands on the answers whose turn has come.
    pub(super) fn release_answers(&mut self) {
        while let Some(answer) = self.pipeline.next() {
            self.send_queue.reply(answer);
        }
    }

    /// Handles the rest, and what is to come after it, when nobody is there any more to be answered.
    pub(super) async fn finish(mut self, mut rest: VecDeque<Payload>) {
        poll_fn(|cx| {
            loop {
                let mut is_busy = self.resume(cx);
                self.release_answers();
                while !self.is_full()
                    && let Some(message) = rest.pop_front()
                {
                    is_busy = true;
                    self.begin(message);
                    self.release_answers();
                }
                if !is_busy {
                    break;
                }
            }
            if self.is_empty() && rest.is_empty() {
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }

    /// Goes on with a dispatch as far as it goes without waiting.
    fn advance(&mut self, ticket: Ticket, mut dispatch: Dispatch) {
        self.pipeline.hold(ticket, dispatch.size());
        loop {
            match dispatch.step() {
                Step::Act(Action::Reply(payload)) => {
                    self.reply(ticket, payload);
                    dispatch.note(Effect::new("sent"));
                }
                Step::Act(action) => match self.shared.actions.act(&dispatch, action) {
                    Performed::Now(effect) => dispatch.note(effect),
                    Performed::Later(effect) => {
                        self.waiting.push(async move {
                            dispatch.note(effect.await);
                            (ticket, Some(dispatch))
                        });
                        return;
                    }
                },
                Step::Ask(exchange) => {
                    self.pipeline.hold(ticket, dispatch.size() + exchange.size());
                    let queue = self.send_queue.clone();
                    self.waiting
                        .push(ask(self.shared, self.upstream, exchange, ticket, dispatch, queue));
                    return;
                }
                Step::Wait(result) => {
                    // A slow plugin makes the request elsewhere.
                    let size = dispatch.size();
                    self.pipeline.hold(ticket, size + form(size));
                    self.waiting.push(async move {
                        dispatch.decided(result.await.ok());
                        (ticket, Some(dispatch))
                    });
                    return;
                }
                Step::Yield => {
                    self.waiting.push(async move {
                        yield_now().await;
                        (ticket, Some(dispatch))
                    });
                    return;
                }
                Step::Done => {
                    self.done_with(ticket);
                    return;
                }
            }
        }
    }

    fn done_with(&mut self, ticket: Ticket) {
        self.has_finished_long |= self.pipeline.finish(ticket) > FREE;
    }

    /// Answers a message. What was sent to this connection before leaves before it.
    fn reply(&mut self, ticket: Ticket, payload: Payload) {
        let frame = Frame::from(payload);
        if self.pipeline.is_next(ticket) {
            self.send_queue.reply(frame);
        } else {
            let bytes = frame.len();
            self.pipeline.answer(ticket, frame, bytes);
        }
    }
}

/// Asks an upstream on behalf of a dispatch. Gives none when the client has gone without a word before the request had its
/// turn: PHP never sees it then.
async fn ask(
    shared: &Sessions,
    default: usize,
    exchange: Exchange,
    ticket: Ticket,
    mut dispatch: Dispatch,
    send_queue: Arc<SendQueue>,
) -> (Ticket, Option<Dispatch>) {
    let upstreams = shared.actions.upstreams.load_full();
    let turn = {
        let mut turn = pin!(actions::turn(&upstreams, dispatch.flow(), default, &exchange));
        poll_fn(|cx| match turn.as_mut().poll(cx) {
            Poll::Pending if send_queue.is_lost() => Poll::Ready(None),
            turn => turn.map(Some),
        })
        .await
    };
    let outcome = match turn {
        None => return (ticket, None),
        Some(Ok(turn)) => turn.send(exchange.request, dispatch.connection().cloned()).await,
        Some(Err(failure)) => Err(failure),
    };
    dispatch.answered(exchange.context, outcome);
    (ticket, Some(dispatch))
}
