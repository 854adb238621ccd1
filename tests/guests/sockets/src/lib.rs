//! Echoes, and opens the network when it is told to `connect`.

use aileron_plugin::{Action, Connection, Frames, Payload};

#[allow(
    missing_docs,
    unsafe_code,
    clippy::all,
    reason = "generated: the import crosses the boundary by raw pointers"
)]
mod bindings {
    // A stand-in in the shape of WASI's: a type of one interface that another one uses.
    wit_bindgen::generate!({
        inline: r"
            package wasi:sockets@0.2.0;

            interface network {
                resource network;
            }

            interface instance-network {
                use network.{network};
                instance-network: func() -> network;
            }

            world imports {
                import instance-network;
            }
        ",
    });
}

struct Sockets;

impl Frames for Sockets {
    fn on_frame(_connection: Connection, message: Payload) -> Vec<Action> {
        if message == Payload::Text("connect".to_owned()) {
            drop(bindings::wasi::sockets::instance_network::instance_network());
        }
        vec![Action::Reply(message)]
    }
}

aileron_plugin::export!(Sockets: Frames);
