//! UTF-8 that comes in pieces (RFC 6455 section 8.1).

use super::super::Violation;

/// Text as it comes: what is sure, and what may yet become a character.
#[derive(Default)]
pub(super) struct Text {
    text: String,
    undecided: [u8; 4],
    undecided_size: u8,
}

/// Text that is whole.
#[inline]
pub(super) fn check(bytes: &[u8]) -> Result<&str, Violation> {
    simdutf8::basic::from_utf8(bytes).map_err(|_| Violation::Utf8)
}

impl Text {
    pub(super) fn len(&self) -> usize {
        self.text.len() + usize::from(self.undecided_size)
    }

    pub(super) fn capacity(&self) -> usize {
        self.text.capacity()
    }

    /// Makes room for bytes beyond [`Self::len`].
    pub(super) fn reserve(&mut self, bytes: usize) {
        self.text.reserve_exact(bytes + usize::from(self.undecided_size));
    }

    /// Fails if this can be no text, whatever comes next.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<(), Violation> {
        let piece = self.decide(piece)?;
        let (whole, rest) = split_incomplete(piece);
        self.text.push_str(check(whole)?);
        for byte in rest {
            self.doubt(*byte);
        }
        Ok(())
    }

    /// The text, if no character is left half.
    pub(super) fn finish(self) -> Result<String, Violation> {
        if self.undecided_size > 0 {
            return Err(Violation::Utf8);
        }
        Ok(self.text)
    }

    /// Completes the character that the last piece has ended in, and gives what is behind it: nothing if it is undecided
    /// still.
    fn decide<'a>(&mut self, mut piece: &'a [u8]) -> Result<&'a [u8], Violation> {
        while self.undecided_size > 0
            && let Some((byte, rest)) = piece.split_first()
        {
            self.doubt(*byte);
            piece = rest;
            let undecided = self.undecided.get(..self.undecided_size.into());
            match str::from_utf8(undecided.unwrap_or_default()) {
                Ok(character) => {
                    self.text.push_str(character);
                    self.undecided_size = 0;
                }
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return Err(Violation::Utf8),
            }
        }
        Ok(piece)
    }

    fn doubt(&mut self, byte: u8) {
        if let Some(next) = self.undecided.get_mut(usize::from(self.undecided_size)) {
            *next = byte;
            self.undecided_size += 1;
        }
    }
}

/// Cuts a character off that the end has split: up to three bytes that a fourth may complete.
fn split_incomplete(piece: &[u8]) -> (&[u8], &[u8]) {
    for size in 1..=3 {
        let Some((whole, last)) = piece
            .len()
            .checked_sub(size)
            .and_then(|at| piece.split_at_checked(at))
        else {
            break;
        };
        let is_continued = last.first().is_some_and(|first| first & 0xc0 == 0x80);
        if !is_continued {
            let is_incomplete = str::from_utf8(last).is_err_and(|error| error.error_len().is_none());
            return if is_incomplete {
                (whole, last)
            } else {
                (piece, &[])
            };
        }
    }
    (piece, &[])
}
