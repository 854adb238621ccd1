//! The codec against the examples and tables of the specification, and against itself.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const COMPLETE: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 0];

fn record(kind: u8, content: &[u8], padding: u8) -> Vec<u8> {
    let mut out = Vec::new();
    put_header(&mut out, kind, content.len());
    out[6] = padding;
    out.extend_from_slice(content);
    out.resize(out.len() + usize::from(padding), 0xaa);
    out
}

/// All of stdout, all of stderr, the end, and how many bytes are left.
type Decoded = (Vec<u8>, Vec<u8>, Option<ProtocolStatus>, usize);

/// Decodes input that arrives in pieces of the given sizes.
fn decode(bytes: &[u8], pieces: &[usize]) -> Result<Decoded, Malformed> {
    let (mut stdout, mut stderr, mut end) = (Vec::new(), Vec::new(), None);
    let mut decoder = Decoder::default();
    let mut buffer = BytesMut::new();
    let mut arriving = bytes;
    for size in pieces.iter().copied().chain([usize::MAX]) {
        buffer.extend_from_slice(cut(&mut arriving, size));
        while let Some(part) = decoder.next(&mut buffer)? {
            match part {
                Part::Stdout(piece) => stdout.extend_from_slice(&piece),
                Part::Stderr(piece) => stderr.extend_from_slice(&piece),
                Part::End(status) => end = Some(status),
            }
        }
        assert!(buffer.len() <= 270, "{} bytes left", buffer.len());
    }
    Ok((stdout, stderr, end, buffer.len()))
}

/// Cuts off up to so many bytes.
fn cut<'a>(input: &mut &'a [u8], size: usize) -> &'a [u8] {
    let (piece, rest) = input.split_at(size.min(input.len()));
    *input = rest;
    piece
}

/// A reader of PARAMS as PHP's: record by record.
fn read_params(mut bytes: &[u8]) -> Option<Vec<(String, String)>> {
    let length = |bytes: &mut &[u8]| -> Option<usize> {
        let first = *bytes.first()?;
        let size = if first < 128 { 1 } else { 4 };
        let number = cut(bytes, size);
        let number = number.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        Some(if size == 4 { number - (1 << 31) } else { number })
    };
    let mut pairs = Vec::new();
    loop {
        let [1, PARAMS, 0, 1, length1, length0, 0, 0] = *cut(&mut bytes, 8) else {
            return None;
        };
        let size = usize::from(u16::from_be_bytes([length1, length0]));
        if size == 0 {
            return bytes.is_empty().then_some(pairs);
        }
        let mut content = cut(&mut bytes, size);
        while !content.is_empty() {
            let lengths = (length(&mut content)?, length(&mut content)?);
            let (name, value) = (cut(&mut content, lengths.0), cut(&mut content, lengths.1));
            if (name.len(), value.len()) != lengths {
                return None;
            }
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
            let pair = (text(name)?, text(value)?);
            pairs.push(pair);
        }
    }
}

fn params(pairs: &[(String, String)]) -> Result<Vec<u8>, PairTooLong> {
    let mut out = Vec::new();
    let mut writer = ParamsWriter::new(&mut out);
    for (name, value) in pairs {
        writer.put(name, value)?;
    }
    writer.end();
    Ok(out)
}

#[test]
fn a_request_is_laid_out_as_in_the_specification() {
    let mut out = Vec::new();
    put_begin_request(&mut out, true);
    let mut writer = ParamsWriter::new(&mut out);
    writer.put("A", "bc").expect("short");
    writer.end();
    put_stdin(&mut out, b"xyz");
    put_stdin_end(&mut out);
    let expected: [&[u8]; 7] = [
        &[1, 1, 0, 1, 0, 8, 0, 0],
        &[0, 1, 1, 0, 0, 0, 0, 0],
        b"\x01\x04\0\x01\0\x05\0\0\x01\x02Abc",
        &[1, 4, 0, 1, 0, 0, 0, 0],
        &[1, 5, 0, 1, 0, 3, 0, 0],
        b"xyz",
        &[1, 5, 0, 1, 0, 0, 0, 0],
    ];
    assert_eq!(out, expected.concat());
}

