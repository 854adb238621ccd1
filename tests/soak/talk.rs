//! Clients that ask and check what they hear: every answer comes once and in order, unless PHP was away, and what is pushed
//! meanwhile comes in its own order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::gateway::support::{Client, Frame, PATIENCE};
use crate::load::{Addressee, Load, pause};

/// PHP's answer to `open` is to subscribe the client.
const LOBBY: &str = "/php?wish=%7B%22headers%22%3A%5B%22Aileron-Subscribe%3A%20lobby%22%5D%7D";
/// How long an answer may take while PHP is away, before the next question is asked.
const SHORT: Duration = Duration::from_secs(1);
/// Messages that a client of a plugin has under way at once.
const BURST: u64 = 4;

/// Asks PHP a number of things, goes, and comes again.
pub async fn with_php(load: Arc<Load>) {
    while load.goes_on() {
        let Some(client) = load.connect(LOBBY).await else {
            continue;
        };
        let addressee = load.addressees.add(&client.id);
        let mut talk = Talk {
            load: &load,
            client,
            addressee,
            asked: 0,
            answered: 0,
            pushed: 0,
            tick: None,
        };
        for _ in 0..fastrand::usize(1..40) {
            pause(20, 200).await;
            talk.ask().await;
            if !load.goes_on() {
                break;
            }
        }
        talk.end().await;
    }
}

struct Talk<'a> {
    load: &'a Load,
    client: Client,
    addressee: Arc<Addressee>,
    /// The numbers of the last question, of the last answer, of the last push and of the last message to the topic.
    asked: u64,
    answered: u64,
    pushed: u64,
    tick: Option<u64>,
}

impl Talk<'_> {
    async fn ask(&mut self) {
        self.asked += 1;
        let sent = Instant::now();
        self.client.send(&format!("ask {}", self.asked)).await;
        while self.answered < self.asked {
            match timeout(SHORT, self.client.text()).await {
                Ok(text) => self.hear(&text),
                Err(_) if self.load.outages.overlap(sent) => {
                    self.load.count("questions given up while PHP was away");
                    return;
                }
                Err(_) => assert!(sent.elapsed() < PATIENCE, "no answer, and PHP is there"),
            }
        }
    }

    fn hear(&mut self, text: &str) {
        let words: Vec<_> = text.split(' ').collect();
        let number = |word: &str| word.parse::<u64>().unwrap();
        match *words.as_slice() {
            ["ask", n] => {
                // One that was given up may be answered after all, but none twice.
                let n = number(n);
                assert!(
                    self.answered < n && n <= self.asked,
                    "{text}, after {}",
                    self.answered
                );
                self.answered = n;
                self.load.count("answers of PHP");
            }
            ["push", name, n] if number(name) == self.addressee.name => {
                assert_eq!(
                    number(n),
                    self.pushed + 1,
                    "a push is lost, doubled or out of order"
                );
                self.pushed += 1;
                self.load.count("pushes heard");
            }
            // For one who had this address before.
            ["push", _, _] => {}
            ["tick", n] => {
                let n = number(n);
                assert!(
                    self.tick.is_none_or(|last| last + 1 == n),
                    "{text}, after {:?}",
                    self.tick
                );
                self.tick = Some(n);
                self.load.count("messages of a topic heard");
            }
            _ => panic!("{text:?} came"),
        }
    }

    /// Goes, when everything that the gateway has taken for it has come.
    async fn end(mut self) {
        self.load.addressees.remove(&self.addressee);
        let taken = self.addressee.taken.load(Ordering::SeqCst);
        self.client.send_frame(Message::Ping("".into())).await;
        loop {
            match self.client.next().await {
                Frame::Text(text) => self.hear(&text),
                Frame::Pong(_) => break,
                other => panic!("{other:?} came"),
            }
        }
        assert!(self.pushed >= taken, "of {taken} pushes {} came", self.pushed);
        if fastrand::bool() {
            self.client.close().await;
        } else {
            self.client.cut();
        }
    }
}

/// Asks a plugin that is replaced again and again.
pub async fn with_a_plugin(load: Arc<Load>) {
    static NAMES: AtomicU64 = AtomicU64::new(0);
    let name = NAMES.fetch_add(1, Ordering::Relaxed);
    let (mut answered, mut version) = (0, 0);
    while load.goes_on() {
        let Some(mut client) = load.connect("/stamp").await else {
            continue;
        };
        for _ in 0..fastrand::usize(1..100) {
            for n in answered..answered + BURST {
                client.send(&format!("{name}-{n}")).await;
            }
            for n in answered..answered + BURST {
                let text = client.text().await;
                let (question, stamp) = text.rsplit_once("@VERSION-").unwrap();
                assert_eq!(question, format!("{name}-{n}"), "lost, doubled or out of order");
                let stamp: u64 = stamp.parse().unwrap();
                assert!(stamp >= version, "{text}: version {version} had answered already");
                version = stamp;
                load.count("answers of a plugin");
            }
            answered += BURST;
            pause(20, 100).await;
            if !load.goes_on() {
                break;
            }
        }
        client.is_quiet().await;
        client.close().await;
    }
}
