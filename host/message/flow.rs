//! Whose requests wait for an upstream.

use std::net::IpAddr;

use super::ConnectionId;
use super::connection::network;

/// Whose requests share one turn when requests wait for an upstream.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub enum Flow {
    /// Those of one connection, open or about to be, with the address of its client.
    Connection(ConnectionId, IpAddr),
    /// Those of no connection that is there, by the kind of their event.
    Kind(&'static str),
}

impl Flow {
    /// The network of the client, which may have many addresses of IPv6 and many connections. None: it is nobody's.
    pub fn network(&self) -> Option<IpAddr> {
        match self {
            Self::Connection(_, address) => Some(network(*address)),
            Self::Kind(_) => None,
        }
    }
}
