//! What is held, and how long.

use super::*;

#[test]
fn a_message_begins_with_its_first_byte_and_ends_with_its_last() {
    let bytes = [
        frame(FIN | PING, "?"),
        frame(TEXT, "a"),
        frame(FIN | PING, ""),
        frame(FIN, "b"),
    ];
    let mut decoder = Decoder::new(RULES);
    let ping = bytes[0].len();
    let end = bytes.concat().len();
    for (at, byte) in bytes.concat().into_iter().enumerate() {
        assert_eq!(decoder.is_in_message(), at > ping, "{at}");
        assert_eq!(decoder.held() > 0, at != 0 && at != ping, "{at}");
        decoder.decode(&mut [byte]).expect("valid");
    }
    assert!(!decoder.is_in_message(), "{end}");
    assert_eq!(decoder.held(), 0);
    assert_eq!(decoder.decode(&mut []), Ok((0, None)));
}

#[test]
fn memory_follows_what_has_come() {
    let mut decoder = Decoder::new(Rules {
        max_message: 1 << 30,
        ..RULES
    });
    let mut start = header(FIN | BINARY, &[0xff, 0, 0, 0, 0, 0x3f, 0xff, 0xff, 0xff]);
    decoder.decode(&mut start).expect("valid");
    let box_alone = decoder.held();
    assert!(box_alone <= 200, "{box_alone}");
    for pieces in 1..100 {
        decoder.decode(&mut [0; 1000]).expect("valid");
        assert!(decoder.held() <= box_alone + 2 * 1000 * pieces);
    }
    // Empty fragments take nothing.
    let mut decoder = Decoder::new(RULES);
    for first in [TEXT, CONTINUATION, CONTINUATION] {
        decoder.decode(&mut frame(first, "")).expect("valid");
        assert_eq!(decoder.held(), box_alone);
    }
}

#[test]
fn sizes() {
    assert_eq!(size_of::<Decoder>(), 24);
    assert_eq!(size_of::<Incoming>(), 48);
}
