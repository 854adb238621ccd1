//! `aileron check`: what it says of good and of bad configurations, and its exit code, before anything is started.

use std::process::Output;

use tempfile::TempDir;

use super::good_plugin;
use crate::support::{Fpm, command};

/// 64 is for what the configuration says, 1 for what it leads to.
const BAD_CONFIGURATION: i32 = 64;
const BAD_PLUGINS: i32 = 1;

struct Tree(TempDir);

impl Tree {
    /// A directory with a configuration.
    fn new(config: &str) -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("aileron.toml"), config).unwrap();
        Self(dir)
    }

    /// The same with a file in its plugin directory.
    fn with_plugin(self, name: &str, content: &[u8]) -> Self {
        let plugins = self.0.path().join("plugins");
        std::fs::create_dir_all(&plugins).unwrap();
        std::fs::write(plugins.join(name), content).unwrap();
        self
    }

    /// Exit code, and all that was printed.
    fn check(&self) -> (Option<i32>, String) {
        let Output {
            status,
            stdout,
            stderr,
        } = command(self.0.path()).arg("check").output().unwrap();
        let said = [stdout, stderr].concat();
        (status.code(), String::from_utf8(said).unwrap())
    }

    fn is_refused(&self, code: i32, texts: &[&str]) {
        let (found, said) = self.check();
        assert_eq!(found, Some(code), "{said}");
        for text in texts {
            assert!(said.contains(text), "{text} is not in: {said}");
        }
    }
}

#[test]
fn what_is_good_is_called_good() {
    let tree = Tree::new("[plugins]\ndir = \"plugins\"\n").with_plugin("10-first.wasm", &good_plugin());
    let (code, said) = tree.check();
    assert_eq!(code, Some(0), "{said}");
    for text in [
        "plugin 10-first: good (",
        "plugin default: good (built in)",
        "configuration and plugins are good",
    ] {
        assert!(said.contains(text), "{text} is not in: {said}");
    }
}

#[test]
fn no_configuration_is_a_good_one() {
    let dir = TempDir::new().unwrap();
    let output = command(dir.path()).arg("check").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let dir = TempDir::new().unwrap();
    let output = command(dir.path())
        .args(["check", "--config", "no.toml"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(BAD_CONFIGURATION));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("no.toml: cannot be read: No such file"), "{said}");
}

#[test]
fn an_unknown_key_is_shown_where_it_stands() {
    Tree::new("\nlisten_on = \"127.0.0.1:0\"").is_refused(
        BAD_CONFIGURATION,
        &["aileron.toml:2:1", "listen_on", "^^^^^^^^^", "`listen`"],
    );
}

#[test]
fn a_route_to_an_upstream_that_is_missing_is_refused() {
    Tree::new("[[route]]\npath = \"/a\"\nupstream = \"shop\"").is_refused(
        BAD_CONFIGURATION,
        &["aileron.toml:3:12", "there is no upstream `shop`"],
    );
}

#[test]
fn a_route_to_a_plugin_that_is_missing_is_refused() {
    Tree::new("[plugins]\ndir = \"plugins\"\n[[route]]\npath = \"/a\"\nplugins = [\"first\", \"chat\"]")
        .with_plugin("10-first.wasm", &good_plugin())
        .is_refused(BAD_PLUGINS, &["chat", "a route names a plugin"]);
}

#[test]
fn a_plugin_directory_that_cannot_be_read_is_named() {
    Tree::new("[plugins]\ndir = \"nowhere\"").is_refused(
        BAD_PLUGINS,
        &["the plugin directory", "nowhere", "No such file", "create it"],
    );
    Tree::new("[plugins]\ndir = \"aileron.toml\"").is_refused(
        BAD_PLUGINS,
        &["the plugin directory", "aileron.toml", "Not a directory"],
    );
}

#[test]
fn a_plugin_that_is_broken_is_named_and_the_others_are_still_checked() {
    Tree::new("[plugins]\ndir = \"plugins\"")
        .with_plugin("10-good.wasm", &good_plugin())
        .with_plugin("20-torn.wasm", &good_plugin()[..1000])
        .with_plugin("30-text.wasm", b"<?php echo 'hello';")
        .is_refused(
            BAD_PLUGINS,
            &[
                "plugin 10-good: good",
                "plugin 20-torn: refused (",
                "plugin 30-text: refused (",
            ],
        );
}

#[test]
fn a_setting_that_the_built_in_plugin_does_not_know_is_refused() {
    Tree::new("[plugins.config.default]\nrelay-erors = true")
        .is_refused(BAD_PLUGINS, &["built-in plugin", "relay-erors", "relay-errors"]);
}

#[tokio::test]
async fn php_is_asked_and_what_it_answers_is_shown() {
    let fpm = Fpm::start(1).await;
    for (script, code, texts) in [
        (
            "application.php",
            0,
            &[
                "/ws, open: status 200, 0 bytes",
                "/ws, server: status 200, 13 bytes: \"aileron-check\"",
                "/ws, close: status 200",
                ", aileron-publish: closings",
                "configuration and plugins are good",
            ][..],
        ),
        (
            "no-such-file.php",
            1,
            &[
                "/ws, open: no answer: bad-answer: php-fpm at",
                "/ws, server: no answer",
                "finds no script",
            ],
        ),
    ] {
        let config = format!(
            "[upstream]\n{}[plugins]\nbuilt-in = \"application\"\n",
            fpm.upstream(script)
        );
        let tree = Tree::new(&config);
        let Output { status, stdout, .. } = command(tree.0.path()).args(["check", "--ask"]).output().unwrap();
        let said = String::from_utf8(stdout).unwrap();
        assert_eq!(status.code(), Some(code), "{said}");
        for text in texts {
            assert!(said.contains(text), "{text} is not in: {said}");
        }
    }
}
