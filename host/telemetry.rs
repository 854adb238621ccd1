//! The log: one line per event, to standard error, for people or for machines.

use std::io::IsTerminal;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::config::{Log, LogFormat};

/// The filter of the log cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "AILERON_LOG: `{filter}` is not a log filter ({cause}); write a level such as \"info\", or \"info,aileron::session=debug\""
)]
pub struct FilterError {
    filter: String,
    // As text, since its own causes repeat it.
    cause: String,
}

/// Starts logging. `AILERON_LOG` takes precedence over the configured filter.
pub fn init(log: &Log) -> Result<(), FilterError> {
    let filter = std::env::var("AILERON_LOG").unwrap_or_else(|_| log.filter.clone());
    let targets: Targets = filter
        .parse()
        .map_err(|cause: tracing_subscriber::filter::ParseError| FilterError {
            filter,
            cause: cause.to_string(),
        })?;
    let layer = match log.format {
        LogFormat::Text => fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .boxed(),
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(std::io::stderr)
            .boxed(),
    };
    // An error means that a test has set up one already.
    let _ = tracing_subscriber::registry()
        .with(layer.with_filter(targets))
        .try_init();
    Ok(())
}
