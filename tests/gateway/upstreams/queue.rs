//! More requests than PHP-FPM is to have: who is next, who is refused, who has gone meanwhile.

use super::guarded::Guarded;
use crate::support::{Bare, Client, Gateway};

pub(super) const WAITING: &str = "aileron_upstream_waiting{upstream=\"default\"}";
const UNDER_WAY: &str = "aileron_upstream_under_way{upstream=\"default\"}";
const ABANDONED: &str = "aileron_upstream_abandoned_total{upstream=\"default\"}";

pub(super) fn refusals(key: &str) -> String {
    format!("aileron_upstream_refusals_total{{upstream=\"default\",key=\"{key}\"}}")
}

/// A client whose request holds the only place.
async fn holder(gateway: &Gateway, php: &Guarded) -> Client {
    let mut holder = gateway.connect_to("/ws?holder").await;
    holder.send("hold").await;
    php.has_noted("hold").await;
    holder
}

/// The noisy one has five hundred frames waiting when the modest one sends its first.
#[tokio::test]
async fn a_noisy_client_does_not_keep_another_from_its_turn() {
    let php = Guarded::start(2).await;
    let config = format!(
        "in-flight = 1000\n[upstream]\nmax-requests = 1\nmax-wait = \"60s\"\ntimeout = \"60s\"\n{}",
        php.upstream()
    );
    let gateway = Gateway::start(&config).await;
    let mut noisy = holder(&gateway, &php).await;
    for n in 0..500 {
        noisy.send(&format!("noise {n}")).await;
    }
    gateway.measures(WAITING, 500.0).await;
    let mut modest = gateway.connect().await;
    modest.send("modest").await;
    gateway.measures(WAITING, 501.0).await;
    assert_eq!(gateway.metric(UNDER_WAY).await, 1.0);

    php.let_go();
    assert_eq!(modest.text().await, "modest");
    assert_eq!(noisy.text().await, "hold");
    for n in 0..500 {
        assert_eq!(noisy.text().await, format!("noise {n}"));
    }
    assert_eq!(php.notes()[..4], ["hold", "noise 0", "modest", "noise 1"]);
    assert_eq!(php.notes().len(), 502);
    gateway.measures(UNDER_WAY, 0.0).await;
}

#[tokio::test]
async fn when_no_more_may_wait_the_noisy_client_makes_room() {
    let php = Guarded::start(2).await;
    let config = format!(
        "in-flight = 1000\n[upstream]\nmax-requests = 1\nmax-waiting = 100\nmax-wait = \"60s\"\ntimeout = \"60s\"\n{}",
        php.upstream()
    );
    let mut gateway = Gateway::start(&config).await;
    let mut noisy = holder(&gateway, &php).await;
    for n in 0..150 {
        noisy.send(&format!("noise {n}")).await;
    }
    gateway.measures(&refusals("max-waiting"), 50.0).await;
    let mut modest = gateway.connect().await;
    modest.send("modest").await;
    gateway.measures(&refusals("max-waiting"), 51.0).await;
    assert_eq!(gateway.metric(WAITING).await, 100.0);

    php.let_go();
    assert_eq!(modest.text().await, "modest");
    assert_eq!(noisy.text().await, "hold");
    for n in 0..99 {
        assert_eq!(noisy.text().await, format!("noise {n}"));
    }
    assert_eq!(noisy.ask("again").await, "again");
    assert_eq!(php.notes().len(), 102);
    gateway
        .logged(&[
            "no answer: overloaded: 1 requests are under way and 100 wait (max-requests, max-waiting)",
            &noisy.id,
        ])
        .await;
    assert_eq!(gateway.count_logged(&["overloaded", &noisy.id]), 51);
    assert_eq!(gateway.count_logged(&["overloaded", &modest.id]), 0);
}

#[tokio::test]
async fn who_waits_too_long_is_refused_and_nobody_else() {
    let php = Guarded::start(2).await;
    let config = format!(
        "[upstream]\nmax-requests = 1\nmax-wait = \"300ms\"\ntimeout = \"60s\"\n{}",
        php.upstream()
    );
    let mut gateway = Gateway::start(&config).await;
    let mut holder = holder(&gateway, &php).await;
    let mut waits = gateway.connect().await;
    waits.send("too late").await;
    gateway
        .logged(&[
            "no answer: overloaded: waited 300ms for its turn (max-wait)",
            &waits.id,
        ])
        .await;
    assert_eq!(gateway.metric(&refusals("max-wait")).await, 1.0);
    php.let_go();
    assert_eq!(holder.text().await, "hold");
    assert_eq!(waits.ask("in time").await, "in time");
    assert_eq!(php.notes(), ["hold", "in time"]);
}

