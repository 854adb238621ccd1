//! Credentials: never shown, and compared in constant time.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer};
use subtle::ConstantTimeEq;

/// A credential.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// Compares in a time that does not depend on where the two differ.
    pub fn matches(&self, candidate: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(candidate).into()
    }

    /// For a signature.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other.as_bytes())
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What the file says: one text, or a list.
#[derive(Clone)]
pub(in crate::config) struct RawSecrets(pub(in crate::config) Vec<String>);

impl<'de> Deserialize<'de> for RawSecrets {
    /// The errors of derived code would repeat the value, which must not be shown.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrong = || de::Error::custom("expected text in quotes, or a list such as [\"new\", \"old\"]");
        let text = |value| match value {
            toml::Value::String(text) => Ok(text),
            _ => Err(wrong()),
        };
        match toml::Value::deserialize(deserializer)? {
            toml::Value::Array(values) => values.into_iter().map(text).collect::<Result<_, _>>().map(Self),
            value => text(value).map(|text| Self(vec![text])),
        }
    }
}

/// The credentials in a file, one per line. Empty lines and those that begin with `#` are skipped, and so is the mark that
/// some editors put in front of everything (U+FEFF): nobody would find it in the first credential.
pub(in crate::config) fn lines(text: &str) -> Vec<Secret> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| Secret::new(line.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_match_whole_and_do_not_show() {
        let secret = Secret::new("secret".to_owned());
        assert!(secret.matches(b"secret") && !secret.matches(b"secre") && !secret.matches(b""));
        assert!(!format!("{secret:?}").contains("secret"));
    }

    #[test]
    fn a_file_has_one_a_line() {
        assert!(lines("\u{feff}new\n")[0].matches(b"new"));
        let secrets = lines("# of March\nnew\n\n  old \r\n#older");
        assert_eq!(secrets.len(), 2);
        assert!(secrets[0].matches(b"new") && secrets[1].matches(b"old"));
        assert!(lines("\n# nothing").is_empty());
    }
}
