//! The built-in plugin that tells PHP who comes and goes, lets each answer of PHP steer the gateway by its headers, and
//! takes pushes to many clients at once.
//!
//! What it decides is in the modules, as plain functions; here they meet the host.

mod admission;
mod answer;
mod forwarding;
mod push;
mod question;
mod settings;
mod steering;
mod subject;

use std::cell::RefCell;

use aileron_plugin::log::{self, Level};
use aileron_plugin::{
    Action, Admission, Closings, Connection, Effect, Failure, Frames, Handshakes, Interest, Lifecycle,
    Payload, Pushes, Reports, Request, Response, Responses, Schedules, Timers,
};
use settings::Settings;
use subject::Subject;

thread_local! {
    static SETTINGS: RefCell<Settings> = RefCell::default();
}

/// A line for the log.
type Note = (Level, String);

struct Application;

impl Lifecycle for Application {
    fn configure(settings: Vec<(String, String)>) -> Result<Interest, String> {
        SETTINGS.set(Settings::parse(settings)?);
        Ok(Interest {
            facts: question::FACTS.map(str::to_owned).to_vec(),
            ..Interest::default()
        })
    }
}

impl Handshakes for Application {
    fn on_open(connection: Connection, request: Request) -> Admission {
        if SETTINGS.with_borrow(|settings| settings.open) {
            let subprotocols = request.header("sec-websocket-protocol").unwrap_or_default();
            Admission::Ask(question::open(&connection, subprotocols))
        } else {
            Admission::Next(Vec::new())
        }
    }

    fn on_verdict(connection: Connection, context: Payload, outcome: Result<Response, Failure>) -> Admission {
        let (admission, notes) = admission::decide(&connection.id, outcome);
        write(&context, &notes);
        admission
    }
}

impl Frames for Application {
    fn on_frame(connection: Connection, message: Payload) -> Vec<Action> {
        vec![Action::Forward(question::message(&connection, &message))]
    }
}

impl Timers for Application {
    fn on_timer(connection: Connection, name: String) -> Vec<Action> {
        vec![Action::Forward(question::timer(&connection, &name))]
    }
}

impl Closings for Application {
    fn on_close(connection: Connection, code: u16, reason: String) -> Vec<Action> {
        if SETTINGS.with_borrow(|settings| settings.close) {
            vec![Action::Forward(question::close(&connection, code, &reason))]
        } else {
            Vec::new()
        }
    }
}

impl Schedules for Application {
    fn on_schedule(name: String) -> Vec<Action> {
        vec![Action::Forward(question::schedule(&name))]
    }
}

impl Responses for Application {
    fn on_response(
        _connection: Option<Connection>,
        context: Payload,
        outcome: Result<Response, Failure>,
    ) -> Vec<Action> {
        let Some(subject) = Subject::read(&context) else {
            return Vec::new();
        };
        let (actions, notes) = SETTINGS.with_borrow(|settings| answer::take(&subject, outcome, settings));
        write(&context, &notes);
        actions
    }
}

impl Pushes for Application {
    fn on_push(request: Request) -> Vec<Action> {
        SETTINGS.with_borrow(|settings| push::handle(&request, &settings.push_path))
    }
}

impl Reports for Application {
    fn on_report(_connection: Option<Connection>, context: Payload, effects: Vec<Effect>) -> Vec<Action> {
        vec![Action::Respond(push::answer(&context, &effects))]
    }
}

aileron_plugin::export!(
    Application: Lifecycle, Handshakes, Frames, Timers, Closings, Schedules, Responses, Pushes, Reports
);

/// The context says in words what the request was about, and so begins each line.
fn write(context: &Payload, notes: &[Note]) {
    let subject = String::from_utf8_lossy(context.as_bytes());
    for (level, line) in notes {
        log::log(*level, "", &format!("{subject}: {line}"));
    }
}

#[cfg(test)]
mod tests;
