//! What tests stand on. Nothing here sleeps for a guessed time: things are waited for until they can be seen.

mod bare;
mod client;
mod gateway;
mod guests;
mod nginx;
mod php;
mod process;

pub use bare::{Bare, masked, masked_close};
pub use client::{Client, Frame};
pub use gateway::{Answer, Gateway, answer, command};
pub use guests::{QUICK, component, guest, guest_for, hash, put, stamp, version, with_version};
pub use nginx::Nginx;
pub use php::Fpm;
pub use process::Process;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::net::{TcpSocket, TcpStream};

/// How long anything may take on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until something can be seen, looking again and again.
pub async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(start.elapsed() < PATIENCE, "not seen within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A port that nobody listens on. Another process could take it before it is used; none does on a machine that tests.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// A connection from an address of 127.0.0.0/8, all of which a Linux machine has. Usually tests come from 127.0.0.1.
pub async fn tcp_from(source: [u8; 4], address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    let socket = socket.connect(address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    socket
}

/// A path in the repository.
pub fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}
