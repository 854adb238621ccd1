//! What the tests and the fuzz target share: frames as a client makes them, a decoder that reads in pieces, and tungstenite
//! to compare it with.

use std::io::{self, Read, Write};

use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket, error::ProtocolError};

use super::{Data, Decoder, Incoming, Rules};

/// To tungstenite no frame is larger. No input of the tests reaches it, and no limit of theirs.
const LARGEST: usize = 70_000;

/// What has come, and how it ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reading {
    pub(super) events: Vec<Incoming>,
    pub(super) end: End,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum End {
    /// For more bytes.
    Waiting,
    Closed,
    /// By this close code.
    Refused(u16),
}

/// How a walk over the frames comes to its end.
#[derive(Debug, PartialEq)]
enum Last {
    Whole,
    /// Not all of this frame is there.
    Partial,
    /// Tungstenite does not mind this frame, or minds something else first. We must refuse it.
    Refusable,
}

/// A frame of a client.
pub(super) fn client_frame(first: u8, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..65536 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    frame
}

/// Reads what arrives in pieces of these sizes, again and again.
pub(super) fn read(bytes: &[u8], rules: Rules, sizes: &[usize]) -> Reading {
    let mut decoder = Decoder::new(rules);
    let mut sizes = sizes.iter().cycle();
    let (mut events, mut arrived) = (Vec::new(), 0);
    let mut rest = bytes;
    while !rest.is_empty() {
        let size = *sizes.next().expect("a size");
        let (piece, later) = rest.split_at(size.clamp(1, rest.len()));
        rest = later;
        let mut piece = piece.to_vec();
        let mut input = piece.as_mut_slice();
        while !input.is_empty() {
            let (taken, incoming) = match decoder.decode(input) {
                Ok(taken) => taken,
                Err(violation) => {
                    assert!(violation.reason().len() <= 123);
                    let end = End::Refused(violation.close_code());
                    return Reading { events, end };
                }
            };
            assert!(taken > 0, "it goes on");
            assert!(incoming.is_some() || taken == input.len(), "or all is taken");
            input = &mut input[taken..];
            arrived += taken;
            // Less than twice of what has come, and what it takes to keep it.
            assert!(
                decoder.held() <= 200 + 2 * arrived,
                "{} of {arrived}",
                decoder.held()
            );
            let is_message = matches!(incoming, Some(Incoming::Message(_)));
            assert!(!is_message || (decoder.held() == 0 && !decoder.is_in_message()));
            let is_close = matches!(incoming, Some(Incoming::Close(_)));
            events.extend(incoming);
            if is_close {
                let end = End::Closed;
                return Reading { events, end };
            }
        }
    }
    let end = End::Waiting;
    Reading { events, end }
}

/// Compares a reading with that of tungstenite, which knows no compression.
pub(super) fn compare(bytes: &[u8], max_message: usize, ours: &Reading) {
    assert!(max_message < LARGEST);
    let mut bytes = bytes.to_vec();
    let (last, at) = walk(&mut bytes);
    let ours = Reading {
        events: ours.events.iter().filter_map(known_to_tungstenite).collect(),
        end: ours.end,
    };
    let mut theirs = match last {
        Last::Whole | Last::Partial => read_by_tungstenite(&bytes, max_message),
        Last::Refusable => read_by_tungstenite(&bytes[..at], max_message),
    };
    if theirs.end == End::Waiting && last == Last::Refusable {
        theirs.end = End::Refused(1002);
    }
    // It judges frames when they are whole, and we as soon as we can.
    if theirs.end == End::Waiting && last == Last::Partial && ours.end != End::Waiting {
        complete(&mut bytes, at);
        theirs = read_by_tungstenite(&bytes, max_message);
    }
    assert_eq!(ours, theirs);
}

/// It does not tell of fragments. 1014 is no code to it, so it has got to read 1000.
fn known_to_tungstenite(event: &Incoming) -> Option<Incoming> {
    match event {
        Incoming::Fragment => None,
        Incoming::Close(Some((1014, reason))) => Some(Incoming::Close(Some((1000, reason.clone())))),
        event => Some(event.clone()),
    }
}

