//! Each rule by itself.

mod compression;
mod memory;

use super::super::testing::{End, Reading, client_frame, read};
use super::super::{BINARY, CONTINUATION, Data, FIN, PONG, RSV1, TEXT};
use super::*;

const RULES: Rules = Rules {
    max_message: 100_000,
    inflates: false,
};

fn frame(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    client_frame(first, [0x37, 0xfa, 0x21, 0x3d], payload.as_ref())
}

/// A header with this length field, and nothing else.
fn header(first: u8, length: &[u8]) -> Vec<u8> {
    [&[first], length, &[1, 2, 3, 4]].concat()
}

fn text(text: &str) -> Incoming {
    Incoming::Message(Data::Text(text.into()))
}

fn binary(bytes: &'static [u8]) -> Incoming {
    Incoming::Message(Data::Binary(Bytes::from_static(bytes)))
}

/// What comes of these bytes, however they are cut.
fn outcome(bytes: &[u8], rules: Rules) -> Reading {
    let whole = read(bytes, rules, &[usize::MAX]);
    for size in [1, 2, 3, 5, 7, 64, 1000] {
        assert_eq!(read(bytes, rules, &[size]), whole, "in pieces of {size}");
    }
    whole
}

fn events(bytes: &[u8], rules: Rules) -> Vec<Incoming> {
    let reading = outcome(bytes, rules);
    assert!(!matches!(reading.end, End::Refused(_)), "{reading:?}");
    reading.events
}

/// The refusal at the end of these bytes, no sooner.
fn refusal(bytes: &[u8], rules: Rules) -> Violation {
    let before = &bytes[..bytes.len() - 1];
    assert_eq!(outcome(before, rules).end, End::Waiting);
    assert!(matches!(outcome(bytes, rules).end, End::Refused(_)));
    let mut decoder = Decoder::new(rules);
    let mut bytes = bytes.to_vec();
    let mut input = bytes.as_mut_slice();
    loop {
        match decoder.decode(input) {
            Ok((taken, _)) => input = &mut input[taken..],
            Err(violation) => return violation,
        }
    }
}

fn assert_protocol_error(bytes: &[u8], rules: Rules, what: &'static str) {
    assert_eq!(refusal(bytes, rules), Violation::Protocol(what));
}

#[test]
fn the_examples_of_the_specification() {
    // RFC 6455 section 5.7.
    let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(events(&hello, RULES), [text("Hello")]);
    let ping = [0x89, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(events(&ping, RULES), [Incoming::Ping("Hello".into())]);
}

#[test]
fn lengths_at_the_edges_of_their_forms() {
    for length in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
        let payload: Vec<_> = (0..length).map(|n| n as u8).collect();
        let expected = Incoming::Message(Data::Binary(payload.clone().into()));
        assert_eq!(
            events(&frame(FIN | BINARY, &payload), RULES),
            [expected],
            "{length}"
        );
    }
}

#[test]
fn fragments_with_control_frames_between_them() {
    let bytes = [
        frame(TEXT, "a"),
        frame(FIN | PING, "?"),
        frame(CONTINUATION, ""),
        frame(FIN | PONG, ""),
        frame(FIN | CONTINUATION, "b"),
        frame(FIN | BINARY, [1]),
        frame(FIN | CLOSE, ""),
    ];
    let expected = [
        Incoming::Fragment,
        Incoming::Ping("?".into()),
        Incoming::Fragment,
        Incoming::Pong(Bytes::new()),
        text("ab"),
        binary(&[1]),
        Incoming::Close(None),
    ];
    assert_eq!(events(&bytes.concat(), RULES), expected);
}

#[test]
fn first_bytes_that_must_not_be() {
    for opcode in [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        assert_protocol_error(&[FIN | opcode], RULES, "an unknown opcode");
    }
    for reserved in [0x10, 0x20, 0x40, 0x70] {
        for opcode in [TEXT, BINARY, PING, CLOSE] {
            assert_protocol_error(&[FIN | reserved | opcode], RULES, "a reserved bit is set");
        }
    }
    for opcode in [CLOSE, PING, PONG] {
        assert_protocol_error(&[opcode], RULES, "a control frame in fragments");
    }
    assert_protocol_error(&[FIN | CONTINUATION], RULES, "there is no message to continue");
    let begun = frame(TEXT, "a");
    let two = [begun.as_slice(), &[FIN | TEXT]].concat();
    assert_protocol_error(&two, RULES, "a message begins inside another");
    let ended = [begun, frame(FIN | CONTINUATION, ""), vec![CONTINUATION]].concat();
    assert_protocol_error(&ended, RULES, "there is no message to continue");
}

