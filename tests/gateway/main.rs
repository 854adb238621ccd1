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

/// The two exchanges of the article, through nginx and without.
mod article;
/// What clients send and get: every byte, sizes, order, violations.
mod frames;
mod support;
