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
    /// Since when there is no room.
    starved: Option<Instant>,
}

impl Inbound {
    pub(super) fn new(budget: &Arc<Budget>, head: usize) -> Self {
        Self {
            share: Share::default(),
            budget: budget.clone(),
            head,
            starved: None,
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

    /// How many bytes may be read now. To be asked again after a while if there are none.
    pub(super) fn readable(&mut self, now: Instant) -> usize {
        if self.budget.used() <= self.budget.limit() / 2 {
            self.starved = None;
            return usize::MAX;
        }
        let most = FREE.saturating_sub(self.share.bytes());
        if most == 0 {
            self.starve(now);
        }
        most
    }

    /// Whether a message of so many bytes may be handled now. To be asked again after a while if not.
    pub(super) fn may_handle(&mut self, bytes: usize, now: Instant) -> bool {
        let may_handle = bytes <= FREE || self.budget.has_room_for(FORM * bytes);
        if !may_handle {
            self.starve(now);
        }
        may_handle
    }

    fn starve(&mut self, now: Instant) {
        let since = *self.starved.get_or_insert(now);
        if now.duration_since(since) >= PATIENCE {
            self.budget.ask_for_room();
        }
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        self.share.set(0, &self.budget);
    }
}
