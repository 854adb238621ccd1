//! A PHP-FPM of a test's own, mostly on a Unix socket.

use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::process::Process;
use super::{eventually, free_port, repository};

pub struct Fpm {
    dir: TempDir,
    process: Process,
    listen: String,
}

impl Fpm {
    /// Starts one with so many children.
    pub async fn start(children: usize) -> Self {
        Self::start_with(children, "").await
    }

    /// The same, with further lines for the configuration of its pool.
    pub async fn start_with(children: usize, pool: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let socket = dir.path().join("fpm.sock");
        Self::start_at(dir, socket.display().to_string(), children, pool).await
    }

    /// The same on TCP.
    pub async fn start_tcp(children: usize, pool: &str) -> Self {
        let listen = format!("127.0.0.1:{}", free_port());
        Self::start_at(TempDir::new().unwrap(), listen, children, pool).await
    }

    async fn start_at(dir: TempDir, listen: String, children: usize, pool: &str) -> Self {
        // FPM asks root, and nobody else, for a user to run its children as.
        let is_root = dir.path().metadata().unwrap().uid() == 0;
        let user = if is_root {
            "user = root\ngroup = root\n"
        } else {
            ""
        };
        let path = dir.path().display();
        // The first value counts.
        let errors = if pool.contains("[display_errors]") {
            ""
        } else {
            "php_admin_flag[display_errors] = off\n"
        };
        let config = format!(
            "[global]\ndaemonize = no\nerror_log = {path}/fpm.log\n\
             [www]\nlisten = {listen}\nlisten.backlog = 4096\n{user}pm = static\n\
             pm.max_children = {children}\nphp_admin_value[post_max_size] = 64M\n\
             {errors}{pool}\n"
        );
        std::fs::write(dir.path().join("fpm.conf"), config).unwrap();
        let process = spawn(dir.path());
        let fpm = Self { dir, process, listen };
        fpm.listens().await;
        fpm
    }

    /// Its `listen`: the path of a socket, or host and port.
    pub fn listen(&self) -> &str {
        &self.listen
    }

    /// A directory of its own.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The upstream for a script in `tests/php`, as lines of the section `[upstream]`.
    pub fn upstream(&self, script: &str) -> String {
        let script = repository("tests/php").join(script);
        let scheme = if self.listen.starts_with('/') {
            "fastcgi+unix"
        } else {
            "fastcgi"
        };
        format!(
            "url = \"{scheme}://{}\"\nscript = \"{}\"\n",
            self.listen,
            script.display()
        )
    }

    /// How many connections to the Unix socket there are, accepted or not.
    pub fn connections(&self) -> usize {
        let sockets = std::fs::read_to_string("/proc/net/unix").unwrap();
        // The sixth column is the state; 01 is the one that listens.
        let is_connection =
            |line: &&str| line.ends_with(&self.listen) && line.split(' ').nth(5) != Some("01");
        sockets.lines().filter(is_connection).count()
    }

    /// Waits until there are so many.
    pub async fn has_connections(&self, n: usize) {
        eventually(&format!("{n} connections"), || {
            (self.connections() == n).then_some(())
        })
        .await;
    }

    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Ends it in order.
    pub async fn stop(&mut self) {
        self.signal("TERM");
        self.process.exit_code().await;
    }

    /// Kills the master and its children at once, as a crash would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again after `stop` or `kill`.
    pub async fn restart(&mut self) {
        self.restart_in_use().await;
        self.listens().await;
    }

    /// The same while others go on connecting.
    pub async fn restart_in_use(&mut self) {
        let _ = std::fs::remove_file(&self.listen);
        self.process = spawn(self.dir.path());
        self.accepts().await;
    }

    pub async fn listens(&self) {
        self.accepts().await;
        // The connection that was the test is not to be counted.
        self.has_connections(0).await;
    }

    async fn accepts(&self) {
        let log = self.dir.path().join("fpm.log");
        eventually(
            &format!("PHP-FPM listening; its log is {}", log.display()),
            || match self.listen.starts_with('/') {
                true => UnixStream::connect(&self.listen).map(drop).ok(),
                false => TcpStream::connect(&self.listen).map(drop).ok(),
            },
        )
        .await;
    }
}

fn spawn(dir: &Path) -> Process {
    let mut command = Command::new(program());
    // -n: no php.ini, so that tests see the same PHP everywhere. -R: root may.
    command.args(["-n", "-R", "-F", "-y"]).arg(dir.join("fpm.conf"));
    // Without php.ini the extension for curl must be named.
    command.args(["-d", "extension=curl", "-d", "log_errors=1"]);
    Process::start(command)
}

/// Debian names the program after PHP's version.
fn program() -> PathBuf {
    let dirs = ["/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin"];
    let programs = dirs
        .iter()
        .filter_map(|dir| std::fs::read_dir(dir).ok())
        .flatten()
        .flatten();
    let mut found: Vec<_> = programs
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("php-fpm"))
        })
        .collect();
    found.sort();
    found.pop().expect("php-fpm is installed by tests/run")
}
