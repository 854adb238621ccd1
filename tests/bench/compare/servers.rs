//! The references: each a process of its own, as the gateway is.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use futures_util::{SinkExt, StreamExt};
use tempfile::TempDir;

use crate::gateway::support::{Process, eventually, free_port, repository};

/// A program that serves at an address, until it is dropped.
pub struct Server {
    pub address: SocketAddr,
    pub process: Process,
    _dir: TempDir,
}

impl Server {
    /// `command` makes the command that serves at an address, with a directory for its files.
    pub async fn start(command: impl FnOnce(SocketAddr, &TempDir) -> Command) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let dir = TempDir::new().unwrap();
        let process = Process::start(command(address, &dir));
        eventually("a reference listening", || TcpStream::connect(address).ok()).await;
        Self {
            address,
            process,
            _dir: dir,
        }
    }

    /// The gateway of the article, as a program in Go does it: through a web server, to this page. It writes its log, a
    /// line for each frame, into a file.
    pub async fn article(page: &str) -> Self {
        Self::start(|address, dir| {
            let mut command = Command::new("sh");
            command
                .args(["-c", "exec \"$0\" -listen \"$1\" -php \"$2\" 2>\"$3\""])
                .arg(go("article").get_program())
                .args([&address.to_string(), page])
                .arg(dir.path().join("log"));
            command
        })
        .await
    }

    /// An echo in Go, by gorilla.
    pub async fn go_echo() -> Self {
        Self::start(|address, _| {
            let mut command = go("echo");
            command.args(["-listen", &address.to_string()]);
            command
        })
        .await
    }

    /// An echo in Rust, by what the gateway stands on: this program, called another way.
    pub async fn bare_echo() -> Self {
        Self::start(|address, _| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["echo", &address.to_string()]);
            command
        })
        .await
    }
}

fn go(name: &str) -> Command {
    Command::new(repository("target/references").join(name))
}

/// Serves as `Server::bare_echo`: nothing but what the protocol asks for.
pub async fn serve_echo(address: &str) {
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    while let Ok((socket, _)) = listener.accept().await {
        socket.set_nodelay(true).unwrap();
        tokio::spawn(async move {
            // Whoever only looks whether somebody listens goes without a handshake.
            let Ok(mut socket) = tokio_tungstenite::accept_async(socket).await else {
                return;
            };
            while let Some(Ok(message)) = socket.next().await {
                if message.is_text() && socket.send(message).await.is_err() {
                    break;
                }
            }
        });
    }
}
