//! What a session does next. Reading, writing, waiting for upstreams and for the clock go on side by side: none of them
//! keeps the others waiting, and a turn ends after a bounded number of frames and bytes, whatever they are.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use super::deadlines::{Deadlines, Due};
use super::end::End;
use super::farewell::{Farewell, Until};
use super::handling::Handling;
use super::inbound::Inbound;
use super::reader::{Read, ReadError, Reader, Turn};
use super::socket::Half;
use super::{Opened, Sessions, Settings};
use crate::message::Payload;
use crate::send_queue::{Drained, Ending, SendQueue};
use crate::token_bucket::TokenBucket;
use crate::websocket::{Data, Frame, Incoming};

/// Messages are read before their turn has come, so that a close frame, a ping or the end behind them is seen: up to so many
/// bytes, or one message that is longer.
const READ_AHEAD: usize = 4 * 1024;
/// What a message costs beside its bytes while it waits.
const OVERHEAD: usize = 64;
/// How long until it is looked at again whether there is room for what comes in.
const RETRY: Duration = Duration::from_millis(100);
/// What a session without deadlines waits for: the clock of the runtime takes no longer spans for granted.
pub(super) const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// RFC 6455 section 7.4.1: the endpoint is going away.
const GOING_AWAY: u16 = 1001;
/// RFC 6455 section 7.4.1: a policy is violated.
const POLICY: u16 = 1008;

