//! The applications to forward to.

use std::collections::BTreeMap;

use super::memory::PluginMemory;
use super::{Located, Validator};
use crate::config::error::ConfigError;
use crate::config::types::{UrlProblem, parse_upstream_url};
use crate::config::{DEFAULT, Upstream, raw};

impl Validator<'_> {
    pub(super) fn upstreams(
        &self,
        memory: &PluginMemory,
        default: raw::Upstream,
        named: BTreeMap<String, toml::Spanned<raw::Upstream>>,
        url: Option<String>,
        script: Option<String>,
    ) -> Result<Vec<Upstream>, ConfigError> {
        let url = match url {
            Some(url) => Located(url, None),
            None => match default.url.clone() {
                Some(url) => Located(url.get_ref().clone(), Some(url.span())),
                None => Located(raw::DEFAULT_URL.to_owned(), None),
            },
        };
        let mut default = default;
        if let Some(script) = script {
            default.script = Some(toml::Spanned::new(0..0, script));
        }
        let mut upstreams = vec![self.upstream(DEFAULT.to_owned(), url, default, memory.max_answer)?];
        for (name, raw) in named {
            let span = raw.span();
            let raw = raw.into_inner();
            if name == DEFAULT {
                let problem = "the upstream `default` is the one of [upstream]; give this one another name";
                return Err(self.source.error(Some(span), problem.to_owned()));
            }
            let Some(url) = raw.url.clone() else {
                let problem = format!("[upstreams.{name}] needs `url`, which says where it is");
                return Err(self.source.error(Some(span), problem));
            };
            let url = Located(url.get_ref().clone(), Some(url.span()));
            upstreams.push(self.upstream(name, url, raw, memory.max_answer)?);
        }
        Ok(upstreams)
    }

    fn upstream(
        &self,
        name: String,
        url: Located<String>,
        raw: raw::Upstream,
        max_answer: usize,
    ) -> Result<Upstream, ConfigError> {
        let Located(text, span) = url;
        let authority = text
            .split_once("://")
            .and_then(|(_, rest)| rest.split('/').next());
        // Every user of the machine can see the arguments of a process.
        if span.is_none() && authority.is_some_and(|authority| authority.contains('@')) {
            let problem =
                "credentials do not belong on the command line; set [upstream] url in the configuration file";
            return Err(ConfigError::flag("--upstream", problem.to_owned()));
        }
        let script_span = raw.script.as_ref().map(toml::Spanned::span);
        let script = raw.script.clone().map(toml::Spanned::into_inner);
        let url = parse_upstream_url(&text, script).map_err(|problem| {
            let (flag, span, problem) = match problem {
                UrlProblem::Url(problem) => ("--upstream", span, problem),
                UrlProblem::Script(problem) => ("--script", script_span, problem),
            };
            // A value that is not in the file is from the command line.
            match span.filter(|span| !span.is_empty()) {
                Some(span) => self.source.error(Some(span), problem),
                None => ConfigError::flag(flag, problem),
            }
        })?;
        let php = self.told_to_php(&url, &raw)?;
        if raw.breaker_pause.get_ref().0.is_zero() {
            let problem =
                "`breaker-pause` must be above 0; `breaker-failures = 0` switches the circuit breaker off";
            return Err(self
                .source
                .error(Some(raw.breaker_pause.span()), problem.to_owned()));
        }
        Ok(Upstream {
            name,
            url,
            timeout: raw.timeout.0,
            max_answer: raw.max_answer.map_or(max_answer, |most| most.into_inner().0),
            max_requests: self.at_least_one("max-requests", &raw.max_requests)?,
            max_waiting: raw.max_waiting,
            max_wait: raw.max_wait.0,
            retries: raw.retries,
            breaker_failures: raw.breaker_failures,
            breaker_pause: raw.breaker_pause.get_ref().0,
            keep: raw.keep,
            resolve_links: raw.resolve_links,
            root: php.root,
            path: php.path,
            params: php.params,
            headers: php.headers,
            secrets: self.secrets("secret", raw.secret)?,
        })
    }

    pub(super) fn upstream_index(
        &self,
        name: &toml::Spanned<String>,
        upstreams: &[Upstream],
    ) -> Result<usize, ConfigError> {
        upstreams
            .iter()
            .position(|upstream| upstream.name == *name.get_ref())
            .ok_or_else(|| {
                let known: Vec<_> = upstreams
                    .iter()
                    .map(|upstream| format!("`{}`", upstream.name))
                    .collect();
                let problem = format!(
                    "there is no upstream `{}`, only {}; a new one is added by [upstreams.NAME] with its url",
                    name.get_ref(),
                    known.join(", ")
                );
                self.source.error(Some(name.span()), problem)
            })
    }
}
