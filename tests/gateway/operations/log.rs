//! The log when nobody reads it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::support::{Bare, command, eventually, free_port};

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A pipe whose reader has stopped is full after some hundred lines.
#[tokio::test]
async fn a_log_that_is_not_read_holds_up_nobody_and_what_is_missing_is_said() {
    const CLIENTS: usize = 6000;
    let dir = TempDir::new().unwrap();
    let port = free_port();
    let config = format!("listen = \"127.0.0.1:{port}\"\n");
    std::fs::write(dir.path().join("aileron.toml"), config).unwrap();
    let mut process = Killed(command(dir.path()).stderr(Stdio::piped()).spawn().unwrap());
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    eventually("the gateway listening", || {
        std::net::TcpStream::connect(address).ok()
    })
    .await;
    for _ in 0..CLIENTS {
        drop(Bare::connect(address, "/ws").await);
    }
    let metrics = format!("http://{address}/metrics");
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let dropped = "aileron_log_lines_dropped_total ";
    loop {
        let page = http.get(&metrics).send().await.unwrap().text().await.unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix(dropped)).unwrap();
        if line.parse::<f64>().unwrap() > 0.0 {
            break;
        }
        // It is counted every second.
        drop(TcpStream::connect(address).await);
    }
    let stderr = process.0.stderr.take().unwrap();
    let said = tokio::task::spawn_blocking(move || {
        let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
        lines.find(|line| line.contains("log lines were dropped"))
    });
    let said = said.await.unwrap().expect("it is said");
    assert!(said.contains("lines="), "{said}");
}
