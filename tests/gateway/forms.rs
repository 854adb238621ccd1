//! What a plugin may be made as, and what it is given: each form of file loads and answers; the log, the settings, the
//! store, facts, the chain, actions.

mod chain;
mod given;

use std::collections::BTreeMap;
use std::path::Path;

use reqwest::Method;
use wit_component::ComponentEncoder;

use crate::support::{Fpm, Gateway, QUICK, answer, component, guest, guest_for, hash, repository};

/// A plugin in every form that can be built here, by name of the form.
fn every_form(name: &str) -> Vec<(&'static str, Vec<u8>)> {
    let mut forms = vec![("core module", guest(name)), ("component", component(name))];
    for target in ["wasip1", "wasip2"] {
        forms.extend(guest_for(target, name).map(|content| (target, content)));
    }
    forms
}

#[tokio::test]
async fn a_plugin_is_a_core_module_a_component_or_built_for_wasi() {
    for (form, content) in every_form("stamp") {
        let gateway = Gateway::with_plugins(&[("stamp", &content)], QUICK).await;
        let mut client = gateway.connect().await;
        assert_eq!(client.ask("hello").await, "hello@VERSION-00000000", "{form}");
        let plugin = gateway.plugin("stamp").await.unwrap();
        assert_eq!(plugin["state"], "serving", "{form}");
        assert_eq!(plugin["interface"], "0.1.1", "{form}");
        assert_eq!(plugin["hash"], *hash(&content), "{form}");
    }
}

#[tokio::test]
async fn each_form_has_all_hooks_and_its_faults_are_told() {
    for (form, content) in every_form("misbehave") {
        let mut gateway = Gateway::with_plugins(&[("misbehave", &content)], QUICK).await;
        let mut client = gateway.connect().await;
        assert_eq!(client.ask("version").await, "VERSION-00000000", "{form}");
        let pushed = gateway.request(Method::POST, "/misbehave").body("hello");
        assert_eq!(answer(pushed).await.body, "hello", "{form}");
        // From the endless loop on, it is called on its own threads, which must outlive whatever comes.
        for fault in ["sleep", "trap", "grow", "loop", "sleep", "sleep", "sleep"] {
            client.send(fault).await;
            assert_eq!(client.ask("after").await, "ok after", "{form}, {fault}");
        }
        assert_eq!(gateway.plugin("misbehave").await.unwrap()["traps"], 7, "{form}");
        if form.starts_with("wasi") {
            gateway
                .logged(&["plugin failed", "`wasi:io/poll", "would wait"])
                .await;
        }
    }
}

/// Compiled against the interface as it was at a release, and kept since: what users have built goes on working.
#[tokio::test]
async fn a_plugin_that_was_built_against_an_older_interface_works_as_it_did() {
    let released = std::fs::read(repository("tests/guests/released/misbehave-0.1.0.wasm")).unwrap();
    let as_component = ComponentEncoder::default()
        .module(&released)
        .unwrap()
        .encode()
        .unwrap();
    let fpm = Fpm::start(1).await;
    let config = format!("{QUICK}[upstreams.php]\n{}", fpm.upstream("frames.php"));
    for content in [released, as_component] {
        let gateway = Gateway::with_plugins(&[("misbehave", &content)], &config).await;
        let plugin = gateway.plugin("misbehave").await.unwrap();
        assert_eq!(
            (&plugin["state"], &plugin["interface"]),
            (&"serving".into(), &"0.1.0".into())
        );
        let mut client = gateway.connect().await;
        let id = client.id.clone();
        assert_eq!(client.ask("hello").await, "ok hello");
        assert_eq!(client.ask("fact:remote-address").await, format!("Some({id:?})"));
        assert_eq!(client.ask("count:visits").await, "1");
        let answer = client.ask("forward:php:hello").await;
        assert!(answer.starts_with("hello, asked by"), "{answer}");
        // What its host of old left out is done now.
        assert_eq!(client.ask("unsupported").await, "the rest is done");
        client.send("unsupported").await;
        assert_eq!(client.text().await, "to all");
        assert_eq!(client.text().await, "the rest is done");
        let pushed = gateway.request(Method::POST, "/misbehave").body("hello");
        assert_eq!(self::answer(pushed).await.body, "hello");
    }
}

#[tokio::test]
async fn an_import_that_plugins_are_not_given_is_refused_with_the_cure() {
    let mut gateway = Gateway::with_plugins(&[("http", &guest("http"))], QUICK).await;
    let line = gateway
        .logged(&["ERROR", "plugin file refused", "http.wasm"])
        .await;
    for words in [
        "it imports `wasi:http/outgoing-handler@0.2.0`",
        "return `forward`",
    ] {
        assert!(line.contains(words), "{line}");
    }
    assert_eq!(gateway.plugin("http").await.unwrap()["state"], "refused");
}

/// Python's toolchain imports them for every plugin.
#[tokio::test]
async fn sockets_may_be_imported_and_a_call_says_what_to_do_instead() {
    let mut gateway = Gateway::with_plugins(&[("sockets", &guest("sockets"))], QUICK).await;
    let mut client = gateway.connect().await;
    assert_eq!(client.ask("hello").await, "hello");
    client.send("connect").await;
    assert_eq!(client.ask("after").await, "after");
    let line = gateway.logged(&["plugin failed", "sockets"]).await;
    for words in ["it called `wasi:sockets/instance-network@", "returns `forward`"] {
        assert!(line.contains(words), "{line}");
    }
}

/// `plugins/build --embed` writes the checksums of all sources beside each built-in plugin; no compiler is needed to see
/// that one is out of date.
#[test]
fn the_built_in_plugin_is_made_of_the_sources_that_are_here() {
    for plugin in ["default", "application"] {
        let list = repository(&format!("plugins/{plugin}/{plugin}.wasm.sources"));
        let list = std::fs::read_to_string(list).unwrap();
        let embedded: BTreeMap<_, _> = list
            .lines()
            .map(|line| line.split_once("  ").unwrap())
            .map(|(hash, path)| (path.to_owned(), hash.to_owned()))
            .collect();
        let mut sources = BTreeMap::new();
        for path in ["plugins/Cargo.toml", "plugins/Cargo.lock"] {
            add_sources(Path::new(path), &[""], &mut sources);
        }
        for path in ["plugins/sdk", &format!("plugins/{plugin}")] {
            add_sources(Path::new(path), &[".rs", ".toml"], &mut sources);
        }
        add_sources(Path::new("wit"), &[".wit"], &mut sources);
        assert_eq!(embedded, sources, "{plugin}: run plugins/build --embed");
    }
}

/// Adds the checksums of all files below a path whose names end so.
fn add_sources(path: &Path, endings: &[&str], sources: &mut BTreeMap<String, String>) {
    let found = repository(path.to_str().unwrap());
    if found.is_dir() {
        for entry in found.read_dir().unwrap() {
            add_sources(&path.join(entry.unwrap().file_name()), endings, sources);
        }
    } else if endings
        .iter()
        .any(|ending| path.to_str().unwrap().ends_with(ending))
    {
        sources.insert(path.display().to_string(), hash(&std::fs::read(found).unwrap()));
    }
}
