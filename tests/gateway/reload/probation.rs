//! Versions that load and then fail: they are rolled back by themselves, and who is connected hardly notices.
//!
//! `misbehave` traps at every message, at every second or fourth one, or at none, by its version. Behind it is `stamp`,
//! to which the policy hands on what `misbehave` failed at: so each message has an answer that tells who gave it.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::Value;
use tokio::task::JoinSet;

use crate::support::{Client, Fpm, Gateway, PATIENCE, QUICK, guest, hash, put, stamp, version, with_version};

/// What each version does; those that are not named are good.
const FAULTS: &str = "[plugins.config.misbehave]\n\
    trap-every = \"VERSION-00000002=1,VERSION-00000003=4,VERSION-00000005=2\"\n";
const GOOD: usize = 1;
const BAD: usize = 2;
const TRAPS_AT_EVERY_FOURTH: usize = 3;
const MENDED: usize = 4;
const TRAPS_AT_EVERY_SECOND: usize = 5;

const HAND_ON: &str = "[plugins.policy.misbehave]\non-failure = \"next\"\n";
const NAME: &str = "10-misbehave";
const BEHIND: usize = 7;

fn content(number: usize) -> Vec<u8> {
    with_version(guest("misbehave"), number)
}

/// The answer of `stamp`, when `misbehave` has failed at the question.
fn handed_on() -> String {
    format!("version@{}", version(BEHIND))
}

async fn gateway(first: usize, settings: &str) -> Gateway {
    let plugins = [(NAME, &*content(first)), ("20-stamp", &stamp(BEHIND))];
    Gateway::with_plugins(&plugins, &format!("{QUICK}{settings}{FAULTS}{HAND_ON}")).await
}

/// Puts another version in its place and waits until it has been taken over, whatever becomes of it.
async fn swap(gateway: &Gateway, number: usize) {
    let content = content(number);
    let has_served = |plugin: &Value| {
        let loaded = |entry: &Value| entry["event"] == "loaded" && entry["hash"] == *hash(&content);
        plugin["previous"].as_array().unwrap().iter().any(loaded)
    };
    put(&gateway.plugin_file(NAME), &content);
    gateway.shows(NAME, "taken over", has_served).await;
}

/// Waits until everything that was put into the directory so far has been looked at.
async fn is_looked_at(gateway: &Gateway) {
    put(&gateway.plugin_file("zz-later"), &stamp(8));
    gateway.serves("zz-later", &stamp(8)).await;
}

async fn is_in_state(gateway: &Gateway, state: &str) -> Value {
    gateway
        .shows(NAME, state, |plugin| plugin["state"] == state)
        .await
}

/// Asks until the plugin is in a state.
async fn ask_until(gateway: &Gateway, client: &mut Client, what: &str, look: impl Fn(&Value) -> bool) {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        client.ask("version").await;
        if look(&gateway.plugin(NAME).await.unwrap()) {
            return;
        }
    }
    panic!("{NAME} is not {what} within {PATIENCE:?}");
}

fn events(plugin: &Value) -> Vec<(&str, &Value)> {
    let entries = plugin["previous"].as_array().unwrap().iter();
    entries
        .map(|entry| (entry["event"].as_str().unwrap(), &entry["hash"]))
        .collect()
}

