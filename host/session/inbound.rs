//! What a session holds of what has come in, within what all of them may hold (`max-inbound`): its handshake, unfinished
//! messages, what is read ahead, and what is being handled, with the requests that PHP gets.
//!
//! When half of the budget is used up, clients who hold more than a little are not read from any more; the other half is for
//! handling what is there. Who may not go on for a while asks for room, and whoever holds most is closed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Opened;
use crate::budget::{Budget, FREE, Share};

/// A form is at most three times as long as the message in it: it is made only if there is room for it.
const FORM: usize = 3;
/// How long a session does without room before somebody has to make some.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct Inbound {
    share: Share,
    budget: Arc<Budget>,
    /// Bytes of the handshake.
    head: usize,
    /// Since when there is no room to read.
    unread: Option<Instant>,
    /// Since when there is no room to handle a message.
    unhandled: Option<Instant>,
}

impl Inbound {
    pub(super) fn new(budget: &Arc<Budget>, head: usize) -> Self {
        Self {
            share: Share::default(),
            budget: budget.clone(),
            head,
            unread: None,
            unhandled: None,
        }
    }

    /// So many bytes are held, beside those of the handshake.
    pub(super) fn hold(&mut self, bytes: usize, opened: &Opened) {
        let bytes = self.head + bytes;
        if bytes != self.share.bytes() {
            self.share.set(bytes, &self.budget);
            opened.set_inbound(bytes);
        }
    }

    /// How many bytes may be read now. To be asked again after a while if there are none and a message has begun.
    pub(super) fn readable(&mut self, is_in_message: bool, now: Instant) -> usize {
        let most = if self.budget.used() <= self.budget.limit() / 2 {
            usize::MAX
        } else {
            FREE.saturating_sub(self.share.bytes().saturating_sub(self.head))
        };
        if most > 0 {
            self.unread = None;
        } else if is_in_message {
            ask_for_room(&mut self.unread, &self.budget, now);
        }
        most
    }

    /// Whether a message of so many bytes may be handled now. To be asked again after a while if not.
    pub(super) fn may_handle(&mut self, bytes: usize, now: Instant) -> bool {
        let may_handle = bytes <= FREE || self.budget.has_room_for(FORM * bytes);
        if may_handle {
            self.unhandled = None;
        } else {
            ask_for_room(&mut self.unhandled, &self.budget, now);
        }
        may_handle
    }
}

fn ask_for_room(since: &mut Option<Instant>, budget: &Budget, now: Instant) {
    let since = *since.get_or_insert(now);
    if now.duration_since(since) >= PATIENCE {
        budget.ask_for_room();
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        self.share.set(0, &self.budget);
    }
}
