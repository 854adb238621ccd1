//! What clients send over a WebSocket. The first byte of the input chooses what is done with the rest, and the rules; the
//! second one is the size of the pieces that the rest arrives in: what is read does not depend on it. Without compression it
//! is what tungstenite reads, and with it what flate2 makes of a message by itself.

#![no_main]
#![allow(dead_code, reason = "a target uses a part of what it includes")]

use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status};
use libfuzzer_sys::fuzz_target;

#[path = "../../../host"]
mod host {
    #[allow(unused_imports, reason = "a target uses a part of what it includes")]
    pub mod websocket;
}
// Seen from here its neighbours are elsewhere, which rustfmt does not forgive.
#[rustfmt::skip]
#[path = "../../../host/websocket/testing.rs"]
mod testing;

use host::websocket::{Data, Decoder, Frame, Incoming, Rules, Window};
use testing::{End, Reading, client_frame, compare, read};

const LIMITS: [usize; 8] = [0, 1, 20, 125, 126, 1000, 5000, 66_000];
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

fuzz_target!(|input: &[u8]| {
    let [choice, size, rest @ ..] = input else {
        return;
    };
    let rules = Rules {
        inflates: choice & 4 != 0,
        max_message: LIMITS[usize::from(choice >> 3 & 7)],
    };
    match choice & 3 {
        0 => check_frames(rest, rules, *size),
        1 => check_frames(&frames(rest), rules, *size),
        2 => check_compressed(rest, rules, *size),
        _ => check_message(rest, *size),
    }
});

fn check_frames(bytes: &[u8], rules: Rules, size: u8) {
    let whole = read(bytes, rules, &[usize::MAX]);
    assert_eq!(read(bytes, rules, &[usize::from(size)]), whole);
    assert_eq!(read(bytes, rules, &[1, usize::from(size), 3]), whole);
    if !rules.inflates {
        compare(bytes, rules.max_message, &whole);
    }
}

/// Frames that are well-formed mostly, so that what is behind them is reached: for each its first byte, a byte for its
/// shape, its length, and that many bytes.
fn frames(mut recipe: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let [first, shape, length, rest @ ..] = recipe {
        let (payload, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        recipe = rest;
        let payload = match shape >> 6 {
            // Lengths of 16 and of 64 bits.
            1 => payload.repeat(10),
            2 if bytes.len() < 70_000 => vec![*length; 65_400 + usize::from(*length)],
            _ => payload.to_vec(),
        };
        let mask = if shape & 1 == 0 { [0; 4] } else { MASK };
        let frame = client_frame(*first, mask, &payload);
        match shape >> 1 & 0x1f {
            0x1f => bytes.extend(&frame[..frame.len() / 2]),
            // In a longer form than it takes, and without a mask.
            0x1e => bytes.extend([*first, 0xfe, 0, *length]),
            0x1d => bytes.extend([*first, *length & 0x7f]),
            _ => bytes.extend(frame),
        }
    }
    bytes
}

/// As the payload of a compressed message.
fn check_compressed(compressed: &[u8], rules: Rules, size: u8) {
    let rules = Rules {
        inflates: true,
        ..rules
    };
    let frame = client_frame(0xc2, MASK, compressed);
    let reading = read(&frame, rules, &[usize::MAX]);
    assert_eq!(read(&frame, rules, &[usize::from(size)]), reading);
    if compressed.is_empty() || compressed.len() > rules.max_message {
        return;
    }
    let room = rules.max_message + 10_000;
    let (before, mut ends) = inflate(compressed, room);
    let mut message = before.clone();
    if !ends {
        (message, ends) = inflate(
            &[compressed, &[0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff]].concat(),
            room,
        );
    }
    let expected = if message.len() > rules.max_message {
        Err(1009)
    } else if !ends || message.len() > before.len() {
        Err(1007)
    } else {
        Ok(Incoming::Message(Data::Binary(message.into())))
    };
    let reading = match (reading.events.as_slice(), reading.end) {
        ([message], End::Waiting) => Ok(message.clone()),
        ([], End::Refused(code)) => Err(code),
        _ => panic!("{reading:?}"),
    };
    assert_eq!(reading, expected);
}

/// What comes out, and whether the stream ends where the input does.
fn inflate(mut input: &[u8], room: usize) -> (Vec<u8>, bool) {
    let mut out = Vec::with_capacity(room);
    loop {
        let mut state = Decompress::new(false);
        let status = state.decompress_vec(input, &mut out, FlushDecompress::None);
        input = &input[state.total_in() as usize..];
        match status {
            Ok(Status::StreamEnd) if input.is_empty() => return (out, true),
            Ok(Status::StreamEnd) => {}
            _ => return (out, false),
        }
    }
}

/// As a message from the gateway, which comes back from a client.
fn check_message(message: &[u8], size: u8) {
    let frame = Frame::binary(Bytes::copy_from_slice(message));
    assert_eq!(*frame.joined(), *[frame.header(), message].concat());
    let rules = Rules {
        max_message: message.len(),
        inflates: true,
    };
    for window in [Window::Full, Window::Small] {
        let Some(frame) = frame.deflated(window) else {
            continue;
        };
        assert!(frame.payload().len() < message.len());
        let bytes = client_frame(frame.header()[0], MASK, frame.payload());
        let expected = Reading {
            events: vec![Incoming::Message(Data::Binary(Bytes::copy_from_slice(message)))],
            end: End::Waiting,
        };
        assert_eq!(read(&bytes, rules, &[usize::from(size)]), expected);
    }
}
