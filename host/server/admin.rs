//! The gateway's own pages:
//!
//! | path       | answer |
//! |------------|--------|
//! | `/live`    | 200 as long as the process serves |
//! | `/ready`   | 200 when clients may connect |
//! | `/metrics` | counters for Prometheus |
//! | `/plugins` | the chain as JSON: each plugin's file, content hash, interface version, state, last error, memory |
//! | `/connections` | who is connected to this run of the gateway; `?topic=NAME` for the subscribers of a topic only |
//! | `/topics`  | all topics with the number of their subscribers; `?name=NAME` for one with everyone in it |

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::CONTENT_TYPE;
use serde::Serialize;

use super::Gateway;
use crate::message::Connection;
use crate::plugin::Report;
use crate::registry::{EVERYONE, Registry};

pub(super) async fn live() -> &'static str {
    "live\n"
}

/// Everything is set up before the listeners are served, so this is the answer until the shutdown.
pub(super) async fn ready(State(gateway): State<Arc<Gateway>>) -> Response {
    if gateway.sessions.actions.registry.is_closing() {
        (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response()
    } else {
        "ready\n".into_response()
    }
}

pub(super) async fn metrics(State(gateway): State<Arc<Gateway>>) -> Response {
    const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let actions = &gateway.sessions.actions;
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    gateway.sessions.plugins.tell_metrics();
    // Updated only when somebody looks, since they change with every subscription.
    actions.metrics.topics.set(count(actions.registry.topic_count()));
    actions
        .metrics
        .history
        .set(count(actions.registry.history_bytes()));
    let registry = &actions.registry;
    actions
        .metrics
        .idle_topics
        .set(count(registry.idle_topic_count()));
    let (trimmed, forgotten) = registry.take_history_losses();
    actions.metrics.history_trimmed.inc_by(trimmed);
    actions.metrics.idle_topics_forgotten.inc_by(forgotten);
    actions
        .metrics
        .queues
        .set(count(registry.outgoing().budget.used()));
    actions.metrics.inbound.set(count(registry.inbound().used()));
    actions
        .metrics
        .frames_out
        .inc_by(registry.outgoing().take_frames());
    ([(CONTENT_TYPE, FORMAT)], actions.metrics.render()).into_response()
}

/// The chain in order.
#[derive(Serialize)]
struct Listing {
    chain: Vec<Report>,
}

pub(super) async fn plugins(State(gateway): State<Arc<Gateway>>) -> Response {
    let listing = Listing {
        chain: gateway.sessions.plugins.report(),
    };
    json(serde_json::to_string_pretty(&listing))
}

/// Who is connected. After a crash of the gateway or a loss of close events, an application compares this with its own
/// records: whoever is not listed here, or opened before the node started, has gone.
#[derive(Serialize)]
struct Connections {
    node: Node,
    count: usize,
    connections: Vec<Listed>,
}

/// This run of the gateway.
#[derive(Serialize)]
struct Node {
    started: String,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Listed {
    id: String,
    path: String,
    remote_address: String,
    client_address: String,
    opened: String,
    attributes: BTreeMap<String, String>,
    topics: Vec<String>,
}

pub(super) async fn connections(State(gateway): State<Arc<Gateway>>, RawQuery(query): RawQuery) -> Response {
    let registry = &gateway.sessions.actions.registry;
    let topic = parameter(query, "topic").unwrap_or_else(|| EVERYONE.to_owned());
    let connections = registry.subscribers(&topic, usize::MAX);
    let connection = |connection: &Arc<Connection>| Listed {
        id: connection.id.to_string(),
        path: connection.path.to_string(),
        remote_address: connection.remote_address.to_string(),
        client_address: connection.client_address.to_string(),
        opened: time(connection.opened),
        attributes: connection.attributes().into_iter().collect(),
        topics: registry.topics_of(&connection.id),
    };
    json(serde_json::to_string(&Connections {
        node: Node {
            started: time(registry.started()),
        },
        count: connections.len(),
        connections: connections.iter().map(connection).collect(),
    }))
}

/// One topic.
#[derive(Serialize)]
struct Topic {
    topic: String,
    count: usize,
    members: Vec<Member>,
    clients: Vec<String>,
}

#[derive(Serialize)]
struct Member {
    name: String,
    connections: usize,
}

pub(super) async fn topics(State(gateway): State<Arc<Gateway>>, RawQuery(query): RawQuery) -> Response {
    let registry = &gateway.sessions.actions.registry;
    match parameter(query, "name") {
        Some(name) => json(serde_json::to_string(&topic(registry, name))),
        None => {
            let topics: BTreeMap<_, _> = registry
                .topics()
                .into_iter()
                .map(|(name, count)| (name.to_string(), count))
                .collect();
            json(serde_json::to_string(&topics))
        }
    }
}

fn topic(registry: &Registry, name: String) -> Topic {
    let clients = registry.subscribers(&name, usize::MAX);
    let members = registry.members(&name, usize::MAX).into_iter();
    let mut members: Vec<_> = members
        .map(|(name, connections)| Member {
            name: name.to_string(),
            connections,
        })
        .collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    Topic {
        count: clients.len(),
        members,
        clients: clients
            .iter()
            .map(|connection| connection.id.to_string())
            .collect(),
        topic: name,
    }
}

/// The first value of a name in a query.
fn parameter(query: Option<String>, wanted: &str) -> Option<String> {
    let query = query?;
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let found = pairs.find(|(name, _)| name == wanted)?;
    Some(found.1.into_owned())
}

fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

fn json(written: serde_json::Result<String>) -> Response {
    match written {
        Ok(json) => ([(CONTENT_TYPE, "application/json")], json + "\n").into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
