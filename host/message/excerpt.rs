//! Text of plugins and clients as the log may show it: on one line, and not a long one.

use std::borrow::Cow;

/// Bytes of it, at most.
const LENGTH: usize = 1024;

/// The text without control characters, which could begin another line or change the terminal, and cut if it is long.
pub fn excerpt(text: &str) -> Cow<'_, str> {
    let kept = text.get(..text.floor_char_boundary(LENGTH)).unwrap_or(text);
    if kept.len() == text.len() && !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(kept.len() + 16);
    for c in kept.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    if kept.len() < text.len() {
        line.push('…');
    }
    Cow::Owned(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_line_of_bounded_length() {
        for (text, line) in [
            ("plain é", "plain é"),
            ("a\nb\r\x1b[31m", "a\\nb\\r\\u{1b}[31m"),
            ("", ""),
        ] {
            assert_eq!(excerpt(text), line);
        }
        let long = "é".repeat(LENGTH);
        assert_eq!(excerpt(&long), format!("{}…", "é".repeat(LENGTH / 2)));
    }
}
