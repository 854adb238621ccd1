//! From what the TOML says to what it means. Everything that can be wrong with a configuration is found here.

mod listeners;
mod memory;
mod request;
mod upstreams;

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use super::error::{ConfigError, Source};
use super::types::{self, check_filter};
use super::{
    BuiltIn, ClientIds, Closings, Config, Heartbeat, Log, Origins, Overrides, PathPattern, Plugins, Policy,
    Probation, Route, Schedule, Topic, Upstream, raw,
};

/// Schedules are not meant as a clock.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// Carries the source along, so that each error can point into it.
pub(super) struct Validator<'a> {
    pub(super) source: &'a Source,
}

/// A value and its location: none for a default or one from the command line.
struct Located<T>(T, Option<Range<usize>>);

impl Validator<'_> {
    pub(super) fn config(&self, raw: raw::Config, overrides: Overrides) -> Result<Config, ConfigError> {
        let listen = self.listen(overrides.listen.as_deref(), &raw.listen)?;
        let push_path = raw.push.path.clone();
        let clients = self.client_limits(&raw)?;
        let proxies = self.proxies(&raw)?;
        let memory = self.plugin_memory(&raw)?;
        let push = self.push(raw.push, &listen, &raw.proxy_protocol)?;
        let upstreams = self.upstreams(
            &memory,
            raw.upstream,
            raw.upstreams,
            overrides.upstream,
            overrides.script,
        )?;
        let routes = self.routes(&raw.path, raw.route, &upstreams, &push_path)?;
        Ok(Config {
            listen: listen.0,
            client_id: raw.client_id.unwrap_or(match raw.plugins.built_in {
                // The article's way.
                BuiltIn::Default => ClientIds::Address,
                BuiltIn::Application => ClientIds::Uuid,
            }),
            in_flight: self.at_least_one("in-flight", &raw.in_flight)?,
            max_message: raw.max_message.0,
            max_queue: raw.max_queue.0,
            max_queues: raw.max_queues.0,
            max_inbound: self.max_inbound(raw.max_inbound, raw.max_message.0)?,
            slow_clients: raw.slow_clients,
            max_frames_per_second: raw.max_frames_per_second,
            max_bytes_per_second: raw.max_bytes_per_second.0,
            message_timeout: raw.message_timeout.or_never(),
            compression: raw.compression.then_some(raw.compression_threshold.0),
            grace: raw.grace.0,
            origins: self.origins(raw.origins)?,
            clients,
            proxies,
            tls: self.tls(raw.tls),
            max_topics: raw.max_topics,
            max_attributes: raw.max_attributes.0,
            max_history: raw.max_history.0,
            max_idle_topics: raw.max_idle_topics,
            heartbeat: Heartbeat {
                ping_interval: raw.ping_interval.or_never(),
                pong_timeout: raw.pong_timeout.0,
                idle_timeout: raw.idle_timeout.or_never(),
                max_age: raw.max_age.or_never(),
            },
            push,
            closings: self.closings(&raw.closings)?,
            topics: self.topics(raw.topic)?,
            schedules: self.schedules(raw.schedule, &upstreams)?,
            upstreams,
            plugins: self.plugins(raw.plugins, overrides.plugins, memory.limit)?,
            routes,
            log: self.log(raw.log)?,
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
            is_open: true,
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
                is_open: true,
            });
        }
        // A route may say more about the top-level path.
        if all.iter().all(|route| route.path != top.path) {
            all.insert(0, top);
        }
        Ok(all)
    }

    /// A path that clients connect to, which is never that of pushes.
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
            // One of the two is in the file, since the defaults differ.
            let span = Some(raw.span()).filter(|span| !span.is_empty());
            return Err(self.source.error(span.or(Some(push_path.span())), problem));
        }
        Ok(pattern)
    }

    fn plugins(
        &self,
        raw: raw::Plugins,
        dir: Option<PathBuf>,
        memory_limit: usize,
    ) -> Result<Plugins, ConfigError> {
        let probation = self.probation(raw.probation_events, &raw.probation_failures)?;
        let settings = raw.config.into_iter().map(|(name, table)| {
            let settings = table
                .into_iter()
                .map(|(key, value)| (key, types::setting_text(&value)))
                .collect();
            (name, settings)
        });
        let policies = raw
            .policy
            .into_iter()
            .map(|(name, policy)| Ok((name, self.policy(policy)?)));
        Ok(Plugins {
            built_in: raw.built_in,
            // Paths on the command line are relative to the working directory, those in the file to the file.
            dir: dir.or_else(|| raw.dir.map(|dir| self.source.directory().join(dir))),
            cache: raw.cache.map(|dir| self.source.directory().join(dir)),
            settle: raw.settle.0,
            poll: raw.poll.0,
            time_limit: raw.time_limit.0,
            memory_limit,
            keyvalue_limit: raw.keyvalue_limit.0,
            probation,
            settings: settings.collect(),
            policies: policies.collect::<Result<_, _>>()?,
        })
    }

    fn probation(&self, events: usize, failures: &toml::Spanned<usize>) -> Result<Probation, ConfigError> {
        let percent = u32::try_from(*failures.get_ref())
            .ok()
            .filter(|percent| *percent <= 100);
        let failures = percent.ok_or_else(|| {
            let problem = "`probation-failures` is a share of the calls in percent, from 0 to 100".to_owned();
            self.source.error(Some(failures.span()), problem)
        })?;
        Ok(Probation {
            events: u32::try_from(events).unwrap_or(u32::MAX),
            failures,
        })
    }

    fn policy(&self, raw: raw::Policy) -> Result<Policy, ConfigError> {
        let pin = raw.sha256.map(|pin| {
            let text = pin.get_ref();
            if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Ok(text.to_ascii_lowercase());
            }
            let problem = format!(
                "`{text}` is not a SHA-256; it has 64 hexadecimal digits, as `sha256sum FILE` prints them"
            );
            Err(self.source.error(Some(pin.span()), problem))
        });
        Ok(Policy {
            on_failure: raw.on_failure,
            sha256: pin.transpose()?,
        })
    }

    fn origins(&self, raw: toml::Spanned<raw::Origins>) -> Result<Origins, ConfigError> {
        let span = raw.span();
        raw.into_inner()
            .check()
            .map_err(|problem| self.source.error(Some(span), problem))
    }

    /// Where half is used up, one message more must come to its end within an eighth, and the form of it must fit into the
    /// last quarter: see `session::inbound`.
    fn max_inbound(
        &self,
        raw: Option<toml::Spanned<types::Bytes>>,
        max_message: usize,
    ) -> Result<usize, ConfigError> {
        const DEFAULT: usize = 256 * 1024 * 1024;
        let least = max_message.saturating_mul(16);
        match raw {
            None => Ok(DEFAULT.max(least)),
            Some(raw) if raw.get_ref().0 < least => {
                let problem = format!(
                    "`max-inbound` must be at least 16 times `max-message`, {least} bytes: beside what has \
                     come in, a message needs room for itself and for the form that PHP gets"
                );
                Err(self.source.error(Some(raw.span()), problem))
            }
            Some(raw) => Ok(raw.get_ref().0),
        }
    }

    fn closings(&self, raw: &raw::Closings) -> Result<Closings, ConfigError> {
        let rate = self.at_least_one("rate", &raw.rate)?;
        Ok(Closings {
            rate: u32::try_from(rate).unwrap_or(u32::MAX),
            max_waiting: raw.max_waiting,
            max_bytes: raw.max_bytes.0,
            retry_for: raw.retry_for.0,
        })
    }

    fn topics(&self, raw: Vec<raw::Topic>) -> Result<Vec<Topic>, ConfigError> {
        let mut topics: Vec<Topic> = Vec::new();
        for raw in raw {
            let span = Some(raw.name.span());
            let name = raw.name.into_inner();
            let inner = name.strip_suffix('*').unwrap_or(&name);
            if name.is_empty() || inner.contains('*') || name.chars().any(char::is_control) {
                let problem =
                    format!("`{name}` names no topics; write \"news\", or \"room.*\" for all that begin so");
                return Err(self.source.error(span, problem));
            }
            if topics.iter().any(|other| other.name == name) {
                let problem = format!("there is a [[topic]] `{name}` already; make them one");
                return Err(self.source.error(span, problem));
            }
            topics.push(Topic {
                name,
                history: self.at_least_one("history", &raw.history)?,
                history_time: raw.history_time.0,
            });
        }
        Ok(topics)
    }

    fn schedules(
        &self,
        raw: Vec<raw::Schedule>,
        upstreams: &[Upstream],
    ) -> Result<Vec<Schedule>, ConfigError> {
        let mut schedules: Vec<Schedule> = Vec::new();
        for raw in raw {
            let span = Some(raw.name.span());
            let name = raw.name.into_inner();
            if name.is_empty() || schedules.iter().any(|other| other.name == name) {
                let problem = format!("`{name}` is not a name for a schedule; each needs one of its own");
                return Err(self.source.error(span, problem));
            }
            if raw.every.get_ref().0 < SHORTEST_INTERVAL {
                let problem = format!("`every` must be at least {SHORTEST_INTERVAL:?}");
                return Err(self.source.error(Some(raw.every.span()), problem));
            }
            let upstream = match raw.upstream {
                None => 0,
                Some(name) => self.upstream_index(&name, upstreams)?,
            };
            schedules.push(Schedule {
                name,
                every: raw.every.get_ref().0,
                upstream,
            });
        }
        Ok(schedules)
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
