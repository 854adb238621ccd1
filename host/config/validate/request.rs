//! What an upstream is told with each request: the headers, and what a FastCGI script finds in `$_SERVER`.

use std::collections::BTreeMap;

use toml::Spanned;

use super::Validator;
use crate::config::error::ConfigError;
use crate::config::{UpstreamUrl, raw};

/// Headers that belong to the connection, or are the gateway's own.
const OWN_HEADERS: [&str; 8] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Of all variables of the configuration together. PHP-FPM takes a record of less than 64 KiB.
const MAX_PARAMS: usize = 60_000;
/// Frameworks answer with JSON in place of a web page where they refuse or fail.
const ACCEPT: (&str, &str) = ("accept", "application/json");

pub(super) struct ToldToPhp {
    pub(super) root: Option<String>,
    pub(super) path: Option<String>,
    pub(super) params: Vec<(String, String)>,
    pub(super) headers: Vec<(String, String)>,
}

impl Validator<'_> {
    pub(super) fn told_to_php(
        &self,
        url: &UpstreamUrl,
        raw: &raw::Upstream,
    ) -> Result<ToldToPhp, ConfigError> {
        let headers = self.headers(&raw.headers)?;
        let script = match url {
            UpstreamUrl::FastCgiTcp { script, .. } | UpstreamUrl::FastCgiUnix { script, .. } => script,
            UpstreamUrl::Http(_) => {
                self.not_by_http(raw)?;
                return Ok(ToldToPhp {
                    root: None,
                    path: None,
                    params: Vec::new(),
                    headers,
                });
            }
        };
        Ok(ToldToPhp {
            root: raw
                .root
                .as_ref()
                .map(|root| self.root(root, script))
                .transpose()?,
            path: raw
                .path
                .as_ref()
                .map(|path| self.request_path(path))
                .transpose()?,
            params: self.params(&raw.params)?,
            headers,
        })
    }

    fn not_by_http(&self, raw: &raw::Upstream) -> Result<(), ConfigError> {
        let path = raw.path.as_ref().map(|path| ("path", path.span()));
        let root = raw.root.as_ref().map(|root| ("root", root.span()));
        let params = raw.params.keys().next().map(|name| ("params", name.span()));
        let Some((key, span)) = path.or(root).or(params) else {
            return Ok(());
        };
        let problem = format!(
            "`{key}` is for FastCGI only; with http:// the path of `url` counts, and the web server sets what PHP finds"
        );
        Err(self.source.error(Some(span), problem))
    }

    /// The script must be in it, since `SCRIPT_NAME` is the rest of its path.
    fn root(&self, root: &Spanned<String>, script: &str) -> Result<String, ConfigError> {
        let name = root.get_ref().trim_end_matches('/');
        let is_in_it = script
            .strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('/'));
        if root.get_ref().starts_with('/') && is_in_it {
            return Ok(name.to_owned());
        }
        let problem = format!(
            "`{}` does not contain the script `{script}`; write the directory that a web server would have as its document root",
            root.get_ref()
        );
        Err(self.source.error(Some(root.span()), problem))
    }

    fn request_path(&self, path: &Spanned<String>) -> Result<String, ConfigError> {
        let text = path.get_ref();
        let is_good =
            text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if is_good {
            return Ok(text.clone());
        }
        let problem = format!(
            "`{text}` is not the path of a request; write one such as \"/websocket\", percent-encoded where it must be"
        );
        Err(self.source.error(Some(path.span()), problem))
    }

    fn params(&self, raw: &BTreeMap<Spanned<String>, String>) -> Result<Vec<(String, String)>, ConfigError> {
        let check = |(name, value): (&Spanned<String>, &String)| {
            let text = name.get_ref();
            let is_usual = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
            let problem = if text.is_empty() || !text.bytes().all(is_usual) {
                format!("`{text}` is not the name of a variable; write it as PHP finds it, such as APP_ENV")
            } else if text == "CONTENT_LENGTH" || text.contains("AILERON") {
                format!("`{text}` is the gateway's to set")
            } else if value.contains(['\0', '\r', '\n']) {
                format!("the value of `{text}` has a line break or a NUL in it and cannot be sent")
            } else {
                return Ok((text.clone(), value.clone()));
            };
            Err(self.source.error(Some(name.span()), problem))
        };
        let params: Vec<_> = raw.iter().map(check).collect::<Result<_, _>>()?;
        let length: usize = params
            .iter()
            .map(|(name, value)| name.len() + value.len() + 8)
            .sum();
        match raw.keys().next() {
            Some(first) if length > MAX_PARAMS => {
                let problem =
                    format!("all `params` together have {length} bytes, and PHP-FPM takes less than 64 KiB");
                Err(self.source.error(Some(first.span()), problem))
            }
            _ => Ok(params),
        }
    }

    fn headers(&self, raw: &BTreeMap<Spanned<String>, String>) -> Result<Vec<(String, String)>, ConfigError> {
        let mut headers = Vec::new();
        for (name, value) in raw {
            let text = name.get_ref().to_ascii_lowercase();
            let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            let problem = if text.is_empty() || !text.bytes().all(is_usual) {
                format!("`{}` is not the name of a header", name.get_ref())
            } else if OWN_HEADERS.contains(&&*text) || text.starts_with("aileron-") {
                format!("the header `{}` is the gateway's to set", name.get_ref())
            } else if !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
                format!(
                    "the value of `{}` has characters in it that a header cannot have",
                    name.get_ref()
                )
            } else {
                headers.push((text, value.clone()));
                continue;
            };
            return Err(self.source.error(Some(name.span()), problem));
        }
        if !headers.iter().any(|(name, _)| name == ACCEPT.0) {
            headers.push((ACCEPT.0.to_owned(), ACCEPT.1.to_owned()));
        }
        // An empty value takes a default away.
        headers.retain(|(_, value)| !value.is_empty());
        Ok(headers)
    }
}
