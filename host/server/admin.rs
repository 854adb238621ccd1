//! The gateway's own pages, beside pushes:
//!
//! | path       | answer |
//! |------------|--------|
//! | `/live`    | 200 as long as the process serves |
//! | `/ready`   | 200 when clients may connect |
//! | `/metrics` | counters for Prometheus |
//! | `/plugins` | the chain as JSON: each plugin's file, content hash, interface version, state, last error, memory |

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::CONTENT_TYPE;
use serde::Serialize;

use super::Gateway;
use crate::plugin::Report;

pub(super) async fn live() -> &'static str {
    "live\n"
}

/// Everything is set up before the listeners are served, so who gets an answer gets this one until the shutdown.
pub(super) async fn ready(State(gateway): State<Arc<Gateway>>) -> Response {
    if gateway.sessions.registry.is_closing() {
        (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response()
    } else {
        "ready\n".into_response()
    }
}

pub(super) async fn metrics(State(gateway): State<Arc<Gateway>>) -> Response {
    const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, FORMAT)], gateway.sessions.metrics.render()).into_response()
}

/// The chain in its order.
#[derive(Serialize)]
struct Listing {
    chain: Vec<Report>,
}

pub(super) async fn plugins(State(gateway): State<Arc<Gateway>>) -> Response {
    let listing = Listing {
        chain: gateway.sessions.plugins.report(),
    };
    match serde_json::to_string_pretty(&listing) {
        Ok(json) => ([(CONTENT_TYPE, "application/json")], json + "\n").into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
