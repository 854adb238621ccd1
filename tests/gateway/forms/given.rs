//! What a plugin is given: the log, its settings, the store, facts.

use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::every_form;
use crate::support::{Client, Gateway, QUICK, guest, put, with_version};

#[tokio::test]
async fn what_a_plugin_says_is_in_the_log_under_its_name() {
    for (form, content) in every_form("misbehave") {
        let mut gateway = Gateway::with_plugins(&[("10-misbehave", &content)], QUICK).await;
        let mut client = gateway.connect().await;
        assert_eq!(client.ask("log:some words").await, "spoken", "{form}");
        let name = "plugin=\"10-misbehave\"";
        gateway.logged(&["WARN", "logged some words", name]).await;
        // Without WASI, the standard library has nowhere to write to.
        if form.starts_with("wasi") {
            gateway.logged(&["INFO", "printed some words", name]).await;
            gateway.logged(&["WARN", "complained some words", name]).await;
        }
    }
}

#[tokio::test]
async fn the_store_is_shared_by_all_instances_and_plugins_and_outlives_a_reload() {
    let gateway = Gateway::with_plugins(&[("misbehave", &guest("misbehave"))], QUICK).await;
    let mut clients = Vec::new();
    for _ in 0..16 {
        clients.push(gateway.connect().await);
    }
    for client in &mut clients {
        client.send("count:visits").await;
    }
    let mut counts = Vec::new();
    for client in &mut clients {
        counts.push(client.text().await.parse::<usize>().unwrap());
    }
    counts.sort_unstable();
    assert_eq!(counts, (1..=16).collect::<Vec<_>>(), "each number once");

    let next = with_version(guest("misbehave"), 2);
    put(&gateway.plugin_file("misbehave"), &next);
    gateway.serves("misbehave", &next).await;
    assert_eq!(clients[0].ask("count:visits").await, "17");
    put(&gateway.plugin_file("00-another"), &next);
    gateway.serves("00-another", &next).await;
    assert_eq!(clients[0].ask("count:visits").await, "18");
    // A trap takes the instance, not what it kept.
    clients[0].send("trap").await;
    assert_eq!(clients[0].ask("count:visits").await, "19");
}

#[tokio::test]
async fn settings_reach_a_plugin_by_its_full_and_its_short_name_at_the_start_and_when_it_asks() {
    for key in ["10-misbehave", "misbehave"] {
        let settings = format!(
            "{QUICK}[plugins.config.{key}]\ngreeting = \"hello\"\nanswer = 42\nlist = [1, \"two\"]\n"
        );
        let gateway = Gateway::with_plugins(&[("10-misbehave", &guest("misbehave"))], &settings).await;
        let mut client = gateway.connect().await;
        assert_eq!(client.ask("greeting").await, "hello", "{key}");
        assert_eq!(
            client.ask("setting:greeting").await,
            "Ok(Some(\"hello\"))",
            "{key}"
        );
        assert_eq!(client.ask("setting:answer").await, "Ok(Some(\"42\"))", "{key}");
        assert_eq!(
            client.ask("setting:list").await,
            r#"Ok(Some("[1,\"two\"]"))"#,
            "{key}"
        );
        assert_eq!(client.ask("setting:none").await, "Ok(None)", "{key}");
        // An instance made later has them too.
        client.send("trap").await;
        assert_eq!(client.ask("greeting").await, "hello", "{key}");
    }
}

#[tokio::test]
async fn a_plugin_that_refuses_its_settings_does_not_serve_and_its_words_are_in_the_log() {
    let settings = format!("{QUICK}[plugins.config.misbehave]\nrefuse = \"`color` must be red\"\n");
    let mut gateway = Gateway::with_plugins(&[("misbehave", &guest("misbehave"))], &settings).await;
    let line = [
        "ERROR",
        "plugin file refused",
        "[plugins.config.misbehave]",
        "`color` must be red",
    ];
    gateway.logged(&line).await;
    assert_eq!(gateway.plugin("misbehave").await.unwrap()["state"], "refused");
}

/// Only what the plugin named comes along, in that order, and without what is not there; the rest it may ask for.
#[tokio::test]
async fn facts_come_along_as_the_plugin_wishes() {
    let settings = format!(
        "{QUICK}[plugins.config.misbehave]\nfacts = \"query,header.x-user,path,subprotocol,weather\"\n"
    );
    let mut gateway = Gateway::with_plugins(&[("misbehave", &guest("misbehave"))], &settings).await;
    gateway
        .logged(&["WARN", "a fact that this host does not know", "weather"])
        .await;
    let url = format!("ws://{}/ws?room=5", gateway.clients);
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("x-user", "ann".parse().unwrap());
    let mut client = Client::connect_by(gateway.clients, request).await.unwrap();
    assert_eq!(
        client.ask("facts").await,
        r#"[("query", "room=5"), ("header.x-user", "ann"), ("path", "/ws")]"#
    );
    assert_eq!(
        client.ask("fact:remote-address").await,
        format!("Some({:?})", client.id)
    );
    assert_eq!(client.ask("fact:header.x-user").await, "Some(\"ann\")");
    assert_eq!(client.ask("fact:header.cookie").await, "None");
}
