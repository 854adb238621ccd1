//! A program that a test has started, with what it says on standard error. It ends when this is dropped, and so do the
//! processes that it has started.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process_group};

use super::eventually;

pub struct Process {
    child: Child,
    name: String,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Process {
    pub fn start(mut command: Command) -> Self {
        let name = command.get_program().display().to_string();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{name} cannot be started ({error}); tests/run installs what tests need")
            });
        let lines = Arc::new(Mutex::new(Vec::new()));
        let stderr = child.stderr.take().unwrap();
        std::thread::spawn({
            let lines = lines.clone();
            move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    lines.lock().unwrap().push(line);
                }
            }
        });
        Self { child, name, lines }
    }

    /// What it has said so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits for a line that holds all of these texts, and gives it.
    pub async fn said(&mut self, texts: &[&str]) -> String {
        let lines = self.lines.clone();
        let child = &mut self.child;
        let mut ended = None;
        let what = format!("{texts:?} said by {}", self.name);
        eventually(&what, || {
            let lines = lines.lock().unwrap();
            let line = lines
                .iter()
                .find(|line| texts.iter().all(|text| line.contains(text)))
                .cloned();
            if line.is_none() && ended.is_some() {
                panic!("{texts:?} was not said before the end ({ended:?}): {lines:#?}");
            }
            ended = child.try_wait().unwrap();
            line
        })
        .await
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        self.send(name, &self.id().to_string());
    }

    /// Sends a signal by name to it and all that it has started.
    pub fn signal_group(&self, name: &str) {
        self.send(name, &format!("-{}", self.id()));
    }

    fn send(&self, name: &str, to: &str) {
        let sent = Command::new("kill")
            .args(["-s", name, "--", to])
            .status()
            .unwrap();
        assert!(sent.success(), "{} is gone", self.name);
    }

    /// Waits for its end, and gives the exit code.
    pub async fn exit_code(&mut self) -> Option<i32> {
        let name = self.name.clone();
        eventually(&format!("the end of {name}"), || self.child.try_wait().unwrap())
            .await
            .code()
    }

    /// Kills it and its children at once: those of PHP-FPM and nginx live on without their masters.
    pub fn kill(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
