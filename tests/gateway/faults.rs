//! Plugins that trap, run for ever, or take all memory: who notices, and who must not.

mod circles;
mod policy;
mod slow;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use tokio::task::JoinSet;

use crate::support::{Answer, Client, Fpm, Gateway, QUICK, answer, guest};

/// What makes a plugin fail, and how the log and the metrics name it.
const FAULTS: [(&str, &str, &str); 3] = [
    ("trap", "it trapped", "trap"),
    ("grow", "of memory (memory-limit)", "memory"),
    ("loop", "of CPU time (time-limit)", "time"),
];

async fn gateway() -> Gateway {
    Gateway::with_plugins(&[("misbehave", &guest("misbehave"))], QUICK).await
}

fn failures(cause: &str) -> String {
    format!("aileron_plugin_failures_total{{plugin=\"misbehave\",cause=\"{cause}\"}}")
}

/// Sends a message that makes the plugin fail, and the next one, which is answered.
async fn fail(client: &mut Client, fault: &str) {
    client.send(fault).await;
    assert_eq!(client.ask("after").await, "ok after", "{fault}");
}

#[tokio::test]
async fn a_failed_event_is_dropped_and_logged_and_the_connection_goes_on() {
    let mut gateway = gateway().await;
    for (nth, (fault, words, cause)) in FAULTS.into_iter().enumerate() {
        let mut client = gateway.connect().await;
        fail(&mut client, fault).await;
        let who = format!("connection=\"{}\"", client.id);
        let line = [
            "ERROR",
            "plugin failed",
            "plugin=\"misbehave\"",
            "event=\"frame\"",
            &who,
            words,
        ];
        gateway.logged(&line).await;
        assert_eq!(gateway.metric(&failures(cause)).await, 1.0, "{cause}");
        assert_eq!(gateway.plugin("misbehave").await.unwrap()["traps"], nth + 1);
    }
}

#[tokio::test]
async fn an_answer_that_makes_the_plugin_fail_is_dropped_and_the_connection_goes_on() {
    let fpm = Fpm::start(2).await;
    let config = format!("[upstream]\n{}{QUICK}", fpm.upstream("frames.php"));
    let mut gateway = Gateway::with_plugins(&[("misbehave", &guest("misbehave"))], &config).await;
    let mut client = gateway.connect().await;
    fail(&mut client, "forward::trap").await;
    gateway
        .logged(&["plugin failed", "event=\"response\"", &client.id, "it trapped"])
        .await;
}

#[tokio::test]
async fn a_push_that_fails_is_answered_with_500_and_the_cause_and_the_next_one_by_the_plugin() {
    let mut gateway = gateway().await;
    for (fault, words, cause) in FAULTS {
        let push =
            async |body: &'static str| answer(gateway.request(Method::POST, "/misbehave").body(body)).await;
        let failed = push(fault).await;
        assert_eq!(failed.status, 500, "{fault}");
        assert!(failed.body.contains(words), "{failed:?}");
        let next = Answer {
            status: 200,
            body: "next".to_owned(),
        };
        assert_eq!(push("next").await, next);
        assert_eq!(gateway.metric(&failures(cause)).await, 1.0, "{cause}");
        gateway.logged(&["plugin failed", "event=\"push\"", words]).await;
    }
    let unanswered = gateway.request(Method::POST, "/misbehave").body("nothing");
    assert_eq!(answer(unanswered).await.status, 404);
}

/// Asks until it is told to stop, and gives how long each answer took.
async fn converse(mut client: Client, stop: Arc<AtomicBool>) -> Vec<Duration> {
    let mut latencies = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let question = format!("{}-{}", client.id, latencies.len());
        let sent = Instant::now();
        assert_eq!(client.ask(&question).await, format!("ok {question}"));
        latencies.push(sent.elapsed());
    }
    client.is_quiet().await;
    latencies
}

/// One client makes the plugin fail without a pause; eight others use the same plugin.
#[tokio::test(flavor = "multi_thread")]
async fn who_makes_a_plugin_fail_again_and_again_disturbs_nobody_else() {
    // A loop takes its full time each.
    for ((fault, _, cause), times) in FAULTS.into_iter().zip([1000, 1000, 40]) {
        let gateway = gateway().await;
        let stop = Arc::new(AtomicBool::new(false));
        let mut conversations = JoinSet::new();
        for _ in 0..8 {
            conversations.spawn(converse(gateway.connect().await, stop.clone()));
        }
        let mut client = gateway.connect().await;
        for _ in 0..times {
            fail(&mut client, fault).await;
        }
        stop.store(true, Ordering::Relaxed);
        let mut latencies: Vec<_> = conversations.join_all().await.into_iter().flatten().collect();
        latencies.sort();
        let share = |percent: usize| latencies[latencies.len() * percent / 100];
        let worst = *latencies.last().unwrap();
        println!(
            "beside {times} x `{fault}`: {} answers, p50 {:?}, p99 {:?}, max {worst:?}",
            latencies.len(),
            share(50),
            share(99),
        );
        assert!(worst < Duration::from_secs(5), "{worst:?}");
        assert_eq!(gateway.metric(&failures(cause)).await, f64::from(times));
        gateway.measures("aileron_plugin_generations", 2.0).await;
    }
}
