//! Everything about listeners: limits on clients, proxies, TLS, and the credentials of pushes.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{Located, Validator};
use crate::config::error::ConfigError;
use crate::config::types::{lines, parse_listen, parse_listen_anywhere, parse_network};
use crate::config::{ClientLimits, Exposure, Listen, Networks, Proxies, Push, PushAccess, Secret, Tls, raw};

impl Validator<'_> {
    pub(super) fn listen(
        &self,
        flag: Option<&str>,
        raw: &toml::Spanned<String>,
    ) -> Result<Located<SocketAddr>, ConfigError> {
        match flag {
            Some(text) => parse_listen(text)
                .map(|address| Located(address, None))
                .map_err(|problem| ConfigError::flag("--listen", problem)),
            None => parse_listen(raw.get_ref())
                .map(|address| Located(address, Some(raw.span())))
                .map_err(|problem| self.source.error(Some(raw.span()), problem)),
        }
    }

    pub(super) fn client_limits(&self, raw: &raw::Config) -> Result<ClientLimits, ConfigError> {
        let timeout = &raw.handshake_timeout;
        if timeout.get_ref().0.is_zero() {
            let problem = "`handshake-timeout` must be longer than 0, or nobody could connect".to_owned();
            return Err(self.source.error(Some(timeout.span()), problem));
        }
        let or_unlimited = |n| Some(n).filter(|n| *n > 0);
        Ok(ClientLimits {
            max_connections: self.at_least_one("max-connections", &raw.max_connections)?,
            max_connections_per_address: or_unlimited(raw.max_connections_per_address),
            max_handshakes_per_second: or_unlimited(raw.max_handshakes_per_second),
            handshake_timeout: timeout.get_ref().0,
        })
    }

    pub(super) fn proxies(&self, raw: &raw::Config) -> Result<Proxies, ConfigError> {
        Ok(Proxies {
            trusted: self.networks(&raw.trusted_proxies)?,
            protocol: *raw.proxy_protocol.get_ref(),
        })
    }

    fn networks(&self, raw: &[toml::Spanned<String>]) -> Result<Networks, ConfigError> {
        let network = |text: &toml::Spanned<String>| {
            parse_network(text.get_ref()).map_err(|problem| self.source.error(Some(text.span()), problem))
        };
        raw.iter()
            .map(network)
            .collect::<Result<_, _>>()
            .map(Networks::new)
    }

    /// The files themselves are read at the start, and again when they change.
    pub(super) fn tls(&self, raw: Option<raw::Tls>) -> Option<Tls> {
        raw.map(|raw| Tls {
            certificate: self.source.directory().join(raw.certificate),
            key: self.source.directory().join(raw.key),
        })
    }

    /// Pushing is for the application alone: beyond loopback it requires a credential (architecture, invariant 7).
    pub(super) fn push(
        &self,
        raw: raw::Push,
        clients: &Located<SocketAddr>,
        proxy_protocol: &toml::Spanned<bool>,
    ) -> Result<Push, ConfigError> {
        if !raw.path.get_ref().starts_with('/') {
            let problem = format!(
                "`{}` is not a path; it begins with `/`, such as \"/send\"",
                raw.path.get_ref()
            );
            return Err(self.source.error(Some(raw.path.span()), problem));
        }
        let path = raw.path.get_ref().clone();
        let own = raw
            .listen
            .as_ref()
            .map(|text| self.push_listen(text))
            .transpose()?;
        let access = self.push_access(raw)?;
        let span = own
            .as_ref()
            .map_or_else(|| clients.1.clone(), |own| own.1.clone());
        let listen = own.map(|Located(own, _)| own).filter(|own| match own {
            Listen::Tcp(own) => *own != clients.0 || own.port() == 0,
            Listen::Unix(_) => true,
        });
        let push = Push { listen, path, access };
        match push.exposure(clients.0, *proxy_protocol.get_ref()) {
            None => Ok(push),
            Some(exposure @ Exposure::Proxy) => Err(self
                .source
                .error(Some(proxy_protocol.span()), exposure.to_string())),
            Some(exposure @ Exposure::Address(_)) => Err(self.source.error(span, exposure.to_string())),
        }
    }

    fn push_listen(&self, raw: &toml::Spanned<String>) -> Result<Located<Listen>, ConfigError> {
        parse_listen_anywhere(raw.get_ref(), self.source.directory())
            .map(|listen| Located(listen, Some(raw.span())))
            .map_err(|problem| self.source.error(Some(raw.span()), problem))
    }

    fn push_access(&self, raw: raw::Push) -> Result<PushAccess, ConfigError> {
        let mut tokens = self.secrets("token", raw.token)?;
        if let Some(file) = raw.token_file {
            tokens.extend(self.token_file(&file)?);
        }
        if let Some(name) = raw.token_env {
            tokens.push(self.token_env(&name)?);
        }
        let allow = match raw.allow {
            Some(list) if list.get_ref().is_empty() => {
                let problem = "`allow` allows nobody; leave it out to allow every address".to_owned();
                return Err(self.source.error(Some(list.span()), problem));
            }
            list => list.map(|list| self.networks(list.get_ref())).transpose()?,
        };
        Ok(PushAccess {
            tokens,
            signature_keys: self.secrets("signature key", raw.signature_key)?,
            allow,
            hosts: raw.hosts,
        })
    }

    pub(super) fn secrets(
        &self,
        what: &str,
        raw: Option<toml::Spanned<raw::Secrets>>,
    ) -> Result<Vec<Secret>, ConfigError> {
        let Some(raw) = raw else {
            return Ok(Vec::new());
        };
        let span = raw.span();
        let texts = raw.into_inner().0;
        if texts.is_empty() || texts.iter().any(String::is_empty) {
            let problem = format!("the {what} is empty; leave it out, or set a long random text");
            return Err(self.source.error(Some(span), problem));
        }
        Ok(texts.into_iter().map(Secret::new).collect())
    }

    fn token_file(&self, raw: &toml::Spanned<PathBuf>) -> Result<Vec<Secret>, ConfigError> {
        let file = self.source.directory().join(raw.get_ref());
        let wrong = |problem: String| self.source.error(Some(raw.span()), problem);
        let text = std::fs::read_to_string(&file)
            .map_err(|cause| wrong(format!("{} cannot be read: {cause}", file.display())))?;
        match lines(&text) {
            tokens if tokens.is_empty() => Err(wrong(format!(
                "{} has no token in it; write one a line",
                raw.get_ref().display()
            ))),
            tokens => Ok(tokens),
        }
    }

    fn token_env(&self, raw: &toml::Spanned<String>) -> Result<Secret, ConfigError> {
        match std::env::var(raw.get_ref()) {
            Ok(token) if !token.trim().is_empty() => Ok(Secret::new(token.trim().to_owned())),
            _ => {
                let problem = format!(
                    "the environment variable `{}` is not set; set it to a long random text, or leave `token-env` out",
                    raw.get_ref()
                );
                Err(self.source.error(Some(raw.span()), problem))
            }
        }
    }
}
