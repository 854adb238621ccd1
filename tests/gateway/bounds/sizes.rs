//! What one bound lets through, the next one does not lose: messages, the forms made of them, answers and pushes of every size
//! that the configuration allows; and who hears of what is too much.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;

use super::MIB;
use crate::support::{Fpm, Gateway, answer};

const APPLICATION: &str =
    "[plugins]\nbuilt-in = \"application\"\n[plugins.config.application]\nopen = false\nclose = false\n";

#[tokio::test]
async fn answers_up_to_the_default_of_max_answer_arrive() {
    let fpm = Fpm::start(2).await;
    for plugins in ["", APPLICATION] {
        let config = format!("[upstream]\n{}{plugins}", fpm.upstream("frames.php"));
        let gateway = Gateway::start(&config).await;
        let mut client = gateway.connect().await;
        for size in [6 * MIB, 16 * MIB, 16 * MIB] {
            let answer = client.ask(&format!("long:{size}")).await;
            assert_eq!(answer.len(), size);
        }
        let chain = gateway.chain().await;
        assert_eq!(chain.last().unwrap()["traps"], 0);
    }
}

/// Of 16 MB that are not UTF-8 the plugin makes 48 MB, which it has no room for.
#[tokio::test]
async fn a_client_hears_that_the_plugin_cannot_take_its_answer() {
    let fpm = Fpm::start(2).await;
    for (plugin, plugins) in [("default", "[plugins]\n"), ("application", APPLICATION)] {
        let mut setting = format!("[plugins.config.{plugin}]\n");
        if plugins.contains(&setting) {
            setting.clear();
        }
        let config = format!(
            "[upstream]\n{}{plugins}{setting}on-failure = \"answer:too long\"\n",
            fpm.upstream("frames.php")
        );
        let mut gateway = Gateway::start(&config).await;
        let mut client = gateway.connect().await;
        assert_eq!(client.ask(&format!("odd-long:{}", 16 * MIB)).await, "too long");
        gateway
            .logged(&[
                "no answer: too-large",
                "16777216 bytes",
                "memory-limit",
                &client.id,
            ])
            .await;
        assert_eq!(client.ask("after").await, "after");
    }
}

/// Each byte of these messages is three in the form, which is the most work that a message can be.
#[tokio::test]
async fn limits_of_plugins_follow_those_of_messages_through_a_reload() {
    let fpm = Fpm::start(2).await;
    let config = |max: usize| {
        format!(
            "listen = \"127.0.0.1:0\"\nmax-message = \"{max}MiB\"\n[upstream]\n{}",
            fpm.upstream("frames.php")
        )
    };
    let mut gateway = Gateway::start(&config(4)).await;
    let longest = async |gateway: &Gateway, size: usize| {
        let mut client = gateway.connect().await;
        let length = size - "length:".len();
        let message = format!("length:{}", "\0".repeat(length));
        assert_eq!(client.ask(&message).await, length.to_string());
    };
    longest(&gateway, 4 * MIB).await;
    std::fs::write(gateway.file("aileron.toml"), config(12)).unwrap();
    gateway.process.signal("HUP");
    gateway.logged(&["INFO", "configuration taken over"]).await;
    longest(&gateway, 12 * MIB).await;
    let chain = gateway.chain().await;
    assert_eq!(chain.last().unwrap()["traps"], 0);
}

#[tokio::test]
async fn a_megabyte_for_each_of_ten_clients_is_one_push() {
    let gateway = Gateway::start(APPLICATION).await;
    let mut clients = join_all((0..10).map(|_| gateway.connect())).await;
    let ids: Vec<_> = clients.iter().map(|client| client.id.clone()).collect();
    let message = "m".repeat(1_000_000);
    let push = gateway
        .request(Method::POST, "/send")
        .header("content-type", "application/json")
        .body(json!({"client_id": ids, "message": message}).to_string());
    let said = answer(push).await;
    assert_eq!(said.status, 200, "{said:?}");
    assert_eq!(said.body.matches("\"sent\"").count(), 10, "{said:?}");
    for client in &mut clients {
        assert!(client.text().await == message);
    }
}
