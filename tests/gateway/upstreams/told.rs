//! What PHP is told of the gateway's patience, and the client of a message that was not handled.

use std::time::{Duration, SystemTime};

use super::guarded::Guarded;
use crate::support::{Frame, Gateway, Nginx};

fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap()
}

#[tokio::test]
async fn php_is_told_when_the_gateway_stops_waiting() {
    let php = Guarded::start(2).await;
    let nginx = Nginx::start(&php.fpm).await;
    for upstream in [php.upstream(), php.upstream_through(&nginx)] {
        let gateway = Gateway::start(&format!("[upstream]\ntimeout = \"40s\"\n{upstream}")).await;
        let mut client = gateway.connect().await;
        let before = now();
        let deadline = client.ask("deadline").await;
        let (seconds, milliseconds) = deadline.split_once('.').unwrap();
        assert_eq!(milliseconds.len(), 3, "{deadline}");
        let deadline = Duration::from_secs(seconds.parse().unwrap())
            + Duration::from_millis(milliseconds.parse().unwrap());
        let began = deadline - Duration::from_secs(40) + Duration::from_millis(1);
        assert!(
            (before..=now() + Duration::from_millis(1)).contains(&began),
            "{deadline:?}"
        );
    }
}

#[tokio::test]
async fn a_script_stops_when_nobody_waits_any_more() {
    let php = Guarded::start(1).await;
    let mut gateway = Gateway::start(&format!("[upstream]\ntimeout = \"2s\"\n{}", php.upstream())).await;
    let mut client = gateway.connect().await;
    client.send("work").await;
    gateway
        .logged(&["no answer: timeout: no answer within 2s (timeout)", &client.id])
        .await;
    php.has_noted("stopped").await;
    php.let_go();
    assert_eq!(client.ask("next").await, "next");
    assert_eq!(php.notes(), ["work", "stopped", "next"]);
}

#[tokio::test]
async fn a_client_hears_of_a_message_that_was_not_handled_as_the_operator_wants_it() {
    for built_in in ["default", "application"] {
        let mut php = Guarded::start(2).await;
        let nginx = Nginx::start(&php.fpm).await;
        let config = |upstream: String, setting: &str| {
            format!(
                "[upstream]\nretries = 0\n{upstream}[plugins]\nbuilt-in = \"{built_in}\"\n\
                 [plugins.config.{built_in}]\non-failure = \"{setting}\"\n"
            )
        };
        let silent = Gateway::start(&config(php.upstream(), "silent")).await;
        let closes = Gateway::start(&config(php.upstream(), "close")).await;
        let answers = Gateway::start(&config(php.upstream_through(&nginx), "answer:try again later")).await;
        let mut clients = Vec::new();
        for gateway in [&silent, &closes, &answers] {
            let mut client = gateway.connect_to("/ws?x").await;
            if built_in == "application" {
                assert_eq!(client.text().await, "open x");
            }
            assert_eq!(client.ask("hello").await, "hello");
            clients.push(client);
        }
        php.fpm.stop().await;
        for client in &mut clients {
            client.send("lost").await;
        }
        let reason = "message not handled: unreachable".to_owned();
        assert_eq!(clients[1].next().await, Frame::Close(1013, reason));
        assert_eq!(clients[2].text().await, "try again later");
        clients[2].send_binary(b"lost").await;
        assert_eq!(
            clients[2].next().await,
            Frame::Binary(b"try again later".to_vec())
        );
        silent
            .logged_times(1, &["no answer: unreachable", &clients[0].id])
            .await;
        clients[0].is_quiet().await;
        php.fpm.restart().await;
        assert_eq!(clients[2].ask("hello").await, "hello");
        assert_eq!(clients[0].ask("hello").await, "hello");
    }
}
