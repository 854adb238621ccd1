//! `aileron check`: loads everything as a start would, and says what it has found.

mod ask;

use std::io;
use std::sync::Arc;

use aileron::app;
use aileron::config::Config;
use aileron::metrics::Metrics;
use aileron::plugin::PluginsError;
use aileron::registry::Registry;
use aileron::server::TlsError;
use aileron::upstream::UpstreamError;
use tokio::runtime::Runtime;

/// The gateway could not start with this configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    /// Plugins.
    #[error(transparent)]
    Plugins(#[from] PluginsError),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Upstreams.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The threads that would ask PHP cannot be started.
    #[error(transparent)]
    Runtime(#[from] io::Error),
}

/// Whether all is good. `ask` gives what it takes to ask PHP, too; none leaves PHP alone.
pub(crate) fn check(config: &Config, ask: Option<fn() -> io::Result<Runtime>>) -> Result<bool, CheckError> {
    let plugins = app::load_plugins(
        config,
        Arc::new(Registry::default()),
        Arc::new(Metrics::default()),
    )?;
    app::load_tls(config)?;
    let mut is_good = plugins.unknown_names().is_empty();
    for report in plugins.report() {
        let file = report
            .file
            .map_or_else(|| "built in".to_owned(), |file| file.display().to_string());
        match report.last_error {
            None => println!("plugin {}: good ({file})", report.name),
            Some(error) => {
                println!("plugin {}: refused ({file}): {error}", report.name);
                is_good = false;
            }
        }
    }
    if let Some(runtime) = ask {
        is_good &= runtime()?.block_on(ask::ask(config, &plugins))?;
    }
    if is_good {
        println!("configuration and plugins are good");
    }
    Ok(is_good)
}
