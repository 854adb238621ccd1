//! A configuration that is changed while connections are open: by SIGHUP, or by itself when the file has changed.

use reqwest::Method;

use crate::support::{Client, Gateway, QUICK, answer, guest, hash, put};

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
        404
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

    assert_eq!(gateway.get("/topics").await.status, 401);
    let page = gateway
        .request(Method::GET, "/topics")
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

/// A disk that is full, or an editor that empties a file before it writes it, must not open the gateway to strangers.
#[tokio::test]
async fn a_reload_drops_no_credential_and_is_judged_by_what_is_open() {
    const OPEN: &str = "listen = \"0.0.0.0:0\"\n[push]\ntoken = \"t\"\n";
    let gateway = Gateway::start(OPEN).await;
    for (n, config) in [
        "",
        "# half a file\nlisten = \"0.0.0.0:0\"\n[push]\n",
        "listen = \"127.0.0.1:0\"\n",
        "listen = \"0.0.0.0:0\"\n[push]\nlisten = \"127.0.0.1:0\"\n",
    ]
    .into_iter()
    .enumerate()
    {
        std::fs::write(gateway.file("aileron.toml"), config).unwrap();
        gateway.process.signal("HUP");
        gateway
            .logged_times(n + 1, &["ERROR", "configuration not taken over"])
            .await;
        for path in ["/connections", "/send?everyone=1&message=x"] {
            assert_eq!(gateway.get(path).await.status, 401, "{path} after {config}");
        }
    }
    // The listener of its own waits for a restart, so the proxy would reach the one that is shared.
    let mut gateway = Gateway::start("").await;
    write(
        &gateway,
        "proxy-protocol = true\n[push]\nlisten = \"127.0.0.1:0\"\n",
    );
    gateway.process.signal("HUP");
    gateway.logged(&["ERROR", "anyone who reaches the proxy"]).await;
    let another = "max-topics = 3\n[push]\nlisten = \"127.0.0.1:0\"\n";
    for n in 1..=2 {
        write(&gateway, another);
        gateway.process.signal("HUP");
        let waits = ["configuration taken over", "[push] listen", "need a restart"];
        gateway.logged_times(n, &waits).await;
    }
}

/// The same plugin with other bytes: a custom section at its end.
fn another(mut guest: Vec<u8>) -> Vec<u8> {
    guest.extend(b"\0\x03\x01v2");
    guest
}

#[tokio::test]
async fn a_pin_for_what_serves_already_is_an_error_until_the_file_is_the_right_one() {
    let mut gateway = gateway("").await;
    let mut client = gateway.connect().await;
    let [old, new] = [guest("misbehave"), another(guest("misbehave"))];
    let pinned = format!("{QUICK}[plugins.policy.misbehave]\nsha256 = \"{}\"\n", hash(&new));
    hang_up(&mut gateway, &pinned).await;
    gateway
        .logged(&[
            "ERROR",
            "misbehave",
            "[plugins.policy.misbehave] sha256",
            "goes on serving",
        ])
        .await;
    let shown = gateway.plugin("misbehave").await.unwrap();
    assert_eq!(
        (&shown["state"], &shown["hash"]),
        (&"stale".into(), &hash(&old).into())
    );
    assert_eq!(client.ask("hi").await, "ok hi");
    put(&gateway.plugins().join("misbehave.wasm"), &new);
    gateway
        .shows("misbehave", "serving", |plugin| {
            plugin["hash"] == hash(&new) && plugin["state"] == "serving"
        })
        .await;
    assert_eq!(client.ask("hi").await, "ok hi");
}

#[tokio::test]
async fn a_file_that_was_refused_is_tried_again_when_its_settings_are_mended() {
    let mut gateway = gateway("").await;
    let bad = format!("{QUICK}[plugins.config.misbehave]\nrefuse = \"no\"\n");
    hang_up(&mut gateway, &bad).await;
    let new = another(guest("misbehave"));
    put(&gateway.plugins().join("misbehave.wasm"), &new);
    gateway
        .shows("misbehave", "refused", |plugin| {
            plugin["refused-hash"] == hash(&new)
        })
        .await;
    write(&gateway, QUICK);
    gateway.process.signal("HUP");
    gateway
        .shows("misbehave", "serving", |plugin| {
            plugin["hash"] == hash(&new) && plugin["state"] == "serving"
        })
        .await;
}
