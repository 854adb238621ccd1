//! Whose requests wait.

use std::net::IpAddr;

use super::connection::network;
use super::{Connection, ConnectionId};

/// Whose a request is, where requests wait for their turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// What it is about.
    pub class: Class,
    /// The network of the client, which may have many addresses of IPv6 and many connections. None: it is nobody's.
    pub network: Option<IpAddr>,
    /// The connection, open or about to be, or gone. None: it is nobody's.
    pub connection: Option<ConnectionId>,
}

/// What a request is about. Classes take turns, so that what one client can cause without end, as handshakes, holds up
/// nothing else. Where several have as much waiting, the last of them makes room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A client that has gone.
    Close,
    /// An interval of the configuration.
    Schedule,
    /// A push.
    Push,
    /// A message or a timer of an open connection.
    Message,
    /// A client that wants to connect.
    Handshake,
}

impl Flow {
    /// That of a connection, or of nobody.
    pub fn new(class: Class, connection: Option<&Connection>) -> Self {
        Self {
            class,
            network: connection.map(|connection| network(connection.client_address)),
            connection: connection.map(|connection| connection.id.clone()),
        }
    }
}
