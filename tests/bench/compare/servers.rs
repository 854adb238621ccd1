//! The references: each a process of its own, as the gateway is.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
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

    /// nginx with nchan.
    pub async fn nchan() -> Self {
        let module = Command::new(repository("tests/setup"))
            .args(["--path", "nchan"])
            .output()
            .unwrap();
        let module = String::from_utf8(module.stdout).unwrap();
        Self::start(|address, dir| {
            let fill = [
                ("@PORT@", address.port().to_string()),
                ("@MODULE@", module.trim().to_owned()),
            ];
            let config = filled("nchan.conf", dir, &fill);
            let mut command = Command::new("/usr/sbin/nginx");
            command.arg("-p").arg(dir.path()).arg("-c").arg(config);
            command
        })
        .await
    }

    /// Pushpin, and where publications go to it.
    pub async fn pushpin() -> (Self, SocketAddr) {
        let control = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let server = Self::start(|address, dir| {
            let fill = [
                ("@PORT@", address.port().to_string()),
                ("@CONTROL@", control.port().to_string()),
            ];
            filled("pushpin/routes", dir, &[]);
            let config = filled("pushpin/pushpin.conf", dir, &fill);
            let mut command = Command::new("pushpin");
            command
                .arg(format!("--config={}", config.display()))
                .arg("--merge-output");
            command
        })
        .await;
        eventually("Pushpin's control port", || TcpStream::connect(control).ok()).await;
        (server, control)
    }

    /// What does nothing but write (see `bare`), and where publications go to it.
    pub async fn bare() -> (Self, SocketAddr) {
        let push_address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let server = Self::start(|address, _| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["serve-bare", &address.to_string(), &push_address.to_string()]);
            command
        })
        .await;
        (server, push_address)
    }

    /// An echo in Rust, by what the gateway stands on: this program, called another way.
    pub async fn bare_echo() -> Self {
        Self::start(|address, _| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["serve-echo", &address.to_string()]);
            command
        })
        .await
    }
}

/// A file of the references in a directory, with what is to be filled in.
fn filled(file: &str, dir: &TempDir, fill: &[(&str, String)]) -> PathBuf {
    let template = repository("tests/bench/references").join(file);
    let mut text = std::fs::read_to_string(&template).unwrap();
    for (place, value) in fill {
        text = text.replace(place, value);
    }
    text = text.replace("@DIR@", &dir.path().display().to_string());
    let path = dir.path().join(template.file_name().unwrap());
    std::fs::write(&path, text).unwrap();
    path
}

fn go(name: &str) -> Command {
    Command::new(repository("target/references").join(name))
}

/// Serves as `Server::bare_echo`: nothing but what the protocol asks for.
#[tokio::main]
pub async fn serve_echo(address: SocketAddr) {
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
