//! The command: arguments, log, configuration, run, exit code.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use aileron::app::{self, App};
use aileron::config::{Config, Overrides};
use aileron::metrics::Metrics;
use aileron::registry::Registry;
use aileron::signal::StopSignals;
use aileron::telemetry;
use clap::Parser;

/// WebSocket gateway for PHP-FPM, with routing scripted by WebAssembly components
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Configuration file; without it `aileron.toml` if there is one, else defaults
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where clients connect, such as 127.0.0.1:8080
    #[arg(long, global = true, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where frames go: http://…, https://…, fastcgi://HOST:PORT or fastcgi+unix:///PATH
    #[arg(long, global = true, value_name = "URL")]
    upstream: Option<String>,
    /// The PHP file that a FastCGI upstream runs
    #[arg(long, global = true, value_name = "FILE")]
    script: Option<String>,
    /// Directory whose *.wasm files are the plugins
    #[arg(long, global = true, value_name = "DIR")]
    plugins: Option<PathBuf>,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Check configuration and plugins, and exit
    Check,
}

/// The arguments or the configuration are wrong (EX_USAGE of sysexits.h).
const BAD_CONFIGURATION: u8 = 64;
/// How long connections get to close after a signal.
const GRACE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let default_file = Some(Path::new("aileron.toml")).filter(|file| file.exists());
    let file = arguments.config.as_deref().or(default_file);
    let overrides = Overrides {
        listen: arguments.listen,
        upstream: arguments.upstream,
        script: arguments.script,
        plugins: arguments.plugins,
    };
    let config = match Config::load(file, overrides) {
        Ok(config) => config,
        Err(error) => return fail(&error, BAD_CONFIGURATION),
    };
    if let Err(error) = telemetry::init(&config.log) {
        return fail(&error, BAD_CONFIGURATION);
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), file = ?file.unwrap_or(Path::new("none")), "configuration read");
    match arguments.command {
        Some(Command::Check) => check(&config),
        None => match tokio::runtime::Runtime::new() {
            Ok(runtime) => runtime.block_on(run(&config)),
            Err(error) => fail(&error, 1),
        },
    }
}

async fn run(config: &Config) -> ExitCode {
    let (mut signals, app) = match (StopSignals::new(), App::build(config).await) {
        (Ok(signals), Ok(app)) => (signals, app),
        (Err(error), _) => return fail(&error, 1),
        (_, Err(error)) => return fail(&error, 1),
    };
    for place in app.places() {
        tracing::info!("listening on {place}");
    }
    for upstream in &config.upstreams {
        tracing::info!(name = upstream.name, url = %upstream.url, timeout = ?upstream.timeout, "upstream");
    }
    let sessions = app.sessions();
    let registry = &sessions.world.registry;
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let mut serving = tokio::spawn(app.run(async { drop(stopped.await) }));
    let signal = signals.next().await;
    tracing::info!(signal, connections = registry.count(), grace = ?GRACE, "shutting down; a second signal ends at once");
    let _ = stop.send(());
    tokio::select! {
        _ = &mut serving => {
            tracing::info!("all connections are closed");
            ExitCode::SUCCESS
        }
        () = tokio::time::sleep(GRACE) => {
            let close_events = sessions.deliveries.count();
            tracing::warn!(
                connections = registry.count(),
                close_events,
                "the grace period is over; the rest is cut off, and close events that wait are lost"
            );
            ExitCode::SUCCESS
        }
        signal = signals.next() => {
            tracing::warn!(signal, connections = registry.count(), "second signal; the rest is cut off");
            ExitCode::FAILURE
        }
    }
}

/// Loads everything as a start would, and tells what it found.
fn check(config: &Config) -> ExitCode {
    let plugins = match app::load_plugins(
        config,
        Arc::new(Registry::default()),
        Arc::new(Metrics::default()),
    ) {
        Ok(plugins) => plugins,
        Err(error) => return fail(&error, 1),
    };
    if let Err(error) = app::load_tls(config) {
        return fail(&error, 1);
    }
    let mut code = if plugins.unknown_names().is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    };
    for report in plugins.report() {
        let file = report
            .file
            .map_or_else(|| "built in".to_owned(), |file| file.display().to_string());
        match report.last_error {
            None => println!("plugin {}: good ({file})", report.name),
            Some(error) => {
                println!("plugin {}: refused ({file}): {error}", report.name);
                code = ExitCode::FAILURE;
            }
        }
    }
    if code == ExitCode::SUCCESS {
        println!("configuration and plugins are good");
    }
    code
}

/// Says what is wrong, with all causes.
fn fail(error: &dyn std::error::Error, code: u8) -> ExitCode {
    eprint!("aileron: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprint!(": {error}");
        cause = error.source();
    }
    eprintln!();
    ExitCode::from(code)
}
