//! Where applications push, who may, and whether strangers could.

use std::net::SocketAddr;

use super::{Listen, Networks, Secret};

/// Where applications push.
#[derive(Clone, Debug)]
pub struct Push {
    /// Its own listener; none to share that of the clients.
    pub listen: Option<Listen>,
    /// The path that the default plugin answers.
    pub path: String,
    /// Who may push.
    pub access: PushAccess,
}

/// How strangers could push. The message says what would help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exposure {
    /// The listener is not on loopback.
    #[error("anyone who reaches {0} could push to every client: {CURE}")]
    Address(Listen),
    /// A proxy that forwards bytes to the listener also forwards pushes.
    #[error("anyone who reaches the proxy could push to every client: {CURE}")]
    Proxy,
}

const CURE: &str = "set [push] token to a long random text, or [push] listen to a loopback address such as \
                    \"127.0.0.1:8081\"";

impl Push {
    pub(super) fn exposure(&self, clients: SocketAddr, proxy_protocol: bool) -> Option<Exposure> {
        if self.access.takes_credential() {
            return None;
        }
        let listen = self.listen.clone().unwrap_or(Listen::Tcp(clients));
        if !listen.is_local() {
            return Some(Exposure::Address(listen));
        }
        (self.listen.is_none() && proxy_protocol).then_some(Exposure::Proxy)
    }
}

/// Who may push. Without tokens and keys, every program that reaches the listener itself may.
#[derive(Clone, Debug)]
pub struct PushAccess {
    /// What `Authorization: Bearer` may carry.
    pub tokens: Vec<Secret>,
    /// The keys that `Aileron-Signature` may be made with.
    pub signature_keys: Vec<Secret>,
    /// Where pushes may come from; none means everywhere.
    pub allow: Option<Networks>,
    /// Names of this machine besides `localhost`, by which pushes may ask for it where no credential is taken.
    pub hosts: Vec<String>,
}

impl PushAccess {
    /// Whether a push must carry anything.
    pub fn takes_credential(&self) -> bool {
        !self.tokens.is_empty() || !self.signature_keys.is_empty()
    }
}
