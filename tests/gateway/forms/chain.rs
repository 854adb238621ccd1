//! Who is asked, in which order, and what becomes of each action.

use crate::support::{Fpm, Frame, Gateway, QUICK, guest, put, stamp, version};

#[tokio::test]
async fn plugins_are_asked_in_the_order_of_their_file_names() {
    let plugins = [("20-b", &stamp(2)[..]), ("10-c", &stamp(1)), ("30-a", &stamp(3))];
    let gateway = Gateway::with_plugins(&plugins, QUICK).await;
    let mut client = gateway.connect().await;
    assert_eq!(client.ask("who").await, format!("who@{}", version(1)));
    let names: Vec<_> = gateway
        .chain()
        .await
        .into_iter()
        .map(|plugin| plugin["name"].clone())
        .collect();
    assert_eq!(names, ["10-c", "20-b", "30-a", "default"]);
}

#[tokio::test]
async fn the_next_plugin_gets_the_message_as_it_is_or_as_the_one_before_changed_it() {
    let fpm = Fpm::start(2).await;
    let config = format!("[upstream]\n{}{QUICK}", fpm.upstream("frames.php"));
    let misbehave = guest("misbehave");
    let gateway = Gateway::with_plugins(&[("10-misbehave", &misbehave)], &config).await;
    let mut client = gateway.connect().await;
    assert_eq!(client.ask("next").await, "next", "PHP echoes");
    assert_eq!(client.ask("next:changed").await, "changed");
    client.send_binary(b"bytes").await;
    assert_eq!(client.next().await, Frame::Binary(b"bytes".to_vec()));

    put(&gateway.plugin_file("20-stamp"), &stamp(1));
    gateway.serves("20-stamp", &stamp(1)).await;
    assert_eq!(
        client.ask("next:changed").await,
        format!("changed@{}", version(1))
    );
    assert_eq!(client.ask("mine").await, "ok mine");
}

#[tokio::test]
async fn a_plugin_is_asked_only_for_the_paths_and_kinds_that_it_wants() {
    let config = format!(
        "path = \"/a\"\n{QUICK}[plugins.config.misbehave]\npaths = \"/a,/b/*\"\nframes = \"text\"\n\
         [[route]]\npath = \"/b/1\"\n[[route]]\npath = \"/c\"\n"
    );
    let plugins = [("10-misbehave", &guest("misbehave")[..]), ("20-stamp", &stamp(1))];
    let gateway = Gateway::with_plugins(&plugins, &config).await;
    for (path, answer) in [("/a", "ok hi"), ("/b/1", "ok hi"), ("/c", "hi@VERSION-00000001")] {
        let mut client = gateway.connect_to(path).await;
        assert_eq!(client.ask("hi").await, answer, "{path}");
        client.send_binary(b"hi").await;
        assert_eq!(client.text().await, "2 bytes@VERSION-00000001", "{path}");
    }
}

#[tokio::test]
async fn a_plugin_is_handed_the_headers_of_an_answer_that_it_wants() {
    let fpm = Fpm::start(1).await;
    let upstream = format!("[upstream]\n{}", fpm.upstream("frames.php"));
    for (wish, headers) in [
        ("", "content-type x-powered-by"),
        ("response-headers = \"Content-Type, age\"\n", "content-type"),
        ("response-headers = \"\"\n", ""),
    ] {
        let config = format!("{QUICK}[plugins.config.misbehave]\n{wish}{upstream}");
        let gateway = Gateway::with_plugins(&[("misbehave", &guest("misbehave"))], &config).await;
        assert_eq!(
            gateway.connect().await.ask("forward::headers").await,
            headers,
            "{wish}"
        );
    }
}

/// A route names its plugins in an order of its own, with or without their numbers.
#[tokio::test]
async fn a_route_has_the_plugins_that_it_names() {
    let config = format!(
        "{QUICK}[[route]]\npath = \"/b\"\nplugins = [\"b\", \"10-a\"]\n[[route]]\npath = \"/none\"\nplugins = []\n"
    );
    let fpm = Fpm::start(2).await;
    let config = format!("{config}[upstream]\n{}", fpm.upstream("frames.php"));
    let gateway = Gateway::with_plugins(&[("10-a", &stamp(1)), ("20-b", &stamp(2))], &config).await;
    for (path, answer) in [
        ("/ws", "hi@VERSION-00000001"),
        ("/b", "hi@VERSION-00000002"),
        ("/none", "hi"),
    ] {
        assert_eq!(gateway.connect_to(path).await.ask("hi").await, answer, "{path}");
    }
}

#[tokio::test]
async fn a_plugin_sends_to_other_connections_and_closes_them() {
    let mut gateway = Gateway::with_plugins(&[("misbehave", &guest("misbehave"))], QUICK).await;
    let mut client = gateway.connect().await;
    let mut other = gateway.connect().await;
    assert_eq!(client.ask(&format!("send:{}", other.id)).await, "sent");
    assert_eq!(other.text().await, "sent to you");
    assert_eq!(client.ask("send:nobody").await, "sent");
    gateway
        .logged(&["WARN", "`send` was not done", "nobody", "no such connection"])
        .await;

    other.send("close:1006").await;
    gateway.logged(&["WARN", "must not be sent", &other.id]).await;
    other.send("close:4001").await;
    assert_eq!(other.next().await, Frame::Close(4001, "as asked".to_owned()));
    assert_eq!(client.ask("still here").await, "ok still here");
}

#[tokio::test]
async fn an_action_that_the_host_does_not_know_is_logged_and_the_rest_is_done() {
    let mut gateway = Gateway::with_plugins(&[("misbehave", &guest("misbehave"))], QUICK).await;
    let mut client = gateway.connect().await;
    assert_eq!(client.ask("unsupported").await, "the rest is done");
    gateway
        .logged(&["WARN", "is not known to this host", "dance"])
        .await;
}

#[tokio::test]
async fn a_forward_goes_to_the_upstream_that_it_names() {
    let fpm = Fpm::start(2).await;
    let upstream = fpm.upstream("frames.php");
    let config = format!("[upstreams.php]\n{upstream}{QUICK}");
    let gateway = Gateway::with_plugins(&[("misbehave", &guest("misbehave"))], &config).await;
    let mut client = gateway.connect().await;
    let versions = "asked by VERSION-00000000, heard by VERSION-00000000";
    assert_eq!(
        client.ask("forward:php:hello").await,
        format!("hello, {versions}")
    );
    let answer = client.ask("forward:nowhere:hello").await;
    assert!(
        answer.starts_with("unknown-upstream: ") && answer.contains("`nowhere`"),
        "{answer}"
    );
}

/// What crosses from a plugin is as large as a frame may be and larger.
#[tokio::test]
async fn a_reply_may_be_of_some_mebibytes() {
    let gateway = Gateway::with_plugins(&[("misbehave", &guest("misbehave"))], QUICK).await;
    let mut client = gateway.connect().await;
    for size in [0, 1, 65_536, 4 << 20] {
        assert_eq!(client.ask(&format!("big:{size}")).await.len(), size);
    }
}
