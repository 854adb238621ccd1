//! Frames for a client. They have no mask (RFC 6455 section 5.1), so one that is made once can be written to any number of
//! connections.

use bytes::Bytes;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::deflate::{self, Window};
use super::{BINARY, CLOSE, Data, FIN, MAX_CONTROL, OPCODE, PING, PONG, RSV1, TEXT};

/// Two bytes, and the longest length.
const MAX_HEADER: usize = 10;

/// A header, and a payload that is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    header: [u8; MAX_HEADER],
    header_size: u8,
    payload: Bytes,
}

impl Frame {
    /// A whole message.
    pub fn text(text: Utf8Bytes) -> Self {
        Self::new(TEXT, text.into())
    }

    /// A whole message.
    pub fn binary(bytes: Bytes) -> Self {
        Self::new(BINARY, bytes)
    }

    /// A whole message, whose bytes are shared.
    pub fn message(data: &Data) -> Self {
        match data {
            Data::Text(text) => Self::text(text.clone()),
            Data::Binary(bytes) => Self::binary(bytes.clone()),
        }
    }

    /// Of a payload that is too long the first 125 bytes are sent.
    pub fn ping(payload: Bytes) -> Self {
        Self::control(PING, payload)
    }

    /// The answer to a ping, with its payload.
    pub fn pong(payload: Bytes) -> Self {
        Self::control(PONG, payload)
    }

    /// The reason is cut to what a close frame holds, 123 bytes. 1005 stands for no code (RFC 6455 section 7.4.1): that frame
    /// is empty.
    pub fn close(code: u16, reason: &str) -> Self {
        if code == 1005 {
            return Self::control(CLOSE, Bytes::new());
        }
        let code = code.to_be_bytes();
        let size = reason.floor_char_boundary(MAX_CONTROL - code.len());
        let reason = reason.get(..size).unwrap_or_default();
        Self::control(CLOSE, [&code, reason.as_bytes()].concat().into())
    }

    fn control(opcode: u8, mut payload: Bytes) -> Self {
        payload.truncate(MAX_CONTROL);
        Self::new(opcode, payload)
    }

    fn new(opcode: u8, payload: Bytes) -> Self {
        let (header, header_size) = header(FIN | opcode, payload.len());
        Self {
            header,
            header_size,
            payload,
        }
    }

    /// To be written before the payload.
    pub fn header(&self) -> &[u8] {
        self.header.get(..self.header_size.into()).unwrap_or_default()
    }

    /// To be written after the header.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Header and payload, in bytes.
    #[allow(
        clippy::len_without_is_empty,
        reason = "no frame is empty; the fuzz targets do not export it"
    )]
    pub fn len(&self) -> usize {
        usize::from(self.header_size) + self.payload.len()
    }

    /// The same message compressed. None: it would be no smaller, it is a control frame, or it is compressed already.
    pub fn deflated(&self, window: Window) -> Option<Self> {
        let [first, ..] = self.header;
        if first & OPCODE >= CLOSE || first & RSV1 != 0 {
            return None;
        }
        let payload = deflate::deflate(&self.payload, window, Bytes::copy_from_slice)?;
        Some(Self::new(first | RSV1, payload))
    }

    /// Header and payload in one piece: worth a copy when many connections write it.
    pub fn joined(&self) -> Bytes {
        [self.header(), &self.payload].concat().into()
    }
}

impl From<Data> for Frame {
    fn from(data: Data) -> Self {
        match data {
            Data::Text(text) => Self::text(text),
            Data::Binary(bytes) => Self::binary(bytes),
        }
    }
}

/// RFC 6455 section 5.2.
fn header(first: u8, length: usize) -> ([u8; MAX_HEADER], u8) {
    let [.., b1, b0] = length.to_be_bytes();
    match length {
        0..126 => ([first, b0, 0, 0, 0, 0, 0, 0, 0, 0], 2),
        126..65536 => ([first, 126, b1, b0, 0, 0, 0, 0, 0, 0], 4),
        _ => {
            let [b7, b6, b5, b4, b3, b2, b1, b0] = (length as u64).to_be_bytes();
            ([first, 127, b7, b6, b5, b4, b3, b2, b1, b0], 10)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(frame: &Frame) -> Vec<u8> {
        let joined = frame.joined();
        assert_eq!(joined, [frame.header(), frame.payload()].concat());
        assert_eq!(joined.len(), frame.len());
        joined.into()
    }

    #[test]
    fn the_examples_of_the_specification() {
        // RFC 6455 section 5.7.
        let hello = [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
        assert_eq!(wire(&Frame::text("Hello".into())), hello);
        assert_eq!(wire(&Data::Text("Hello".into()).into()), hello);
        let ping = [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
        assert_eq!(wire(&Frame::ping("Hello".into())), ping);
        assert_eq!(wire(&Frame::pong(Bytes::new())), [0x8a, 0x00]);
        for (length, header) in [
            (125, &[0x82, 125][..]),
            (126, &[0x82, 126, 0, 126]),
            (256, &[0x82, 126, 1, 0]),
            (65_535, &[0x82, 126, 0xff, 0xff]),
            (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let frame = Frame::message(&Data::Binary(vec![7; length].into()));
            assert_eq!(frame.header(), header);
            assert_eq!(wire(&frame).len(), header.len() + length);
        }
    }

    #[test]
    fn what_control_frames_do_not_hold_is_cut() {
        assert_eq!(wire(&Frame::close(1000, "ok")), [0x88, 4, 0x03, 0xe8, b'o', b'k']);
        assert_eq!(wire(&Frame::close(1005, "no code")), [0x88, 0]);
        for (reason, cut) in [
            ("a".repeat(123), 123),
            ("a".repeat(124), 123),
            ("é".repeat(62), 122),
            (format!("{}😀", "a".repeat(120)), 120),
        ] {
            let frame = Frame::close(1001, &reason);
            assert_eq!(&frame.payload()[2..], &reason.as_bytes()[..cut]);
        }
        assert_eq!(wire(&Frame::ping(vec![1; 200].into())).len(), 127);
    }

    #[test]
    fn what_is_compressed_is_marked_and_smaller() {
        let text = "compress me ".repeat(20);
        let frame = Frame::text(text.into());
        for window in [Window::Full, Window::Small] {
            let smaller = frame.deflated(window).expect("much of it comes again");
            assert_eq!(smaller.header()[0], FIN | RSV1 | TEXT);
            assert!(smaller.len() < 40, "{}", smaller.len());
            assert_eq!(smaller.deflated(window), None);
            assert_eq!(Frame::binary("abc".into()).deflated(window), None);
            assert_eq!(Frame::text("".into()).deflated(window), None);
            assert_eq!(Frame::ping("a".repeat(100).into()).deflated(window), None);
            assert_eq!(Frame::close(1000, &"a".repeat(100)).deflated(window), None);
        }
    }

    #[test]
    fn size() {
        assert_eq!(size_of::<Frame>(), 48);
    }
}