/// With kept connections there are never more requests under way than these, and who waits does so in the fair line.
#[tokio::test]
async fn kept_connections_bound_what_is_under_way() {
    let php = Guarded::start(2).await;
    let config = format!(
        "[upstream]\nkeep = 1\nmax-waiting = 0\ntimeout = \"60s\"\n{}",
        php.upstream()
    );
    let mut gateway = Gateway::start(&config).await;
    let mut holder = holder(&gateway, &php).await;
    let mut other = gateway.connect().await;
    other.send("no place").await;
    gateway
        .logged(&["no answer: overloaded: 1 requests are under way and 0 wait (keep, max-waiting)"])
        .await;
    php.let_go();
    assert_eq!(holder.text().await, "hold");
    assert_eq!(other.ask("now").await, "now");
}

#[tokio::test]
async fn the_frame_of_a_client_that_went_while_it_waited_never_reaches_php() {
    let php = Guarded::start(2).await;
    let config = format!(
        "[upstream]\nmax-requests = 1\nmax-wait = \"60s\"\ntimeout = \"60s\"\n{}",
        php.upstream()
    );
    let gateway = Gateway::start(&config).await;
    let mut holder = holder(&gateway, &php).await;
    let (mut goes, mut stays) = (gateway.connect().await, gateway.connect().await);
    goes.send("never").await;
    gateway.measures(WAITING, 1.0).await;
    stays.send("still here").await;
    gateway.measures(WAITING, 2.0).await;
    goes.cut();
    gateway.measures(ABANDONED, 1.0).await;
    php.let_go();
    assert_eq!(holder.text().await, "hold");
    assert_eq!(stays.text().await, "still here");
    assert_eq!(php.notes(), ["hold", "still here"]);
}

/// PHP is not asked about a client that has gone; about one that goes while it is being asked it hears the end.
#[tokio::test]
async fn the_handshake_of_a_client_that_went_while_it_waited_never_reaches_php() {
    let php = Guarded::start(2).await;
    let config = format!(
        "[plugins]\nbuilt-in = \"application\"\n[plugins.config.application]\nclose = false\n\
         [upstream]\nmax-requests = 1\nmax-wait = \"60s\"\ntimeout = \"60s\"\n{}",
        php.upstream()
    );
    let gateway = Gateway::start(&config).await;
    let mut holder = holder(&gateway, &php).await;
    let goes = Bare::ask_from([127, 0, 0, 1], gateway.clients, "/ws?goes").await;
    gateway.measures(WAITING, 1.0).await;
    let clients = gateway.clients;
    let stays = tokio::spawn(Client::connect(clients, "/ws?stays"));
    gateway.measures(WAITING, 2.0).await;
    drop(goes);
    gateway.measures(ABANDONED, 1.0).await;
    php.let_go();
    assert_eq!(holder.text().await, "open holder", "the greeting");
    assert_eq!(holder.text().await, "hold");
    let mut stays = stays.await.unwrap();
    assert_eq!(stays.text().await, "open stays");
    assert_eq!(php.notes(), ["open holder", "hold", "open stays"]);
    assert_eq!(gateway.metric("aileron_connections_accepted_total").await, 2.0);
}

/// Requests of before a reload are under way still: PHP-FPM has no more children than before.
#[tokio::test]
async fn a_reload_lets_no_more_requests_be_under_way() {
    let php = Guarded::start(2).await;
    let config = |timeout: u32| {
        format!(
            "[upstream]\nmax-requests = 1\nmax-wait = \"60s\"\ntimeout = \"{timeout}s\"\n{}",
            php.upstream()
        )
    };
    let mut gateway = Gateway::start(&format!("listen = \"127.0.0.1:0\"\n{}", config(61))).await;
    let mut holds = gateway.connect().await;
    holds.send("hold").await;
    php.has_noted("hold").await;
    let mut early = gateway.connect().await;
    early.send("early").await;
    gateway.measures(WAITING, 1.0).await;
    let file = gateway.file("aileron.toml");
    std::fs::write(file, format!("listen = \"127.0.0.1:0\"\n{}", config(62))).unwrap();
    gateway.process.signal("HUP");
    gateway.logged(&["configuration taken over"]).await;
    let mut late = gateway.connect().await;
    late.send("late").await;
    gateway.measures(WAITING, 2.0).await;
    assert_eq!(php.notes(), ["hold"]);
    php.let_go();
    assert_eq!(holds.text().await, "hold");
    assert_eq!(early.text().await, "early");
    assert_eq!(late.text().await, "late");
    assert_eq!(php.notes(), ["hold", "early", "late"]);
}
