//! One publication to ten thousand subscribers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::{compete, turn};
use crate::gateway::support::Gateway;
use crate::load::{Exchange, Place, Socket};
use crate::report::{Row, Target, Unit};
use crate::servers::Server;
use crate::wire;

const SUBSCRIBERS: usize = 10_000;

pub async fn rows() -> Vec<Row> {
    vec![]
}
