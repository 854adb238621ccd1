//! Replies with each message as it is, or with the setting `act = "next"` hands it on. The same in each language.

use std::cell::Cell;

use aileron_plugin::{Action, Connection, Frames, Interest, Lifecycle, Payload};

thread_local!(static HANDS_ON: Cell<bool> = const { Cell::new(false) });

struct Echo;

impl Lifecycle for Echo {
    fn configure(settings: Vec<(String, String)>) -> Result<Interest, String> {
        let hands_on = |(name, value): &(String, String)| name == "act" && value == "next";
        HANDS_ON.set(settings.iter().any(hands_on));
        Ok(Interest::default())
    }
}

impl Frames for Echo {
    fn on_frame(_connection: Connection, message: Payload) -> Vec<Action> {
        if HANDS_ON.get() {
            vec![Action::Next(None)]
        } else {
            vec![Action::Reply(message)]
        }
    }
}

aileron_plugin::export!(Echo: Lifecycle, Frames);
