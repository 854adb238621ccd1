//! What all who make load share: whether it goes on, when PHP was away, who is to be pushed to, and what was counted.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::Value;

use crate::gateway::support::{Client, Gateway, answer};

pub struct Load {
    pub gateway: Arc<Gateway>,
    pub outages: Outages,
    pub addressees: Addressees,
    /// How many messages the topic with a history has had, when there are no more.
    pub last: OnceLock<u64>,
    tally: Arc<Tally>,
    stopped: AtomicBool,
}

/// When PHP could not be asked.
#[derive(Default)]
pub struct Outages(Mutex<Vec<(Instant, Option<Instant>)>>);

/// Clients that are pushed to.
#[derive(Default)]
pub struct Addressees(Mutex<Vec<Arc<Addressee>>>);

pub struct Addressee {
    pub id: String,
    /// Unlike the id it is not given again to a later client.
    pub name: u64,
    /// How many pushes were tried, and how many the gateway has taken.
    pub tried: AtomicU64,
    pub taken: AtomicU64,
    /// A push is under way: numbers go out in their order.
    pub pushing: tokio::sync::Mutex<()>,
}

/// Counts by name.
#[derive(Default)]
pub struct Tally(Mutex<BTreeMap<&'static str, u64>>);

/// Connections whose end PHP must be told.
pub const TOLD: &str = "connections that PHP hears the end of";

impl Load {
    pub fn new(gateway: Arc<Gateway>, tally: Arc<Tally>) -> Self {
        Self {
            gateway,
            outages: Outages::default(),
            addressees: Addressees::default(),
            last: OnceLock::new(),
            tally,
            stopped: AtomicBool::new(false),
        }
    }

    pub fn goes_on(&self) -> bool {
        !self.stopped.load(Ordering::Relaxed)
    }

    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub fn count(&self, what: &'static str) {
        self.count_more(what, 1);
    }

    pub fn count_more(&self, what: &'static str, n: u64) {
        self.tally.add(what, n);
    }

    /// Connects where PHP is asked. None while it is away.
    pub async fn connect(&self, path: &str) -> Option<Client> {
        let began = Instant::now();
        match Client::try_connect(self.gateway.clients, path, &[]).await {
            Ok(client) => {
                self.count("connections");
                self.count(TOLD);
                Some(client)
            }
            Err(refusal) => {
                assert!(
                    self.outages.overlap(began),
                    "PHP is there, and {path} is refused: {refusal:?}"
                );
                self.count("connections refused while PHP was away");
                pause(50, 200).await;
                None
            }
        }
    }

    /// Pushes in JSON, and gives the result for the one target.
    pub async fn push(&self, item: &Value) -> Value {
        let request = self.gateway.request(Method::POST, "/send").body(item.to_string());
        let said = answer(request.header("content-type", "application/json")).await;
        assert_eq!(said.status, 200, "{said:?}");
        self.count("pushes");
        let mut body: Value = serde_json::from_str(&said.body).unwrap();
        body["results"][0].take()
    }
}

/// What people do between two things that they do.
pub async fn pause(from: u64, to: u64) {
    tokio::time::sleep(Duration::from_millis(fastrand::u64(from..to))).await;
}

impl Outages {
    pub fn begin(&self) {
        self.0.lock().unwrap().push((Instant::now(), None));
    }

    pub fn end(&self) {
        let mut outages = self.0.lock().unwrap();
        outages.last_mut().expect("one has begun").1 = Some(Instant::now());
    }

    /// Whether there was one between then and now.
    pub fn overlap(&self, then: Instant) -> bool {
        let outages = self.0.lock().unwrap();
        let last = outages.last();
        last.is_some_and(|(_, end)| end.is_none_or(|end| end >= then))
    }
}

impl Addressees {
    pub fn add(&self, id: &str) -> Arc<Addressee> {
        static NAMES: AtomicU64 = AtomicU64::new(0);
        let addressee = Arc::new(Addressee {
            id: id.to_owned(),
            name: NAMES.fetch_add(1, Ordering::Relaxed),
            tried: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            pushing: tokio::sync::Mutex::new(()),
        });
        self.0.lock().unwrap().push(addressee.clone());
        addressee
    }

    pub fn remove(&self, addressee: &Arc<Addressee>) {
        self.0
            .lock()
            .unwrap()
            .retain(|other| !Arc::ptr_eq(other, addressee));
    }

    pub fn has(&self, addressee: &Arc<Addressee>) -> bool {
        self.0
            .lock()
            .unwrap()
            .iter()
            .any(|other| Arc::ptr_eq(other, addressee))
    }

    pub fn any(&self) -> Option<Arc<Addressee>> {
        fastrand::choice(self.0.lock().unwrap().iter()).cloned()
    }
}

impl Tally {
    pub fn add(&self, what: &'static str, n: u64) {
        *self.0.lock().unwrap().entry(what).or_default() += n;
    }

    pub fn of(&self, what: &str) -> u64 {
        self.0.lock().unwrap().get(what).copied().unwrap_or_default()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, n) in &*self.0.lock().unwrap() {
            writeln!(f, "{n:>12}  {what}")?;
        }
        Ok(())
    }
}
