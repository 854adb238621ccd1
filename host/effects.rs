//! What actions do to the world, the same for sessions and for pushes.

use crate::message::{Action, Exchange, Failure, Outcome, Payload};
use crate::metrics::Metrics;
use crate::registry::{Registry, SendError};
use crate::upstream::Upstreams;

/// Asks the upstream that an exchange names, or the default one of the route. Gives the context back with the outcome.
pub async fn ask(upstreams: &Upstreams, default: usize, exchange: Exchange) -> (Payload, Outcome) {
    let Exchange {
        upstream,
        request,
        context,
    } = exchange;
    let index = match &upstream {
        None => Some(default),
        Some(name) => upstreams.find(name),
    };
    let outcome = match index {
        Some(index) => upstreams.send(index, &request).await,
        None => {
            let text = format!(
                "no upstream is called `{}` in the configuration",
                upstream.unwrap_or_default()
            );
            Err(Failure::Other("unknown-upstream".to_owned(), text))
        }
    };
    (context, outcome)
}

/// Puts a frame into a connection's queue.
pub fn send(
    registry: &Registry,
    metrics: &Metrics,
    connection: &str,
    message: Payload,
) -> Result<(), SendError> {
    let result = registry.send(connection, message);
    if result == Err(SendError::Congested) {
        metrics.congested.inc();
    }
    result
}

/// Does an action whose result nobody waits for. What cannot be done is logged and left out.
pub fn perform(registry: &Registry, metrics: &Metrics, action: Action) {
    match action {
        Action::Send { connection, message } => {
            if let Err(cause) = send(registry, metrics, &connection, message) {
                tracing::warn!(connection, %cause, "a plugin's `send` was not delivered");
            }
        }
        Action::Close {
            connection,
            code,
            reason,
        } => close(registry, &connection, code, &reason),
        Action::Respond(_) => tracing::warn!("a plugin's `respond` has no push to answer; it is left out"),
        Action::Reply(_) => tracing::warn!("a plugin's `reply` has no connection to answer; it is left out"),
        Action::Unsupported(name) => {
            tracing::warn!(
                action = name,
                "a plugin's action is not known to this host; it is left out"
            );
        }
        // A journey keeps these to itself.
        Action::Next(_) | Action::Forward(_) => {}
    }
}

fn close(registry: &Registry, connection: &str, code: u16, reason: &str) {
    if !may_be_sent(code) {
        tracing::warn!(
            connection,
            code,
            "a plugin's `close` has a code that must not be sent; it is left out"
        );
    } else if !registry.close(connection, code, truncate(reason)) {
        tracing::warn!(
            connection,
            "a plugin's `close` names a connection that is not there"
        );
    }
}

/// RFC 6455 section 7.4: 1004 to 1006 and 1015 never appear in a frame.
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// A control frame holds 125 bytes, two of them the code (RFC 6455 section 5.5).
fn truncate(reason: &str) -> &str {
    reason.get(..reason.floor_char_boundary(123)).unwrap_or(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_cut_between_characters() {
        assert_eq!(truncate("short"), "short");
        assert_eq!(truncate(&"é".repeat(100)).len(), 122);
    }

    #[test]
    fn codes_that_must_not_be_sent_are_known() {
        for code in [1000, 1001, 1008, 1013, 3000, 4999] {
            assert!(may_be_sent(code), "{code}");
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
            assert!(!may_be_sent(code), "{code}");
        }
    }
}
