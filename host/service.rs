//! What a service manager is told (sd_notify(3)): that the gateway is ready, takes over a configuration, or ends. Without
//! one nothing is said to nobody.

use sd_notify::NotifyState;

/// It listens; also when a reload is done.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// It takes over another configuration; `ready` ends that.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "no clock for the service manager"),
    }
}

/// It ends, and how far it is.
pub fn stopping(connections: usize) {
    let status = format!("shutting down; {connections} connections are left");
    tell(&[NotifyState::Stopping, NotifyState::Status(&status)]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
