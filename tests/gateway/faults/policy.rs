//! What becomes of an event when its plugin fails, by `[plugins.policy]`; and that a client beside it notices nothing.

use reqwest::Method;

use crate::support::{Answer, Client, Fpm, Frame, Gateway, QUICK, answer, guest, stamp, version};

/// `misbehave`, which fails as it is told, and behind it `stamp`, which answers everything. The name in the policy goes
/// with its number and without.
async fn gateway(name: &str, on_failure: &str, more: &str) -> Gateway {
    let plugins = [("10-misbehave", &*guest("misbehave")), ("20-stamp", &stamp(1))];
    let policy = format!("[plugins.policy.{name}]\non-failure = \"{on_failure}\"\n");
    Gateway::with_plugins(&plugins, &format!("{QUICK}{policy}{more}")).await
}

fn closed() -> Frame {
    Frame::Close(1011, "a plugin failed".to_owned())
}

#[tokio::test]
async fn an_event_goes_on_to_the_next_plugin_if_the_operator_says_so() {
    let fpm = Fpm::start(1).await;
    let upstream = format!("[upstream]\n{}", fpm.upstream("frames.php"));
    let mut gateway = gateway("misbehave", "next", &upstream).await;
    let mut client = gateway.connect().await;
    let mut other = gateway.connect().await;
    // The second one fails when it hears PHP's answer: the message that was forwarded goes on.
    for message in ["trap", "forward::trap", "grow", "loop"] {
        assert_eq!(client.ask(message).await, format!("{message}@{}", version(1)));
        assert_eq!(other.ask("hello").await, "ok hello");
    }
    for event in ["frame", "response"] {
        gateway
            .logged(&["ERROR", "plugin failed; the event goes on", &client.id, event])
            .await;
    }
    assert_eq!(client.ask("after").await, "ok after");
    assert_eq!(
        gateway.plugin("10-misbehave").await.unwrap()["on-failure"],
        "next"
    );
}

/// What was answered before leaves before the close frame; what comes behind is not answered any more.
#[tokio::test]
async fn a_connection_is_closed_if_the_operator_says_so() {
    let fpm = Fpm::start(1).await;
    let upstream = format!("[upstream]\n{}", fpm.upstream("frames.php"));
    let mut gateway = gateway("10-misbehave", "close", &upstream).await;
    let mut other = gateway.connect().await;
    for message in ["trap", "grow", "loop", "forward::trap"] {
        let mut client = gateway.connect().await;
        for message in ["before", message, "behind"] {
            client.send(message).await;
        }
        assert_eq!(client.text().await, "ok before");
        assert_eq!(client.next().await, closed(), "{message}");
        assert_eq!(client.next().await, Frame::End);
        gateway
            .logged(&["plugin failed; the connection is closed", &client.id])
            .await;
        gateway
            .logged(&["connection closed", &client.id, "code=1011"])
            .await;
        assert_eq!(other.ask("hello").await, "ok hello");
    }
}

/// The built-in plugin makes a form of the message, which takes longer than it may.
#[tokio::test]
async fn the_built_in_plugin_has_a_policy_too() {
    let config = "[plugins]\ntime-limit = \"1ms\"\n[plugins.policy.default]\non-failure = \"close\"\n";
    let mut gateway = Gateway::start(config).await;
    let mut client = gateway.connect().await;
    client.send(&"%".repeat(1024 * 1024)).await;
    assert_eq!(client.next().await, closed());
    gateway
        .logged(&["plugin failed; the connection is closed", "time-limit"])
        .await;
}

/// There is no connection to close.
#[tokio::test]
async fn a_push_that_fails_goes_on_or_is_answered_with_500() {
    for (on_failure, status) in [("drop", 500), ("close", 500), ("next", 404)] {
        let gateway = gateway("misbehave", on_failure, "").await;
        let push =
            async |body: &'static str| answer(gateway.request(Method::POST, "/misbehave").body(body)).await;
        assert_eq!(push("trap").await.status, status, "{on_failure}");
        let good = Answer {
            status: 200,
            body: "good".to_owned(),
        };
        assert_eq!(push("good").await, good);
    }
}

#[tokio::test]
async fn a_handshake_that_fails_is_refused_unless_it_shall_go_on() {
    for (on_failure, status) in [("drop", Some(500)), ("close", Some(500)), ("next", None)] {
        let config = format!("{QUICK}[plugins.policy.events]\non-failure = \"{on_failure}\"\n");
        let plugins = [("10-events", &*guest("events")), ("20-stamp", &stamp(1))];
        let gateway = Gateway::with_plugins(&plugins, &config).await;
        let handshake = Client::try_connect(gateway.clients, "/ws?trap", &[]).await;
        match handshake {
            Ok(mut client) => {
                assert_eq!(status, None, "{on_failure}");
                assert_eq!(client.ask("reply:in").await, "in");
            }
            Err(refused) => assert_eq!(Some(refused.status), status, "{on_failure}"),
        }
        let mut other = gateway.connect_to("/ws?next").await;
        assert_eq!(other.ask("reply:in").await, "in");
    }
}

#[tokio::test]
async fn a_policy_for_nobody_is_warned_of() {
    let mut gateway = gateway("misbehaves", "close", "").await;
    gateway
        .logged(&["WARN", "there is no plugin for", "misbehaves"])
        .await;
    assert_eq!(
        gateway.plugin("10-misbehave").await.unwrap()["on-failure"],
        "drop"
    );
}
