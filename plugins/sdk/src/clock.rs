//! The time of day.
//!
//! `std::time::SystemTime::now()` ends a plugin for `wasm32-unknown-unknown`; there this asks the host instead, by
//! `wasi:clocks/wall-clock`. Only a plugin that calls it imports it. On other targets the standard library can tell.

use std::time::Duration;

/// The time since the beginning of 1970, UTC.
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
pub fn since_epoch() -> Duration {
    let now = crate::bindings::clocks::wasi::clocks::wall_clock::now();
    Duration::new(now.seconds, now.nanoseconds)
}

/// The time since the beginning of 1970, UTC.
#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
pub fn since_epoch() -> Duration {
    // A clock set to before 1970 is taken for 1970.
    std::time::UNIX_EPOCH.elapsed().unwrap_or_default()
}
