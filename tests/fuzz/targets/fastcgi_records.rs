//! Records of FastCGI as they come from an application. The first byte of the input is the size of the pieces that the
//! rest arrives in: what is read does not depend on it.

#![no_main]
#![allow(dead_code, reason = "a target uses a part of what it includes")]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

// Seen from here its tests are elsewhere, which rustfmt does not forgive.
#[rustfmt::skip]
#[path = "../../../host/upstream/fastcgi/record.rs"]
mod record;

use record::{Decoder, Malformed, Part, ProtocolStatus};

/// All of stdout, all of stderr, and how it ended.
type Read = (Vec<u8>, Vec<u8>, Option<Result<ProtocolStatus, Malformed>>);

fuzz_target!(|input: &[u8]| {
    let Some((size, records)) = input.split_first() else {
        return;
    };
    let whole = read(records, records.len().max(1));
    assert_eq!(read(records, usize::from(*size) + 1), whole);
    assert!(
        whole.0.len() + whole.1.len() <= records.len(),
        "nothing is made up"
    );
});

fn read(records: &[u8], size: usize) -> Read {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut decoder = Decoder::default();
    let mut buffer = BytesMut::new();
    for piece in records.chunks(size) {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.next(&mut buffer) {
                Ok(Some(Part::Stdout(text))) if !text.is_empty() => stdout.extend_from_slice(&text),
                Ok(Some(Part::Stderr(text))) if !text.is_empty() => stderr.extend_from_slice(&text),
                Ok(Some(Part::End(status))) => return (stdout, stderr, Some(Ok(status))),
                Ok(Some(empty)) => panic!("{empty:?}"),
                Ok(None) => break,
                Err(malformed) => return (stdout, stderr, Some(Err(malformed))),
            }
        }
        assert!(buffer.len() <= 270, "{} bytes are left", buffer.len());
    }
    (stdout, stderr, None)
}
