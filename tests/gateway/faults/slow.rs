//! Plugins that are slow: they get threads of their own, for as long as they are slow, and those threads are fair.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;

use super::{fail, gateway};
use crate::support::{Bare, Client, Fpm, Gateway, QUICK, guest};

/// A message that takes the plugin milliseconds.
const SLOW: &str = "burn:3000000";
/// One that takes so long that the way of another client's message takes no time beside it, however busy the machine is.
const LONG: &str = "burn:60000000";

async fn is_slow(gateway: &Gateway) -> bool {
    gateway.plugin("misbehave").await.unwrap()["slow"] == true
}

/// Sends slow messages until the plugin has threads of its own.
async fn slow_down(gateway: &Gateway, client: &mut Client, message: &str) {
    let mut calls = 0;
    while gateway.count_logged(&["slow plugin"]) == 0 {
        client.send(message).await;
        client.text().await;
        calls += 1;
        assert!(calls < 1000, "a plugin that takes milliseconds is not found slow");
    }
    println!("found slow after {calls} calls");
}

#[tokio::test]
async fn a_plugin_that_is_slow_is_moved_to_threads_of_its_own_and_works_on() {
    let mut gateway = gateway().await;
    let mut client = gateway.connect().await;
    assert_eq!(client.ask("quick").await, "ok quick");
    assert!(!is_slow(&gateway).await);
    slow_down(&gateway, &mut client, SLOW).await;
    gateway
        .logged(&["WARN", "slow plugin", "plugin=\"misbehave\""])
        .await;
    assert!(is_slow(&gateway).await);
    let mut other = gateway.connect().await;
    for n in 0..10 {
        client.send(&format!("burn:{n}")).await;
        other.send(&format!("{n}")).await;
        assert_eq!(client.text().await, format!("burned {n}"));
        assert_eq!(other.text().await, format!("ok {n}"));
    }
    fail(&mut client, "trap").await;
    assert_eq!(other.ask("still there").await, "ok still there");
}

#[tokio::test]
async fn a_plugin_that_is_quick_for_a_while_is_called_on_the_usual_threads_again() {
    let mut gateway = gateway().await;
    let mut client = gateway.connect().await;
    slow_down(&gateway, &mut client, SLOW).await;
    let mut calls = 0;
    while is_slow(&gateway).await {
        assert_eq!(client.ask("quick").await, "ok quick");
        calls += 1;
        assert!(calls < 10_000, "it is slow for good");
    }
    println!("found quick after {calls} calls");
    assert!(calls > 100, "{calls}");
    gateway
        .logged(&["INFO", "the plugin is quick again", "misbehave"])
        .await;
    assert_eq!(client.ask("quick").await, "ok quick");
}

/// How long messages are is for clients to say.
#[tokio::test]
async fn long_messages_of_a_stranger_do_not_make_a_plugin_slow() {
    let fpm = Fpm::start(2).await;
    let gateway = Gateway::start(&format!("[upstream]\n{}", fpm.upstream("frames.php"))).await;
    let mut stranger = gateway.connect().await;
    // It takes the plugin some three milliseconds, and more while other tests run.
    let message = format!("length:{}", "x".repeat(1_000_000));
    for _ in 0..30 {
        assert_eq!(stranger.ask(&message).await, "1000000");
    }
    assert_eq!(gateway.chain().await.last().unwrap()["slow"], false);
}

/// Sends many long messages, and then a short one from elsewhere. Gives how many answers come before that to the short one.
async fn answered_before(other: &mut Client, busy: &mut [Client], each: usize) -> usize {
    for client in &mut *busy {
        for _ in 0..each {
            client.send(LONG).await;
        }
    }
    let answer = LONG.replace("burn:", "burned ");
    other.send("hello").await;
    let answered = AtomicUsize::new(0);
    let rest = busy.iter_mut().map(async |client| {
        for _ in 0..each {
            assert_eq!(client.text().await, answer);
            answered.fetch_add(1, Ordering::Relaxed);
        }
    });
    let before = async {
        assert_eq!(other.text().await, "ok hello");
        answered.load(Ordering::Relaxed)
    };
    tokio::join!(before, join_all(rest)).0
}

/// A client may have many messages handled at a time; another one has to wait for one of them, and not for all.
#[tokio::test]
async fn connections_take_turns_at_a_slow_plugin() {
    const MESSAGES: usize = 120;
    let config = format!("in-flight = {MESSAGES}\n{QUICK}time-limit = \"20s\"\n");
    let gateway = Gateway::with_plugins(&[("misbehave", &guest("misbehave"))], &config).await;
    let mut busy = [gateway.connect().await];
    let mut other = gateway.connect().await;
    slow_down(&gateway, &mut busy[0], SLOW).await;
    let before = answered_before(&mut other, &mut busy, MESSAGES).await;
    println!("answered after {before} of {MESSAGES} messages of another connection");
    // The test itself gets little of the processors meanwhile.
    assert!(before < MESSAGES * 3 / 4, "{before}");
}

/// However many connections it has.
#[tokio::test]
async fn addresses_take_turns_at_a_slow_plugin() {
    const CONNECTIONS: usize = 120;
    let config = format!("{QUICK}time-limit = \"20s\"\n");
    let gateway = Gateway::with_plugins(&[("misbehave", &guest("misbehave"))], &config).await;
    let connecting = (0..CONNECTIONS).map(|_| Client::connect_from([127, 0, 0, 2], gateway.clients, "/ws"));
    let mut busy = join_all(connecting).await;
    let mut other = gateway.connect().await;
    slow_down(&gateway, &mut busy[0], SLOW).await;
    let before = answered_before(&mut other, &mut busy, 1).await;
    println!("answered after {before} of {CONNECTIONS} messages of another address");
    assert!(before < CONNECTIONS * 3 / 4, "{before}");
}

/// More than could wait for a slow plugin.
#[tokio::test]
async fn no_close_event_is_lost_at_a_slow_plugin() {
    const GOING: usize = 1500;
    let config = format!("in-flight = 4\n{QUICK}time-limit = \"20s\"\n");
    let gateway = Gateway::with_plugins(&[("events", &guest("events"))], &config).await;
    let mut busy = gateway.connect_to("/ws?next").await;
    slow_down(&gateway, &mut busy, SLOW).await;
    let going = join_all((0..GOING).map(|_| Bare::connect(gateway.clients, "/ws?next"))).await;
    let published = "aileron_publications_total";
    assert_eq!(gateway.metric(published).await, 0.0);
    // Until all of them have gone.
    for _ in 0..4 {
        busy.send("burn:1000000000").await;
    }
    drop(going);
    gateway.measures("aileron_connections", 1.0).await;
    for _ in 0..4 {
        assert_eq!(busy.text().await, "burned");
    }
    gateway.measures(published, GOING as f64).await;
}
