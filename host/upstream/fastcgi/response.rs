//! The answer of a CGI script (RFC 3875 section 6): a block of header fields, an empty line, the body.

use std::borrow::Cow;

use bytes::BytesMut;

use crate::message::{Headers, Payload, Response};

/// The longest header block, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// Why an answer cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// The body is over the limit.
    TooLarge,
    /// It does not conform to RFC 3875, or does not fit into a `Response`.
    Bad(String),
}

/// Takes the answer in pieces as they arrive.
#[derive(Debug)]
pub(super) struct Answer {
    /// None until the header block has ended.
    head: Option<Head>,
    /// The header block as far as it has arrived, then the body.
    data: BytesMut,
    /// While there is no head: where the current line begins, and up to where its end was searched for.
    line: usize,
    searched: usize,
    max_body: usize,
}

#[derive(Debug)]
struct Head {
    status: u16,
    headers: Headers,
    /// The beginning of the first line that is not a header field.
    stray: Option<String>,
}

impl Answer {
    /// `max_body` is in bytes.
    pub(super) fn new(max_body: usize) -> Self {
        Self {
            head: None,
            data: BytesMut::new(),
            line: 0,
            searched: 0,
            max_body,
        }
    }

    /// Adds what has arrived; an answer in one piece is not copied. After an error the answer must not be used.
    pub(super) fn push(&mut self, piece: BytesMut) -> Result<(), Unusable> {
        self.data.unsplit(piece);
        if self.head.is_none() {
            self.head = self.split_head()?;
        }
        match &self.head {
            Some(_) if self.data.len() > self.max_body => Err(Unusable::TooLarge),
            None if self.data.len() > MAX_HEAD => Err(head_too_large()),
            _ => Ok(()),
        }
    }

    /// The beginning of a line among the header fields that is none, and was left out.
    pub(super) fn stray_line(&self) -> Option<&str> {
        self.head.as_ref()?.stray.as_deref()
    }

    /// The response, when everything has arrived.
    pub(super) fn finish(self) -> Result<Response, Unusable> {
        let Some(Head { status, headers, .. }) = self.head else {
            return Err(Unusable::Bad("it ended before its header block did".to_owned()));
        };
        Ok(Response {
            status,
            headers,
            body: Payload::from_body(self.data.freeze()),
        })
    }

    /// Looks for the empty line, and cuts the header block off if it is there.
    fn split_head(&mut self) -> Result<Option<Head>, Unusable> {
        let is_end = |byte: &u8| *byte == b'\n';
        while let Some(end) = self
            .data
            .get(self.searched..)
            .and_then(|rest| rest.iter().position(is_end))
        {
            let next_line = self.searched + end + 1;
            let is_empty = matches!(self.data.get(self.line..next_line), Some(b"\n" | b"\r\n"));
            (self.line, self.searched) = (next_line, next_line);
            if is_empty && next_line > MAX_HEAD {
                return Err(head_too_large());
            } else if is_empty {
                return parse_head(&self.data.split_to(next_line)).map(Some);
            }
        }
        self.searched = self.data.len();
        Ok(None)
    }
}

fn parse_head(block: &[u8]) -> Result<Head, Unusable> {
    let mut status = None;
    let mut headers = Headers::new();
    let mut stray = None;
    for line in block
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
    {
        if line.is_empty() {
            continue;
        }
        let Some((name, value)) = parse_field(line) else {
            stray.get_or_insert_with(|| excerpt(line).into_owned());
            continue;
        };
        if name == "status" {
            status = Some(parse_status(&value)?);
        } else {
            headers.push((name, value));
        }
    }
    let redirects = || headers.iter().any(|(name, _)| name == "location");
    // PHP sends the status 302 itself. Even without it, a `Location` means a redirect (RFC 3875 section 6.2.3).
    let status = status.unwrap_or_else(|| if redirects() { 302 } else { 200 });
    Ok(Head {
        status,
        headers,
        stray,
    })
}

/// None: it is not a header field.
fn parse_field(line: &[u8]) -> Option<(String, String)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (line.get(..colon)?, line.get(colon + 1..)?);
    is_token(name).then(|| {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        (name, String::from_utf8_lossy(value.trim_ascii()).into_owned())
    })
}

/// RFC 9110 section 5.6.2.
fn is_token(name: &[u8]) -> bool {
    let is_tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(is_tchar)
}

/// Three digits, then perhaps a space and a reason (RFC 3875 section 6.3.3).
fn parse_status(value: &str) -> Result<u16, Unusable> {
    let digits = value.split_once(' ').map_or(value, |(digits, _)| digits);
    match digits.parse() {
        // 1xx would be followed by another answer, which CGI cannot send.
        Ok(status @ 200..=599) if digits.len() == 3 => Ok(status),
        _ => Err(Unusable::Bad(format!(
            "`{}` is not a status",
            excerpt(value.as_bytes())
        ))),
    }
}

fn head_too_large() -> Unusable {
    Unusable::Bad(format!("its header block has more than {MAX_HEAD} bytes"))
}

