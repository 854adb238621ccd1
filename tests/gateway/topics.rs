//! Topics: who gets what is published, who is in, what is kept for those who were away; and how it is with many.

mod gaps;
mod histories;
mod many;
mod resume;

use crate::support::{Gateway, QUICK, guest};

pub(crate) async fn with_events(config: &str) -> Gateway {
    Gateway::with_plugins(&[("events", &guest("events"))], &format!("{config}{QUICK}")).await
}

#[tokio::test]
async fn what_is_published_reaches_subscribers_and_nobody_else() {
    let gateway = with_events("").await;
    let mut ann = gateway.connect_to("/ws?next;subscribe:room;reply:in").await;
    let mut bob = gateway.connect_to("/ws?next;subscribe:room;reply:in").await;
    let mut eve = gateway.connect_to("/ws?next;reply:in").await;
    for client in [&mut ann, &mut bob, &mut eve] {
        assert_eq!(client.text().await, "in");
    }
    ann.send("publish:room=to all;others:room=to the others;reply:done")
        .await;
    assert_eq!(ann.text().await, "to all", "actions are done in order");
    assert_eq!(ann.text().await, "done");
    ann.is_quiet().await;
    assert_eq!(bob.text().await, "to all");
    assert_eq!(bob.text().await, "to the others");
    eve.is_quiet().await;

    eve.send("others:*=to everyone").await;
    assert_eq!(ann.text().await, "to everyone");
    assert_eq!(bob.text().await, "to everyone");
    eve.is_quiet().await;

    bob.send("unsubscribe:room;reply:out").await;
    assert_eq!(bob.text().await, "out");
    eve.send("publish:room=again").await;
    assert_eq!(ann.text().await, "again");
    bob.is_quiet().await;
}

#[tokio::test]
async fn a_plugin_reads_topics_counts_subscribers_and_members() {
    let gateway = with_events("").await;
    let mut ann = gateway
        .connect_to("/ws?next;set:user=ann;subscribe:a;subscribe:b;reply:in")
        .await;
    let mut more = gateway
        .connect_to("/ws?next;set:user=ann;subscribe:b;reply:in")
        .await;
    let mut nameless = gateway.connect_to("/ws?next;subscribe:b;reply:in").await;
    for client in [&mut ann, &mut more, &mut nameless] {
        assert_eq!(client.text().await, "in");
    }
    assert_eq!(ann.ask("topics").await, "a b");
    assert_eq!(ann.ask("count:b").await, "3");
    assert_eq!(ann.ask("count:*").await, "3");
    assert_eq!(ann.ask("count:nothing").await, "0");
    assert_eq!(ann.ask("subscribers:a").await, ann.id);
    assert_eq!(ann.ask("members:b").await, format!("{}*1 ann*2", nameless.id));
}

#[tokio::test]
async fn a_plugin_hears_what_became_of_its_actions() {
    let gateway = with_events("max-topics = 2\n[[topic]]\nname = \"kept\"\n").await;
    let mut client = gateway.connect().await;
    let mut other = gateway.connect().await;
    let id = other.id.clone();
    let asked = format!(
        "send:{id}=hi;send:nobody=hi;subscribe:a;subscribe:b;subscribe:c;publish:a=x;publish:nothing=x;set:n=v;\
         set:=v;timer:t=100000;close:{id}=4000;close:nobody=4000;close:{id}=1006;report"
    );
    client.send(&asked).await;
    assert_eq!(
        client.text().await,
        "x",
        "what it publishes to itself comes first"
    );
    let report = client.text().await;
    let expected = [
        "report sent() not-found() done() done()",
        "refused(cause=the connection has as many topics as it may (max-topics))",
        "sent(recipients=1,congested=0) sent(recipients=0,congested=0) done()",
        "refused(cause=a name has 1 to 255 bytes, none of them a control character; `*` is everyone) done()",
        "closed() not-found() refused(cause=1006 is not a close code that may be sent (RFC 6455 section 7.4))",
    ];
    assert_eq!(report, expected.join(" "));
    assert_eq!(other.text().await, "hi");
    let report = client.ask("publish:kept=x;report").await;
    assert!(
        report.contains("epoch=") && report.contains("offset=1"),
        "{report}"
    );
}

#[tokio::test]
async fn joins_and_leaves_are_told_to_those_who_want_to_know() {
    let gateway = with_events("").await;
    let mut watcher = gateway
        .connect_to("/ws?next;subscribe:room:presence;reply:in")
        .await;
    assert_eq!(watcher.text().await, "in");
    let event =
        |event: &str, member: &str| format!(r#"{{"topic":"room","event":"{event}","member":"{member}"}}"#);
    let first = gateway.connect_to("/ws?next;set:user=ann;subscribe:room").await;
    assert_eq!(watcher.text().await, event("join", "ann"));
    let second = gateway.connect_to("/ws?next;set:user=ann;subscribe:room").await;
    let mut nameless = gateway.connect_to("/ws?next;subscribe:room").await;
    assert_eq!(
        watcher.text().await,
        event("join", &nameless.id),
        "ann is in already"
    );
    first.cut();
    nameless.send("unsubscribe:room").await;
    assert_eq!(
        watcher.text().await,
        event("leave", &nameless.id),
        "ann is still in"
    );
    second.close().await;
    assert_eq!(watcher.text().await, event("leave", "ann"));
    assert_eq!(watcher.ask("members:room").await, "");
}

/// Topics end with their last subscriber, and so do their entries.
#[tokio::test]
async fn nothing_is_left_of_topics_when_everyone_has_gone() {
    let gateway = with_events("").await;
    let mut clients = Vec::new();
    for n in 0..20 {
        let mut client = gateway
            .connect_to(&format!(
                "/ws?next;subscribe:{n};subscribe:all;subscribe:all:presence;reply:in"
            ))
            .await;
        while client.text().await != "in" {}
        clients.push(client);
    }
    gateway.measures("aileron_topics", 22.0).await;
    for client in clients {
        client.cut();
    }
    gateway.measures("aileron_topics", 0.0).await;
}
