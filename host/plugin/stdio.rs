//! Where a plugin's standard output and error go: into the log, one entry per line, under the plugin's name.

use std::sync::Arc;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::lines::Lines;
use crate::message::excerpt;

/// A longer line is cut: a plugin must not fill the log.
const MAX_LINE: usize = 1024;

/// One of the two streams of one instance.
#[derive(Clone)]
pub(super) struct LogStream {
    plugin: Arc<str>,
    lines: Lines,
    is_error: bool,
    line: Vec<u8>,
}

impl LogStream {
    pub(super) fn out(plugin: Arc<str>, lines: Lines) -> Self {
        Self {
            plugin,
            lines,
            is_error: false,
            line: Vec::new(),
        }
    }

    pub(super) fn err(plugin: Arc<str>, lines: Lines) -> Self {
        Self {
            plugin,
            lines,
            is_error: true,
            line: Vec::new(),
        }
    }

    fn emit(&mut self) {
        let line = String::from_utf8_lossy(&self.line);
        let line = excerpt(&line);
        if !self.lines.admit(&self.plugin) {
            // It is left out.
        } else if self.is_error {
            tracing::warn!(plugin = &*self.plugin, "{line}");
        } else {
            tracing::info!(plugin = &*self.plugin, "{line}");
        }
        self.line.clear();
    }
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // WASI 0.3 would write here; plugins are of 0.2, which takes the stream below.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        for byte in bytes {
            if byte == b'\n' {
                self.emit();
            } else if self.line.len() < MAX_LINE {
                self.line.push(byte);
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 * 1024)
    }
}

impl Drop for LogStream {
    /// What a trap or a missing newline left behind.
    fn drop(&mut self) {
        if !self.line.is_empty() {
            self.emit();
        }
    }
}
