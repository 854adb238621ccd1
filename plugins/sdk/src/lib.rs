//! Write plugins for the Aileron gateway.
//!
//! A plugin is a type without values that implements one trait for each hook it wants: [`Lifecycle`], [`Frames`],
//! [`Responses`], [`Pushes`], [`Handshakes`], [`Closings`], [`Timers`], [`Schedules`], [`Reports`]. Each handler takes an
//! event and returns the [`Action`]s that the host shall do; of a handshake it says what becomes of it, see
//! [`Admission`].
//!
//! ```
//! use aileron_plugin::{Action, Connection, Frames, Payload};
//!
//! struct Echo;
//!
//! impl Frames for Echo {
//!     fn on_frame(_connection: Connection, message: Payload) -> Vec<Action> {
//!         vec![Action::Reply(message)]
//!     }
//! }
//!
//! aileron_plugin::export!(Echo: Frames);
//! # fn main() {}
//! ```
//!
//! [`export!`] names the hooks because the host looks at what a plugin exports and skips it for the rest: the cheapest
//! call is no call.
//!
//! Everything here compiles natively too, so a plugin's decisions are tested by plain `cargo test`. Only the functions
//! in [`host`] need the gateway around them.

// The code that `export!` generates names this crate, in this crate's own tests as well.
extern crate self as aileron_plugin;

mod bindings;
pub mod clock;
mod export;
pub mod form;
pub mod host;
pub mod log;
mod on_failure;
mod types;

/// The hook for who has gone.
pub use bindings::closings_hook::exports::aileron::gateway::closings::Guest as Closings;
/// The hook for what clients send.
pub use bindings::frames_hook::exports::aileron::gateway::frames::Guest as Frames;
/// The hook for who may connect.
pub use bindings::handshakes_hook::exports::aileron::gateway::handshakes::Guest as Handshakes;
pub use bindings::handshakes_hook::exports::aileron::gateway::handshakes::{Acceptance, Admission};
/// The hook for settings, and for what the plugin wants to be told and called for.
pub use bindings::lifecycle_hook::exports::aileron::gateway::lifecycle::Guest as Lifecycle;
pub use bindings::lifecycle_hook::exports::aileron::gateway::lifecycle::Interest;
/// The hook for requests to the push listener.
pub use bindings::pushes_hook::exports::aileron::gateway::pushes::Guest as Pushes;
pub use bindings::reports_hook::exports::aileron::gateway::reports::Effect;
/// The hook for what became of actions; [`Action::report`] asks for it.
pub use bindings::reports_hook::exports::aileron::gateway::reports::Guest as Reports;
/// The hook for the ends of the requests that the plugin forwarded.
pub use bindings::responses_hook::exports::aileron::gateway::responses::Guest as Responses;
/// The hook for time that passes for the gateway.
pub use bindings::schedules_hook::exports::aileron::gateway::schedules::Guest as Schedules;
/// The hook for time that passes for a connection.
pub use bindings::timers_hook::exports::aileron::gateway::timers::Guest as Timers;
pub use on_failure::OnFailure;
pub use types::{
    Action, Attribute, Closing, Connection, Delivery, Exchange, Failure, Headers, Membership, Payload,
    Publication, Request, Response, Timer, TimerName,
};

#[doc(hidden)]
pub mod __private {
    //! What the expansion of `export!` refers to. No part of the interface.

    pub use crate::bindings::{
        closings_hook, frames_hook, handshakes_hook, lifecycle_hook, pushes_hook, reports_hook,
        responses_hook, schedules_hook, timers_hook,
    };
    pub use wit_bindgen::rt;
}
