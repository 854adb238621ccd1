//! The shape of the host: which module may know which, and which file alone names a library. It reads the sources, so that
//! a shortcut shows in the change that takes it.

mod circles;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::support::repository;

/// A module of `host/`, and the modules that it may name. `app` and `main` put everything together and are left out.
const MAY_NAME: [(&str, &[&str]); 23] = [
    ("budget", &[]),
    ("memory", &[]),
    ("message", &[]),
    ("metrics", &[]),
    ("config", &[]),
    ("service", &[]),
    ("signal", &[]),
    ("telemetry", &["config"]),
    ("websocket", &[]),
    ("backoff", &[]),
    ("log_limit", &[]),
    ("token_bucket", &[]),
    ("fair_queue", &["message"]),
    ("send_queue", &["budget", "message", "websocket"]),
    (
        "registry",
        &["budget", "message", "config", "send_queue", "websocket"],
    ),
    (
        "plugin",
        &["message", "metrics", "config", "fair_queue", "token_bucket"],
    ),
    (
        "upstream",
        &[
            "message",
            "metrics",
            "config",
            "backoff",
            "budget",
            "fair_queue",
            "log_limit",
        ],
    ),
    ("dispatch", &["message", "config", "plugin"]),
    (
        "actions",
        &["message", "metrics", "dispatch", "registry", "upstream"],
    ),
    (
        "close_events",
        &[
            "message",
            "config",
            "backoff",
            "fair_queue",
            "actions",
            "dispatch",
        ],
    ),
    (
        "schedule",
        &["message", "config", "actions", "dispatch", "plugin"],
    ),
    (
        "session",
        &[
            "budget",
            "websocket",
            "message",
            "config",
            "close_events",
            "actions",
            "dispatch",
            "send_queue",
            "plugin",
            "registry",
            "token_bucket",
        ],
    ),
    (
        "server",
        &[
            "budget",
            "message",
            "metrics",
            "config",
            "dispatch",
            "log_limit",
            "plugin",
            "registry",
            "session",
            "token_bucket",
            "websocket",
        ],
    ),
];

/// A library, and the only places that may name it.
const NAMED_ONLY_IN: [(&str, &[&str]); 20] = [
    ("flate2", &["websocket"]),
    ("simdutf8", &["websocket"]),
    (
        "arc_swap",
        &[
            "app.rs",
            "close_events.rs",
            "actions.rs",
            "plugin.rs",
            "plugin/loader.rs",
            "registry.rs",
            "server",
            "session.rs",
            "upstream/guard/slots.rs",
        ],
    ),
    ("axum", &["server"]),
    ("clap", &["main.rs"]),
    ("dashmap", &["registry.rs"]),
    ("ipnet", &["config/types/networks.rs"]),
    ("percent_encoding", &["server/paths.rs"]),
    ("listenfd", &["server/listener.rs"]),
    ("notify", &["plugin/watch.rs"]),
    ("rayon", &["plugin/background.rs"]),
    ("ppp", &["server/proxy_protocol.rs"]),
    ("prometheus_client", &["metrics", "plugin/instance.rs"]),
    ("reqwest", &["upstream/http.rs"]),
    ("ring", &["server/push/credentials.rs", "upstream/own_headers.rs"]),
    ("rustls", &["server/tls.rs", "upstream/http.rs"]),
    ("sd_notify", &["service.rs"]),
    ("tokio_rustls", &["server/socket.rs", "server/tls.rs"]),
    ("toml", &["config"]),
    ("wasmtime", &["plugin"]),
];

#[test]
fn dependencies_go_one_way() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let module = top_module(&file);
        let Some((_, allowed)) = MAY_NAME.iter().find(|(name, _)| *name == module) else {
            continue;
        };
        for named in words_after(&text, "crate::") {
            if named != module && !allowed.contains(&named.as_str()) {
                wrong.push(format!("host/{file} names crate::{named}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_module_has_its_place_in_the_order() {
    let modules: BTreeSet<_> = sources().iter().map(|(file, _)| top_module(file)).collect();
    let known = MAY_NAME
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .chain(["app", "check", "lib", "main"].map(str::to_owned));
    assert_eq!(modules, known.collect());
}

#[test]
fn each_library_is_named_in_its_place_only() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        for (library, places) in NAMED_ONLY_IN {
            let may = places.iter().any(|place| is_within(&file, place));
            if !may && names(&text, library) {
                wrong.push(format!("host/{file} names {library}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_two_files_import_each_other() {
    let circles = circles::circles(&sources());
    assert!(circles.is_empty(), "{circles:#?}");
}

/// All files of `host/` by their path in it, without comments.
fn sources() -> Vec<(String, String)> {
    let root = repository("host");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let code: Vec<_> = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect();
        (
            path.strip_prefix(&root).unwrap().display().to_string(),
            code.join("\n"),
        )
    };
    files.into_iter().map(read).collect()
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// `plugin` for both `plugin.rs` and `plugin/watch.rs`.
fn top_module(file: &str) -> String {
    file.split('/').next().unwrap().trim_end_matches(".rs").to_owned()
}

/// The words that follow a text.
fn words_after(text: &str, start: &str) -> Vec<String> {
    let rests = text.split(start).skip(1);
    let word = |rest: &str| {
        rest.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect()
    };
    rests.map(word).collect()
}

/// Whether a path begins with the library's name.
fn names(text: &str, library: &str) -> bool {
    let path = format!("{library}::");
    text.match_indices(&path)
        .any(|(at, _)| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'))
}

/// Whether a file is the place or below it: `server` means `server.rs` and `server/`.
fn is_within(file: &str, place: &str) -> bool {
    file == place || file.trim_end_matches(".rs") == place || file.starts_with(&format!("{place}/"))
}
