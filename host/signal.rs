//! The signals that the gateway handles, and changes of its configuration file.

use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::interval;

/// How often the configuration file is checked.
const LOOK: Duration = Duration::from_secs(1);

/// What an operator asks for.
#[derive(Debug)]
pub enum Request {
    /// SIGINT, SIGTERM or SIGQUIT, by name.
    Stop(&'static str),
    /// SIGHUP, or the file has changed.
    Reload(&'static str),
}

/// Signals, and the configuration file. SIGUSR1 and SIGUSR2, by which other servers reopen their logs or replace themselves,
/// mean nothing here, and would end a process that does not handle them.
pub struct Requests {
    interrupt: Signal,
    terminate: Signal,
    quit: Signal,
    hangup: Signal,
    user: [Signal; 2],
    file: Option<ChangingFile>,
}

impl Requests {
    /// Handles signals from now on; the file is compared with its present content.
    pub fn new(file: Option<PathBuf>) -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            user: [
                signal(SignalKind::user_defined1())?,
                signal(SignalKind::user_defined2())?,
            ],
            file: file.map(ChangingFile::new),
        })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> Request {
        let request = self.wait().await;
        if let (Request::Reload(_), Some(file)) = (&request, &mut self.file) {
            file.take_up();
        }
        request
    }

    async fn wait(&mut self) -> Request {
        let [user_1, user_2] = &mut self.user;
        loop {
            let changed = async {
                match &mut self.file {
                    Some(file) => file.changed().await,
                    None => std::future::pending().await,
                }
            };
            let ignored = tokio::select! {
                _ = self.interrupt.recv() => return Request::Stop("SIGINT"),
                _ = self.terminate.recv() => return Request::Stop("SIGTERM"),
                _ = self.quit.recv() => return Request::Stop("SIGQUIT"),
                _ = self.hangup.recv() => return Request::Reload("SIGHUP"),
                () = changed => return Request::Reload("the file has changed"),
                _ = user_1.recv() => "SIGUSR1",
                _ = user_2.recv() => "SIGUSR2",
            };
            tracing::info!(signal = ignored, "signal ignored");
        }
    }

    /// Waits for the next one that stops the gateway.
    pub async fn stop(&mut self) -> &'static str {
        loop {
            if let Request::Stop(name) = self.next().await {
                return name;
            }
        }
    }
}

/// A file that is checked now and then: it may be on any file system, and there is no hurry.
struct ChangingFile {
    path: PathBuf,
    /// The content that was applied last.
    content: Option<Vec<u8>>,
    /// The content at the last check.
    seen: Option<Vec<u8>>,
}

impl ChangingFile {
    fn new(path: PathBuf) -> Self {
        let content = std::fs::read(&path).ok();
        Self {
            path,
            seen: content.clone(),
            content,
        }
    }

    /// Its present content is being applied.
    fn take_up(&mut self) {
        self.content = std::fs::read(&self.path).ok();
        self.seen.clone_from(&self.content);
    }

    /// Waits until the file has another content, the same in two checks: while it is being written, it is not complete.
    async fn changed(&mut self) {
        let mut looks = interval(LOOK);
        loop {
            looks.tick().await;
            // If the file is gone for a moment, it is being replaced.
            let Ok(now) = std::fs::read(&self.path) else {
                continue;
            };
            let before = self.seen.replace(now);
            if self.seen == before && self.seen != self.content {
                return;
            }
        }
    }
}
