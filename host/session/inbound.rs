//! What a session holds of what has come in, within what all of them may hold (`max-inbound`): its handshake, unfinished
//! messages, what is read ahead, and what is being handled, with the requests that PHP gets.
//!
//! When half of the budget is used up, clients who hold more than a little are not read from any more, except for a few at a
//! time, up to three quarters: their messages come to an end, so that somebody always goes on. The last quarter is for
//! handling what is there. If a session may not go on for a while and nobody else is done with anything meanwhile, it asks
//! for room, and whoever holds most is closed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Opened;
use crate::budget::{Budget, FREE, Reservation, Share};

/// How long a session does without room, and nobody gets anything done, before somebody has to make some.
const PATIENCE: Duration = Duration::from_secs(3);

/// Room for what PHP is sent of a message: a form, which is at most three times as long, and headers. Where a message is
/// short, that is within what is free.
pub(super) fn form(message: usize) -> usize {
    if message <= FREE { 0 } else { 3 * message + FREE }
}

pub(super) struct Inbound {
    share: Share,
    budget: Arc<Budget>,
    /// Bytes of the handshake.
    head: usize,
    /// Boxed: it is rare, and would lie idle in the memory of every connection.
    shortage: Option<Box<Shortage>>,
}

/// What there is while there is little room.
#[derive(Default)]
struct Shortage {
    /// For the rest of the message that has begun.
    reservation: Option<Reservation>,
    unread: Option<Wait>,
    unhandled: Option<Wait>,
}

/// A wait for room. It ends when the message goes on, and not as soon as there is room for a moment.
struct Wait {
    since: Instant,
    /// Of the budget, then.
    progress: u32,
}

impl Inbound {
    pub(super) fn new(budget: &Arc<Budget>, head: usize) -> Self {
        Self {
            share: Share::default(),
            budget: budget.clone(),
            head,
            shortage: None,
        }
    }

    /// So many bytes are held, beside those of the handshake.
    pub(super) fn hold(&mut self, bytes: usize, opened: &Opened) {
        let bytes = self.head + bytes;
        if bytes != self.share.bytes() {
            opened.set_inbound(bytes);
        }
        // Even if it is the same: more may have been taken ahead.
        self.share.set(bytes, &self.budget);
        if let Some(reservation) = self.reservation() {
            // Whoever has one and does not use it goes first.
            opened.set_inbound(bytes + reservation.bytes());
        }
    }

    fn reservation(&self) -> Option<&Reservation> {
        self.shortage.as_ref()?.reservation.as_ref()
    }

    /// How many bytes may be read now. `missing` of the message that has begun, if one has: then this is to be asked again
    /// after a while if there are none.
    pub(super) fn readable(&mut self, missing: Option<usize>, now: Instant) -> usize {
        if self.budget.used() <= self.budget.limit() / 2 || self.reservation().is_some() {
            return usize::MAX;
        }
        let little = FREE.saturating_sub(self.share.bytes().saturating_sub(self.head));
        if little > 0 {
            return little;
        }
        let Some(missing) = missing else {
            return 0;
        };
        let shortage = self.shortage.get_or_insert_default();
        shortage.reservation = self.budget.reserve(missing);
        if shortage.reservation.is_some() {
            return usize::MAX;
        }
        Wait::go_on(&mut shortage.unread, &self.budget, now);
        0
    }

    /// The message that had begun is whole, or nothing more of it is wanted.
    pub(super) fn message_ended(&mut self) {
        self.end(|shortage| {
            shortage.reservation = None;
            shortage.unread = None;
        });
    }

    /// Whether a message of so many bytes may be handled now. To be asked again after a while if not.
    pub(super) fn may_handle(&mut self, bytes: usize, now: Instant) -> bool {
        let form = form(bytes);
        if form == 0 || self.share.try_take_ahead(form, &self.budget) {
            self.end(|shortage| shortage.unhandled = None);
            return true;
        }
        let shortage = self.shortage.get_or_insert_default();
        Wait::go_on(&mut shortage.unhandled, &self.budget, now);
        false
    }

    fn end(&mut self, what: impl FnOnce(&mut Shortage)) {
        if let Some(shortage) = &mut self.shortage {
            what(shortage);
            self.shortage.take_if(|shortage| shortage.is_over());
        }
    }

    /// A long message is done with.
    pub(super) fn advance(&self) {
        self.budget.advance();
    }
}

impl Shortage {
    fn is_over(&self) -> bool {
        self.reservation.is_none() && self.unread.is_none() && self.unhandled.is_none()
    }
}

impl Wait {
    fn go_on(wait: &mut Option<Self>, budget: &Budget, now: Instant) {
        let progress = budget.progress();
        match wait {
            Some(wait) if wait.progress == progress => {
                if now.duration_since(wait.since) >= PATIENCE {
                    budget.ask_for_room();
                }
            }
            _ => *wait = Some(Self { since: now, progress }),
        }
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        self.share.set(0, &self.budget);
    }
}
