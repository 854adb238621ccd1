//! Log lines on their way to standard error. A separate thread writes them, because writing to a full pipe blocks, and nothing
//! else may wait for whoever reads the log. When the queue is full, lines are dropped and counted, and the log says so later.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

/// How many bytes the lines may have that wait, and what each line takes beside its text.
const MAX_BYTES: usize = 1024 * 1024;
const PER_LINE: usize = 64;

/// How long the end waits for the last lines.
const PATIENCE: Duration = Duration::from_secs(1);

/// Lines that were dropped since the start.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// How many lines have been dropped since the start.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

enum Entry {
    Line(Vec<u8>),
    /// All before it is written when this is dropped.
    Flush(#[allow(dead_code, reason = "it is dropped, never used")] SyncSender<()>),
}

/// Takes whole lines, and never waits.
#[derive(Clone)]
pub(super) struct Queue {
    entries: Sender<Entry>,
    /// In the lines that wait.
    bytes: Arc<AtomicUsize>,
}

/// Writes what is left when it is dropped.
pub struct Flush(Queue);

impl Queue {
    /// With a thread that writes to standard error.
    pub(super) fn new() -> io::Result<(Self, Flush)> {
        let (entries, receiver) = channel();
        let queue = Self {
            entries,
            bytes: Arc::default(),
        };
        let bytes = queue.bytes.clone();
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_all(&receiver, &bytes))?;
        Ok((queue.clone(), Flush(queue)))
    }
}

fn write_all(entries: &Receiver<Entry>, bytes: &AtomicUsize) {
    let mut reported = 0;
    for entry in entries {
        let Entry::Line(line) = entry else { continue };
        bytes.fetch_sub(line.len() + PER_LINE, Ordering::Relaxed);
        // There is nobody to tell.
        let _ = io::stderr().write_all(&line);
        let lines = dropped() - reported;
        if lines > 0 {
            reported += lines;
            tracing::warn!(
                lines,
                "log lines were dropped, because standard error was not read"
            );
        }
    }
}

/// Each call is a line, for that is how they come.
impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let size = line.len() + PER_LINE;
        let held = self.bytes.fetch_add(size, Ordering::Relaxed) + size;
        if held > MAX_BYTES || self.entries.send(Entry::Line(line.to_vec())).is_err() {
            self.bytes.fetch_sub(size, Ordering::Relaxed);
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        let (flushed, done) = sync_channel(1);
        if self.0.entries.send(Entry::Flush(flushed)).is_ok() {
            let _ = done.recv_timeout(PATIENCE);
        }
    }
}
