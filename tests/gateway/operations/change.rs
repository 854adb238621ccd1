//! A configuration that is changed while connections are open: by SIGHUP, or by itself when the file has changed.

use reqwest::Method;

use crate::support::{Client, Gateway, QUICK, answer, guest};

/// A gateway whose configuration can be written anew.
async fn gateway(config: &str) -> Gateway {
    let gateway =
        Gateway::with_plugins(&[("misbehave", &guest("misbehave"))], &format!("{config}{QUICK}")).await;
    gateway.connect().await.close().await;
    gateway
}

fn write(gateway: &Gateway, config: &str) {
    let fresh = gateway.file("aileron.new");
    std::fs::write(&fresh, format!("listen = \"127.0.0.1:0\"\n{config}")).unwrap();
    std::fs::rename(fresh, gateway.file("aileron.toml")).unwrap();
}

async fn hang_up(gateway: &mut Gateway, config: &str) -> String {
    write(gateway, config);
    gateway.process.signal("HUP");
    gateway.logged(&["SIGHUP", "configuration"]).await
}

#[tokio::test]
async fn routes_limits_origins_tokens_and_settings_of_plugins_change_and_connections_stay() {
    let mut gateway = gateway("[[route]]\npath = \"/old\"\n").await;
    let mut old = gateway.connect_to("/old").await;
    let mut usual = gateway.connect().await;
    assert_eq!(usual.ask("greeting").await, "");
    let config = format!(
        "max-message = \"1KiB\"\norigins = [\"https://example.org\"]\n[push]\ntoken = \"secret\"\n\
         [[route]]\npath = \"/new\"\n{QUICK}[plugins.config.misbehave]\ngreeting = \"hello\"\n"
    );
    let line = hang_up(&mut gateway, &config).await;
    assert!(line.contains("configuration taken over"), "{line}");
    gateway.logged(&["plugin replaced", "misbehave"]).await;
    // It is said from inside the change, for whose end the listing waits.
    let listing = gateway.request(Method::GET, "/plugins").bearer_auth("secret");
    assert_eq!(answer(listing).await.status, 200);

    assert_eq!(usual.ask("greeting").await, "hello", "on the same connection");
    assert_eq!(
        old.ask("still").await,
        "ok still",
        "its route is closed to others only"
    );
    assert_eq!(
        Client::try_connect(gateway.clients, "/old", &[])
            .await
            .err()
            .unwrap()
            .status,
        401
    );
    let mut new = gateway.connect_to("/new").await;
    assert_eq!(new.ask("hi").await, "ok hi");
    let origin = [("origin", "https://example.org")];
    assert!(Client::try_connect(gateway.clients, "/ws", &origin).await.is_ok());
    let origin = [("origin", "http://127.0.0.1")];
    assert_eq!(
        Client::try_connect(gateway.clients, "/ws", &origin)
            .await
            .err()
            .unwrap()
            .status,
        403
    );
    let long = "x".repeat(2000);
    assert_eq!(
        usual.ask(&long).await.len(),
        2003,
        "what was open keeps its bounds"
    );
    new.send(&long).await;
    assert!(matches!(new.next().await, crate::support::Frame::Close(1009, _)));

    assert_eq!(gateway.get("/live").await.status, 401);
    let page = gateway
        .request(Method::GET, "/live")
        .header("authorization", "Bearer secret");
    assert_eq!(answer(page).await.status, 200);
}

#[tokio::test]
async fn a_changed_file_is_taken_up_by_itself_and_a_wrong_one_changes_nothing() {
    let mut gateway = gateway("").await;
    let mut client = gateway.connect().await;
    write(&gateway, "origins = \"everywhere\"\n");
    let line = gateway
        .logged(&["ERROR", "the file has changed", "configuration not taken over"])
        .await;
    for words in ["the one before goes on", "aileron.toml:2", "is not an origin"] {
        assert!(
            gateway.count_logged(&[words]) > 0 || line.contains(words),
            "{words} in {line}"
        );
    }
    assert_eq!(client.ask("hi").await, "ok hi");
    write(&gateway, &format!("path = \"/elsewhere\"\n{QUICK}"));
    gateway
        .logged(&["INFO", "the file has changed", "configuration taken over"])
        .await;
    assert_eq!(client.ask("hi").await, "ok hi");
    gateway.connect_to("/elsewhere").await.close().await;
}

#[tokio::test]
async fn settings_that_a_plugin_refuses_leave_it_with_those_before() {
    let mut gateway = gateway("").await;
    let mut client = gateway.connect().await;
    hang_up(
        &mut gateway,
        &format!("{QUICK}[plugins.config.misbehave]\nrefuse = \"no\"\n"),
    )
    .await;
    gateway
        .logged(&["ERROR", "plugin file refused", "misbehave"])
        .await;
    assert_eq!(client.ask("greeting").await, "");
    assert_eq!(gateway.plugin("misbehave").await.unwrap()["state"], "stale");
    write(
        &gateway,
        &format!("{QUICK}[plugins.config.misbehave]\ngreeting = \"yes\"\n"),
    );
    gateway.process.signal("HUP");
    gateway
        .shows("misbehave", "serving", |plugin| plugin["state"] == "serving")
        .await;
    assert_eq!(client.ask("greeting").await, "yes");
}

#[tokio::test]
async fn what_needs_a_restart_is_said() {
    let mut gateway = gateway("").await;
    let config = format!("{}[log]\nfilter = \"debug\"\n", QUICK.replace("20ms", "40ms"));
    let line = hang_up(&mut gateway, &config).await;
    assert!(line.contains("need a restart"), "{line}");
    assert!(line.contains("[plugins] settle, [log] filter"), "{line}");
}
