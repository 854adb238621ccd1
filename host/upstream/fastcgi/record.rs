//! The record layer of FastCGI 1.0: records (section 3.3), name-value pairs (section 3.4) and the bodies of the
//! two records that are not streams (section 5). Bytes in and bytes out, no I/O.
//!
//! A connection carries one request at a time, because PHP-FPM does not multiplex. So all records have the same
//! request id.

use bytes::{Buf, BytesMut};

/// The most that one record holds, in bytes: its length is a 16-bit number (section 3.3).
pub(super) const MAX_CONTENT: usize = u16::MAX as usize;

const VERSION: u8 = 1;
const HEADER_SIZE: usize = 8;
/// Any number but 0, which is for management records (section 3.3).
const REQUEST_ID: u16 = 1;

// The record types in use (section 8).
const BEGIN_REQUEST: u8 = 1;
const END_REQUEST: u8 = 3;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
const STDERR: u8 = 7;

const RESPONDER: u16 = 1;
const KEEP_CONN: u8 = 1;
const END_REQUEST_SIZE: u16 = 8;

/// A piece of what the application sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Some of the answer, never empty. Pieces follow the arrival of bytes, not the records.
    Stdout(BytesMut),
    /// Some error text, never empty.
    Stderr(BytesMut),
    /// The request is over; nothing comes after it.
    End(ProtocolStatus),
}

/// How the application says that it ended the request (section 5.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProtocolStatus {
    Complete,
    CannotMultiplex,
    Overloaded,
    UnknownRole,
    Unknown(u8),
}

/// Bytes that are not FastCGI, or records that must not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("a record of version {0}")]
    Version(u8),
    #[error("a record of type {0}")]
    Type(u8),
    #[error("a record of request {0}")]
    RequestId(u16),
    #[error("an end-of-request record of {0} bytes")]
    EndRequestSize(u16),
}

/// A pair is too long for any record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PairTooLong;

/// Takes the records of a connection apart, in whatever pieces their bytes arrive.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    is_stderr: bool,
    /// The bytes of the current record that are still to come.
    content: usize,
    padding: usize,
}

/// Writes the PARAMS stream.
///
/// A pair never extends over two records. The specification would allow it, but PHP reads the pairs of each record
/// separately and closes the connection if one is cut (`fcgi_get_params` in main/fastcgi.c).
pub(super) struct ParamsWriter<'a> {
    out: &'a mut Vec<u8>,
    /// The position of the header of the open record.
    record: usize,
}

impl Decoder {
    /// The next part, cut off from the front of `input` without a copy. None: more input is needed behind what is left. At
    /// most 270 bytes are ever left.
    pub(super) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Part>, Malformed> {
        loop {
            if self.content > 0 && input.is_empty() {
                return Ok(None);
            }
            if self.content > 0 {
                let piece = take(input, &mut self.content);
                return Ok(Some(if self.is_stderr {
                    Part::Stderr(piece)
                } else {
                    Part::Stdout(piece)
                }));
            }
            let padding = self.padding.min(input.len());
            input.advance(padding);
            self.padding -= padding;
            let Some(header) = input.first_chunk() else {
                return Ok(None);
            };
            let (kind, length, padding) = parse_header(*header)?;
            if kind == END_REQUEST {
                return end_request(input, length, padding);
            }
            input.advance(HEADER_SIZE);
            self.is_stderr = kind == STDERR;
            self.content = usize::from(length);
            self.padding = usize::from(padding);
        }
    }
}

/// Type, content length and padding length of an acceptable record.
fn parse_header(header: [u8; HEADER_SIZE]) -> Result<(u8, u16, u8), Malformed> {
    let [version, kind, id1, id0, length1, length0, padding, _reserved] = header;
    let id = u16::from_be_bytes([id1, id0]);
    let length = u16::from_be_bytes([length1, length0]);
    if version != VERSION {
        Err(Malformed::Version(version))
    } else if !matches!(kind, STDOUT | STDERR | END_REQUEST) {
        Err(Malformed::Type(kind))
    } else if id != REQUEST_ID {
        Err(Malformed::RequestId(id))
    } else if kind == END_REQUEST && length != END_REQUEST_SIZE {
        Err(Malformed::EndRequestSize(length))
    } else {
        Ok((kind, length, padding))
    }
}

