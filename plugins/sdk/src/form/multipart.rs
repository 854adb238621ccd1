//! `multipart/form-data` (RFC 7578): reading a whole body.

use super::FormError;
use super::parameters::{parameters, take};

/// The longest boundary that RFC 2046 section 5.1.1 allows.
const LONGEST_BOUNDARY: usize = 70;

/// One field of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// The field's name, as sent: browsers write `%22` for a quotation mark.
    pub name: String,
    /// The name of the file, if it is one. Whatever the sender likes: never use it as a path.
    pub file_name: Option<String>,
    /// The part's own `content-type`.
    pub content_type: Option<String>,
    /// The value.
    pub data: &'a [u8],
}

/// Reads the parts of a body in the order they come. The boundary is that of the `content-type` header, see
/// [`boundary`](super::boundary).
///
/// What stands before the first delimiter and after the last one is skipped, as RFC 2046 has it. A body that just stops
/// is an error, and so is a part without a name.
pub fn multipart<'a>(boundary: &str, body: &'a [u8]) -> Result<Vec<Part<'a>>, FormError> {
    if boundary.is_empty() || boundary.len() > LONGEST_BOUNDARY {
        return Err(FormError::new(0, "the boundary must have 1 to 70 characters"));
    }
    let delimiter = format!("\r\n--{boundary}");
    let mut parts = Vec::new();
    let mut end = match delimiter_line(body, 0, &delimiter.as_bytes()[2..]) {
        Some(after) => Some(after),
        None => find(body, 0, delimiter.as_bytes()).map(|(_, after)| after),
    };
    loop {
        match end {
            None => return Err(FormError::new(body.len(), "the closing delimiter is missing")),
            Some(After::Close) => return Ok(parts),
            Some(After::Part(start)) => {
                let Some((stop, after)) = find(body, start, delimiter.as_bytes()) else {
                    end = None;
                    continue;
                };
                parts.push(part(&body[start..stop], start)?);
                end = Some(after);
            }
        }
    }
}

/// What follows a delimiter.
#[derive(Clone, Copy)]
enum After {
    /// A part, which begins here.
    Part(usize),
    /// Nothing of the form.
    Close,
}

/// Finds the next delimiter: where it begins, and what follows it.
fn find(body: &[u8], from: usize, delimiter: &[u8]) -> Option<(usize, After)> {
    let mut start = from;
    loop {
        start += body.get(start..)?.iter().position(|byte| *byte == b'\r')?;
        if let Some(after) = delimiter_line(body, start, delimiter) {
            return Some((start, after));
        }
        start += 1;
    }
}

/// Whether a delimiter begins at `start` and fills its line. A line that only begins like one is data.
fn delimiter_line(body: &[u8], start: usize, delimiter: &[u8]) -> Option<After> {
    let rest = body.get(start..)?.strip_prefix(delimiter)?;
    if rest.starts_with(b"--") {
        return Some(After::Close);
    }
    let padding = rest
        .iter()
        .take_while(|byte| matches!(byte, b' ' | b'\t'))
        .count();
    rest[padding..]
        .starts_with(b"\r\n")
        .then_some(After::Part(start + delimiter.len() + padding + 2))
}

/// Reads what stands between two delimiters.
fn part(text: &[u8], position: usize) -> Result<Part<'_>, FormError> {
    let fail = |problem| FormError::new(position, problem);
    let (headers, data) = split_headers(text).ok_or_else(|| fail("the headers of a part do not end"))?;
    let headers = std::str::from_utf8(headers).map_err(|_| fail("the headers of a part are not UTF-8"))?;

    let mut disposition = None;
    let mut content_type = None;
    for line in headers.split_terminator("\r\n") {
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| fail("a header of a part has no colon"))?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-disposition") {
            disposition = Some(value);
        } else if name.eq_ignore_ascii_case("content-type") {
            content_type = Some(value.to_owned());
        }
    }

    let mut parameters = disposition
        .filter(|value| super::media_type(value) == "form-data")
        .and_then(parameters)
        .ok_or_else(|| fail("a part has no well-formed content-disposition form-data"))?;
    Ok(Part {
        name: take(&mut parameters, "name").ok_or_else(|| fail("a part has no name"))?,
        file_name: take(&mut parameters, "filename"),
        content_type,
        data,
    })
}

