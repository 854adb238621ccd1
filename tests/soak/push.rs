//! The application, as it pushes by itself: to one client, to a topic, and more than some can take.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tokio::time::interval;

use crate::load::{Load, pause};

/// Twenty a second.
const PACE: Duration = Duration::from_millis(50);
/// Ten a second are a megabyte.
const FLOOD_PACE: Duration = Duration::from_millis(100);
const FLOOD: usize = 100_000;

/// Numbers what it pushes to each client.
pub async fn to_clients(load: Arc<Load>) {
    while load.goes_on() {
        pause(5, 20).await;
        let Some(addressee) = load.addressees.any() else {
            continue;
        };
        let _pushing = addressee.pushing.lock().await;
        let number = addressee.tried.fetch_add(1, Ordering::SeqCst) + 1;
        let message = format!("push {} {number}", addressee.name);
        let result = load
            .push(&json!({"client_id": addressee.id, "message": message}))
            .await;
        match result["result"].as_str() {
            Some("sent") => {
                addressee.taken.fetch_add(1, Ordering::SeqCst);
            }
            // It has left meanwhile.
            Some("not-found") if !load.addressees.has(&addressee) => {
                load.count("pushes to clients just gone")
            }
            _ => panic!("{result}"),
        }
    }
}

/// Numbers what it publishes to a topic without a history.
pub async fn to_a_topic(load: Arc<Load>) {
    let mut pace = interval(PACE);
    let mut n = 0_u64;
    while load.goes_on() {
        pace.tick().await;
        n += 1;
        let result = load
            .push(&json!({"topic": "lobby", "message": format!("tick {n}")}))
            .await;
        assert_eq!(
            (&result["result"], &result["congested"]),
            (&json!("sent"), &json!(0)),
            "{result}"
        );
    }
}

/// Publishes what those who read slowly do not get read.
pub async fn flood(load: Arc<Load>) {
    let mut pace = interval(FLOOD_PACE);
    let filler = "x".repeat(FLOOD);
    while load.goes_on() {
        pace.tick().await;
        load.push(&json!({"topic": "flood", "message": filler})).await;
    }
}
