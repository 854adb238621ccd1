//! The command: arguments, log, configuration, run, exit code.

mod check;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use aileron::app::{App, Control};
use aileron::config::{Config, ConfigError, Overrides};
use aileron::memory;
use aileron::service;
use aileron::signal::{Request, Requests};
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
    Check {
        /// Also connect, say something and go as a client would, and show what PHP answers
        #[arg(long)]
        ask: bool,
    },
}

/// The arguments or the configuration are wrong (EX_USAGE of sysexits.h).
const BAD_CONFIGURATION: u8 = 64;
/// How often a shutdown logs its progress.
const NARRATION: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    memory::prepare();
    let arguments = Arguments::parse();
    let default_file = Some(Path::new("aileron.toml")).filter(|file| file.exists());
    let file = arguments.config.as_deref().or(default_file);
    let overrides = Overrides {
        listen: arguments.listen,
        upstream: arguments.upstream,
        script: arguments.script,
        plugins: arguments.plugins,
    };
    let load = || Config::load(file, overrides.clone());
    let config = match load() {
        Ok(config) => config,
        Err(error) => return fail(&error, BAD_CONFIGURATION),
    };
    let _flush = match telemetry::init(&config.log) {
        Ok(flush) => flush,
        Err(error) => return fail(&error, BAD_CONFIGURATION),
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), file = ?file.unwrap_or(Path::new("none")), "configuration read");
    match arguments.command {
        Some(Command::Check { ask }) => match check::check(&config, ask.then_some(runtime)) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => fail(&error, 1),
        },
        None => match runtime() {
            Ok(runtime) => runtime.block_on(run(config, file, load)),
            Err(error) => fail(&error, 1),
        },
    }
}

/// A thread for each processor.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        // After so many turns of sessions a thread looks at what has come for others. By default that is 61: while clients
        // flood the gateway, everybody else would wait for milliseconds.
        .event_interval(2)
        .enable_all()
        .build()
}

async fn run(
    config: Config,
    file: Option<&Path>,
    load: impl Fn() -> Result<Config, ConfigError>,
) -> ExitCode {
    let (mut requests, app) = match (Requests::new(file.map(Path::to_owned)), App::build(&config).await) {
        (Ok(requests), Ok(app)) => (requests, app),
        (Err(error), _) => return fail(&error, 1),
        (_, Err(error)) => return fail(&error, 1),
    };
    for address in app.addresses() {
        tracing::info!("listening on {address}");
    }
    if config.push.listen.is_none() && !config.push.access.takes_credential() {
        tracing::warn!(
            "pushes share the port of the clients, without a credential; where a proxy forwards more than the paths of \
             clients, set [push] listen or [push] token"
        );
    }
    for upstream in &config.upstreams {
        tracing::info!(name = upstream.name, url = %upstream.url, timeout = ?upstream.timeout, "upstream");
    }
    let sessions = app.sessions();
    let registry = &sessions.actions.registry;
    let mut control = app.control(config);
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let mut serving = tokio::spawn(app.run(async { drop(stopped.await) }));
    service::ready();
    let signal = loop {
        match requests.next().await {
            Request::Stop(signal) => break signal,
            Request::Reload(cause) => {
                service::reloading();
                reload(&mut control, cause, load());
                service::ready();
            }
        }
    };
    service::stopping(registry.count());
    let grace = control.config().grace;
    tracing::info!(
        signal,
        connections = registry.count(),
        ?grace,
        "shutting down; a second signal ends at once"
    );
    let _ = stop.send(());
    let deadline = tokio::time::Instant::now() + grace;
    loop {
        let left = || (registry.count(), sessions.close_events.count());
        tokio::select! {
            _ = &mut serving => {
                tracing::info!("all connections are closed");
                return ExitCode::SUCCESS;
            }
            signal = requests.stop() => {
                let (connections, close_events) = left();
                tracing::warn!(signal, connections, close_events, "second signal; the rest is cut off");
                return ExitCode::FAILURE;
            }
            () = tokio::time::sleep_until(deadline) => {
                let (connections, close_events) = left();
                tracing::warn!(
                    connections,
                    close_events,
                    "the grace period is over; the rest is cut off, and close events that wait are lost"
                );
                return ExitCode::SUCCESS;
            }
            () = tokio::time::sleep(NARRATION) => {
                let (connections, close_events) = left();
                tracing::info!(connections, close_events, "shutting down");
                service::stopping(connections);
            }
        }
    }
}

/// Applies another configuration, if it is valid.
fn reload(control: &mut Control, cause: &str, loaded: Result<Config, ConfigError>) {
    let changed = loaded
        .map_err(|error| in_a_line(&error))
        .and_then(|config| control.change(config).map_err(|error| in_a_line(&error)));
    match changed {
        Ok(waiting) if waiting.is_empty() => tracing::info!(cause, "configuration taken over"),
        Ok(waiting) => tracing::warn!(
            cause,
            keys = waiting.join(", "),
            "configuration taken over, except for these keys, which need a restart"
        ),
        Err(error) => {
            tracing::error!(
                cause,
                "configuration not taken over, the one before goes on: {error}"
            );
        }
    }
}

/// For the log, where it has to be one line.
fn in_a_line(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Prints what is wrong, with all causes.
fn fail(error: &dyn std::error::Error, code: u8) -> ExitCode {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += ": ";
        text += &error.to_string();
        cause = error.source();
    }
    // In one piece: the log is written at the same time.
    eprintln!("aileron: {text}");
    ExitCode::from(code)
}
