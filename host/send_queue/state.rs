//! What a send queue holds, without locks and wakers: frames in their order, and how much of the first one is written.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use tokio::net::tcp::OwnedWriteHalf;

use super::{Ending, Refused, TimerChange};
use crate::budget::{Budget, Share};
use crate::websocket::Frame;

/// What a frame costs beside its bytes: its place in the queue, and what holds its bytes.
const OVERHEAD: usize = 64;
/// Frames that leave by one call of the kernel. Each has two parts.
const BATCH: usize = 32;

/// A frame as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// Of one client.
    Frame(Frame),
    /// Of many: header and payload in one piece.
    Joined(Bytes),
}

#[derive(Debug)]
struct Item {
    wire: Wire,
    kind: Kind,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Of this client, or of a topic with a history.
    Message,
    /// Of any other topic: it may make room for newer ones.
    Published,
    /// A ping, a pong or the close frame.
    Control,
}

/// Control frames that wait for the end of the frame that is being written.
#[derive(Debug, Default)]
pub(super) struct Control {
    pub(super) pong: Option<Frame>,
    pub(super) ping: bool,
}

#[derive(Debug, Default)]
pub(super) struct State {
    items: VecDeque<Item>,
    /// Bytes of the first item that are written already.
    written: usize,
    share: Share,
    control: Option<Box<Control>>,
    pub(super) timers: Vec<TimerChange>,
    pub(super) ending: Option<Box<Ending>>,
    /// Nothing is taken in any more, except for answers to what is being handled.
    /// It is to end; what else would end it comes too late.
    pub(super) is_ending: bool,
    pub(super) is_closed: bool,
    /// Nothing at all is.
    pub(super) is_finished: bool,
    pub(super) socket: Option<OwnedWriteHalf>,
    pub(super) is_timed: bool,
    pub(super) sent_at: Option<Instant>,
}

impl Wire {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Frame(frame) => frame.len(),
            Self::Joined(bytes) => bytes.len(),
        }
    }

    fn cost(&self) -> usize {
        self.len() + OVERHEAD
    }

    fn parts(&self) -> [&[u8]; 2] {
        match self {
            Self::Frame(frame) => [frame.header(), frame.payload()],
            Self::Joined(bytes) => [bytes, &[]],
        }
    }

    /// Writes it by the call that suits it, without waiting.
    pub(super) fn write(&self, socket: &OwnedWriteHalf) -> io::Result<usize> {
        match self {
            Self::Joined(bytes) => socket.try_write(bytes),
            Self::Frame(_) => socket.try_write_vectored(&self.parts().map(IoSlice::new)),
        }
    }
}

/// What a frame costs in a queue, in bytes.
pub(super) fn cost(frame: &Frame) -> usize {
    frame.len() + OVERHEAD
}

