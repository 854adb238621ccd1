//! Headers of frames (RFC 6455 section 5.2). What is wrong is refused as soon as the byte is there that makes it so, and
//! not only when the header is whole: otherwise cuts between pieces would matter.

use super::super::{
    BINARY, CLOSE, CONTINUATION, FIN, MAX_CONTROL, OPCODE, PING, PONG, RSV1, RSV2_AND_3, TEXT, Violation,
};

// The second byte.
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;
const LENGTH_IN_2_BYTES: u8 = 126;
const LENGTH_IN_8_BYTES: u8 = 127;

/// Two bytes, the longest length, and the mask.
const MAX_SIZE: usize = 14;

/// A frame as its header says it is, and how far it has come.
#[derive(Clone, Copy)]
pub(super) struct Header {
    first: u8,
    /// Of the byte that comes next.
    pub(super) mask: [u8; 4],
    /// How much of the payload has not come yet.
    pub(super) left: usize,
}

/// What decides which headers may come.
#[derive(Clone, Copy)]
pub(super) struct Context {
    pub(super) inflates: bool,
    pub(super) is_in_message: bool,
}

/// The beginning of a header.
#[derive(Default)]
pub(super) struct Start {
    bytes: [u8; MAX_SIZE],
    size: u8,
}

impl Header {
    pub(super) fn opcode(&self) -> u8 {
        self.first & OPCODE
    }

    pub(super) fn is_control(&self) -> bool {
        is_control(self.first)
    }

    /// Whether the message ends with this frame.
    pub(super) fn is_final(&self) -> bool {
        self.first & FIN != 0
    }

    /// Whether the message is compressed that begins with this frame.
    pub(super) fn is_deflated(&self) -> bool {
        self.first & RSV1 != 0
    }

    /// So many bytes of the payload have come.
    pub(super) fn pass(&mut self, size: usize) {
        self.left = self.left.saturating_sub(size);
        self.mask.rotate_left(size % 4);
    }
}

impl Start {
    /// Whether this is of a frame that carries data.
    pub(super) fn is_of_data(&self) -> bool {
        self.size > 0 && self.bytes.first().is_some_and(|first| !is_control(*first))
    }

    /// Appends what has room, and gives how much there was before.
    pub(super) fn put(&mut self, input: &[u8]) -> usize {
        let before = usize::from(self.size);
        let room = self.bytes.get_mut(before..).unwrap_or_default();
        for (to, from) in room.iter_mut().zip(input) {
            *to = *from;
            self.size += 1;
        }
        before
    }

    /// Like [`parse`] for a header whose beginning this is: gives how much of `input` belongs to it. None: `input` was put
    /// behind it.
    pub(super) fn parse_on(
        &mut self,
        input: &[u8],
        context: Context,
    ) -> Result<Option<(Header, usize)>, Violation> {
        let before = self.put(input);
        let bytes = self.bytes.get(..self.size.into()).unwrap_or_default();
        let Some((header, size)) = parse(bytes, context)? else {
            return Ok(None);
        };
        *self = Self::default();
        Ok(Some((header, size.saturating_sub(before))))
    }
}

/// The header at the front of `bytes`, and its size. None: there is more to come of it.
#[inline]
pub(super) fn parse(bytes: &[u8], context: Context) -> Result<Option<(Header, usize)>, Violation> {
    let Some((&first, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    check_first(first, context)?;
    let Some((&second, rest)) = rest.split_first() else {
        return Ok(None);
    };
    if second & MASKED == 0 {
        return Err(Violation::Protocol("a frame without a mask"));
    }
    let short = second & LENGTH;
    if is_control(first) && usize::from(short) > MAX_CONTROL {
        return Err(Violation::Protocol("a control frame over 125 bytes"));
    }
    let (length, rest) = match short {
        LENGTH_IN_2_BYTES => {
            let Some((length, rest)) = rest.split_first_chunk() else {
                return Ok(None);
            };
            (u16::from_be_bytes(*length).into(), rest)
        }
        LENGTH_IN_8_BYTES => {
            let Some((length, rest)) = rest.split_first_chunk() else {
                return Ok(None);
            };
            (u64::from_be_bytes(*length), rest)
        }
        _ => (u64::from(short), rest),
    };
    check_length(short, length)?;
    let Some((mask, rest)) = rest.split_first_chunk() else {
        return Ok(None);
    };
    let header = Header {
        first,
        mask: *mask,
        // What no address reaches is over any limit.
        left: usize::try_from(length).unwrap_or(usize::MAX),
    };
    Ok(Some((header, bytes.len() - rest.len())))
}

fn check_first(first: u8, context: Context) -> Result<(), Violation> {
    let opcode = first & OPCODE;
    let reserved = if context.inflates && matches!(opcode, TEXT | BINARY) {
        RSV2_AND_3
    } else {
        // RFC 7692 section 6.1: not on the fragments that follow, nor on control frames.
        RSV1 | RSV2_AND_3
    };
    let wrong = match opcode {
        _ if first & reserved != 0 => "a reserved bit is set",
        CONTINUATION if !context.is_in_message => "there is no message to continue",
        TEXT | BINARY if context.is_in_message => "a message begins inside another",
        CLOSE | PING | PONG if first & FIN == 0 => "a control frame in fragments",
        CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG => return Ok(()),
        _ => "an unknown opcode",
    };
    Err(Violation::Protocol(wrong))
}

fn check_length(short: u8, length: u64) -> Result<(), Violation> {
    let min = match short {
        LENGTH_IN_2_BYTES => LENGTH_IN_2_BYTES.into(),
        LENGTH_IN_8_BYTES => 1 << 16,
        _ => 0,
    };
    if length < min {
        return Err(Violation::Protocol("a length that is not in its shortest form"));
    }
    if length > i64::MAX as u64 {
        return Err(Violation::Protocol("a length over 63 bits"));
    }
    Ok(())
}

fn is_control(first: u8) -> bool {
    first & OPCODE >= CLOSE
}
