//! Files that do not load, and events that outlive the version that they began on.

use std::fs;

use super::{assert_answers, stamped};
use crate::support::{Fpm, Gateway, QUICK, guest, hash, put, stamp, version, with_version};

#[tokio::test]
async fn a_broken_file_leaves_the_old_version_serving_until_a_good_one_comes() {
    let (mut gateway, mut client) = stamped().await;
    let file = gateway.plugin_file("stamp");
    put(&file, &stamp(2)[..1000]);
    let stale = gateway
        .shows("stamp", "stale", |plugin| plugin["state"] == "stale")
        .await;
    assert_eq!(stale["hash"], *hash(&stamp(1)));
    assert!(
        stale["last-error"]
            .as_str()
            .unwrap()
            .contains("is the file complete"),
        "{stale}"
    );
    gateway
        .logged(&[
            "ERROR",
            "plugin file refused",
            "the version before goes on serving",
            "stamp.wasm",
        ])
        .await;
    assert_answers(&mut client, 1).await;

    put(&file, &stamp(1));
    gateway.serves("stamp", &stamp(1)).await;
    gateway.logged(&["again has the content that serves"]).await;
    assert!(gateway.plugin("stamp").await.unwrap()["last-error"].is_null());

    put(&file, b"");
    gateway
        .shows("stamp", "stale", |plugin| plugin["state"] == "stale")
        .await;
    put(&file, &stamp(2));
    gateway.serves("stamp", &stamp(2)).await;
    assert_answers(&mut client, 2).await;
}

#[tokio::test]
async fn a_broken_file_that_is_removed_takes_the_old_version_with_it() {
    let (gateway, mut client) = stamped().await;
    put(&gateway.plugin_file("later"), &stamp(2));
    gateway.serves("later", &stamp(2)).await;
    assert_answers(&mut client, 2).await;
    put(&gateway.plugin_file("later"), b"broken");
    gateway
        .shows("later", "stale", |plugin| plugin["state"] == "stale")
        .await;
    fs::remove_file(gateway.plugin_file("later")).unwrap();
    gateway.forgets("later").await;
    assert_answers(&mut client, 1).await;
}

#[tokio::test]
async fn a_file_that_is_broken_at_the_start_keeps_neither_the_gateway_nor_other_plugins_from_serving() {
    let plugins = [("10-broken", &b"\0asm broken"[..]), ("20-stamp", &stamp(1))];
    let mut gateway = Gateway::with_plugins(&plugins, QUICK).await;
    let mut client = gateway.connect().await;
    assert_answers(&mut client, 1).await;
    gateway
        .logged(&["ERROR", "plugin file refused", "10-broken.wasm"])
        .await;
    let broken = gateway.plugin("10-broken").await.unwrap();
    assert_eq!(broken["state"], "refused");
    assert!(
        broken["hash"].is_null() && broken["last-error"].is_string(),
        "{broken}"
    );

    put(&gateway.plugin_file("10-broken"), &stamp(2));
    gateway.serves("10-broken", &stamp(2)).await;
    assert_answers(&mut client, 2).await;
}

/// PHP takes its time; meanwhile the plugin that asked it is replaced, and then removed.
#[tokio::test]
async fn an_event_that_began_on_a_version_ends_on_it() {
    let fpm = Fpm::start(4).await;
    let config = format!("[upstream]\n{}{QUICK}", fpm.upstream("frames.php"));
    let forwarding = |number| with_version(guest("misbehave"), number);
    let gateway = Gateway::with_plugins(&[("misbehave", &forwarding(1))], &config).await;
    let generations = "aileron_plugin_generations";
    let mut client = gateway.connect().await;
    let mut other = gateway.connect().await;
    client.send("forward::sleep:3000").await;
    gateway
        .measures("aileron_plugin_calls_total{plugin=\"misbehave\"}", 1.0)
        .await;

    put(&gateway.plugin_file("misbehave"), &forwarding(2));
    gateway.serves("misbehave", &forwarding(2)).await;
    assert_eq!(other.ask("version").await, version(2));
    other.send("forward::sleep:3000").await;
    gateway
        .measures("aileron_plugin_calls_total{plugin=\"misbehave\"}", 3.0)
        .await;
    fs::remove_file(gateway.plugin_file("misbehave")).unwrap();
    gateway.forgets("misbehave").await;
    assert_eq!(gateway.metric(generations).await, 3.0, "both are needed still");

    for (client, number) in [(&mut client, 1), (&mut other, 2)] {
        let version = version(number);
        let answer = format!("slept 3000, asked by {version}, heard by {version}");
        assert_eq!(client.text().await, answer);
    }
    gateway.measures(generations, 1.0).await;
}