impl State {
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.control.is_none()
    }

    pub(super) fn bytes(&self) -> usize {
        self.share.bytes()
    }

    pub(super) fn check_open(&self) -> Result<(), Refused> {
        if self.is_closed {
            return Err(Refused::Closed);
        }
        Ok(())
    }

    pub(super) fn end(&mut self, code: u16, reason: &str, is_patient: bool) {
        self.ending = Some(Box::new(Ending {
            code,
            reason: reason.to_owned(),
            is_patient,
            is_cut: false,
        }));
    }

    /// A message was written to its end.
    pub(super) fn note_sent(&mut self) {
        if self.is_timed {
            self.sent_at = Some(Instant::now());
        }
    }

    pub(super) fn control(&mut self) -> &mut Control {
        self.control.get_or_insert_default()
    }

    /// Counts what is to be appended; false if there is no room for it.
    pub(super) fn try_hold(&mut self, wires: &[Wire], limit: usize, budget: &Budget) -> bool {
        let bytes = wires.iter().map(Wire::cost).sum();
        let fits = self.bytes() == 0 || self.bytes() + bytes <= limit;
        fits && self.share.try_add(bytes, budget)
    }

    /// Appends what is counted already.
    pub(super) fn append(&mut self, wire: Wire, kind: Kind) {
        self.items.push_back(Item { wire, kind });
    }

    /// Appends, whether there is room or not.
    pub(super) fn hold(&mut self, wire: Wire, kind: Kind, budget: &Budget) {
        self.share.add(wire.cost(), budget);
        self.append(wire, kind);
    }

    /// Whether there would be room if all publications went that can go.
    pub(super) fn could_fit(&self, wire: &Wire, limit: usize) -> bool {
        if self.bytes() + wire.cost() <= limit {
            return true;
        }
        let begun = usize::from(self.written > 0);
        let can_go = self
            .items
            .iter()
            .skip(begun)
            .filter(|item| item.kind == Kind::Published);
        let bytes: usize = can_go.map(|item| item.wire.cost()).sum();
        let left = self.bytes() - bytes;
        left == 0 || left + wire.cost() <= limit
    }

    /// Control frames that wait are not sent: the close frame is the last one.
    pub(super) fn drop_control(&mut self) {
        self.control = None;
    }

    /// Drops the oldest publication of which nothing is written yet, if there is one.
    pub(super) fn drop_oldest(&mut self, budget: &Budget) -> bool {
        let begun = usize::from(self.written > 0);
        let oldest = self
            .items
            .iter()
            .skip(begun)
            .position(|item| item.kind == Kind::Published);
        let Some(item) = oldest.and_then(|place| self.items.remove(begun + place)) else {
            return false;
        };
        self.share.remove(item.wire.cost(), budget);
        true
    }

    /// Throws away what waits, except for the frame that is half written: the close frame must come behind all of it.
    pub(super) fn discard(&mut self, budget: &Budget) {
        self.items.truncate(usize::from(self.written > 0));
        let left = self.items.iter().map(|item| item.wire.cost()).sum();
        self.share.set(left, budget);
    }

    /// Throws everything away.
    pub(super) fn clear(&mut self, budget: &Budget) {
        self.items = VecDeque::new();
        self.written = 0;
        self.control = None;
        self.timers = Vec::new();
        self.share.set(0, budget);
    }

    /// Puts control frames before what waits, behind a frame that is half written. Those that come while others stand there
    /// already wait, so that no more than one of each does. Whether there is anything to write.
    pub(super) fn prepare(&mut self, budget: &Budget) -> bool {
        let place = usize::from(self.written > 0);
        let is_taken = self
            .items
            .get(place)
            .is_some_and(|item| item.kind == Kind::Control);
        if !is_taken && let Some(control) = self.control.take() {
            let Control { pong, ping } = *control;
            let ping = ping.then(|| Frame::ping(Bytes::new()));
            for frame in ping.into_iter().chain(pong) {
                let wire = Wire::Frame(frame);
                self.share.add(wire.cost(), budget);
                let kind = Kind::Control;
                self.items.insert(place, Item { wire, kind });
            }
        }
        !self.items.is_empty()
    }

    /// Writes as much as goes by one call.
    pub(super) fn write(
        &self,
        write: impl FnOnce(&[IoSlice<'_>]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); 2 * BATCH];
        let mut skip = self.written;
        let parts = self.items.iter().flat_map(|item| item.wire.parts());
        let unwritten = parts.filter_map(|part| {
            let rest = part.get(skip..);
            skip = skip.saturating_sub(part.len());
            rest.filter(|rest| !rest.is_empty())
        });
        let mut used = 0;
        for (slice, part) in slices.iter_mut().zip(unwritten) {
            *slice = IoSlice::new(part);
            used += 1;
        }
        match write(slices.get(..used).unwrap_or_default()) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            other => other,
        }
    }

    /// So many bytes are written.
    pub(super) fn advance(&mut self, bytes: usize, budget: &Budget) {
        self.written += bytes;
        let (mut released, mut has_sent) = (0, false);
        while let Some(first) = self.items.front()
            && self.written >= first.wire.len()
        {
            self.written -= first.wire.len();
            released += first.wire.cost();
            has_sent |= first.kind != Kind::Control;
            self.items.pop_front();
        }
        if has_sent {
            self.note_sent();
        }
        if self.items.is_empty() {
            // A burst must not cost memory for the rest of a long life.
            self.items = VecDeque::new();
            self.written = 0;
            self.share.set(0, budget);
        } else if released > 0 {
            self.share.remove(released, budget);
        }
    }
}