fn excerpt(text: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(text.get(..80).unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn parse(pieces: &[&[u8]]) -> Result<Response, Unusable> {
        let mut answer = Answer::new(100);
        for piece in pieces {
            answer.push(BytesMut::from(*piece))?;
        }
        answer.finish()
    }

    fn status(head: &str) -> Option<u16> {
        parse(&[head.as_bytes(), b"\r\n\r\n"])
            .ok()
            .map(|response| response.status)
    }

    #[test]
    fn status_comes_from_its_field_or_from_a_location_or_is_200() {
        let table = [
            ("Content-Type: text/html", Some(200)),
            ("Status: 404 Not Found", Some(404)),
            ("Status:418", Some(418)),
            ("STATUS: 204", Some(204)),
            ("Location: /x", Some(302)),
            ("Location: /x\r\nStatus: 201 Created", Some(201)),
            ("Status: 99", None),
            ("Status: 101 Switching Protocols", None),
            ("Status: 0200", None),
            ("Status: 600", None),
            ("Status: x", None),
            ("Status:", None),
            ("Status: 200OK", None),
        ];
        for (head, expected) in table {
            assert_eq!(status(head), expected, "{head}");
        }
    }

    #[test]
    fn fields_keep_their_order_and_are_never_merged() {
        let response =
            parse(&[b"Set-Cookie: a=1\nX-B:  \t2 \r\nset-cookie: c=3\nX-Empty:\n\nbody"]).expect("good");
        let expected = [
            ("set-cookie", "a=1"),
            ("x-b", "2"),
            ("set-cookie", "c=3"),
            ("x-empty", ""),
        ];
        assert_eq!(
            response.headers,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        assert_eq!(response.body, Payload::Text("body".into()));
    }

    #[test]
    fn values_that_are_not_utf8_are_read_all_the_same() {
        let response = parse(&[b"X: caf\xe9\n\n\xff"]).expect("good");
        assert_eq!(response.headers, [("x".to_owned(), "caf\u{fffd}".to_owned())]);
        assert_eq!(response.body, Payload::Binary(vec![0xff].into()));
    }

    #[test]
    fn an_empty_header_block_is_one() {
        for block in [&b"\r\n"[..], b"\n"] {
            let response = parse(&[block, b"\r\n"]).expect("good");
            assert_eq!((response.status, response.headers), (200, vec![]));
            assert_eq!(response.body, Payload::Text("\r\n".into()));
        }
    }

    #[test]
    fn what_is_no_header_block_is_refused() {
        for bytes in [&b""[..], b"X: y\r\n", b"Status: 1000\n\n"] {
            assert!(matches!(parse(&[bytes]), Err(Unusable::Bad(_))), "{bytes:?}");
        }
    }

    #[test]
    fn a_line_that_is_no_header_field_is_left_out() {
        for line in ["no colon", ": y", "a b: c", " folded: x"] {
            let mut answer = Answer::new(100);
            let text = format!("X: y\n{line}\nother\nZ: z\n\nbody");
            answer.push(BytesMut::from(text.as_str())).unwrap();
            assert_eq!(answer.stray_line(), Some(line));
            let names: Vec<_> = answer
                .finish()
                .unwrap()
                .headers
                .into_iter()
                .map(|(name, _)| name)
                .collect();
            assert_eq!(names, ["x", "z"]);
        }
    }

    #[test]
    fn the_header_block_has_a_limit() {
        let line = [b"X: ", vec![b'x'; MAX_HEAD - 3 - 2].as_slice()].concat();
        assert!(parse(&[&line, b"\n", b"\n"]).is_ok());
        assert!(matches!(parse(&[&line, b"x", b"\n\n"]), Err(Unusable::Bad(_))));
        assert!(matches!(parse(&[&line, b"xxx"]), Err(Unusable::Bad(_))));
    }

    #[test]
    fn the_body_has_a_limit() {
        assert!(parse(&[b"\n", &[0; 50], &[0; 50]]).is_ok());
        assert_eq!(parse(&[b"\n", &[0; 50], &[0; 51]]), Err(Unusable::TooLarge));
        assert_eq!(
            parse(&[&[b"\n".as_slice(), &[0; 101]].concat()]),
            Err(Unusable::TooLarge)
        );
    }

    proptest! {
        #[test]
        fn the_cuts_between_pieces_do_not_matter(
            fields in vec(("[a-z-]{1,9}", "[!-~]{0,9}"), 0..6),
            crlf in any::<bool>(),
            body in vec(any::<u8>(), 0..100),
            size in 1..20usize,
        ) {
            let newline = if crlf { "\r\n" } else { "\n" };
            let head: String = fields.iter().map(|(name, value)| format!("x-{name}: {value}{newline}")).collect();
            let bytes = [head.as_bytes(), newline.as_bytes(), &body].concat();
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            let response = parse(&pieces).expect("good");
            let expected: Headers = fields.into_iter().map(|(name, value)| (format!("x-{name}"), value)).collect();
            prop_assert_eq!(response.headers, expected);
            prop_assert_eq!(response.body.into_bytes(), body);
        }

        #[test]
        fn any_bytes_are_taken_without_a_panic(pieces in vec(vec(any::<u8>(), 0..40), 0..8)) {
            let _ = parse(&pieces.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }
    }
}
