//! A topic with a history: who follows it is cut again and again, comes back, and gets every message once and in order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;
use tokio::time::{interval, timeout_at};

use crate::load::Load;

/// PHP's answer to `open` is to subscribe the client.
const BY_PHP: &str = "/php?wish=%7B%22headers%22%3A%5B%22Aileron-Subscribe%3A%20kept.all%22%5D%7D";
/// The plugin lets the client in without PHP. What stands behind `left=` is an attribute, and nothing to the plugin.
const BY_PLUGIN: &str = "/events?accept;subscribe:kept.all;set:left=";
/// Fifty a second.
const PACE: Duration = Duration::from_millis(20);

#[derive(Deserialize)]
struct Envelope<'a> {
    epoch: &'a str,
    offset: u64,
    data: Option<&'a str>,
    recovered: Option<bool>,
}

pub async fn follow(load: Arc<Load>, by_php: bool) {
    let mut seen: Option<(String, u64)> = None;
    loop {
        let resume = seen
            .as_ref()
            .map(|(epoch, offset)| format!("&resume=kept.all:{epoch}:{offset}"));
        let resume = resume.unwrap_or_default();
        let connected = if by_php {
            load.connect(&format!("{BY_PHP}{resume}")).await
        } else {
            load.count("connections");
            Some(load.gateway.connect_to(&format!("{BY_PLUGIN}{resume}")).await)
        };
        let Some(mut client) = connected else {
            continue;
        };
        let cut = Instant::now() + Duration::from_millis(fastrand::u64(1000..6000));
        while let Ok(text) = timeout_at(cut.into(), client.text()).await {
            let envelope: Envelope<'_> = serde_json::from_str(&text).unwrap();
            let Some((epoch, offset)) = &mut seen else {
                seen = Some((envelope.epoch.to_owned(), envelope.offset));
                continue;
            };
            assert_ne!(envelope.recovered, Some(false), "{text}, after {offset}");
            assert_eq!(envelope.epoch, epoch, "{text}");
            if let Some(data) = envelope.data {
                assert_eq!(
                    envelope.offset,
                    *offset + 1,
                    "a message is lost, doubled or out of order"
                );
                assert_eq!(data, format!("message {}", envelope.offset));
                *offset = envelope.offset;
                load.count("messages of a topic with a history heard");
            }
        }
        client.cut();
        if seen.as_ref().map(|(_, offset)| offset) == load.last.get() && load.last.get().is_some() {
            return;
        }
        load.count("resumed");
    }
}

/// Publishes at its pace. The topic is new, so that its offsets are the numbers of its messages.
pub async fn publish(load: Arc<Load>) {
    let mut pace = interval(PACE);
    let mut n = 0_u64;
    while load.goes_on() {
        pace.tick().await;
        n += 1;
        let result = load
            .push(&json!({"topic": "kept.all", "message": format!("message {n}")}))
            .await;
        assert_eq!(
            (&result["result"], &result["offset"]),
            (&json!("sent"), &json!(n)),
            "{result}"
        );
    }
    load.last.set(n).expect("there is one who publishes");
}
