//! What wit-bindgen makes of `wit/`, once for all plugins.
//!
//! One small world per hook rather than the one with all of them, since the macro that exports a world exports all of
//! it. The worlds share the types of the first module.

// Generated code: it crosses the boundary by raw pointers, and is documented as far as the WIT is.
#![allow(
    missing_docs,
    unsafe_code,
    clippy::all,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used
)]

/// What plugins may import, and the types.
pub mod imports {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: r"
            package aileron:sdk;

            world imports {
                include aileron:gateway/imports@0.1.1;
                import aileron:gateway/types@0.1.1;
            }
        ",
        generate_all,
        generate_unused_types: true,
        additional_derives: [PartialEq],
        runtime_path: "aileron_plugin::__private::rt",
        pub_export_macro: true,
    });
}

/// The clock of WASI: `wasm32-unknown-unknown` has none in its standard library. Only there, because the C library of
/// the WASI targets has its own notion of this package, and the linker takes no second one.
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
pub mod clocks {
    wit_bindgen::generate!({
        inline: r"
            package wasi:clocks@0.2.0;

            interface wall-clock {
                record datetime {
                    seconds: u64,
                    nanoseconds: u32,
                }

                now: func() -> datetime;
            }

            world imports {
                import wall-clock;
            }
        ",
        runtime_path: "aileron_plugin::__private::rt",
        pub_export_macro: true,
    });
}

macro_rules! hook {
    ($module:ident, $world:literal) => {
        hook!($module, $world, {});
    };
    ($module:ident, $world:literal, with types) => {
        hook!($module, $world, {
            "aileron:gateway/types@0.1.1": crate::bindings::imports::aileron::gateway::types,
        });
    };
    ($module:ident, $world:literal, $with:tt) => {
        #[doc = concat!("The world `", $world, "`.")]
        pub mod $module {
            wit_bindgen::generate!({
                path: "../../wit",
                world: $world,
                with: $with,
                additional_derives: [PartialEq],
                runtime_path: "aileron_plugin::__private::rt",
                pub_export_macro: true,
            });
        }
    };
}

hook!(lifecycle_hook, "lifecycle-hook");
hook!(frames_hook, "frames-hook", with types);
hook!(responses_hook, "responses-hook", with types);
hook!(pushes_hook, "pushes-hook", with types);
hook!(handshakes_hook, "handshakes-hook", with types);
hook!(closings_hook, "closings-hook", with types);
hook!(timers_hook, "timers-hook", with types);
hook!(schedules_hook, "schedules-hook", with types);
hook!(reports_hook, "reports-hook", with types);
