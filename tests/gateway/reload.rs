//! What happens to connections and to `/plugins` when plugin files change: the files are changed as people and programs
//! change them, and seen is who answers, what the log says, and what is counted.

mod broken;
mod cache;
mod continuous;
mod pinning;
mod probation;
mod ways;

use crate::support::{Client, Gateway, QUICK, stamp, version};

/// A gateway with the first version of `stamp`, and a client of it.
async fn stamped() -> (Gateway, Client) {
    let gateway = Gateway::with_plugins(&[("stamp", &stamp(1))], QUICK).await;
    let client = gateway.connect().await;
    (gateway, client)
}

/// Asks who answers.
async fn assert_answers(client: &mut Client, number: usize) {
    assert_eq!(client.ask("who").await, format!("who@{}", version(number)));
}

/// How many plugins have been taken into service since the start.
async fn loaded(gateway: &Gateway) -> f64 {
    gateway
        .metric("aileron_plugin_reloads_total{result=\"loaded\"}")
        .await
}