/// A session whose socket is open.
pub(super) struct Session<'a> {
    socket: Half,
    reader: Reader,
    handling: Handling<'a>,
    send_queue: Arc<SendQueue>,
    /// Read, but not begun.
    ahead: VecDeque<Data>,
    ahead_bytes: usize,
    inbound: Inbound,
    deadlines: Deadlines,
    /// A deadline may be earlier than the one that the timer is set to.
    is_rearmed: bool,
    is_blocked: bool,
    /// Nothing can be written any more, and why. What has come is still read.
    broken: Option<String>,
    /// What the client may send; none for no limit.
    frames: Option<Box<TokenBucket>>,
    /// A close that waits until the messages that are being handled are answered.
    leaving: Option<Box<Ending>>,
    /// The last frame is on its way.
    farewell: Option<Box<Farewell>>,
    settings: Arc<Settings>,
    /// When this turn began.
    now: Instant,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        sessions: &'a Sessions,
        opened: &Opened,
        (socket, reader): (Half, Reader),
        settings: Arc<Settings>,
        now: Instant,
    ) -> Self {
        Self {
            socket,
            reader,
            handling: Handling::new(sessions, opened, settings.in_flight),
            send_queue: opened.send_queue.clone(),
            ahead: VecDeque::new(),
            ahead_bytes: 0,
            inbound: Inbound::new(sessions.actions.registry.inbound(), opened.connection.size()),
            deadlines: Deadlines::new(settings.heartbeat, settings.message_timeout, now, fastrand::f64()),
            is_rearmed: true,
            is_blocked: false,
            broken: None,
            frames: TokenBucket::new(settings.max_frames_per_second, now).map(Box::new),
            leaving: None,
            farewell: None,
            settings,
            now,
        }
    }

    /// Goes on until the socket is done with. `timer` wakes the session when something is due.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut timer: Pin<&mut Sleep>,
        opened: &Opened,
    ) -> Poll<End> {
        self.send_queue.register(cx.waker());
        self.now = Instant::now();
        let mut turn = Turn::new();
        let mut is_dry = false;
        while !is_dry && !turn.is_over() {
            match self.go_on(cx, &mut turn) {
                Ok(is_busy) => is_dry = !is_busy,
                Err(end) => return Poll::Ready(self.end(end)),
            }
            self.account(opened);
        }
        let is_in_message = self.reader.is_in_message();
        self.is_rearmed |= self.deadlines.set_in_message(is_in_message, self.now);
        if turn.is_over() {
            // Others first, then this session again.
            cx.waker().wake_by_ref();
        }
        if timer.as_mut().poll(cx).is_ready() {
            self.is_rearmed = true;
            if let Err(end) = self.ring(is_dry) {
                return Poll::Ready(self.end(end));
            }
            cx.waker().wake_by_ref();
        }
        if std::mem::take(&mut self.is_rearmed) {
            let next = self.deadlines.next().unwrap_or_else(|| self.now + NEVER);
            timer.as_mut().reset(next.into());
            if timer.poll(cx).is_ready() {
                cx.waker().wake_by_ref();
                self.is_rearmed = true;
            }
        }
        Poll::Pending
    }

    /// What is left when the socket is done with: messages that are being handled, and those that the client sent before
    /// its close frame. What it holds counts until the last is dropped.
    pub(super) fn into_rest(self, end: &End) -> (Handling<'a>, VecDeque<Payload>, Inbound) {
        let ahead = if end.is_by_client() {
            self.ahead
        } else {
            VecDeque::new()
        };
        let rest = ahead.into_iter().map(payload).collect();
        (self.handling, rest, self.inbound)
    }

    /// Once a farewell has begun it says how the session ends, whatever becomes of the socket.
    fn end(&mut self, end: End) -> End {
        match self.farewell.take() {
            Some(farewell) if end.is_loss() => farewell.end,
            _ => end,
        }
    }

    /// One look at everything. Whether there may be more to do at once.
    fn go_on(&mut self, cx: &mut Context<'_>, turn: &mut Turn) -> Result<bool, End> {
        self.hear_requests()?;
        let mut is_busy = self.handling.resume(cx);
        is_busy |= self.begin_ahead();
        self.handling.release_answers();
        self.leave();
        // Room in the queue may let the next message begin.
        is_busy |= self.write(cx) && !self.ahead.is_empty();
        if let Some(cause) = self.broken.take_if(|_| self.farewell.is_some()) {
            return Err(End::Lost(cause));
        }
        is_busy |= match &mut self.farewell {
            None => self.read(cx, turn)?,
            Some(farewell) => {
                farewell.go_on(cx, &mut self.socket, &mut self.reader, &self.send_queue, turn)?
            }
        };
        Ok(is_busy)
    }

    /// What others want: timers, and the end.
    fn hear_requests(&mut self) -> Result<(), End> {
        let (timers, ending) = self.send_queue.take_requests();
        for timer in timers {
            self.is_rearmed = true;
            let (plugin, name) = (timer.plugin.clone(), timer.name.clone());
            if !self
                .deadlines
                .set(timer.plugin, timer.name, timer.delay, self.now)
            {
                tracing::warn!(
                    connection = self.handling.connection_id(),
                    plugin = &*plugin,
                    timer = &*name,
                    "the connection has as many timers as it may; one more is not set"
                );
            }
        }
        match ending {
            Some(ending) if ending.is_cut && self.farewell.is_some() => {
                return Err(End::Lost(ending.reason));
            }
            Some(ending) if ending.is_cut => return Err(End::Closed(ending.code, ending.reason)),
            Some(ending) if self.farewell.is_none() => {
                self.leaving = Some(Box::new(ending));
                (self.ahead, self.ahead_bytes) = (VecDeque::new(), 0);
            }
            _ => {}
        }
        Ok(())
    }

    /// Begins what was read, as far as its turn has come. Whether anything was begun.
    fn begin_ahead(&mut self) -> bool {
        let mut has_begun = false;
        while self.farewell.is_none()
            && !self.handling.is_full()
            && let Some(first) = self.ahead.front().map(Data::len)
            && self.may_begin(first)
            && let Some(first) = self.ahead.pop_front()
        {
            self.ahead_bytes -= first.len() + OVERHEAD;
            has_begun = true;
            self.handling.begin(payload(first));
        }
        if has_begun && self.ahead.is_empty() {
            // A burst must not cost memory for the rest of a long life.
            self.ahead = VecDeque::new();
        }
        has_begun
    }

    /// A client that does not read its answers gets no further ones, and a long message needs room for what PHP is sent.
    fn may_begin(&mut self, size: usize) -> bool {
        if self.send_queue.bytes() >= self.settings.max_queue {
            return false;
        }
        let may_begin = self.inbound.may_handle(size, self.now);
        if !may_begin {
            self.retry_after(RETRY);
        }
        may_begin
    }

    /// A close that was asked for begins, behind the answers that it waits for.
    fn leave(&mut self) {
        let is_empty = self.handling.is_empty();
        if self.farewell.is_some() {
            return;
        }
        if let Some(leaving) = self.leaving.take_if(|leaving| !leaving.is_patient || is_empty) {
            let Ending { code, reason, .. } = *leaving;
            let close = Frame::close(code, &reason);
            // The rest of a long message is not kept only to find the client's close frame behind it.
            let until = if self.reader.is_in_message() {
                Until::SocketEnds
            } else {
                Until::ClientCloses
            };
            self.say_farewell(End::Closed(code, reason), close, until);
        }
    }

    fn violated(&mut self, code: u16, reason: String) {
        let close = Frame::close(code, &reason);
        self.say_farewell(End::Violation(code, reason), close, Until::SocketEnds);
    }

    fn say_farewell(&mut self, end: End, close: Frame, until: Until) {
        self.send_queue.finish(close);
        self.deadlines.closing(self.now);
        self.is_rearmed = true;
        self.inbound.message_ended();
        self.farewell = Some(Box::new(Farewell::new(end, until)));
    }

    /// Writes what waits. Whether anything was written.
    fn write(&mut self, cx: &mut Context<'_>) -> bool {
        if self.broken.is_some() {
            return false;
        }
        match self.try_write(cx) {
            Ok(has_written) => has_written,
            Err(error) => {
                // What the client sent before may still be there to be read, its close frame too.
                self.broken = Some(error.to_string());
                self.send_queue.shut(false);
                self.is_blocked = false;
                true
            }
        }
    }

    fn try_write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let socket = &mut self.socket;
        let drained = self
            .send_queue
            .drain(|plain, parts| socket.poll_write(cx, plain, parts));
        let (drained, written) = drained?;
        let mut is_blocked = drained == Drained::Blocked;
        if drained == Drained::Empty && (written > 0 || self.is_blocked) {
            is_blocked = match socket.poll_flush(cx) {
                Poll::Ready(flushed) => flushed.map(|()| false)?,
                Poll::Pending => true,
            };
        }
        if drained == Drained::More {
            cx.waker().wake_by_ref();
        }
        if let Some(farewell) = &mut self.farewell {
            farewell.is_written = drained == Drained::Empty && !is_blocked;
        }
        if is_blocked || self.is_blocked {
            self.is_rearmed |= self.deadlines.set_blocked(is_blocked, written > 0, self.now);
            self.is_blocked = is_blocked;
        }
        Ok(written > 0)
    }

    /// Reads up to the next frame. Whether anything came.
    fn read(&mut self, cx: &mut Context<'_>, turn: &mut Turn) -> Result<bool, End> {
        let most = self.readable();
        self.is_rearmed |= self.deadlines.set_deaf(most == 0 || self.is_blocked, self.now);
        if most == 0 {
            return self
                .broken
                .take()
                .map_or(Ok(false), |cause| Err(End::Lost(cause)));
        }
        let read = match self.reader.poll_next(cx, &mut self.socket, turn, most) {
            Poll::Pending => {
                return self
                    .broken
                    .take()
                    .map_or(Ok(false), |cause| Err(End::Lost(cause)));
            }
            Poll::Ready(read) => read,
        };
        self.deadlines.heard(self.now);
        match read {
            Ok(Read::Frame(frame)) => self.receive(frame),
            Ok(Read::Part | Read::Over) => {}
            Err(ReadError::Violation(violation)) => {
                self.violated(violation.close_code(), violation.reason());
            }
            Err(ReadError::Io(error)) => return Err(End::Lost(error.to_string())),
            Err(ReadError::End) => return Err(End::Lost("it ended without a close frame".to_owned())),
        }
        Ok(true)
    }

    /// How many bytes may be read now.
    fn readable(&mut self) -> usize {
        if self.ahead_bytes >= READ_AHEAD {
            return 0;
        }
        let wait = self.reader.pause();
        if !wait.is_zero() {
            self.retry_after(wait);
            return 0;
        }
        let missing = self.reader.missing();
        let most = self.inbound.readable(missing, self.now);
        if most == 0 && missing.is_some() {
            self.retry_after(RETRY);
        }
        most
    }

    fn retry_after(&mut self, wait: Duration) {
        self.deadlines.retry_after(wait, self.now);
        self.is_rearmed = true;
    }

    fn receive(&mut self, frame: Incoming) {
        let wait = self.frames.as_mut().map(|frames| frames.take(1, self.now));
        if wait.is_some_and(|wait| !wait.is_zero()) {
            let limit = self.settings.max_frames_per_second;
            return self.violated(
                POLICY,
                format!("more than {limit} frames in a second (max-frames-per-second)"),
            );
        }
        match frame {
            Incoming::Message(data) => {
                self.deadlines.message_ended();
                self.inbound.message_ended();
                self.deadlines.active(self.now);
                // What comes behind our wish to close is not begun.
                if self.leaving.is_some() {
                    return;
                }
                if self.ahead.is_empty() && !self.handling.is_full() && self.may_begin(data.len()) {
                    self.handling.begin(payload(data));
                } else {
                    self.ahead_bytes += data.len() + OVERHEAD;
                    self.ahead.push_back(data);
                }
            }
            Incoming::Ping(payload) => self.send_queue.pong(payload),
            Incoming::Fragment | Incoming::Pong(_) => {}
            Incoming::Close(frame) => {
                let (code, reason) = frame.clone().unwrap_or((NO_CODE, "".into()));
                let answer = Frame::close(code, &reason);
                self.say_farewell(End::Client(frame), answer, Until::Written);
            }
        }
    }

    /// Something is due. `is_dry`: everything that has come is read.
    fn ring(&mut self, is_dry: bool) -> Result<(), End> {
        let heartbeat = self.settings.heartbeat;
        if let Some(sent) = self.send_queue.last_sent() {
            self.deadlines.active(sent);
        }
        while let Some(due) = self.deadlines.due(self.now) {
            match due {
                // A client that does not read is sent nothing more.
                Due::Timer { plugin, name } if self.send_queue.bytes() >= self.settings.max_queue => {
                    self.deadlines.set(plugin, name, Some(RETRY), self.now);
                }
                Due::Timer { plugin, name } => self.handling.time_out(&plugin, name),
                Due::Ping => self.send_queue.ping(),
                Due::Retry => {}
                Due::Dead => {
                    let timeout = heartbeat.pong_timeout;
                    return Err(End::Lost(format!("no pong within {timeout:?} (pong-timeout)")));
                }
                Due::Write => return Err(End::Lost("the client took nothing for 30s".to_owned())),
                Due::Close => {
                    let end = self.farewell.take().map(|farewell| farewell.end);
                    return Err(end.unwrap_or_else(|| End::Lost("closed".to_owned())));
                }
                // Perhaps its end is there, and it was us who did not read it.
                Due::Message if !is_dry && self.deadlines.extend_message(self.now) => {}
                Due::Message => {
                    self.violated(
                        POLICY,
                        "a message was not there in time (message-timeout)".to_owned(),
                    );
                }
                // Its answer is to come.
                Due::Idle if !self.handling.is_empty() => self.deadlines.active(self.now),
                Due::Idle => {
                    let timeout = heartbeat.idle_timeout.unwrap_or_default();
                    self.send_queue
                        .close(GOING_AWAY, &format!("idle for {timeout:?}"));
                    self.deadlines.active(self.now);
                }
                Due::Aged => {
                    let age = heartbeat.max_age.unwrap_or_default();
                    self.send_queue
                        .close_patiently(GOING_AWAY, &format!("older than {age:?}; connect again"));
                    self.deadlines.rejuvenate();
                }
            }
        }
        Ok(())
    }

    /// Counts what is held of what has come in.
    fn account(&mut self, opened: &Opened) {
        let held = self.reader.held() + self.ahead_bytes + self.handling.bytes();
        self.inbound.hold(held, opened);
        if self.handling.take_finished_long() {
            self.inbound.advance();
        }
    }
}

/// RFC 6455 section 7.1.5: stands for a close frame without a code.
const NO_CODE: u16 = 1005;

fn payload(data: Data) -> Payload {
    match data {
        Data::Text(text) => Payload::Text(text),
        Data::Binary(bytes) => Payload::Binary(bytes),
    }
}