/// Goes over the frames up to one that is not whole, or that tungstenite judges otherwise than we must; gives where that
/// one begins.
fn walk(bytes: &mut [u8]) -> (Last, usize) {
    let mut at = 0;
    loop {
        let frame = &mut bytes[at..];
        if frame.is_empty() {
            return (Last::Whole, at);
        }
        let [first, second, ..] = *frame else {
            return (Last::Partial, at);
        };
        let short = second & 0x7f;
        // It looks at the size of a control frame when all of it has come, and allows this length if it is a small one after
        // all.
        if first & 0x08 != 0 && short > 125 {
            return (Last::Refusable, at);
        }
        let (length, mut header) = match short {
            126 => match frame[2..].first_chunk() {
                Some(length) => (u16::from_be_bytes(*length).into(), 4),
                None => return (Last::Partial, at),
            },
            127 => match frame[2..].first_chunk_mut() {
                Some(length) => (announced(length), 10),
                None => return (Last::Partial, at),
            },
            short => (short.into(), 2),
        };
        // It takes lengths in any form, and those of 64 bits for too large.
        let is_shortest = match short {
            126 => length > 125,
            127 => length > 65535 && length <= i64::MAX as u64,
            _ => true,
        };
        if !is_shortest {
            return (Last::Refusable, at);
        }
        let mask = if second & 0x80 != 0 {
            header += 4;
            frame[..header.min(frame.len())]
                .last_chunk()
                .copied()
                .unwrap_or_default()
        } else {
            [0; 4]
        };
        let Some(payload) = frame.get_mut(header..header.saturating_add(length as usize)) else {
            return (Last::Partial, at);
        };
        if first & 0x0f == 8
            && let [b1, b0, ..] = payload
        {
            match u16::from_be_bytes([*b1 ^ mask[0], *b0 ^ mask[1]]) {
                // It answers 1002 and makes as if that had come, but minds a reason first that is no text.
                0..1000 | 1004..=1006 | 1015..3000 | 5000.. => return (Last::Refusable, at),
                1014 => [*b1, *b0] = [0x03 ^ mask[0], 0xe8 ^ mask[1]],
                _ => {}
            }
        }
        at += header + length as usize;
    }
}

/// Sizes beyond its limit it refuses before all else: so it gets one that is too large to us too, but not to it.
fn announced(length: &mut [u8; 8]) -> u64 {
    let announced = u64::from_be_bytes(*length);
    if announced > LARGEST as u64 && announced <= i64::MAX as u64 {
        *length = (LARGEST as u64).to_be_bytes();
    }
    announced
}

/// Completes the last frame, with what is refused already still in it.
fn complete(bytes: &mut Vec<u8>, at: usize) {
    let frame = &bytes[at..];
    let second = frame.get(1).copied().unwrap_or(0x80);
    let (length, header) = match (second & 0x7f, &frame[1..]) {
        (126, [_, b1, b0, ..]) => (u16::from_be_bytes([*b1, *b0]).into(), 4),
        (127, [_, rest @ ..]) if let Some(length) = rest.first_chunk() => (u64::from_be_bytes(*length), 10),
        (126 | 127, _) => (0, usize::MAX),
        (short, _) => (short.into(), 2),
    };
    let header = header.saturating_add(4 * usize::from(second >> 7));
    if frame.len() < header {
        // What is wrong is in its first two bytes.
        let first = frame[0];
        bytes.truncate(at);
        bytes.extend([first, second & 0x80, 0, 0, 0, 0]);
    } else {
        bytes.resize(at + header + length as usize, 0);
    }
}

fn read_by_tungstenite(bytes: &[u8], max_message: usize) -> Reading {
    let config = WebSocketConfig::default()
        .read_buffer_size(1024)
        .max_message_size(Some(max_message))
        .max_frame_size(Some(LARGEST));
    let mut socket = WebSocket::from_raw_socket(Stream(bytes), Role::Server, Some(config));
    let mut events = Vec::new();
    let end = loop {
        events.push(match socket.read() {
            Ok(Message::Text(text)) => Incoming::Message(Data::Text(text)),
            Ok(Message::Binary(bytes)) => Incoming::Message(Data::Binary(bytes)),
            Ok(Message::Ping(payload)) => Incoming::Ping(payload),
            Ok(Message::Pong(payload)) => Incoming::Pong(payload),
            Ok(Message::Close(frame)) => {
                events.push(Incoming::Close(
                    frame.map(|frame| (frame.code.into(), frame.reason)),
                ));
                break End::Closed;
            }
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => break End::Waiting,
            Err(Error::Protocol(_)) => break End::Refused(1002),
            Err(Error::Utf8(_)) => break End::Refused(1007),
            Err(Error::Capacity(_)) => break End::Refused(1009),
            other => panic!("{other:?}"),
        });
    };
    Reading { events, end }
}

/// Where tungstenite reads, and what it writes goes to nowhere.
struct Stream<'a>(&'a [u8]);

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