/// The headers, each with its line end, and the data. A part may end after its headers, without an empty line.
fn split_headers(text: &[u8]) -> Option<(&[u8], &[u8])> {
    if let Some(data) = text.strip_prefix(b"\r\n") {
        return Some((&[], data));
    }
    let end = text.windows(4).position(|window| window == b"\r\n\r\n");
    match end {
        Some(end) => Some((&text[..end + 2], &text[end + 4..])),
        None => text.ends_with(b"\r\n").then_some((text, &[])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field<'a>(name: &str, data: &'a [u8]) -> Part<'a> {
        Part {
            name: name.into(),
            file_name: None,
            content_type: None,
            data,
        }
    }

    #[test]
    fn reads_what_curl_sends() {
        let body = b"--------------------------d74496d66958873e\r\n\
            Content-Disposition: form-data; name=\"message\"\r\n\
            \r\n\
            hello\r\n\
            --------------------------d74496d66958873e\r\n\
            Content-Disposition: form-data; name=\"file\"; filename=\"a.png\"\r\n\
            Content-Type: image/png\r\n\
            \r\n\
            \x89PNG\r\n\x1a\n\x00\r\n\
            --------------------------d74496d66958873e--\r\n";
        let parts = multipart("------------------------d74496d66958873e", body).unwrap();
        let file = Part {
            name: "file".into(),
            file_name: Some("a.png".into()),
            content_type: Some("image/png".into()),
            data: b"\x89PNG\r\n\x1a\n\x00",
        };
        assert_eq!(parts, [field("message", b"hello"), file]);
    }

    #[test]
    fn skips_preamble_epilogue_and_padding() {
        let body = b"no part\r\n--b-not\r\n--b \t\r\n\
            content-disposition:form-data;name=a\r\n\r\n1\r\n--b--  \r\nrest\r\n--b\r\n";
        assert_eq!(multipart("b", body), Ok(vec![field("a", b"1")]));
        assert_eq!(multipart("b", b"--b--"), Ok(vec![]));
    }

    #[test]
    fn data_may_look_almost_like_a_delimiter() {
        let data = b"\r\n--\r\n--bb\r\n--b-\r\n--b x\n--b\r\r\n";
        let body = [
            &b"--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n"[..],
            data,
            b"\r\n--b--",
        ]
        .concat();
        assert_eq!(multipart("b", &body), Ok(vec![field("a", data)]));
    }

    #[test]
    fn an_empty_value_needs_no_empty_line() {
        let with = b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n--b--";
        let without = b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\n--b--";
        assert_eq!(multipart("b", with), Ok(vec![field("a", b"")]));
        assert_eq!(multipart("b", without), Ok(vec![field("a", b"")]));
    }

    #[test]
    fn malformed_bodies_are_refused_by_position() {
        let long = "b".repeat(71);
        for (boundary, body, position, problem) in [
            ("", "--\r\n", 0, "boundary"),
            (long.as_str(), "", 0, "boundary"),
            ("b", "", 0, "closing"),
            ("b", "--b", 3, "closing"),
            ("b", "--b\r\n--b--", 10, "closing"),
            ("b", "x--b--", 6, "closing"),
            (
                "b",
                "--b\r\nContent-Disposition: form-data; name=a\r\n\r\n1",
                48,
                "closing",
            ),
            ("b", "--b\r\n\r\n1\r\n--b--", 5, "content-disposition"),
            (
                "b",
                "--b\r\nContent-Disposition: attachment; name=a\r\n\r\n1\r\n--b--",
                5,
                "form-data",
            ),
            (
                "b",
                "--b\r\nContent-Disposition: form-data\r\n\r\n1\r\n--b--",
                5,
                "no name",
            ),
            (
                "b",
                "--b\r\nContent-Disposition: form-data; name=\"a\r\n\r\n1\r\n--b--",
                5,
                "well-formed",
            ),
            ("b", "--b\r\nnonsense\r\n\r\n1\r\n--b--", 5, "colon"),
            ("b", "--b\r\nnonsense\r\n--b--", 5, "end"),
        ] {
            let error = multipart(boundary, body.as_bytes()).unwrap_err();
            assert_eq!(error.position(), position, "{body:?}");
            assert!(error.to_string().contains(problem), "{body:?}: {error}");
        }
        let latin1 = b"--b\r\nContent-Disposition: form-data; name=\xe9\r\n\r\n1\r\n--b--";
        assert_eq!(multipart("b", latin1).unwrap_err().position(), 5);
    }
}
