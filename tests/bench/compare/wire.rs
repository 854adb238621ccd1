//! The bytes that the load sends, made once, and where the answers to them end.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

/// A WebSocket handshake (RFC 6455 section 4.1), as a browser's.
pub fn handshake(target: &str) -> Vec<u8> {
    handshake_with(target, "")
}

/// The same with compression, as browsers offer it (RFC 7692).
pub fn compressed_handshake(target: &str) -> Vec<u8> {
    handshake_with(
        target,
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
    )
}

fn handshake_with(target: &str, more: &str) -> Vec<u8> {
    format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Origin: http://localhost\r\n\
         User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
    .into_bytes()
}

/// A text frame of a client (RFC 6455 section 5.2), of less than 64 KiB.
pub fn text_frame(text: &str) -> Vec<u8> {
    frame(0x81, text.as_bytes())
}

/// The same compressed (RFC 7692 section 7.2.1).
pub fn compressed_frame(text: &[u8]) -> Vec<u8> {
    let mut compressed = Vec::with_capacity(text.len() + 1024);
    Compress::new(Compression::best(), false)
        .compress_vec(text, &mut compressed, FlushCompress::Sync)
        .unwrap();
    frame(0xc1, compressed.strip_suffix(&LEFT_OUT).unwrap())
}

/// What a sender of a compressed message leaves out at its end.
const LEFT_OUT: [u8; 4] = [0, 0, 0xff, 0xff];

/// The mask is not zero, so that it is work to undo it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let masked = payload.iter().zip(mask.iter().cycle());
    let length = match u16::try_from(payload.len()).unwrap() {
        length @ ..126 => vec![0x80 | length as u8],
        length => [[0x80 | 126].as_slice(), &length.to_be_bytes()].concat(),
    };
    let head = [first].into_iter().chain(length).chain(mask);
    head.chain(masked.map(|(byte, mask)| byte ^ mask)).collect()
}

/// A frame of a server (RFC 6455 section 5.2).
pub fn whole_frame(bytes: &[u8]) -> Option<usize> {
    let (head, length) = frame_head(bytes)?;
    (bytes.len() >= head + length).then_some(head + length)
}

/// The message in a frame that is whole, which is text; and whether it came compressed.
pub fn message(frame: &[u8]) -> (Vec<u8>, bool) {
    let (head, length) = frame_head(frame).unwrap();
    let payload = &frame[head..];
    assert_eq!(payload.len(), length);
    match frame[0] {
        0x81 => (payload.to_vec(), false),
        // RSV1 (RFC 7692 section 6).
        0xc1 => (inflate(payload), true),
        other => panic!("{other:#x} is no text"),
    }
}

/// How long the head of a frame is, and what follows it.
fn frame_head(bytes: &[u8]) -> Option<(usize, usize)> {
    match bytes {
        [_, length @ 0..126, ..] => Some((2, usize::from(*length))),
        [_, 126, rest @ ..] => Some((4, u16::from_be_bytes(*rest.first_chunk()?).into())),
        [_, 127, rest @ ..] => Some((10, u64::from_be_bytes(*rest.first_chunk()?) as usize)),
        _ => None,
    }
}

/// RFC 7692 section 7.2.2.
fn inflate(payload: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(1 << 20);
    let whole = [payload, &LEFT_OUT].concat();
    Decompress::new(false)
        .decompress_vec(&whole, &mut message, FlushDecompress::Sync)
        .unwrap();
    message
}

/// What a frame becomes for PHP: the form of the default plugin.
pub fn form(text: &str) -> String {
    format!("type=server&message={text}&client_id=127.0.0.1%3A12345")
}

/// A request to PHP-FPM that keeps its connection (FastCGI 1.0 section 3.5), with no more than PHP asks for.
pub fn fastcgi(script: &str, body: &str) -> Vec<u8> {
    let length = body.len().to_string();
    let params = [
        ("SCRIPT_FILENAME", script),
        ("REQUEST_METHOD", "POST"),
        ("CONTENT_TYPE", "application/x-www-form-urlencoded"),
        ("CONTENT_LENGTH", &length),
    ];
    let params: Vec<u8> = params
        .iter()
        .flat_map(|(name, value)| {
            let lengths = [name, value].map(|text| u8::try_from(text.len()).unwrap());
            assert!(lengths.iter().all(|length| *length < 128));
            [&lengths, name.as_bytes(), value.as_bytes()].concat()
        })
        .collect();
    const KEEP: u8 = 1;
    [
        record(1, &[0, 1, KEEP, 0, 0, 0, 0, 0]),
        record(4, &params),
        record(4, &[]),
        record(5, body.as_bytes()),
        record(5, &[]),
    ]
    .concat()
}

fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[1, kind, 0, 1, high, low, 0, 0], content].concat()
}

/// All records up to the one that ends the request.
pub fn whole_fastcgi(bytes: &[u8]) -> Option<usize> {
    const END: u8 = 3;
    let mut at = 0;
    loop {
        let &[_, kind, _, _, high, low, padding, _] = bytes.get(at..)?.first_chunk()?;
        at += 8 + usize::from(u16::from_be_bytes([high, low])) + usize::from(padding);
        if at > bytes.len() {
            return None;
        }
        if kind == END {
            return Some(at);
        }
    }
}

/// A request to a web server.
pub fn post(path: &str, kind: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// An answer in chunks, which is what nginx makes of PHP's.
pub fn whole_http(bytes: &[u8]) -> Option<usize> {
    let find = |end: &[u8]| {
        let at = bytes.windows(end.len()).position(|window| window == end)?;
        Some(at + end.len())
    };
    assert!(bytes.len() < 13 || bytes.starts_with(b"HTTP/1.1 200 "), "refused");
    find(b"\r\n\r\n")?;
    find(b"\r\n0\r\n\r\n")
}
