//! The gateway as its users see it: the real program, real PHP-FPM, real nginx, real sockets, real WebAssembly.
//!
//! One binary for all, since linking the gateway takes longer than most of the tests. `tests/run` makes sure that what
//! they need is there.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test stops at the first surprise; clippy's own exception is for functions marked as tests only"
)]

/// Plain PHP behind the built-in plugin `application`.
mod application;
/// The two exchanges of the article, through nginx and without.
mod article;
/// What clients may cost and take, whatever they do.
mod bounds;
/// Plugins, and PHP, hear of every connection that has gone, once.
mod closings;
/// What is said of valid and invalid configurations.
mod configuration;
/// The example plugins, in front of PHP.
mod examples;
/// The FastCGI client by itself.
mod fastcgi;
/// Plugins that trap, loop, or take all memory.
mod faults;
/// What a plugin may be made as, and what it is given.
mod forms;
/// What clients send and get: every byte, sizes, order, violations.
mod frames;
/// Who may connect: origins, plugins, PHP.
mod handshakes;
/// Ten thousand connections that say nothing.
mod idle;
/// Proxies, TLS, and who is kept out: floods, slow clients, strangers.
mod listeners;
/// What operators do: start it, check it, look at it, stop it.
mod operations;
/// Timers, schedules, pings, idleness and age.
mod passing;
/// What applications push.
mod push;
/// Plugins that change while connections are open.
mod reload;
/// Clients that read too slowly, and clients that send too much.
mod slow;
mod support;
/// Topics: publications, presence, history, and what they cost.
mod topics;
/// Which module may know which.
mod tree;
/// Applications that die, hang, say too much or have too much to do.
mod upstreams;
