//! A PHP-FPM of a test's own, on a Unix socket.

use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::process::Process;
use super::{eventually, repository};

pub struct Fpm {
    dir: TempDir,
    process: Process,
}

impl Fpm {
    /// Starts one with so many children.
    pub async fn start(children: usize) -> Self {
        Self::start_with(children, "").await
    }

    /// The same, with further lines for the configuration of its pool.
    pub async fn start_with(children: usize, pool: &str) -> Self {
        let dir = TempDir::new().unwrap();
        // FPM asks root, and nobody else, for a user to run its children as.
        let is_root = dir.path().metadata().unwrap().uid() == 0;
        let user = if is_root {
            "user = root\ngroup = root\n"
        } else {
            ""
        };
        let path = dir.path().display();
        let config = format!(
            "[global]\ndaemonize = no\nerror_log = {path}/fpm.log\n\
             [www]\nlisten = {path}/fpm.sock\nlisten.backlog = 4096\n{user}pm = static\n\
             pm.max_children = {children}\nphp_admin_value[post_max_size] = 64M\n{pool}\n"
        );
        std::fs::write(dir.path().join("fpm.conf"), config).unwrap();
        let process = spawn(dir.path());
        let fpm = Self { dir, process };
        fpm.listens().await;
        fpm
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("fpm.sock")
    }

    /// The upstream for a script in `tests/php`, as lines of the section `[upstream]`.
    pub fn upstream(&self, script: &str) -> String {
        let script = repository("tests/php").join(script);
        format!(
            "url = \"fastcgi+unix://{}\"\nscript = \"{}\"\n",
            self.socket().display(),
            script.display()
        )
    }

    /// Kills the master and its children at once, as a crash would.
    pub fn kill(&mut self) {
        // The master leads no group of its own; its children end when they find it gone, which takes a while, so they
        // are killed first.
        let _ = Command::new("pkill")
            .args(["-KILL", "-P", &self.process.id().to_string()])
            .status();
        self.process.kill();
    }

    /// Starts it again after `kill`.
    pub async fn restart(&mut self) {
        let _ = std::fs::remove_file(self.socket());
        self.process = spawn(self.dir.path());
        self.listens().await;
    }

    async fn listens(&self) {
        let log = self.dir.path().join("fpm.log");
        eventually(
            &format!("PHP-FPM listening; its log is {}", log.display()),
            || UnixStream::connect(self.socket()).ok(),
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
