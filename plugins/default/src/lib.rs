//! The plugin built into the gateway, last in every chain: a form POST to PHP for each frame, PHP's answer back to the
//! client, and a form POST to the gateway for each message that PHP sends by itself.
//!
//! What it decides is in the modules, as plain functions; here they meet the host.

mod answer;
mod push;
mod question;
mod settings;

use std::cell::RefCell;

use aileron_plugin::{
    Action, Connection, Failure, Frames, Interest, Lifecycle, Payload, Pushes, Request, Response, Responses,
    log,
};
use settings::Settings;

thread_local! {
    static SETTINGS: RefCell<Settings> = RefCell::default();
}

struct DefaultPlugin;

impl Lifecycle for DefaultPlugin {
    fn configure(settings: Vec<(String, String)>) -> Result<Interest, String> {
        SETTINGS.set(Settings::parse(settings)?);
        Ok(Interest {
            // The body and the status of an answer are all that counts here.
            others: vec![("response-headers".to_owned(), String::new())],
            ..Interest::default()
        })
    }
}

impl Frames for DefaultPlugin {
    fn on_frame(connection: Connection, message: Payload) -> Vec<Action> {
        vec![Action::Forward(question::ask(&connection.id, &message))]
    }
}

impl Responses for DefaultPlugin {
    fn on_response(
        connection: Option<Connection>,
        context: Payload,
        outcome: Result<Response, Failure>,
    ) -> Vec<Action> {
        // Only frames are forwarded, and those have a connection.
        let Some(connection) = connection else {
            return Vec::new();
        };
        let answer =
            SETTINGS.with_borrow(|settings| answer::take(&connection.id, &context, outcome, settings));
        for (level, line) in &answer.notes {
            log::log(*level, "", line);
        }
        answer.action.into_iter().collect()
    }
}

impl Pushes for DefaultPlugin {
    fn on_push(request: Request) -> Vec<Action> {
        SETTINGS.with_borrow(|settings| push::handle(&request, &settings.push_path))
    }
}

aileron_plugin::export!(DefaultPlugin: Lifecycle, Frames, Responses, Pushes);

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        Connection {
            id: "127.0.0.1:51110".into(),
            facts: Vec::new(),
        }
    }

    #[test]
    fn a_frame_goes_to_php_and_its_answer_back() {
        let actions = DefaultPlugin::on_frame(connection(), Payload::Text("name".into()));
        let [Action::Forward(exchange)] = actions.as_slice() else {
            panic!("{actions:?}");
        };
        let response = Response {
            status: 200,
            headers: Vec::new(),
            body: Payload::Text("lwlinux to 127.0.0.1:51110".into()),
        };
        let actions =
            DefaultPlugin::on_response(Some(connection()), exchange.context.clone(), Ok(response.clone()));
        assert_eq!(actions, [Action::Reply(response.body)]);
    }

    #[test]
    fn a_failure_sends_nothing() {
        let failure = Err(Failure::Timeout("fpm".into()));
        let actions = DefaultPlugin::on_response(Some(connection()), Payload::Text("text".into()), failure);
        assert_eq!(actions, []);
    }

    #[test]
    fn settings_take_effect() {
        let push = |path: &str| {
            DefaultPlugin::on_push(Request {
                method: "POST".into(),
                path: path.into(),
                query: "client_id=a&message=b".into(),
                headers: Vec::new(),
                body: Payload::Text(String::new()),
            })
        };
        assert_eq!(push("/send").len(), 2);
        let interest = DefaultPlugin::configure(vec![("push-path".into(), "/push".into())]);
        let wishes = interest.unwrap().others;
        assert_eq!(wishes, [("response-headers".to_owned(), String::new())]);
        assert_eq!(push("/send"), [Action::Next(None)]);
        assert_eq!(push("/push").len(), 2);

        let refused = DefaultPlugin::configure(vec![("push-paht".into(), "/send".into())]);
        assert!(refused.is_err_and(|text| text.contains("push-paht")));
        assert_eq!(push("/push").len(), 2);
    }
}
