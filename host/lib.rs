//! Aileron: a WebSocket gateway for PHP-FPM, whose routing is scripted by WebAssembly components.
//!
//! Read in this order:
//!
//! 1. [`message`]: the vocabulary; events, and what plugins decide about them.
//! 2. [`dispatch`]: one event through the chain of plugins and to upstreams. The heart, without I/O. [`actions`]: what the
//!    actions of plugins do.
//! 3. [`session`]: one connection, whose messages are dispatched. [`registry`]: all connections and topics.
//! 4. [`close_events`]: telling PHP who has gone, reliably. [`schedule`]: what happens at intervals.
//! 5. [`plugin`]: WebAssembly: loading, calling, replacing. [`upstream`]: HTTP and FastCGI. `fair_queue`: whose turn it is
//!    where there is more to do than can be done.
//! 6. [`server`]: listeners, handshakes, pushes, the gateway's own pages.
//! 7. [`app`]: how all of it is put together. [`config`]: what it is told.
//!
//! Dependencies go one way: `message`, `metrics` and `config` know nothing of the rest; `plugin` and `upstream` know these
//! only; `session` uses both; `server` uses `session`. A test holds this.

pub mod actions;
pub mod app;
mod backoff;
pub mod budget;
pub mod close_events;
pub mod config;
pub mod dispatch;
mod fair_queue;
pub mod log_limit;
pub mod memory;
pub mod message;
pub mod metrics;
pub mod plugin;
pub mod registry;
pub mod schedule;
pub mod send_queue;
pub mod server;
pub mod service;
pub mod session;
pub mod signal;
pub mod telemetry;
mod token_bucket;
pub mod upstream;
pub mod websocket;
