//! What errors in the configuration look like: the location, the line itself, what is wrong and what would be right.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A configuration that cannot be used: where, and why.
#[derive(Debug, thiserror::Error)]
#[error("{location}{problem}")]
pub struct ConfigError {
    location: Location,
    problem: ConfigProblem,
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
pub enum ConfigProblem {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[source] io::Error),
    /// It says something that cannot be used.
    #[error("{0}")]
    Invalid(String),
}

/// Where the problem is.
#[derive(Debug)]
enum Location {
    Flag(&'static str),
    File(PathBuf),
    Line {
        file: PathBuf,
        line: usize,
        column: usize,
        text: String,
        width: usize,
    },
    Nowhere,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "{name}: "),
            Self::File(file) => write!(f, "{}: ", file.display()),
            Self::Line {
                file,
                line,
                column,
                text,
                width,
            } => {
                writeln!(f, "{}:{line}:{column}:", file.display())?;
                writeln!(f, "  {text}")?;
                writeln!(
                    f,
                    "  {:>column$}",
                    "^".repeat(*width),
                    column = column - 1 + width
                )
            }
            Self::Nowhere => Ok(()),
        }
    }
}

impl ConfigError {
    pub(super) fn flag(name: &'static str, problem: String) -> Self {
        Self {
            location: Location::Flag(name),
            problem: ConfigProblem::Invalid(without_userinfo(problem)),
        }
    }

    /// What is wrong, without the location.
    pub fn problem(&self) -> &ConfigProblem {
        &self.problem
    }
}

/// The text of a configuration, and where it came from.
pub(super) struct Source {
    file: Option<PathBuf>,
    text: String,
}

impl Source {
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|cause| ConfigError {
            location: Location::File(path.to_owned()),
            problem: ConfigProblem::Unreadable(cause),
        })?;
        Ok(Self {
            file: Some(path.to_owned()),
            text,
        })
    }

    /// No file: defaults only.
    pub(super) fn none() -> Self {
        Self {
            file: None,
            text: String::new(),
        }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// What paths in the file are relative to.
    pub(super) fn directory(&self) -> &Path {
        self.file
            .as_deref()
            .and_then(Path::parent)
            .unwrap_or(Path::new(""))
    }

    /// An error, with the line if the span names one.
    pub(super) fn error(&self, span: Option<Range<usize>>, problem: String) -> ConfigError {
        self.error_at(span, problem, without_secrets)
    }

    fn error_at(&self, span: Option<Range<usize>>, problem: String, show: fn(&str) -> String) -> ConfigError {
        let problem = ConfigProblem::Invalid(without_userinfo(problem));
        let location = match (&self.file, span.filter(|span| !span.is_empty())) {
            (Some(file), Some(span)) => self.line(file, &span, show),
            (Some(file), None) => Location::File(file.clone()),
            (None, _) => Location::Nowhere,
        };
        ConfigError { location, problem }
    }

    /// An error of the TOML parser. It always has a location, if only the one where something is missing.
    pub(super) fn syntax_error(&self, span: Option<Range<usize>>, message: &str) -> ConfigError {
        let span = span.map(|span| span.start..span.end.max(span.start + 1));
        let plain = WORDS
            .iter()
            .fold(message.to_owned(), |message, (technical, plain)| {
                message.replace(technical, plain)
            });
        // Where it is not known what a value is for, it may be a credential, under a name that is misspelt.
        const UNDERSTOOD: [&str; 3] = ["unknown variant", "invalid type", "invalid value"];
        let is_understood = UNDERSTOOD.iter().any(|start| message.starts_with(start));
        self.error_at(
            span,
            plain,
            if is_understood {
                without_secrets
            } else {
                without_values
            },
        )
    }

    fn line(&self, file: &Path, span: &Range<usize>, show: fn(&str) -> String) -> Location {
        let before = self.text.get(..span.start).unwrap_or_default();
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let rest = self.text.get(start..).unwrap_or_default();
        let text = rest.lines().next().unwrap_or_default();
        // A section like these has values that only the application knows.
        let mut headings = before.lines().filter(|line| line.trim_start().starts_with('['));
        let is_foreign = headings
            .next_back()
            .is_some_and(|heading| FOREIGN.iter().any(|part| heading.contains(part)));
        let show = if is_foreign { without_values } else { show };
        let shown = match before
            .get(..start)
            .unwrap_or_default()
            .lines()
            .rfind(|line| line.contains('='))
        {
            Some(begin) if !text.contains('=') && !text.trim_start().starts_with("[[") => {
                without_secrets_of(begin, &show(text))
            }
            _ => show(text),
        };
        let column = self
            .text
            .get(start..span.start)
            .unwrap_or_default()
            .chars()
            .count();
        let spanned = self.text.get(span.clone()).unwrap_or_default();
        // A span may cover several lines; only the first is shown.
        let width = spanned.lines().next().unwrap_or_default().chars().count().max(1);
        Location::Line {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: column + 1,
            text: shown,
            width,
        }
    }
}

/// A line as it may be shown: credentials are masked, wherever their key stands: `upstream.secret = …`, `{ secret = … }`.
fn without_secrets(line: &str) -> String {
    let is_secret = |at: &usize| {
        let before = line.get(..*at).unwrap_or_default();
        let key = before.trim_end().trim_end_matches(['"', '\'']);
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let start = key.rfind(|c| !is_part(c)).map_or(0, |at| at + 1);
        let key = key.get(start..).unwrap_or_default().to_ascii_lowercase();
        SECRETS.iter().any(|secret| key.ends_with(secret))
    };
    let equals = line.match_indices('=').map(|(at, _)| at).find(is_secret);
    match equals.and_then(|at| line.split_at_checked(at + 1)) {
        Some((key, value)) => format!("{key}{}", masked(value)),
        None => without_userinfo(line.to_owned()),
    }
}