/// Asks without a pause until it is told to stop. Once a version has been rolled back, its fault must not be seen.
async fn converse(mut client: Client, is_good_again: Arc<AtomicBool>, stop: Arc<AtomicBool>) -> usize {
    let mut handed = 0;
    while !stop.load(Ordering::Relaxed) {
        let must_be_good = is_good_again.load(Ordering::Relaxed);
        let answer = client.ask("version").await;
        let is_handed_on = answer == handed_on();
        assert!(
            !(must_be_good && is_handed_on),
            "a version that was rolled back is asked"
        );
        assert!(is_handed_on || answer.starts_with("VERSION-"), "{answer}");
        handed += usize::from(is_handed_on);
    }
    client.is_quiet().await;
    handed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_version_is_rolled_back_under_load_and_its_content_is_not_loaded_again() {
    const CONNECTIONS: usize = 100;
    let mut gateway = gateway(GOOD, "").await;
    let (is_good_again, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let mut conversations = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let client = gateway.connect().await;
        conversations.spawn(converse(client, is_good_again.clone(), stop.clone()));
    }
    let mut probe = gateway.connect().await;

    put(&gateway.plugin_file(NAME), &content(BAD));
    let rolled_back = is_in_state(&gateway, "rolled-back").await;
    is_good_again.store(true, Ordering::Relaxed);
    assert_eq!(probe.ask("version").await, version(GOOD));
    assert_eq!(rolled_back["hash"], *hash(&content(GOOD)));
    assert_eq!(rolled_back["refused-hash"], *hash(&content(BAD)));
    let error = rolled_back["last-error"].as_str().unwrap();
    assert!(
        error.contains("calls failed (probation-failures = 50 percent)"),
        "{error}"
    );
    assert!(error.contains("it trapped"), "{error}");
    let at = rolled_back["last-error-at"].as_str().unwrap();
    assert!(humantime::parse_rfc3339(at).is_ok(), "{at}");
    let line = [
        "ERROR",
        "plugin rolled back",
        "10-misbehave.wasm",
        &hash(&content(BAD)),
        &hash(&content(GOOD)),
        "it trapped",
    ];
    gateway.logged(&line).await;

    put(&gateway.plugin_file(NAME), &content(BAD));
    is_looked_at(&gateway).await;
    let still = gateway.plugin(NAME).await.unwrap();
    assert_eq!(still["state"], "rolled-back");
    assert_eq!(still["hash"], *hash(&content(GOOD)));
    assert_eq!(probe.ask("version").await, version(GOOD));

    put(&gateway.plugin_file(NAME), &content(MENDED));
    gateway.serves(NAME, &content(MENDED)).await;
    assert_eq!(probe.ask("version").await, version(MENDED));
    let passed = |plugin: &Value| plugin["on-probation"] == false;
    let mended = gateway.shows(NAME, "past its probation", passed).await;
    assert_eq!(
        gateway.metric("aileron_connections").await,
        CONNECTIONS as f64 + 1.0
    );
    assert_eq!(gateway.count_logged(&["connection closed"]), 0);
    assert_eq!(gateway.count_logged(&["connection lost"]), 0);
    stop.store(true, Ordering::Relaxed);
    let handed: usize = conversations.join_all().await.into_iter().sum();
    println!("{handed} messages met the bad version before it was rolled back");

    let (good, bad, fine) = (
        hash(&content(GOOD)).into(),
        hash(&content(BAD)).into(),
        hash(&content(MENDED)).into(),
    );
    let expected = [
        ("loaded", &fine),
        ("rolled-back", &bad),
        ("loaded", &bad),
        ("loaded", &good),
    ];
    assert_eq!(events(&mended), expected);
    assert!(
        mended["last-error"].is_null() && mended["refused-hash"].is_null(),
        "{mended}"
    );
    let count = "aileron_plugin_reloads_total{result=\"rolled-back\"}";
    assert_eq!(gateway.metric(count).await, 1.0);
    // The three files and the built-in plugin: what was rolled back is gone, and so is what was to go back to.
    gateway.measures("aileron_plugin_generations", 4.0).await;
}

/// By the default policy: what fails is dropped, and PHP's answer comes back to the version that asked.
#[tokio::test]
async fn an_event_that_began_on_a_version_ends_on_it_though_that_was_rolled_back() {
    let fpm = Fpm::start(2).await;
    let upstream = format!(
        "probation-failures = 10\n[upstream]\n{}",
        fpm.upstream("frames.php")
    );
    let config = format!("{QUICK}{upstream}{FAULTS}");
    let mut gateway = Gateway::with_plugins(&[(NAME, &content(GOOD))], &config).await;
    let (mut client, mut waiting) = (gateway.connect().await, gateway.connect().await);
    swap(&gateway, TRAPS_AT_EVERY_SECOND).await;
    waiting.send("forward::sleep:3000").await;
    fpm.has_connections(1).await;
    while gateway.plugin(NAME).await.unwrap()["state"] != "rolled-back" {
        client.send("something").await;
    }
    gateway.logged(&["plugin failed; the event is dropped"]).await;
    client.send("version").await;
    let old = version(GOOD);
    while client.text().await != old {}

    let asked = version(TRAPS_AT_EVERY_SECOND);
    let answer = format!("slept 3000, asked by {asked}, heard by {asked}");
    assert_eq!(waiting.text().await, answer);
    gateway.measures("aileron_plugin_generations", 2.0).await;
}

#[tokio::test]
async fn a_version_that_fails_a_little_stays() {
    let gateway = gateway(GOOD, "").await;
    let mut client = gateway.connect().await;
    swap(&gateway, TRAPS_AT_EVERY_FOURTH).await;
    assert_eq!(
        gateway.metric("aileron_plugin_generations").await,
        4.0,
        "with the old one"
    );
    let passed = |plugin: &Value| plugin["on-probation"] == false;
    ask_until(&gateway, &mut client, "past its probation", passed).await;
    let plugin = gateway.plugin(NAME).await.unwrap();
    assert!(plugin["traps"].as_u64().unwrap() > 0, "{plugin}");
    gateway.serves(NAME, &content(TRAPS_AT_EVERY_FOURTH)).await;
    gateway.measures("aileron_plugin_generations", 3.0).await;
}

#[tokio::test]
async fn the_share_of_failures_and_the_number_of_calls_are_settings() {
    let gateway = gateway(GOOD, "probation-failures = 5\n").await;
    let mut client = gateway.connect().await;
    swap(&gateway, TRAPS_AT_EVERY_FOURTH).await;
    let rolled_back = |plugin: &Value| plugin["state"] == "rolled-back";
    ask_until(&gateway, &mut client, "rolled back", rolled_back).await;

    let gateway = self::gateway(GOOD, "probation-events = 0\n").await;
    let mut client = gateway.connect().await;
    swap(&gateway, BAD).await;
    for _ in 0..50 {
        assert_eq!(client.ask("version").await, handed_on());
    }
    gateway.serves(NAME, &content(BAD)).await;
    gateway.measures("aileron_plugin_generations", 3.0).await;
}

/// It may be the plugin that decides who connects: it is not for the gateway to go on without it.
#[tokio::test]
async fn a_plugin_that_fails_with_none_before_it_stays_and_is_reported() {
    let mut gateway = Gateway::with_plugins(
        &[("20-stamp", &stamp(BEHIND))],
        &format!("{QUICK}{FAULTS}{HAND_ON}"),
    )
    .await;
    let mut client = gateway.connect().await;
    swap(&gateway, BAD).await;
    let failing = |plugin: &Value| plugin["state"] == "failing";
    ask_until(&gateway, &mut client, "failing", failing).await;
    gateway
        .logged(&["ERROR", "there is no version to go back to", "10-misbehave.wasm"])
        .await;
    let plugin = gateway.plugin(NAME).await.unwrap();
    assert_eq!(plugin["hash"], *hash(&content(BAD)));
    assert!(
        plugin["last-error"].as_str().unwrap().contains("it trapped"),
        "{plugin}"
    );
    assert_eq!(client.ask("version").await, handed_on());

    // One that fails is nothing to go back to either.
    put(&gateway.plugin_file(NAME), &content(MENDED));
    gateway.serves(NAME, &content(MENDED)).await;
    assert_eq!(client.ask("version").await, version(MENDED));
    gateway.measures("aileron_plugin_generations", 3.0).await;
}

/// At the start nothing served before.
#[tokio::test]
async fn a_version_of_the_start_is_not_on_probation() {
    let gateway = gateway(BAD, "").await;
    let mut client = gateway.connect().await;
    for _ in 0..50 {
        assert_eq!(client.ask("version").await, handed_on());
    }
    let plugin = gateway.plugin(NAME).await.unwrap();
    assert_eq!(
        (&plugin["state"], &plugin["on-probation"]),
        (&"serving".into(), &false.into())
    );
}

#[tokio::test]
async fn a_version_goes_back_to_the_last_one_that_stood_its_test() {
    let gateway = gateway(GOOD, "").await;
    let mut client = gateway.connect().await;
    swap(&gateway, MENDED).await;
    assert_eq!(client.ask("version").await, version(MENDED));
    swap(&gateway, BAD).await;
    let rolled_back = |plugin: &Value| plugin["state"] == "rolled-back";
    ask_until(&gateway, &mut client, "rolled back", rolled_back).await;
    assert_eq!(client.ask("version").await, version(GOOD));
}

#[tokio::test]
async fn what_was_rolled_back_is_remembered_while_its_file_is_gone() {
    let mut gateway = gateway(GOOD, "").await;
    let mut client = gateway.connect().await;
    swap(&gateway, BAD).await;
    let rolled_back = |plugin: &Value| plugin["state"] == "rolled-back";
    ask_until(&gateway, &mut client, "rolled back", rolled_back).await;
    fs::remove_file(gateway.plugin_file(NAME)).unwrap();
    gateway.forgets(NAME).await;
    assert_eq!(client.ask("version").await, handed_on());

    put(&gateway.plugin_file(NAME), &content(BAD));
    let refused = is_in_state(&gateway, "refused").await;
    gateway
        .logged(&["plugin file refused", "10-misbehave.wasm", &hash(&content(BAD))])
        .await;
    let (good, bad) = (hash(&content(GOOD)).into(), hash(&content(BAD)).into());
    let expected = [
        ("refused", &bad),
        ("removed", &good),
        ("rolled-back", &bad),
        ("loaded", &bad),
        ("loaded", &good),
    ];
    assert_eq!(events(&refused), expected);

    // The file has held another content since: the operator may try the bad one again.
    put(&gateway.plugin_file(NAME), &content(MENDED));
    gateway.serves(NAME, &content(MENDED)).await;
    assert_eq!(client.ask("version").await, version(MENDED));
    swap(&gateway, BAD).await;
    ask_until(&gateway, &mut client, "rolled back", rolled_back).await;
    assert_eq!(client.ask("version").await, version(MENDED));
}