#[test]
fn lengths_that_must_not_be() {
    let not_shortest = "a length that is not in its shortest form";
    assert_protocol_error(&[FIN | TEXT, 0x80 | 126, 0, 125], RULES, not_shortest);
    let with_64_bits = [FIN | TEXT, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
    assert_protocol_error(&with_64_bits, RULES, not_shortest);
    let too_many_bits = [FIN | TEXT, 0x80 | 127, 0x80, 0, 0, 0, 0, 1, 0, 0];
    assert_protocol_error(&too_many_bits, RULES, "a length over 63 bits");
    assert_protocol_error(&[FIN | PING, 0x80 | 126], RULES, "a control frame over 125 bytes");
    assert_protocol_error(
        &[FIN | CLOSE, 0x80 | 127],
        RULES,
        "a control frame over 125 bytes",
    );
    assert_protocol_error(&[FIN | TEXT, 5], RULES, "a frame without a mask");
}

#[test]
fn what_is_too_large_is_refused_by_its_header() {
    let rules = Rules {
        max_message: 1000,
        ..RULES
    };
    let too_large = Violation::TooLarge { max: 1000 };
    assert_eq!(
        refusal(&header(FIN | TEXT, &[0xfe, 0x03, 0xe9]), rules),
        too_large
    );
    let most = [0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(refusal(&header(FIN | BINARY, &most), rules), too_large);
    let begun = frame(BINARY, [0; 900]);
    let next = [begun.clone(), header(CONTINUATION, &[0x80 | 101])].concat();
    assert_eq!(refusal(&next, rules), too_large);
    // A frame of the largest size cannot overflow what was there before.
    let next = [begun.clone(), header(CONTINUATION, &most)].concat();
    assert_eq!(refusal(&next, rules), too_large);
    let allowed = [begun, frame(FIN | CONTINUATION, [0; 100])].concat();
    assert_eq!(events(&allowed, rules), [Incoming::Fragment, binary(&[0; 1000])]);
    // Control frames are no part of it.
    let small = Rules {
        max_message: 0,
        ..RULES
    };
    let both = [frame(FIN | PING, "?"), frame(FIN | TEXT, "")].concat();
    assert_eq!(events(&both, small), [Incoming::Ping("?".into()), text("")]);
}

#[test]
fn text_that_is_none_is_refused_by_its_first_wrong_byte() {
    let wrong: [&[u8]; 9] = [
        b"ab\x80",
        b"\xc0",
        b"\xc3\x28",
        b"\xe0\x80",
        b"\xed\xa0",
        b"\xf4\x90",
        b"\xf5",
        "κόσμε\u{10ffff}\u{feff}".as_bytes(),
        b"\xf0\x9f\x98\x41",
    ];
    for text in wrong {
        let mut text = text.to_vec();
        if str::from_utf8(&text).is_ok() {
            text.push(0xff);
        }
        // More was announced, which need not come.
        let whole = frame(FIN | TEXT, [text.as_slice(), b"..."].concat());
        let cut = &whole[..whole.len() - 3];
        assert_eq!(refusal(cut, RULES), Violation::Utf8, "{text:?}");
        assert_eq!(outcome(&whole, RULES).end, End::Refused(1007), "{text:?}");
    }
}

#[test]
fn characters_may_be_cut_but_not_at_the_end() {
    let whole = "aé€😀".as_bytes();
    for at in 0..=whole.len() {
        let (one, two) = whole.split_at(at);
        let bytes = [
            frame(TEXT, one),
            frame(FIN | PING, ""),
            frame(FIN | CONTINUATION, two),
        ]
        .concat();
        let expected = [Incoming::Fragment, Incoming::Ping(Bytes::new()), text("aé€😀")];
        assert_eq!(events(&bytes, RULES), expected, "{at}");
        let is_cut = str::from_utf8(one).is_err();
        let end = outcome(&frame(FIN | TEXT, one), RULES).end;
        assert_eq!(end == End::Refused(1007), is_cut, "{at}");
        // The same behind a fragment, where nothing comes that would tell.
        let ended = [frame(TEXT, one), frame(FIN | CONTINUATION, "")].concat();
        assert_eq!(outcome(&ended, RULES).end == End::Refused(1007), is_cut, "{at}");
    }
}

#[test]
fn close_frames() {
    let close = |code: u16, reason: &[u8]| frame(FIN | CLOSE, [&code.to_be_bytes(), reason].concat());
    assert_eq!(events(&frame(FIN | CLOSE, ""), RULES), [Incoming::Close(None)]);
    for code in (1000..=1003).chain(1007..=1014).chain([3000, 4000, 4999]) {
        let expected = Incoming::Close(Some((code, "é".into())));
        assert_eq!(events(&close(code, "é".as_bytes()), RULES), [expected]);
    }
    for code in [
        0,
        999,
        1004,
        1005,
        1006,
        1015,
        1016,
        1100,
        2000,
        2999,
        5000,
        u16::MAX,
    ] {
        assert_protocol_error(&close(code, b"a"), RULES, "a close code that must not be sent");
    }
    assert_protocol_error(&frame(FIN | CLOSE, [3]), RULES, "half a close code");
    assert_eq!(refusal(&close(1000, b"\xc3"), RULES), Violation::Utf8);
}

#[test]
fn masks_begin_anywhere() {
    let context = Context {
        inflates: false,
        is_in_message: false,
    };
    for size in 0..40_u8 {
        let (mut header, _) = header::parse(&[FIN | BINARY, 0x80 | size, 1, 2, 4, 8], context)
            .expect("valid")
            .expect("whole");
        let expected: Vec<_> = [1, 2, 4, 8].into_iter().cycle().take(size.into()).collect();
        for at in 0..=size.into() {
            let mut header = header;
            let mut bytes = vec![0; size.into()];
            let (one, two) = bytes.split_at_mut(at);
            mask::unmask(one, header.mask);
            header.pass(at);
            mask::unmask(two, header.mask);
            assert_eq!(bytes, expected, "{size}, {at}");
        }
        header.pass(size.into());
        assert_eq!(header.left, 0);
    }
}

#[test]
fn it_knows_how_much_of_a_message_may_still_come() {
    let mut decoder = Decoder::new(Rules {
        max_message: 1000,
        ..RULES
    });
    assert_eq!(decoder.missing(), None);
    let mut first = frame(0x01, [b'x'; 300]);
    decoder.decode(&mut first).unwrap();
    assert_eq!(decoder.missing(), Some(700), "as much as fits");
    let mut last = frame(0x80, [b'x'; 200]);
    decoder.decode(&mut last[..108]).unwrap();
    assert_eq!(decoder.missing(), Some(100), "the rest of the last frame");
    let mut ping = frame(0x89, "ping");
    decoder.decode(&mut last[108..]).unwrap();
    assert_eq!(decoder.missing(), None);
    decoder.decode(&mut ping[..3]).unwrap();
    assert_eq!(decoder.missing(), None, "a ping is no message");
}

#[test]
fn what_is_skipped_is_not_held_and_close_frames_are_seen() {
    let long = vec![b'x'; 50_000];
    let mut bytes = frame(FIN | TEXT, &long);
    bytes.extend(frame(BINARY, &long));
    bytes.extend(frame(FIN | CONTINUATION, [&long[..], b"\xff"].concat()));
    bytes.extend(frame(FIN | super::super::CLOSE, 1000_u16.to_be_bytes()));
    let mut decoder = Decoder::new(RULES);
    let mut input = bytes.as_mut_slice();
    // The first message has begun before it is known that nobody wants it.
    let (taken, none) = decoder.decode(&mut input[..10_000]).unwrap();
    assert_eq!((taken, none), (10_000, None));
    assert!(decoder.held() > 9_000);
    decoder.skip_messages();
    input = &mut input[taken..];
    let mut seen = Vec::new();
    while !input.is_empty() {
        let piece = input.len().min(1000);
        let (taken, event) = decoder.decode(&mut input[..piece]).unwrap();
        assert!(decoder.held() < 500, "{} bytes", decoder.held());
        seen.extend(event);
        input = &mut input[taken..];
    }
    let close = Incoming::Close(Some((1000, "".into())));
    assert_eq!(
        seen,
        [Incoming::Fragment, Incoming::Fragment, Incoming::Fragment, close]
    );
}
