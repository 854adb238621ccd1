//! Compression of messages (RFC 7692). Compressor and inflater are a thread's, made when they are first used: no context is
//! taken over from one message to the next, so all connections can use them in turn.

use std::cell::RefCell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::Violation;

/// What a sender leaves out at the end (RFC 7692 section 7.2.1): an empty block without compression.
const LEFT_OUT: [u8; 4] = [0, 0, 0xff, 0xff];
/// That block, and an empty one that is the last: only if the stream ends there it was whole.
const END: [u8; 9] = [0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff];

/// How much memory for output a thread keeps.
const KEPT: usize = 64 * 1024;

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
    static FULL: RefCell<Option<Compressor>> = const { RefCell::new(None) };
    static SMALL: RefCell<Option<Compressor>> = const { RefCell::new(None) };
    static INFLATER: RefCell<Option<Inflater>> = const { RefCell::new(None) };
}

/// How large a compressed message may be that is not too large. What cannot be compressed grows by a few bytes a block.
pub(super) fn bound(max: usize) -> usize {
    max.saturating_add(max / 64 + 64)
}

/// Decompresses a message, whose bytes `take` gets.
pub(super) fn inflate<T>(
    compressed: &[u8],
    max: usize,
    take: impl FnOnce(&[u8]) -> T,
) -> Result<T, Violation> {
    INFLATER.with_borrow_mut(|inflater| {
        let inflater = inflater.get_or_insert_with(Inflater::new);
        let taken = inflater.run(compressed, max).map(|()| take(&inflater.out));
        keep(&mut inflater.out);
        taken
    })
}

/// Compresses a message, whose bytes `take` gets. None if that does not make it smaller.
pub(super) fn deflate<T>(payload: &[u8], window: Window, take: impl FnOnce(&[u8]) -> T) -> Option<T> {
    let compressor = match window {
        Window::Full => &FULL,
        Window::Small => &SMALL,
    };
    compressor.with_borrow_mut(|compressor| {
        let compressor = compressor.get_or_insert_with(|| Compressor::new(window));
        let taken = compressor.run(payload).map(take);
        keep(&mut compressor.out);
        taken
    })
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
        if compressed.is_empty() || self.feed(compressed, max)? || self.feed(&END, max)? {
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
                self.out
                    .reserve_exact(self.out.len().clamp(4096, KEPT.max(self.out.len())).min(most));
            }
            let (before_in, before_out) = (self.state.total_in(), self.out.len());
            let status = self
                .state
                .decompress_vec(input, &mut self.out, FlushDecompress::None)
                .map_err(|_| Violation::Deflate)?;
            if self.out.len() > max {
                return Err(Violation::TooLarge { max });
            }
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
            state: Compress::new_with_window_bits(Compression::new(1), false, bits),
            out: Vec::new(),
        }
    }

    fn run(&mut self, payload: &[u8]) -> Option<&[u8]> {
        self.out.clear();
        self.state.reset();
        // What does not fit is not smaller.
        self.out.reserve_exact(payload.len() + LEFT_OUT.len());
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
        let compressed = self.out.strip_suffix(&LEFT_OUT)?;
        (compressed.len() < payload.len()).then_some(compressed)
    }
}
