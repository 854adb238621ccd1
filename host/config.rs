//! The validated configuration: plain data that the rest of the gateway takes as given.
//!
//! Two levels: `raw` is what the TOML says, this is what it means. Everything that can be wrong is found on the way from
//! one to the other, before anything listens, and reported with file, line and what would be right.

mod error;
mod raw;
mod types;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use error::{ConfigError, ConfigProblem};
pub use types::{PathPattern, Token, UpstreamUrl};

use error::Source;
use types::{UrlProblem, check_filter, parse_listen, parse_upstream_url};

/// The name of the upstream of `[upstream]`, and of the built-in plugin.
pub const DEFAULT: &str = "default";

/// Everything the gateway is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// How connections are named.
    pub client_id: ClientIds,
    /// Frames of one connection that are handled at the same time; their answers keep their order.
    pub in_flight: usize,
    /// The longest message a client may send, in bytes. A longer one closes with 1009.
    pub max_message: usize,
    /// The most bytes that wait to be sent to one client. A message that would not fit is refused.
    pub max_queue: usize,
    /// The push listener.
    pub push: Push,
    /// Never empty; the first is `default`.
    pub upstreams: Vec<Upstream>,
    /// The plugin directory and what plugins may use.
    pub plugins: Plugins,
    /// Never empty; no path is there twice.
    pub routes: Vec<Route>,
    /// What is logged, and how.
    pub log: Log,
}

/// How connections are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientIds {
    /// The peer's address and port.
    Address,
    /// A random UUID (RFC 9562, version 4).
    Uuid,
}

/// Where applications push.
#[derive(Clone, Debug)]
pub struct Push {
    /// Its own listener; none shares the one of the clients.
    pub listen: Option<SocketAddr>,
    /// The path that the default plugin answers.
    pub path: String,
    /// What `Authorization: Bearer` must carry.
    pub token: Option<Token>,
}

/// An application to forward to.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// As plugins and routes name it.
    pub name: String,
    /// Where it is and how it is spoken to.
    pub url: UpstreamUrl,
    /// The most time from the decision to forward to the complete answer, waiting included.
    pub timeout: Duration,
    /// The longest body of an answer, in bytes.
    pub max_answer: usize,
    /// Requests under way at the same time.
    pub max_requests: usize,
    /// Requests that wait for their turn; one more is refused as overloaded.
    pub max_waiting: usize,
    /// FastCGI connections kept open; at the same time the most that are open at all. 0 keeps none.
    pub keep: usize,
}

/// Plugins and their bounds.
#[derive(Clone, Debug)]
pub struct Plugins {
    /// The directory whose `*.wasm` files form the chain.
    pub dir: Option<PathBuf>,
    /// Where compiled code is kept; none keeps it in the user's cache directory.
    pub cache: Option<PathBuf>,
    /// How long a directory must be quiet before a change is taken up.
    pub settle: Duration,
    /// How often the directory is looked at without being told of a change.
    pub poll: Duration,
    /// CPU time that one call may take.
    pub time_limit: Duration,
    /// Linear memory that one instance may have, in bytes.
    pub memory_limit: usize,
    /// What all plugins together may keep in `wasi:keyvalue`, in bytes.
    pub keyvalue_limit: usize,
    /// `[plugins.config.NAME]`, sorted by key.
    pub settings: BTreeMap<String, Vec<(String, String)>>,
}

/// A path that clients may connect to.
#[derive(Clone, Debug)]
pub struct Route {
    /// Which paths.
    pub path: PathPattern,
    /// The plugins of its chain in order; none means all of the directory. The built-in default is last in any case.
    pub plugins: Option<Vec<String>>,
    /// Index into [`Config::upstreams`].
    pub upstream: usize,
}

/// What is logged, and how.
#[derive(Clone, Debug)]
pub struct Log {
    /// Directives such as `info` or `info,aileron::session=debug`.
    pub filter: String,
    /// For people or for machines.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// An object a line.
    Json,
}

/// What the command line says; each wins over the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--listen`
    pub listen: Option<String>,
    /// `--upstream`
    pub upstream: Option<String>,
    /// `--script`
    pub script: Option<String>,
    /// `--plugins`
    pub plugins: Option<PathBuf>,
}

impl Config {
    /// Reads and validates a file, or takes the defaults if there is none.
    pub fn load(file: Option<&Path>, overrides: Overrides) -> Result<Self, ConfigError> {
        let source = match file {
            Some(path) => Source::read(path)?,
            None => Source::none(),
        };
        Self::parse(&source, overrides)
    }

