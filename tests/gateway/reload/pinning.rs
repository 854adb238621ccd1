//! A plugin of which one content alone is allowed.

use crate::support::{Gateway, QUICK, command, hash, put, stamp};

use super::assert_answers;

fn pinned(name: &str, content: &[u8]) -> String {
    format!("[plugins.policy.{name}]\nsha256 = \"{}\"\n", hash(content))
}

#[tokio::test]
async fn another_content_than_the_pinned_one_is_refused_and_what_serves_goes_on() {
    let config = format!("{QUICK}{}", pinned("stamp", &stamp(1)));
    let mut gateway = Gateway::with_plugins(&[("10-stamp", &stamp(1))], &config).await;
    let mut client = gateway.connect().await;
    assert_answers(&mut client, 1).await;

    put(&gateway.plugin_file("10-stamp"), &stamp(2));
    let stale = gateway
        .shows("10-stamp", "stale", |plugin| plugin["state"] == "stale")
        .await;
    assert_eq!(stale["hash"], *hash(&stamp(1)));
    assert_eq!(stale["refused-hash"], *hash(&stamp(2)));
    let error = stale["last-error"].as_str().unwrap();
    for text in [
        &*hash(&stamp(1)),
        &hash(&stamp(2)),
        "[plugins.policy.10-stamp] sha256",
    ] {
        assert!(error.contains(text), "{text} is not in: {error}");
    }
    gateway
        .logged(&["ERROR", "plugin file refused", "10-stamp.wasm", "sha256"])
        .await;
    assert_answers(&mut client, 1).await;

    put(&gateway.plugin_file("10-stamp"), &stamp(1));
    gateway.serves("10-stamp", &stamp(1)).await;
    assert_answers(&mut client, 1).await;
}

#[tokio::test]
async fn a_file_with_another_content_at_the_start_is_refused_and_others_serve() {
    let config = format!("{QUICK}{}", pinned("10-pinned", &stamp(3)));
    let plugins = [("10-pinned", &*stamp(2)), ("20-stamp", &stamp(1))];
    let gateway = Gateway::with_plugins(&plugins, &config).await;
    let mut client = gateway.connect().await;
    assert_answers(&mut client, 1).await;
    assert_eq!(gateway.plugin("10-pinned").await.unwrap()["state"], "refused");

    put(&gateway.plugin_file("10-pinned"), &stamp(3));
    gateway.serves("10-pinned", &stamp(3)).await;
    assert_answers(&mut client, 3).await;
}

#[test]
fn a_built_in_plugin_that_is_not_the_pinned_one_does_not_start() {
    let dir = tempfile::TempDir::new().unwrap();
    std::fs::write(dir.path().join("aileron.toml"), pinned("default", &stamp(1))).unwrap();
    let output = command(dir.path()).arg("check").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for text in [
        "built-in plugin",
        "[plugins.policy.default] sha256",
        &hash(&stamp(1)),
    ] {
        assert!(said.contains(text), "{text} is not in: {said}");
    }
}
