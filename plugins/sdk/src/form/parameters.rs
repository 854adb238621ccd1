//! Header values of the form `value; name=value; name="quoted value"`.

/// The media type of a `content-type` header: in lower case, without the parameters.
pub fn media_type(content_type: &str) -> String {
    let (media_type, _) = content_type.split_once(';').unwrap_or((content_type, ""));
    media_type.trim().to_ascii_lowercase()
}

/// The boundary that a `content-type` header of a multipart body names. None without one, or if the header is
/// malformed.
pub fn boundary(content_type: &str) -> Option<String> {
    take(&mut parameters(content_type)?, "boundary")
}

/// The parameters of a header's value, their names in lower case. None if they are malformed.
pub(super) fn parameters(header: &str) -> Option<Vec<(String, String)>> {
    let mut parameters = Vec::new();
    let (_, mut rest) = header.split_once(';').unwrap_or((header, ""));
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Some(parameters);
        }
        let (name, after_name) = rest.split_once('=')?;
        let (value, after_value) = match after_name.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = after_name.find(';').unwrap_or(after_name.len());
                (after_name[..end].trim_end().to_owned(), &after_name[end..])
            }
        };
        parameters.push((name.trim_end().to_ascii_lowercase(), value));
        rest = after_value.trim_start();
        if !rest.is_empty() {
            rest = rest.strip_prefix(';')?;
        }
    }
}

/// Removes the first value of that name, which is to be in lower case.
pub(super) fn take(parameters: &mut Vec<(String, String)>, name: &str) -> Option<String> {
    let index = parameters.iter().position(|(key, _)| key == name)?;
    Some(parameters.swap_remove(index).1)
}

/// Reads up to the closing quotation mark; gives what is between and what follows.
///
/// Only quotation marks and backslashes are taken for escaped. Browsers do not escape backslashes, and older ones send
/// whole Windows paths.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => return Some((value, characters.as_str())),
            '\\' => match characters.clone().next()? {
                escaped @ ('"' | '\\') => {
                    value.push(escaped);
                    characters.next();
                }
                _ => value.push('\\'),
            },
            character => value.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_media_type_is_without_parameters_and_case() {
        assert_eq!(
            media_type("Application/X-WWW-Form-Urlencoded ; charset=UTF-8"),
            "application/x-www-form-urlencoded"
        );
        assert_eq!(media_type(""), "");
    }

    #[test]
    fn finds_the_boundary() {
        for (content_type, expected) in [
            ("multipart/form-data; boundary=abc", Some("abc")),
            (
                "multipart/form-data; charset=utf-8; Boundary=\"a; b\" ;",
                Some("a; b"),
            ),
            ("multipart/form-data;boundary=a;boundary=b", Some("a")),
            ("multipart/form-data", None),
            ("multipart/form-data; boundary", None),
            ("multipart/form-data; boundary=\"open", None),
            ("multipart/form-data; boundary=\"a\"b", None),
        ] {
            assert_eq!(boundary(content_type).as_deref(), expected, "{content_type}");
        }
    }

    #[test]
    fn quoted_values_keep_their_backslashes() {
        let disposition = r#"form-data; name="a\"b"; filename="C:\dir\\f.txt""#;
        let expected = [("name", "a\"b"), ("filename", r"C:\dir\f.txt")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(parameters(disposition), Some(expected.to_vec()));
    }
}