    fn parse(source: &Source, overrides: Overrides) -> Result<Self, ConfigError> {
        let raw: raw::Config =
            toml::from_str(source.text()).map_err(|e| source.syntax_error(e.span(), e.message()))?;
        Validator { source }.config(raw, overrides)
    }
}

/// Carries the source along, so that each complaint can point into it.
struct Validator<'a> {
    source: &'a Source,
}

/// A value, and where it stands: none for one of the command line or a default.
struct Located<T>(T, Option<Range<usize>>);

impl Validator<'_> {
    fn config(&self, raw: raw::Config, overrides: Overrides) -> Result<Config, ConfigError> {
        let listen = self.listen(overrides.listen.as_deref(), &raw.listen)?;
        let push_path = raw.push.path.clone();
        let push = self.push(raw.push, &listen)?;
        let upstreams = self.upstreams(raw.upstream, raw.upstreams, overrides.upstream, overrides.script)?;
        let routes = self.routes(&raw.path, raw.route, &upstreams, &push_path)?;
        Ok(Config {
            listen: listen.0,
            client_id: raw.client_id,
            in_flight: self.at_least_one("in-flight", &raw.in_flight)?,
            max_message: raw.max_message.0,
            max_queue: raw.max_queue.0,
            push,
            upstreams,
            plugins: self.plugins(raw.plugins, overrides.plugins),
            routes,
            log: self.log(raw.log)?,
        })
    }

    fn listen(
        &self,
        flag: Option<&str>,
        raw: &toml::Spanned<String>,
    ) -> Result<Located<SocketAddr>, ConfigError> {
        match flag {
            Some(text) => parse_listen(text)
                .map(|address| Located(address, None))
                .map_err(|problem| ConfigError::flag("--listen", problem)),
            None => self.listen_in_file(raw),
        }
    }

    fn listen_in_file(&self, raw: &toml::Spanned<String>) -> Result<Located<SocketAddr>, ConfigError> {
        parse_listen(raw.get_ref())
            .map(|address| Located(address, Some(raw.span())))
            .map_err(|problem| self.source.error(Some(raw.span()), problem))
    }

    /// Pushing is for the application alone: beyond loopback it takes a token (architecture, invariant 7).
    fn push(&self, raw: raw::Push, clients: &Located<SocketAddr>) -> Result<Push, ConfigError> {
        let listen = raw.listen.map(|text| self.listen_in_file(&text)).transpose()?;
        if !raw.path.get_ref().starts_with('/') {
            let problem = format!(
                "`{}` is no path; it begins with `/`, such as \"/send\"",
                raw.path.get_ref()
            );
            return Err(self.source.error(Some(raw.path.span()), problem));
        }
        let token = match raw.token {
            Some(token) if token.get_ref().is_empty() => {
                let problem = "the token is empty; leave it out, or set a long random text".to_owned();
                return Err(self.source.error(Some(token.span()), problem));
            }
            token => token.map(|token| Token::new(token.into_inner())),
        };
        let Located(reachable, span) = listen.as_ref().unwrap_or(clients);
        if token.is_none() && !reachable.ip().is_loopback() {
            let problem = format!(
                "anyone who reaches {reachable} could push to every client: set [push] token to a long random text, \
                 or [push] listen to a loopback address such as \"127.0.0.1:8081\""
            );
            return Err(self.source.error(span.clone(), problem));
        }
        let own = listen.map(|Located(address, _)| address);
        Ok(Push {
            listen: own.filter(|own| *own != clients.0 || own.port() == 0),
            path: raw.path.into_inner(),
            token,
        })
    }

    fn upstreams(
        &self,
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
        let mut upstreams = vec![self.upstream(DEFAULT.to_owned(), url, default)?];
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
            upstreams.push(self.upstream(name, url, raw)?);
        }
        Ok(upstreams)
    }

    fn upstream(
        &self,
        name: String,
        url: Located<String>,
        raw: raw::Upstream,
    ) -> Result<Upstream, ConfigError> {
        let Located(text, span) = url;
        let script_span = raw.script.as_ref().map(toml::Spanned::span);
        let script = raw.script.map(toml::Spanned::into_inner);
        let url = parse_upstream_url(&text, script).map_err(|problem| {
            let (flag, span, problem) = match problem {
                UrlProblem::Url(problem) => ("--upstream", span, problem),
                UrlProblem::Script(problem) => ("--script", script_span, problem),
            };
            // What stands nowhere in the file is of the command line.
            match span.filter(|span| !span.is_empty()) {
                Some(span) => self.source.error(Some(span), problem),
                None => ConfigError::flag(flag, problem),
            }
        })?;
        Ok(Upstream {
            name,
            url,
            timeout: raw.timeout.0,
            max_answer: raw.max_answer.0,
            max_requests: self.at_least_one("max-requests", &raw.max_requests)?,
            max_waiting: raw.max_waiting,
            keep: raw.keep,
        })
    }

    fn routes(
        &self,
        path: &toml::Spanned<String>,
        routes: Vec<raw::Route>,
        upstreams: &[Upstream],
        push_path: &toml::Spanned<String>,
    ) -> Result<Vec<Route>, ConfigError> {
        let top = Route {
            path: self.path(path, push_path)?,
            plugins: None,
            upstream: 0,
        };
        let mut all: Vec<Route> = Vec::new();
        for raw in routes {
            let path = self.path(&raw.path, push_path)?;
            if all.iter().any(|other| other.path == path) {
                let problem = format!("there is a route for `{path}` already; make them one");
                return Err(self.source.error(Some(raw.path.span()), problem));
            }
            let upstream = match raw.upstream {
                None => 0,
                Some(name) => self.upstream_index(&name, upstreams)?,
            };
            all.push(Route {
                path,
                plugins: raw.plugins,
                upstream,
            });
        }
        // A route may say more about the top-level path.
        if all.iter().all(|route| route.path != top.path) {
            all.insert(0, top);
        }
        Ok(all)
    }

    /// A path that clients connect to, which is never the one of pushes.
    fn path(
        &self,
        raw: &toml::Spanned<String>,
        push_path: &toml::Spanned<String>,
    ) -> Result<PathPattern, ConfigError> {
        let pattern = PathPattern::parse(raw.get_ref())
            .map_err(|problem| self.source.error(Some(raw.span()), problem))?;
        if pattern.matches(push_path.get_ref()) {
            let problem = format!(
                "clients connect to `{pattern}`, but `{}` is the path of pushes; change this one or [push] path",
                push_path.get_ref()
            );
            // One of the two stands in the file: the defaults differ.
            let span = Some(raw.span()).filter(|span| !span.is_empty());
            return Err(self.source.error(span.or(Some(push_path.span())), problem));
        }
        Ok(pattern)
    }

    fn upstream_index(
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

    fn plugins(&self, raw: raw::Plugins, dir: Option<PathBuf>) -> Plugins {
        let settings = raw.config.into_iter().map(|(name, table)| {
            let settings = table
                .into_iter()
                .map(|(key, value)| (key, types::setting_text(&value)))
                .collect();
            (name, settings)
        });
        Plugins {
            // The command line is relative to the working directory, the file's words are relative to the file.
            dir: dir.or_else(|| raw.dir.map(|dir| self.source.directory().join(dir))),
            cache: raw.cache.map(|dir| self.source.directory().join(dir)),
            settle: raw.settle.0,
            poll: raw.poll.0,
            time_limit: raw.time_limit.0,
            memory_limit: raw.memory_limit.0,
            keyvalue_limit: raw.keyvalue_limit.0,
            settings: settings.collect(),
        }
    }

    fn log(&self, raw: raw::Log) -> Result<Log, ConfigError> {
        check_filter(raw.filter.get_ref())
            .map_err(|problem| self.source.error(Some(raw.filter.span()), problem))?;
        Ok(Log {
            filter: raw.filter.into_inner(),
            format: raw.format,
        })
    }

    fn at_least_one(&self, key: &str, raw: &toml::Spanned<usize>) -> Result<usize, ConfigError> {
        match raw.get_ref() {
            0 => Err(self
                .source
                .error(Some(raw.span()), format!("`{key}` must be 1 or more"))),
            n => Ok(*n),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_at_all_is_the_plain_gateway() {
        let config = Config::load(None, Overrides::default()).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(config.routes[0].path.to_string(), "/ws");
        assert_eq!(config.push.path, "/send");
        assert_eq!(
            config.upstreams[0].url.to_string(),
            "http://localhost/websocket.php"
        );
        assert_eq!(config.upstreams[0].timeout, Duration::from_secs(10));
        assert_eq!(config.client_id, ClientIds::Address);
    }

    #[test]
    fn flags_win_over_the_file() {
        let overrides = Overrides {
            listen: Some("127.0.0.1:9".to_owned()),
            upstream: Some("fastcgi://localhost:9000".to_owned()),
            script: Some("/srv/index.php".to_owned()),
            plugins: Some("p".into()),
        };
        let config = Config::load(None, overrides).unwrap();
        assert_eq!(config.listen.port(), 9);
        assert_eq!(config.upstreams[0].url.to_string(), "fastcgi://localhost:9000");
        assert_eq!(config.plugins.dir, Some("p".into()));
    }
}