/// Takes the record as a whole, including its padding, so that nothing of it is left on the connection.
fn end_request(input: &mut BytesMut, length: u16, padding: u8) -> Result<Option<Part>, Malformed> {
    let size = HEADER_SIZE + usize::from(length) + usize::from(padding);
    let Some(record) = input.get(..size) else {
        return Ok(None);
    };
    let status = match record.get(HEADER_SIZE..).unwrap_or_default() {
        // It comes after four bytes of application status: the exit code, which is always 0 with FPM.
        [_, _, _, _, 0, ..] => ProtocolStatus::Complete,
        [_, _, _, _, 1, ..] => ProtocolStatus::CannotMultiplex,
        [_, _, _, _, 2, ..] => ProtocolStatus::Overloaded,
        [_, _, _, _, 3, ..] => ProtocolStatus::UnknownRole,
        [_, _, _, _, other, ..] => ProtocolStatus::Unknown(*other),
        _ => return Err(Malformed::EndRequestSize(length)),
    };
    input.advance(size);
    Ok(Some(Part::End(status)))
}

/// Cuts off up to `wanted` bytes, and reduces `wanted` accordingly.
fn take(input: &mut BytesMut, wanted: &mut usize) -> BytesMut {
    let piece = input.split_to(input.len().min(*wanted));
    *wanted -= piece.len();
    piece
}

/// Writes the record that begins a request to a responder (section 5.1). `keep` asks the application to leave the
/// connection open afterwards.
pub(super) fn put_begin_request(out: &mut Vec<u8>, keep: bool) {
    put_header(out, BEGIN_REQUEST, 8);
    out.extend_from_slice(&RESPONDER.to_be_bytes());
    out.extend_from_slice(&[if keep { KEEP_CONN } else { 0 }, 0, 0, 0, 0, 0]);
}

/// Writes a part of the STDIN stream, in as many records as it takes.
pub(super) fn put_stdin(out: &mut Vec<u8>, content: &[u8]) {
    for chunk in content.chunks(MAX_CONTENT) {
        put_header(out, STDIN, chunk.len());
        out.extend_from_slice(chunk);
    }
}

/// Ends the STDIN stream.
pub(super) fn put_stdin_end(out: &mut Vec<u8>) {
    put_header(out, STDIN, 0);
}

/// The caller gives at most `MAX_CONTENT`. Records are not padded: that is for the sake of a receiver that reads
/// aligned words out of its buffer (section 3.3), and PHP does not.
fn put_header(out: &mut Vec<u8>, kind: u8, length: usize) {
    let [id1, id0] = REQUEST_ID.to_be_bytes();
    let [length1, length0] = (length as u16).to_be_bytes();
    out.extend_from_slice(&[VERSION, kind, id1, id0, length1, length0, 0, 0]);
}

impl<'a> ParamsWriter<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        let record = out.len();
        put_header(out, PARAMS, 0);
        Self { out, record }
    }

    /// Adds a pair. After an error, what was written so far is useless.
    pub(super) fn put(&mut self, name: &str, value: &str) -> Result<(), PairTooLong> {
        let size = pair_size(name, value);
        self.make_room(size);
        put_pair(self.out, name, value)
    }

    /// Adds pairs that `put_pair` has written, all in one record.
    pub(super) fn put_encoded(&mut self, pairs: &[u8]) {
        self.make_room(pairs.len());
        self.out.extend_from_slice(pairs);
    }

    /// Begins another record, unless this many bytes fit into the open one.
    fn make_room(&mut self, size: usize) {
        if self.content() > 0 && self.content() + size > MAX_CONTENT {
            self.close_record();
            self.record = self.out.len();
            put_header(self.out, PARAMS, 0);
        }
    }

    /// Ends the stream with an empty record, which is the open one if there was no pair.
    pub(super) fn end(mut self) {
        if self.content() > 0 {
            self.close_record();
            put_header(self.out, PARAMS, 0);
        }
    }

    fn content(&self) -> usize {
        self.out.len() - self.record - HEADER_SIZE
    }

    /// Writes the length, now that it is known, into the record's header.
    fn close_record(&mut self) {
        let length = (self.content() as u16).to_be_bytes();
        for (byte, value) in self.out.iter_mut().skip(self.record + 4).zip(length) {
            *byte = value;
        }
    }
}

/// Writes a pair (section 3.4) after others of the same record.
pub(super) fn put_pair(out: &mut Vec<u8>, name: &str, value: &str) -> Result<(), PairTooLong> {
    if pair_size(name, value) > MAX_CONTENT {
        return Err(PairTooLong);
    }
    put_length(out, name.len());
    put_length(out, value.len());
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(value.as_bytes());
    Ok(())
}

fn pair_size(name: &str, value: &str) -> usize {
    length_size(name.len()) + length_size(value.len()) + name.len() + value.len()
}

/// Lengths are one byte up to 127, and four bytes with the highest bit set from there on (section 3.4).
fn length_size(length: usize) -> usize {
    if length < 128 { 1 } else { 4 }
}

/// The caller gives at most `MAX_CONTENT`.
fn put_length(out: &mut Vec<u8>, length: usize) {
    if length < 128 {
        out.push(length as u8);
    } else {
        out.extend_from_slice(&(length as u32 | 1 << 31).to_be_bytes());
    }
}

#[cfg(test)]
mod tests;
