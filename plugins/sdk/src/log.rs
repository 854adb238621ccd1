//! Lines for the gateway's log. The host adds which plugin wrote them.
//!
//! Natively, in tests, they go to standard error.

pub use crate::bindings::imports::wasi::logging::logging::Level;

/// Writes a line. `context` groups similar lines, and may be empty.
#[cfg(target_arch = "wasm32")]
pub fn log(level: Level, context: &str, message: &str) {
    crate::bindings::imports::wasi::logging::logging::log(level, context, message);
}

/// Writes a line. `context` groups similar lines, and may be empty.
#[cfg(not(target_arch = "wasm32"))]
pub fn log(level: Level, context: &str, message: &str) {
    eprintln!("{level:?} {context} {message}");
}

macro_rules! levels {
    ($($name:ident $level:ident $text:literal)+) => {
        $(
            #[doc = $text]
            pub fn $name(message: &str) {
                log(Level::$level, "", message);
            }
        )+
    };
}

levels! {
    trace Trace "The values of variables and the flow of control."
    debug Debug "Of interest to someone who debugs."
    info Info "Of interest to someone who monitors."
    warn Warn "A hazardous situation."
    error Error "A serious error."
    critical Critical "A fatal error."
}
