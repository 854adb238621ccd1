//! Compression of messages (RFC 7692). Compressor and inflater are a thread's, made when they are first used: no context is
//! taken over from one message to the next, so all connections can use them in turn.

use std::cell::Cell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::Violation;

/// What a sender leaves out at the end (RFC 7692 section 7.2.1): an empty block without compression.
const LEFT_OUT: [u8; 4] = [0, 0, 0xff, 0xff];
/// That block, and an empty one that is the last: a stream that was whole ends there, and nothing comes out.
const END: [u8; 9] = [0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff];

/// The fastest. 1 KiB of JSON took 6 µs and became 36 % of it; at level 3 it took 13 µs, at level 6 14 µs, and became 29 %.
/// That is one packet either way.
const LEVEL: u32 = 1;

/// How much memory for output a thread keeps.
const KEPT: usize = 64 * 1024;
/// How much the inflater begins with.
const FIRST: usize = 4 * 1024;

/// How far back a compressor looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// 32 KiB, all that deflate can.
    Full,
    /// 512 bytes, for clients that have no memory for more.
    Small,
}

struct Compressor {
    state: Compress,
    out: Vec<u8>,
}

struct Inflater {
    state: Decompress,
    out: Vec<u8>,
}

thread_local! {
    static FULL: Cell<Option<Compressor>> = const { Cell::new(None) };
    static SMALL: Cell<Option<Compressor>> = const { Cell::new(None) };
    static INFLATER: Cell<Option<Inflater>> = const { Cell::new(None) };
}

/// How large a compressed message may be that is not too large. What cannot be compressed grows: in a hasty sender's hands
/// to 9 bits a byte, the longest of the fixed codes (RFC 1951 section 3.2.6).
pub(super) fn bound(max: usize) -> usize {
    max.saturating_add(max / 8 + 64)
}

/// Decompresses a message, whose bytes `take` gets.
pub(super) fn inflate<T>(
    compressed: &[u8],
    max: usize,
    take: impl FnOnce(&[u8]) -> T,
) -> Result<T, Violation> {
    // Out of its place while it works, here and below: should it panic, nobody is left with what it was in the middle of.
    let mut inflater = INFLATER.take().unwrap_or_else(Inflater::new);
    let taken = inflater.run(compressed, max).map(|()| take(&inflater.out));
    keep(&mut inflater.out);
    INFLATER.set(Some(inflater));
    taken
}

/// Compresses a message, whose bytes `take` gets. None if that does not make it smaller.
pub(super) fn deflate<T>(payload: &[u8], window: Window, take: impl FnOnce(&[u8]) -> T) -> Option<T> {
    let place = match window {
        Window::Full => &FULL,
        Window::Small => &SMALL,
    };
    let mut compressor = place.take().unwrap_or_else(|| Compressor::new(window));
    let taken = compressor.run(payload)?.map(take);
    keep(&mut compressor.out);
    place.set(Some(compressor));
    taken
}

/// A thread does not keep the memory of the largest message it ever had.
fn keep(out: &mut Vec<u8>) {
    if out.capacity() > KEPT {
        *out = Vec::new();
    }
}

impl Inflater {
    fn new() -> Self {
        Self {
            state: Decompress::new(false),
            out: Vec::new(),
        }
    }

    fn run(&mut self, compressed: &[u8], max: usize) -> Result<(), Violation> {
        self.out.clear();
        self.state.reset(false);
        if compressed.is_empty() || self.feed(compressed, max)? {
            return Ok(());
        }
        let size = self.out.len();
        if self.feed(&END, max)? && self.out.len() == size {
            Ok(())
        } else {
            Err(Violation::Deflate)
        }
    }

    /// Whether the stream ends where the input does.
    fn feed(&mut self, mut input: &[u8], max: usize) -> Result<bool, Violation> {
        loop {
            if self.out.len() == self.out.capacity() {
                let most = max.saturating_add(1).saturating_sub(self.out.len());
                self.out.reserve_exact(self.out.len().max(FIRST).min(most));
            }
            let (before_in, before_out) = (self.state.total_in(), self.out.len());
            let status = self
                .state
                .decompress_vec(input, &mut self.out, FlushDecompress::None);
            // Before all else: how far it gets in one go must not matter.
            if self.out.len() > max {
                return Err(Violation::TooLarge { max });
            }
            let status = status.map_err(|_| Violation::Deflate)?;
            let consumed = usize::try_from(self.state.total_in() - before_in).unwrap_or(usize::MAX);
            input = input.get(consumed..).unwrap_or_default();
            match status {
                Status::StreamEnd if input.is_empty() => return Ok(true),
                // A block that is marked as the last one need not be (RFC 7692 section 7.2.3.4).
                Status::StreamEnd => self.state.reset(false),
                _ if self.out.len() == self.out.capacity() => {}
                _ if input.is_empty() => return Ok(false),
                _ if consumed == 0 && self.out.len() == before_out => return Err(Violation::Deflate),
                _ => {}
            }
        }
    }
}

impl Compressor {
    fn new(window: Window) -> Self {
        let bits = match window {
            Window::Full => 15,
            Window::Small => 9,
        };
        Self {
            state: Compress::new_with_window_bits(Compression::new(LEVEL), false, bits),
            out: Vec::new(),
        }
    }

    /// The outer None: it has failed and is of no more use. The inner one: that is not smaller.
    fn run(&mut self, payload: &[u8]) -> Option<Option<&[u8]>> {
        self.out.clear();
        self.state.reset();
        // With room for all, even if it turns out larger: a compressor that was stopped halfway cannot be used again. What it
        // had not put out yet takes up space in it beyond the reset (zlib-rs 0.6.8), until there is too little and it panics.
        self.out.reserve_exact(bound(payload.len()));
        let mut input = payload;
        while !input.is_empty() {
            let before = self.state.total_in();
            self.state
                .compress_vec(input, &mut self.out, FlushCompress::Sync)
                .ok()?;
            let consumed = usize::try_from(self.state.total_in() - before).ok()?;
            if consumed == 0 || self.out.len() == self.out.capacity() {
                return None;
            }
            input = input.get(consumed..)?;
        }
        let compressed = self.out.strip_suffix(&LEFT_OUT);
        Some(compressed.filter(|compressed| compressed.len() < payload.len()))
    }
}

#[cfg(test)]
mod tests;
