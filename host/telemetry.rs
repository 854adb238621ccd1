//! The log: one line per event, to standard error, for people or for machines.

mod queue;

use std::io::IsTerminal;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::config::{Log, LogFormat};
use queue::Queue;
pub use queue::{Flush, dropped};

/// There can be no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Its filter cannot be used.
    #[error(
        "AILERON_LOG: `{filter}` is not a log filter ({cause}); write a level such as \"info\", or \
         \"info,aileron::session=debug\""
    )]
    Filter {
        /// What it is.
        filter: String,
        /// As text, since its own causes repeat it.
        cause: String,
    },
    /// No thread can be started to write it.
    #[error("no thread can be started to write the log")]
    Thread(#[source] std::io::Error),
}

/// Starts logging. `AILERON_LOG` takes precedence over the configured filter. What it gives must be kept to the end.
pub fn init(log: &Log) -> Result<Flush, LogError> {
    let filter = std::env::var("AILERON_LOG").unwrap_or_else(|_| log.filter.clone());
    let targets: Targets = filter
        .parse()
        .map_err(|cause: tracing_subscriber::filter::ParseError| LogError::Filter {
            filter,
            cause: cause.to_string(),
        })?;
    let (queue, flush) = Queue::new().map_err(LogError::Thread)?;
    let writer = move || queue.clone();
    let layer = match log.format {
        LogFormat::Text => fmt::layer()
            .with_writer(writer)
            .with_ansi(std::io::stderr().is_terminal())
            .boxed(),
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(writer)
            .boxed(),
    };
    // An error means that a test has set up one already.
    let _ = tracing_subscriber::registry()
        .with(layer.with_filter(targets))
        .try_init();
    Ok(flush)
}
