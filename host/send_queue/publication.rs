//! A message for many clients: encoded once, and compressed once for all who have agreed on it in the same way.

use std::sync::OnceLock;

use super::Compression;
use super::state::{Kind, Wire};
use crate::websocket::{Frame, Window};

/// A message for many clients.
#[derive(Debug)]
pub struct Publication {
    frame: Frame,
    plain: Wire,
    kind: Kind,
    /// Made when the first client needs it; none if it is no smaller.
    full: OnceLock<Option<Wire>>,
    small: OnceLock<Option<Wire>>,
}

#[expect(clippy::len_without_is_empty, reason = "no frame is empty")]
impl Publication {
    /// Of a message that may make room for newer ones.
    pub fn new(frame: Frame) -> Self {
        Self::of_kind(Kind::Published, frame)
    }

    /// Of a message that a client either gets, or is closed: of a topic with a history, where each has its number.
    pub fn kept(frame: Frame) -> Self {
        Self::of_kind(Kind::Message, frame)
    }

    fn of_kind(kind: Kind, frame: Frame) -> Self {
        Self {
            plain: Wire::Joined(frame.joined()),
            frame,
            kind,
            full: OnceLock::new(),
            small: OnceLock::new(),
        }
    }

    /// Its size in bytes, as it is sent without compression.
    pub fn len(&self) -> usize {
        self.plain.len()
    }

    /// What it is in a queue.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// What a client is sent.
    pub(super) fn wire(&self, compression: Option<Compression>) -> &Wire {
        let Some(Compression { window, threshold }) = compression else {
            return &self.plain;
        };
        if self.frame.payload().len() < threshold {
            return &self.plain;
        }
        let compressed = match window {
            Window::Full => &self.full,
            Window::Small => &self.small,
        };
        let compress = || Some(Wire::Joined(self.frame.deflated(window)?.joined()));
        compressed.get_or_init(compress).as_ref().unwrap_or(&self.plain)
    }
}
