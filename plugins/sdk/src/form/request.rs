//! Forms in requests.

use super::{FormError, MULTIPART, URLENCODED, boundary, decode, encode, media_type, multipart};
use crate::{Payload, Request};

/// A POST of these fields, for an upstream: to the path of its own URL, without a query.
pub fn post(fields: &[(&str, &[u8])]) -> Request {
    Request {
        method: "POST".to_owned(),
        path: String::new(),
        query: String::new(),
        headers: vec![("content-type".to_owned(), URLENCODED.to_owned())],
        body: Payload::Text(encode(fields)),
    }
}

/// The fields of a request: those of the body, then those of the query, in the order they come.
///
/// A body that is no form is an error. None at all is none, whatever its `content-type`.
pub fn fields(request: &Request) -> Result<Vec<(String, Vec<u8>)>, FormError> {
    let mut fields = body_fields(request)?;
    fields.extend(decode(request.query.as_bytes())?);
    Ok(fields)
}

/// Whether a body begins as an object or a list of JSON, which no form does, and is said to be a form or nothing. That is
/// how `curl -d '{…}'` and PHP's cURL send JSON if nobody tells them what it is.
pub fn looks_like_json(request: &Request) -> bool {
    let content_type = request.header("content-type").unwrap_or_default();
    let body = request.body.as_bytes().trim_ascii_start();
    matches!(media_type(content_type).as_str(), URLENCODED | "text/plain" | "")
        && matches!(body.first(), Some(b'{' | b'['))
}

fn body_fields(request: &Request) -> Result<Vec<(String, Vec<u8>)>, FormError> {
    let body = request.body.as_bytes();
    if body.is_empty() {
        return Ok(Vec::new());
    }
    let content_type = request.header("content-type").unwrap_or_default();
    match media_type(content_type).as_str() {
        URLENCODED => decode(body),
        MULTIPART => {
            let boundary = boundary(content_type)
                .ok_or_else(|| FormError::new(0, "the content-type has no boundary"))?;
            let parts = multipart(&boundary, body)?;
            let fields = parts.into_iter().map(|part| (part.name, part.data.to_vec()));
            Ok(fields.collect())
        }
        _ => Err(FormError::new(0, "the content-type is none of a form")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(query: &str, content_type: &str, body: &[u8]) -> Request {
        Request {
            method: "POST".into(),
            path: "/send".into(),
            query: query.into(),
            headers: vec![("content-type".into(), content_type.into())],
            body: Payload::from_bytes(body.to_vec()),
        }
    }

    fn owned(fields: &[(&str, &[u8])]) -> Vec<(String, Vec<u8>)> {
        fields
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_vec()))
            .collect()
    }

    #[test]
    fn what_is_posted_is_read() {
        let posted: &[(&str, &[u8])] = &[("type", b"server"), ("message", b"a&b=\xff")];
        assert_eq!(fields(&post(posted)), Ok(owned(posted)));
    }

    #[test]
    fn the_body_goes_before_the_query() {
        let multipart = b"--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n\x00\xff\r\n--x--\r\n";
        for (content_type, body, value) in [
            (URLENCODED, &b"a=1"[..], &b"1"[..]),
            ("Multipart/Form-Data; boundary=\"x\"", multipart, b"\x00\xff"),
        ] {
            let read = fields(&request("a=2&b=3", content_type, body));
            assert_eq!(read, Ok(owned(&[("a", value), ("a", b"2"), ("b", b"3")])));
        }
        let read = fields(&request("a=2", "application/json", b""));
        assert_eq!(read, Ok(owned(&[("a", b"2")])));
    }

    #[test]
    fn json_that_is_called_a_form_is_noticed() {
        for (content_type, body, is_json) in [
            (URLENCODED, &b" {\"a\": 1}"[..], true),
            ("", b"[{}]", true),
            ("Text/Plain; charset=utf-8", b"{}", true),
            ("application/json", b"{}", false),
            (MULTIPART, b"[", false),
            (URLENCODED, b"a=[1]", false),
            (URLENCODED, b"%7B", false),
            (URLENCODED, b"", false),
        ] {
            let found = looks_like_json(&request("", content_type, body));
            assert_eq!(found, is_json, "{content_type}");
        }
    }

    #[test]
    fn what_is_no_form_is_refused() {
        for (request, problem) in [
            (request("", "application/json", b"{}"), "content-type"),
            (request("", "", b"a=1"), "content-type"),
            (request("", MULTIPART, b"a=1"), "boundary"),
            (request("", "multipart/form-data; boundary=x", b"a=1"), "closing"),
            (request("", URLENCODED, b"a=%"), "percent"),
            (request("a=%zz", URLENCODED, b"a=1"), "percent"),
        ] {
            let error = fields(&request).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
