//! Compressed messages (RFC 7692).

use super::*;

const INFLATING: Rules = Rules {
    inflates: true,
    ..RULES
};

#[test]
fn the_bit_of_compression_is_for_the_first_frame_of_a_message() {
    let begun = frame(RSV1 | TEXT, "");
    let on_next = [begun.as_slice(), &[FIN | RSV1 | CONTINUATION]].concat();
    assert_protocol_error(&on_next, INFLATING, "a reserved bit is set");
    assert_protocol_error(&[FIN | RSV1 | PING], INFLATING, "a reserved bit is set");
    assert_protocol_error(&[FIN | RSV1 | 0x20 | TEXT], INFLATING, "a reserved bit is set");
    // Uncompressed messages may come all the same (RFC 7692 section 6).
    assert_eq!(events(&frame(FIN | TEXT, "a"), INFLATING), [text("a")]);
}

#[test]
fn the_examples_of_compression() {
    // RFC 7692 sections 7.2.3.1 to 7.2.3.6.
    let examples: [(&[u8], &str); 7] = [
        (&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], "Hello"),
        (
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
            "Hello",
        ),
        (&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00], "Hello"),
        (
            &[
                0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
            ],
            "Hello",
        ),
        (&[0x00], ""),
        // And what is not there.
        (&[], ""),
        (&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], "Hello"),
    ];
    for (compressed, expected) in examples {
        assert_eq!(
            events(&frame(FIN | RSV1 | TEXT, compressed), INFLATING),
            [text(expected)]
        );
        let (one, two) = compressed.split_at(compressed.len() / 2);
        let fragments = [frame(RSV1 | TEXT, one), frame(FIN | CONTINUATION, two)].concat();
        let expected = [Incoming::Fragment, text(expected)];
        assert_eq!(events(&fragments, INFLATING), expected);
    }
}

#[test]
fn compressed_messages_that_are_none() {
    let wrong: [&[u8]; 4] = [
        // No type of block.
        &[0x06],
        // Cut.
        &[0xf2, 0x48, 0xcd],
        // What had to be left out at the end.
        &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00, 0x00, 0xff, 0xff],
        // Back to before the beginning.
        &[0x02, 0x63, 0x00],
    ];
    for compressed in wrong {
        let bytes = frame(FIN | RSV1 | BINARY, compressed);
        assert_eq!(refusal(&bytes, INFLATING), Violation::Deflate, "{compressed:?}");
    }
    let no_text = [0x00, 0x01, 0x00, 0xfe, 0xff, 0xff, 0x00];
    assert_eq!(
        refusal(&frame(FIN | RSV1 | TEXT, no_text), INFLATING),
        Violation::Utf8
    );
    assert_eq!(
        events(&frame(FIN | RSV1 | BINARY, no_text), INFLATING),
        [binary(&[0xff])]
    );
    let rules = Rules {
        max_message: 4,
        ..INFLATING
    };
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    assert_eq!(
        refusal(&frame(FIN | RSV1 | TEXT, hello), rules),
        Violation::TooLarge { max: 4 }
    );
}
