//! The gateway itself: the real program, started with a configuration of the test's own on a free port.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use reqwest::{Client as Http, Method, StatusCode};
use tempfile::TempDir;

use super::client::Client;
use super::eventually;
use super::process::Process;

pub struct Gateway {
    dir: TempDir,
    pub process: Process,
    /// Where clients connect.
    pub clients: SocketAddr,
    /// Where applications push.
    pub push: SocketAddr,
    http: Http,
}

/// What came back for an HTTP request.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

impl Gateway {
    /// Starts it with this configuration; where it listens is added, unless the configuration says so itself. The file
    /// lies in a directory of its own, beside which the plugin directory `plugins` is made.
    pub async fn start(config: &str) -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::create_dir(dir.path().join("plugins")).unwrap();
        Self::start_in(dir, config).await
    }

    /// The same in a directory that the test has filled.
    pub async fn start_in(dir: TempDir, config: &str) -> Self {
        let listen = if config.contains("listen =") {
            ""
        } else {
            "listen = \"127.0.0.1:0\"\n"
        };
        // Tests know their clients by the address, which the default plugin names them by.
        let ids = if config.contains("built-in = \"application\"") && !config.contains("client-id") {
            "client-id = \"address\"\n"
        } else {
            ""
        };
        std::fs::write(dir.path().join("aileron.toml"), format!("{listen}{ids}{config}")).unwrap();
        let command = command(dir.path());
        Self::start_by(command, dir).await
    }

    /// Starts it by a command of the test's own.
    pub async fn start_by(command: Command, dir: TempDir) -> Self {
        let mut process = Process::start(command);
        let clients = address(
            &process.said(&["listening on ws", "for clients"]).await,
            "for clients",
        );
        let place = process.said(&["listening on", "for pushes"]).await;
        // Certificates are not needed on loopback; building a client that could use them takes a provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // The gateway closes what has been idle for `handshake-timeout`, which some tests make short: no request may be given
        // to a connection that is about to be closed.
        let http = Http::builder()
            .no_proxy()
            .pool_idle_timeout(Duration::from_millis(200));
        let (push, http) = match place.split_once("unix:") {
            None => (address(&place, "for pushes"), http),
            // All requests go by the socket then, whatever their address is.
            Some((_, path)) => {
                let path = dir.path().join(path.trim_end_matches(" for pushes"));
                (clients, http.unix_socket(path))
            }
        };
        let http = http.build().unwrap();
        Self {
            dir,
            process,
            clients,
            push,
            http,
        }
    }

    /// A client at the default path.
    pub async fn connect(&self) -> Client {
        self.connect_to("/ws").await
    }

    pub async fn connect_to(&self, path: &str) -> Client {
        Client::connect(self.clients, path).await
    }

    /// A file beside its configuration.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The directory whose files are the plugins: `[plugins] dir = "plugins"`.
    pub fn plugins(&self) -> PathBuf {
        self.file("plugins")
    }

    /// A request to the push listener.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.request_at(self.push, method, path)
    }

    /// A request to either listener.
    pub fn request_at(&self, listener: SocketAddr, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("http://{listener}{path}"))
    }

    pub async fn get(&self, path: &str) -> Answer {
        answer(self.request(Method::GET, path)).await
    }

    /// Pushes as `curl -d` does.
    pub async fn push(&self, form: &str) -> Answer {
        let request = self.request(Method::POST, "/send").body(form.to_owned());
        answer(request.header("content-type", "application/x-www-form-urlencoded")).await
    }

    /// A metric by its name with labels, as `/metrics` shows it.
    pub async fn metric(&self, name: &str) -> f64 {
        let page = self.get("/metrics").await.body;
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// The plugins as `/plugins` shows them.
    pub async fn chain(&self) -> Vec<serde_json::Value> {
        let page = self.get("/plugins").await.body;
        let listing: serde_json::Value = serde_json::from_str(&page).unwrap();
        listing["chain"].as_array().unwrap().clone()
    }

    /// Waits for a log line that holds all of these texts.
    pub async fn logged(&mut self, texts: &[&str]) -> String {
        self.process.said(texts).await
    }

    /// How many log lines hold all of these texts.
    pub fn count_logged(&self, texts: &[&str]) -> usize {
        self.process
            .lines()
            .iter()
            .filter(|line| texts.iter().all(|text| line.contains(text)))
            .count()
    }

    /// Waits until at least so many log lines hold all of these texts.
    pub async fn logged_times(&self, n: usize, texts: &[&str]) {
        eventually(&format!("{n} lines with {texts:?}"), || {
            (self.count_logged(texts) >= n).then_some(())
        })
        .await;
    }

    /// Resident memory of the process, in bytes.
    pub fn memory(&self) -> usize {
        self.status("VmRSS:")
    }

    /// That of it which is no file's: without the program itself, of which more comes in the more is done.
    pub fn own_memory(&self) -> usize {
        self.status("RssAnon:")
    }

    fn status(&self, name: &str) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }
}

/// Sends a request and reads the answer.
pub async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let status = StatusCode::as_u16(&response.status());
    Answer {
        status,
        body: response.text().await.unwrap(),
    }
}

/// The program in a directory, whose `aileron.toml` it reads if there is one. Compiled plugins are cached between tests, as
/// between starts.
pub fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aileron"));
    command
        .current_dir(dir)
        .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
        .env_remove("AILERON_LOG");
    command
}

/// Reads the address out of a log line, in front of the words that say what it is for.
fn address(line: &str, what_for: &str) -> SocketAddr {
    let (before, _) = line.split_once(what_for).unwrap();
    let (_, address) = before.trim_end().rsplit_once("://").unwrap();
    address.parse().unwrap()
}