#[test]
fn without_keep_the_flag_is_off() {
    let mut out = Vec::new();
    put_begin_request(&mut out, false);
    assert_eq!(out[8..], [0, 1, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn no_pairs_make_one_empty_record() {
    assert_eq!(params(&[]), Ok(vec![1, 4, 0, 1, 0, 0, 0, 0]));
}

#[test]
fn lengths_change_their_form_at_128() {
    for (length, prefix) in [(0, vec![0]), (127, vec![127]), (128, vec![0x80, 0, 0, 128])] {
        let mut out = Vec::new();
        put_length(&mut out, length);
        assert_eq!(out, prefix);
        assert_eq!(length_size(length), prefix.len());
    }
}

#[test]
fn a_pair_fills_a_record_to_its_last_byte_and_no_further() {
    let longest = MAX_CONTENT - 1 - 1 - 4;
    let fits = [("N".to_owned(), "v".repeat(longest))];
    assert_eq!(
        read_params(&params(&fits).expect("fits")).as_deref(),
        Some(&fits[..])
    );
    assert_eq!(
        params(&[("N".to_owned(), "v".repeat(longest + 1))]),
        Err(PairTooLong)
    );
}

#[test]
fn a_long_body_is_cut_into_records() {
    let mut out = Vec::new();
    put_stdin(&mut out, &vec![7; MAX_CONTENT + 1]);
    assert_eq!(out.len(), MAX_CONTENT + 1 + 2 * HEADER_SIZE);
    assert_eq!(out[..8], [1, 5, 0, 1, 0xff, 0xff, 0, 0]);
    assert_eq!(out[MAX_CONTENT + 8..], [1, 5, 0, 1, 0, 1, 0, 0, 7]);
}

#[test]
fn what_must_not_come_is_malformed() {
    let table: [([u8; 8], Malformed); 7] = [
        (*b"HTTP/1.1", Malformed::Version(b'H')),
        ([0, 6, 0, 1, 0, 0, 0, 0], Malformed::Version(0)),
        ([1, 5, 0, 1, 0, 0, 0, 0], Malformed::Type(5)),
        ([1, 11, 0, 0, 0, 8, 0, 0], Malformed::Type(11)),
        ([1, 6, 0, 0, 0, 0, 0, 0], Malformed::RequestId(0)),
        ([1, 6, 1, 1, 0, 0, 0, 0], Malformed::RequestId(257)),
        ([1, 3, 0, 1, 0, 7, 0, 0], Malformed::EndRequestSize(7)),
    ];
    for (bytes, expected) in table {
        assert_eq!(Decoder::default().next(&mut bytes[..].into()), Err(expected));
    }
}

#[test]
fn the_protocol_status_is_told() {
    let table = [
        (0, ProtocolStatus::Complete),
        (1, ProtocolStatus::CannotMultiplex),
        (2, ProtocolStatus::Overloaded),
        (3, ProtocolStatus::UnknownRole),
        (9, ProtocolStatus::Unknown(9)),
    ];
    for (byte, status) in table {
        let bytes = record(END_REQUEST, &[0, 0, 0, 255, byte, 0, 0, 0], 0);
        assert_eq!(
            Decoder::default().next(&mut bytes[..].into()),
            Ok(Some(Part::End(status)))
        );
    }
}

#[test]
fn an_end_is_told_only_when_its_padding_is_there_too() {
    let bytes = record(END_REQUEST, COMPLETE, 255);
    let mut all_but_one = BytesMut::from(&bytes[..bytes.len() - 1]);
    assert_eq!(Decoder::default().next(&mut all_but_one), Ok(None));
    assert_eq!(all_but_one.len(), 270);
    assert_eq!(
        decode(&bytes, &[]),
        Ok((vec![], vec![], Some(ProtocolStatus::Complete), 0))
    );
}

proptest! {
    #[test]
    fn streams_come_out_whole_however_they_are_cut(
        records in vec((any::<bool>(), vec(any::<u8>(), 0..300), any::<u8>()), 0..8),
        end_padding in any::<u8>(),
        pieces in vec(0..40usize, 0..200),
        after in vec(any::<u8>(), 0..8),
    ) {
        let (mut bytes, mut stdout, mut stderr) = (Vec::new(), Vec::new(), Vec::new());
        for (is_stderr, content, padding) in &records {
            let (kind, stream) = if *is_stderr { (STDERR, &mut stderr) } else { (STDOUT, &mut stdout) };
            stream.extend_from_slice(content);
            bytes.extend_from_slice(&record(kind, content, *padding));
        }
        bytes.extend_from_slice(&record(END_REQUEST, COMPLETE, end_padding));
        // Less than a header of what nobody asked for: it stays unread.
        let left = after.len().min(7);
        bytes.extend_from_slice(&after[..left]);
        prop_assert_eq!(decode(&bytes, &pieces), Ok((stdout, stderr, Some(ProtocolStatus::Complete), left)));
    }

    #[test]
    fn any_bytes_are_taken_without_a_panic(bytes in vec(any::<u8>(), 0..600), pieces in vec(0..40usize, 0..20)) {
        let _ = decode(&bytes, &pieces);
    }

    #[test]
    fn pairs_are_read_back_record_by_record(lengths in vec((0..200usize, 0..20_000usize), 0..12)) {
        let pair = |(name, value): (usize, usize)| ("N".repeat(name), "é".repeat(value));
        let pairs: Vec<_> = lengths.into_iter().map(pair).collect();
        let written = params(&pairs).expect("each fits");
        prop_assert_eq!(read_params(&written), Some(pairs));
    }
}
