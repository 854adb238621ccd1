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
            problem: ConfigProblem::Invalid(problem),
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
        let problem = ConfigProblem::Invalid(problem);
        let location = match (&self.file, span.filter(|span| !span.is_empty())) {
            (Some(file), Some(span)) => self.line(file, &span),
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
        self.error(span, plain)
    }

    fn line(&self, file: &Path, span: &Range<usize>) -> Location {
        let before = self.text.get(..span.start).unwrap_or_default();
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let rest = self.text.get(start..).unwrap_or_default();
        let text = rest.lines().next().unwrap_or_default();
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
            text: without_secrets(text),
            width,
        }
    }
}

/// A line as it may be shown: credentials are masked.
fn without_secrets(line: &str) -> String {
    match line.split_once('=') {
        Some((key, value)) if SECRETS.contains(&key.trim()) => {
            let hide = |c| if "\"'[], ".contains(c) { c } else { '*' };
            let hidden: String = value.chars().map(hide).collect();
            format!("{key}={hidden}")
        }
        _ => line.to_owned(),
    }
}

/// The keys whose values are credentials.
const SECRETS: [&str; 2] = ["token", "signature-key"];

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
            ("token-env = \"NAME\"", "token-env = \"NAME\""),
            ("[push]", "[push]"),
        ] {
            assert_eq!(without_secrets(line), shown);
        }
    }
}
