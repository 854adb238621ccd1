//! The compiled code of plugins, which is kept for the next start.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::assert_answers;
use crate::support::{Gateway, QUICK, command, stamp};

fn entries(cache: &TempDir) -> Vec<PathBuf> {
    let entries = fs::read_dir(cache.path()).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// The second start finds the compiled code of the first.
#[tokio::test]
async fn compiled_code_is_kept_for_the_next_start() {
    let cache = TempDir::new().unwrap();
    let config = format!("{QUICK}cache = \"{}\"\n", cache.path().display());
    let mut compiling = Vec::new();
    for _ in 0..2 {
        let gateway = Gateway::with_plugins(&[("stamp", &stamp(1))], &config).await;
        let mut client = gateway.connect().await;
        assert_answers(&mut client, 1).await;
        compiling.push(gateway.metric("aileron_plugin_compile_seconds_sum").await);
        let compiled = fs::read_dir(cache.path()).unwrap().count();
        assert_eq!(compiled, 2, "stamp and the built-in plugin");
    }
    println!(
        "two plugins compiled in {:.3} s, from the cache in {:.3} s",
        compiling[0], compiling[1]
    );
    assert!(compiling[1] < compiling[0], "{compiling:?}");
}

/// Code of which a bit has changed, run, could do anything.
#[tokio::test]
async fn damaged_code_is_compiled_anew() {
    let cache = TempDir::new().unwrap();
    let config = format!("{QUICK}cache = \"{}\"\n", cache.path().display());
    let start = async || {
        let gateway = Gateway::with_plugins(&[("stamp", &stamp(1))], &config).await;
        let mut client = gateway.connect().await;
        assert_answers(&mut client, 1).await;
        gateway
    };
    drop(start().await);
    for entry in entries(&cache) {
        let mut code = fs::read(&entry).unwrap();
        let middle = code.len() / 2;
        code[middle] ^= 1;
        fs::write(&entry, code).unwrap();
    }
    let damaged = "compiled code is damaged";
    start().await.logged_times(2, &["WARN", damaged]).await;
    assert_eq!(start().await.count_logged(&[damaged]), 0, "it was made good");
}

/// As a service of the system often has none.
#[tokio::test]
async fn without_a_home_or_a_place_to_write_the_gateway_serves_and_warns() {
    for plugins in [&["stamp"][..], &[]] {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("plugins")).unwrap();
        for name in plugins {
            fs::write(dir.path().join(format!("plugins/{name}.wasm")), stamp(1)).unwrap();
        }
        let config = format!("listen = \"127.0.0.1:0\"\n{QUICK}");
        fs::write(dir.path().join("aileron.toml"), config).unwrap();
        let mut command = command(dir.path());
        // Below a file there is no directory, for root neither.
        command
            .env_remove("HOME")
            .env_remove("XDG_CACHE_HOME")
            .env("TMPDIR", "/dev/null/nowhere");
        let mut gateway = Gateway::start_by(command, dir).await;
        gateway
            .logged(&[
                "WARN",
                "compiled plugins are not kept",
                "`cache`",
                "/dev/null/nowhere",
            ])
            .await;
        let mut client = gateway.connect().await;
        if plugins.is_empty() {
            client.is_quiet().await;
        } else {
            assert_answers(&mut client, 1).await;
        }
    }
}
