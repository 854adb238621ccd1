//! Messages as they come, in frames and pieces of frames.

use bytes::Bytes;

use super::super::{Data, TEXT, Violation, deflate};
use super::header::Header;
use super::text::{self, Text};

/// A message that has begun.
pub(super) enum Message {
    /// Checked as it comes.
    Text(Text),
    Binary(Vec<u8>),
    /// To be decompressed when it is whole.
    Deflated {
        is_text: bool,
        bytes: Vec<u8>,
    },
}

/// A message whose only frame has come in one piece.
#[inline]
pub(super) fn whole(header: &Header, payload: &[u8], max: usize) -> Result<Data, Violation> {
    let is_text = header.opcode() == TEXT;
    if header.is_deflated() {
        inflate(is_text, payload, max)
    } else {
        data(is_text, payload)
    }
}

impl Message {
    /// Begins with this frame.
    pub(super) fn new(header: &Header) -> Self {
        let is_text = header.opcode() == TEXT;
        match (header.is_deflated(), is_text) {
            (false, true) => Self::Text(Text::default()),
            (false, false) => Self::Binary(Vec::new()),
            (true, is_text) => Self::Deflated {
                is_text,
                bytes: Vec::new(),
            },
        }
    }

    /// Forgets what has come.
    pub(super) fn clear(&mut self) {
        match self {
            Self::Text(text) => *text = Text::default(),
            Self::Binary(bytes) | Self::Deflated { bytes, .. } => *bytes = Vec::new(),
        }
    }

    /// What has come, in bytes.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) | Self::Deflated { bytes, .. } => bytes.len(),
        }
    }

    pub(super) fn capacity(&self) -> usize {
        match self {
            Self::Text(text) => text.capacity(),
            Self::Binary(bytes) | Self::Deflated { bytes, .. } => bytes.capacity(),
        }
    }

    pub(super) fn is_deflated(&self) -> bool {
        matches!(self, Self::Deflated { .. })
    }

    /// A piece of the frame with this header.
    pub(super) fn push(&mut self, header: &Header, piece: &[u8]) -> Result<(), Violation> {
        self.make_room(header, piece.len());
        match self {
            Self::Text(text) => text.push(piece)?,
            Self::Binary(bytes) | Self::Deflated { bytes, .. } => bytes.extend_from_slice(piece),
        }
        Ok(())
    }

    /// The last piece of the last frame.
    pub(super) fn finish(mut self, header: &Header, piece: &[u8], max: usize) -> Result<Data, Violation> {
        self.push(header, piece)?;
        match self {
            Self::Text(text) => {
                let mut text = text.finish()?;
                text.shrink_to_fit();
                Ok(Data::Text(text.into()))
            }
            Self::Binary(mut bytes) => {
                bytes.shrink_to_fit();
                Ok(Data::Binary(bytes.into()))
            }
            Self::Deflated { is_text, bytes } => inflate(is_text, &bytes, max),
        }
    }

    /// Grows by what has come, never by what is announced alone: by as much again as there is, so that what is copied stays
    /// in proportion, but not beyond the end of the message where that is known.
    fn make_room(&mut self, header: &Header, piece: usize) {
        let size = self.len() + piece;
        if size <= self.capacity() {
            return;
        }
        let ahead = if header.is_final() {
            header.left.min(size)
        } else {
            size
        };
        match self {
            Self::Text(text) => text.reserve(piece + ahead),
            Self::Binary(bytes) | Self::Deflated { bytes, .. } => bytes.reserve_exact(piece + ahead),
        }
    }
}

fn inflate(is_text: bool, compressed: &[u8], max: usize) -> Result<Data, Violation> {
    deflate::inflate(compressed, max, |bytes| data(is_text, bytes))?
}

#[inline]
fn data(is_text: bool, bytes: &[u8]) -> Result<Data, Violation> {
    if is_text {
        Ok(Data::Text(text::check(bytes)?.into()))
    } else {
        Ok(Data::Binary(Bytes::copy_from_slice(bytes)))
    }
}
