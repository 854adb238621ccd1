//! Two hundred connections talk without a pause while the plugin that answers them is replaced again and again, now and
//! then by a file that is no plugin. What they hear tells whether a single answer was lost, doubled, given out of turn
//! or by a version that had no business any more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Instant;

use tokio::task::JoinSet;

use crate::support::{Client, Gateway, QUICK, guest, put, stamp, version};

const CONNECTIONS: usize = 200;
const REPLACEMENTS: usize = 50;
/// Messages that a connection has under way at once.
const BURST: usize = 4;
/// A plugin of this setting traps at the start, if it is the one that reads it: `stamp` does not.
const SETTINGS: &str = "cache = \"cache\"\n[plugins.config.stamp]\ntrap-at-start = true\n";

/// When each version may have answered: from just before its file was put there until just after the next one was seen
/// to serve.
#[derive(Default)]
struct Timeline(RwLock<Vec<(Instant, Option<Instant>)>>);

impl Timeline {
    /// The number of the version that is about to be put there.
    fn begin(&self) -> usize {
        let mut spans = self.0.write().unwrap();
        spans.push((Instant::now(), None));
        spans.len() - 1
    }

    /// A version serves, so the one before it does not.
    fn serves(&self, number: usize) {
        if let Some(before) = number.checked_sub(1) {
            self.0.write().unwrap()[before].1 = Some(Instant::now());
        }
    }

    /// Whether a version may have been the one that served at some time between.
    fn allows(&self, number: usize, sent: Instant, received: Instant) -> bool {
        let spans = self.0.read().unwrap();
        spans
            .get(number)
            .is_some_and(|(from, until)| *from <= received && until.is_none_or(|until| sent <= until))
    }
}

/// Asks and checks the answers until it is told to stop; gives how many there were.
async fn converse(mut client: Client, name: usize, timeline: Arc<Timeline>, stop: Arc<AtomicBool>) -> usize {
    let mut answers = 0;
    let mut last = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut sent = Vec::new();
        for n in answers..answers + BURST {
            sent.push(Instant::now());
            client.send(&format!("{name}-{n}")).await;
        }
        for sent in sent {
            let answer = client.text().await;
            let received = Instant::now();
            let (question, stamp) = answer.rsplit_once('@').unwrap();
            assert_eq!(
                question,
                format!("{name}-{answers}"),
                "an answer is lost, doubled or out of turn"
            );
            let number = stamp.strip_prefix("VERSION-").unwrap().parse().unwrap();
            assert!(
                timeline.allows(number, sent, received),
                "{answer}: this version does not serve"
            );
            assert!(number >= last, "{answer}: version {last} had answered already");
            last = number;
            answers += 1;
        }
    }
    client.is_quiet().await;
    answers
}

/// Each is refused for another reason.
fn broken() -> [(&'static str, Vec<u8>); 5] {
    let whole = stamp(99_999_999);
    [
        ("is the file complete", whole[..whole.len() / 2].to_vec()),
        ("does not begin with", b"<?php echo 'no plugin';".to_vec()),
        ("exports nothing", b"\0asm\x0d\0\x01\0".to_vec()),
        ("trial instance failed", guest("misbehave")),
        ("it is empty", Vec::new()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_is_lost_doubled_out_of_turn_or_wrong_while_plugins_are_replaced() {
    let timeline = Arc::new(Timeline::default());
    let first = timeline.begin();
    let gateway = Gateway::with_plugins(&[("stamp", &stamp(first))], &format!("{QUICK}{SETTINGS}")).await;
    let file = gateway.plugin_file("stamp");
    let stop = Arc::new(AtomicBool::new(false));
    let started = Instant::now();
    let mut conversations = JoinSet::new();
    for name in 0..CONNECTIONS {
        let client = gateway.connect().await;
        conversations.spawn(converse(client, name, timeline.clone(), stop.clone()));
    }

    let mut probe = gateway.connect().await;
    let mut refused = 0;
    let mut instances = Vec::new();
    for n in 1..=REPLACEMENTS {
        if n % 5 == 0 {
            let (cause, content) = &broken()[refused % 5];
            put(&file, content);
            refused += 1;
            gateway.logged_times(refused, &["plugin file refused"]).await;
            gateway
                .logged_times(refused.div_ceil(5), &["plugin file refused", cause])
                .await;
        } else {
            let number = timeline.begin();
            let content = stamp(number);
            put(&file, &content);
            gateway.serves("stamp", &content).await;
            timeline.serves(number);
            let answer = probe.ask("who").await;
            assert_eq!(answer, format!("who@{}", version(number)));
            instances.push(gateway.metric("aileron_plugin_instances").await);
        }
    }

    stop.store(true, Ordering::Relaxed);
    let answers: usize = conversations.join_all().await.into_iter().sum();
    let took = started.elapsed();
    println!(
        "{answers} answers to {CONNECTIONS} connections in {took:.1?} ({:.0}/s) across {} good and {refused} refused \
         replacements; instances at most {}",
        answers as f64 / took.as_secs_f64(),
        instances.len(),
        instances.iter().copied().fold(0.0, f64::max),
    );
    assert_eq!((instances.len(), refused), (40, 10));
    assert_eq!(gateway.plugin("stamp").await.unwrap()["traps"], 0);
    // While the last version is on probation, the one before is kept.
    while gateway.plugin("stamp").await.unwrap()["on-probation"] == true {
        probe.ask("who").await;
    }
    // The last version and the built-in one; the others are gone with all they had.
    gateway.measures("aileron_plugin_generations", 2.0).await;
    let cores = std::thread::available_parallelism().unwrap().get();
    let most = (cores + 2) as f64;
    assert!(
        gateway.metric("aileron_plugin_instances").await <= most,
        "old instances stay"
    );
}
