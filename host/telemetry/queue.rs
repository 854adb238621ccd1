//! Log lines on their way to standard error. A thread of its own writes them, so that nobody has to wait for whoever reads
//! them: a pipe that is full would stop everything. Lines for which there is no room are dropped, counted, and reported.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// How many lines may wait, and how many bytes they may have together.
const MAX_LINES: usize = 8 * 1024;
const MAX_BYTES: usize = 1024 * 1024;

/// How long the end waits for the last lines.
const PATIENCE: Duration = Duration::from_secs(1);

/// Lines that were dropped and are not yet in the metric.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// How many lines have been dropped since this was last asked.
pub fn take_dropped() -> u64 {
    DROPPED.swap(0, Ordering::Relaxed)
}

enum Entry {
    Line(Vec<u8>),
    /// All before it is written when this is dropped.
    Flush(#[allow(dead_code, reason = "it is dropped, never used")] SyncSender<()>),
}

/// Takes whole lines, and never waits.
#[derive(Clone)]
pub(super) struct Queue {
    entries: SyncSender<Entry>,
    /// In the lines that wait.
    bytes: Arc<AtomicUsize>,
    /// Lines that were dropped and have not been reported.
    dropped: Arc<AtomicU64>,
}

/// Writes what is left when it is dropped.
pub struct Flush(Queue);

impl Queue {
    /// With a thread that writes to standard error.
    pub(super) fn new() -> io::Result<(Self, Flush)> {
        let (entries, receiver) = sync_channel(MAX_LINES);
        let queue = Self {
            entries,
            bytes: Arc::default(),
            dropped: Arc::default(),
        };
        let (bytes, dropped) = (queue.bytes.clone(), queue.dropped.clone());
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_all(&receiver, &bytes, &dropped))?;
        Ok((queue.clone(), Flush(queue)))
    }
}

fn write_all(entries: &Receiver<Entry>, bytes: &AtomicUsize, dropped: &AtomicU64) {
    for entry in entries {
        let Entry::Line(line) = entry else { continue };
        bytes.fetch_sub(line.len(), Ordering::Relaxed);
        // There is nobody to tell.
        let _ = io::stderr().write_all(&line);
        let lines = dropped.swap(0, Ordering::Relaxed);
        if lines > 0 {
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
        let held = self.bytes.fetch_add(line.len(), Ordering::Relaxed) + line.len();
        let is_taken = held <= MAX_BYTES && self.entries.try_send(Entry::Line(line.to_vec())).is_ok();
        if !is_taken {
            self.bytes.fetch_sub(line.len(), Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
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
        // If there is no room, standard error is not read.
        if self.0.entries.try_send(Entry::Flush(flushed)).is_ok() {
            let _ = done.recv_timeout(PATIENCE);
        }
    }
}
