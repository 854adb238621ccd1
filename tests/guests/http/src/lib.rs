//! A plugin that would work, but for an import that no plugin is given.

use aileron_plugin::{Action, Connection, Frames, Payload};

#[allow(
    missing_docs,
    unsafe_code,
    clippy::all,
    reason = "generated: the import crosses the boundary by raw pointers"
)]
mod bindings {
    // A stand-in: the host looks at the name alone.
    wit_bindgen::generate!({
        inline: r"
            package wasi:http@0.2.0;

            interface outgoing-handler {
                handle: func(url: string);
            }

            world imports {
                import outgoing-handler;
            }
        ",
    });
}

struct Http;

impl Frames for Http {
    fn on_frame(_connection: Connection, message: Payload) -> Vec<Action> {
        bindings::wasi::http::outgoing_handler::handle("http://localhost/");
        vec![Action::Reply(message)]
    }
}

aileron_plugin::export!(Http: Frames);
