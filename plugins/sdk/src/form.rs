//! The two encodings of HTML forms, as PHP reads them into `$_POST`.
//!
//! [`encode`] and [`decode`] are for `application/x-www-form-urlencoded`, [`multipart`] is for `multipart/form-data`.
//! [`post`] makes a request of a form, and [`fields`] reads one, whichever encoding it has.

mod error;
mod multipart;
mod parameters;
mod request;

pub use error::FormError;
pub use multipart::{Part, multipart};
pub use parameters::{boundary, media_type};
pub use request::{fields, looks_like_json, post};

/// The media type of what [`encode`] gives and [`decode`] takes.
pub const URLENCODED: &str = "application/x-www-form-urlencoded";

/// The media type of what [`multipart()`] takes.
pub const MULTIPART: &str = "multipart/form-data";

/// Encodes fields in the order given. Every byte of a value arrives in PHP as it is.
pub fn encode(fields: &[(&str, &[u8])]) -> String {
    let least = fields.iter().map(|(name, value)| name.len() + value.len() + 2);
    let mut encoded = Vec::with_capacity(least.sum());
    for (name, value) in fields {
        if !encoded.is_empty() {
            encoded.push(b'&');
        }
        escape(&mut encoded, name.as_bytes());
        encoded.push(b'=');
        escape(&mut encoded, value);
    }
    // ASCII by now.
    String::from_utf8(encoded).unwrap_or_default()
}

/// Which bytes stay what they are (URL standard, application/x-www-form-urlencoded percent-encode set).
const KEPT: [bool; 256] = {
    let mut kept = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        kept[byte] =
            matches!(byte as u8, b'*' | b'-' | b'.' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z');
        byte += 1;
    }
    kept
};

/// Takes runs of bytes that stay at once: it is done for every frame that goes to PHP.
fn escape(encoded: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for run in bytes.split_inclusive(|byte| !KEPT[usize::from(*byte)]) {
        let (kept, escaped) = match run {
            [kept @ .., last] if !KEPT[usize::from(*last)] => (kept, Some(*last)),
            kept => (kept, None),
        };
        // Most runs of a text in Chinese or of binary data are empty, and a copy of nothing is a call all the same.
        if !kept.is_empty() {
            encoded.extend_from_slice(kept);
        }
        match escaped {
            Some(b' ') => encoded.push(b'+'),
            Some(byte) => {
                let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
                encoded.extend_from_slice(&[b'%', DIGITS[high], DIGITS[low]]);
            }
            None => {}
        }
    }
}

/// Decodes fields in the order they come.
///
/// Stricter than browsers and PHP: a percent sign without two hexadecimal digits is an error, and so is a name that is
/// not UTF-8. What arrives changed would be worse than what does not arrive.
pub fn decode(form: &[u8]) -> Result<Vec<(String, Vec<u8>)>, FormError> {
    let mut fields = Vec::new();
    let mut position = 0;
    for pair in form.split(|byte| *byte == b'&') {
        if !pair.is_empty() {
            let equals = pair.iter().position(|byte| *byte == b'=');
            let (name, value) = match equals {
                Some(equals) => (&pair[..equals], &pair[equals + 1..]),
                None => (pair, &[][..]),
            };
            let name_bytes = unescape(name, position)?;
            let name_text = String::from_utf8(name_bytes)
                .map_err(|_| FormError::new(position, "the name of a field is not UTF-8"))?;
            fields.push((name_text, unescape(value, position + name.len() + 1)?));
        }
        position += pair.len() + 1;
    }
    Ok(fields)
}

fn unescape(escaped: &[u8], position: usize) -> Result<Vec<u8>, FormError> {
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    loop {
        rest = match rest {
            [] => return Ok(bytes),
            [b'+', rest @ ..] => {
                bytes.push(b' ');
                rest
            }
            [b'%', tail @ ..] => {
                let escape = tail
                    .split_first_chunk()
                    .and_then(|([high, low], rest)| Some((hex(*high)? << 4 | hex(*low)?, rest)));
                let Some((byte, rest)) = escape else {
                    let position = position + escaped.len() - rest.len();
                    return Err(FormError::new(
                        position,
                        "a percent sign without two hexadecimal digits",
                    ));
                };
                bytes.push(byte);
                rest
            }
            [byte, rest @ ..] => {
                bytes.push(*byte);
                rest
            }
        };
    }
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(fields: &[(&str, &[u8])]) -> Vec<(String, Vec<u8>)> {
        fields
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_vec()))
            .collect()
    }

    #[test]
    fn encodes_by_the_url_standard() {
        let encoded = encode(&[
            ("type", b"server"),
            ("message", "a b&c=d+e%é\n".as_bytes()),
            ("client_id", b"127.0.0.1:51110"),
            ("", b""),
            ("kept", b"*-._"),
        ]);
        assert_eq!(
            encoded,
            "type=server&message=a+b%26c%3Dd%2Be%25%C3%A9%0A&client_id=127.0.0.1%3A51110&=&kept=*-._"
        );
        assert_eq!(encode(&[]), "");
    }

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        // Each byte between others, in front of them and behind them.
        for bytes in all
            .iter()
            .flat_map(|byte| [vec![*byte], vec![b'a', *byte, b'b'], vec![*byte; 3]])
        {
            let standard: String = form_urlencoded::byte_serialize(&bytes).collect();
            assert_eq!(encode(&[("", &bytes)]), format!("={standard}"));
        }
        let fields: &[(&str, &[u8])] = &[("é&=", &all), ("", b""), ("é&=", b"again")];
        assert_eq!(decode(encode(fields).as_bytes()), Ok(owned(fields)));
    }

    #[test]
    fn decodes_what_others_send() {
        let fields = decode(b"&a=1&&b&c==2&d=+%2b%2B&a=").unwrap();
        let expected: &[(&str, &[u8])] = &[("a", b"1"), ("b", b""), ("c", b"=2"), ("d", b" ++"), ("a", b"")];
        assert_eq!(fields, owned(expected));
        assert_eq!(decode(b""), Ok(vec![]));
    }

    #[test]
    fn a_malformed_escape_is_named_by_its_position() {
        for (form, position) in [
            ("a=%", 2),
            ("a=1&b=x%4", 7),
            ("a=%zz&b=1", 2),
            ("a=1&%+1=2", 4),
            ("a=%4%41", 2),
        ] {
            let error = decode(form.as_bytes()).unwrap_err();
            assert_eq!(error.position(), position, "{form}");
        }
        assert_eq!(
            decode(b"a=1&b=%").unwrap_err().to_string(),
            "byte 6: a percent sign without two hexadecimal digits"
        );
    }

    #[test]
    fn a_name_that_is_not_utf8_is_refused() {
        assert_eq!(decode(b"a=1&%ff=2").unwrap_err().position(), 4);
    }
}
