//! What a service manager is told (sd_notify(3)): that the gateway is ready, takes over a configuration, or ends. Without
//! a service manager nothing is sent.

use sd_notify::NotifyState;

/// The gateway listens; also sent when a reload is done.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The gateway takes over another configuration, until `ready`.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "the service manager cannot be told the time"),
    }
}

/// The gateway is shutting down, and how far it is.
pub fn stopping(connections: usize) {
    let status = format!("shutting down; {connections} connections are left");
    tell(&[NotifyState::Stopping, NotifyState::Status(&status)]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