/// The same of a line that is a part of a value: the line where the value begins decides.
fn without_secrets_of(begin: &str, line: &str) -> String {
    if without_secrets(begin) == without_userinfo(begin.to_owned()) {
        without_secrets(line)
    } else {
        masked(line)
    }
}

/// A line whose values may be anything. The name of a section is not a value.
fn without_values(line: &str) -> String {
    match line.split_once('=') {
        Some((key, value)) => format!("{key}={}", masked(value)),
        None if line.trim_start().starts_with('[') && line.trim_end().ends_with(']') => line.to_owned(),
        None => masked(line),
    }
}

fn masked(value: &str) -> String {
    let hide = |c| if "\"'[], ".contains(c) { c } else { '*' };
    value.chars().map(hide).collect()
}

/// A text in which the credentials of URLs are masked (RFC 3986 section 3.2.1).
fn without_userinfo(text: String) -> String {
    if !text.contains('@') {
        return text;
    }
    let mut parts = text.split("://");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| "/\"'` ,?#".contains(c)).unwrap_or(part.len());
        let (authority, rest) = part.split_at(end);
        shown.push_str("://");
        match authority.rsplit_once('@') {
            Some((_, host)) => shown.extend(["***@", host]),
            None => shown.push_str(authority),
        }
        shown.push_str(rest);
    }
    shown
}

/// Parts of the names of sections whose keys are not the gateway's.
const FOREIGN: [&str; 3] = [".params]", ".headers]", "plugins.config."];

/// How keys end whose values are credentials: the gateway's own, and those in `params` and `headers` of an upstream.
const SECRETS: [&str; 9] = [
    // All in them, whatever it is called.
    "params",
    "headers",
    "token",
    "secret",
    "password",
    "authorization",
    "cookie",
    "-key",
    "_key",
];

/// The parser speaks to programmers. Its terms are replaced by those of the documentation.
const WORDS: [(&str, &str); 9] = [
    ("unknown field", "unknown key"),
    ("missing field", "missing key"),
    ("unknown variant", "unknown value"),
    ("expected usize", "expected a whole number, 0 or more"),
    ("duplicate key", "the key stands here a second time; set it once"),
    (
        "string values must be quoted, expected literal string",
        "there is no value here; text stands in quotes, such as \"text\"",
    ),
    (
        "invalid basic string, expected `\"`",
        "the text lacks its closing `\"`",
    ),
    ("expected a boolean", "expected true or false"),
    ("expected a sequence", "expected a list such as [\"chat\"]"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_do_not_show_credentials() {
        for (line, shown) in [
            ("token = [\"hunter2\", '']", "token = [\"*******\", '']"),
            ("signature-key=hunter2", "signature-key=*******"),
            ("secret = 'hunter2'", "secret = '*******'"),
            ("upstream.secret = 'hunter2'", "upstream.secret = '*******'"),
            ("\"secret\" = 'hunter2'", "\"secret\" = '*******'"),
            (
                "upstream = { url = 'x', secret = 'hunter2' }",
                "upstream = { url = 'x', secret = '*******' *",
            ),
            (
                "url = 'http://x/?token=hunter2'",
                "url = 'http://x/?token=*******'",
            ),
            (
                "headers = { Authorization = 'x y' }",
                "headers = * ************* * '* *' *",
            ),
            ("DB_PASSWORD = 'hunter2'", "DB_PASSWORD = '*******'"),
            ("key = 'key.pem'", "key = 'key.pem'"),
            ("token-env = \"NAME\"", "token-env = \"NAME\""),
            ("[push]", "[push]"),
        ] {
            assert_eq!(without_secrets(line), shown);
        }
    }

    #[test]
    fn errors_do_not_show_what_may_be_a_credential() {
        let source = |text: &str| Source {
            file: Some("aileron.toml".into()),
            text: text.to_owned(),
        };
        for text in [
            "tokn = \"hunter2\"",
            "Token = [\"hunter2\"]",
            "token = hunter2",
            "token = [\n\"hunter2\",\n\"hunter2\" \"x\",\n]",
            "signature_key = \"hunter2",
            "headers = \"hunter2\"",
            "[upstream.params]\nDB = [\"hunter2\"]",
            "[upstream.headers]\nAileron-X = \"hunter2\"",
            "[upstream]\nparams = { db-pass = \"hunter2\" }",
            "token = [\n\"a\", 5,\"hunter2\",\n]",
            "token = [\n\"a\",\n5, \"hunter2\",\n]",
        ] {
            let text = format!("[push]\n{text}\n");
            let error = super::super::Config::parse(&source(&text), Default::default()).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        for url in [
            "ftp://user:hunter2@host/",
            "fastcgi://user:hunter2@host",
            "http://hunter2@",
        ] {
            let text = format!("[upstream]\nurl = \"{url}\"\n");
            let error = super::super::Config::parse(&source(&text), Default::default()).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        assert_eq!(
            without_userinfo("`http://a:b@c/d@e` or https://f/@g".to_owned()),
            "`http://***@c/d@e` or https://f/@g"
        );
    }
}
