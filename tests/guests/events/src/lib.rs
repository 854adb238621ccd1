//! Has every hook, and does what the client tells it by its query, its messages and pushes.
//!
//! A message is a list of actions with `;` between them, done in order, see [`act`]; `report` at the end answers with what
//! became of each. At the handshake the query says what to do, see [`Handshakes::on_open`].

use aileron_plugin::host::{connections, topics};
use aileron_plugin::{
    Acceptance, Action, Admission, Attribute, Closing, Closings, Connection, Delivery, Effect, Exchange,
    Failure, Frames, Handshakes, Interest, Lifecycle, Membership, Payload, Publication, Reports, Request,
    Response, Responses, Schedules, Timer, TimerName, Timers, form,
};
use version::version;

struct Events;

impl Lifecycle for Events {
    fn configure(_settings: Vec<(String, String)>) -> Result<Interest, String> {
        Ok(Interest {
            facts: ["query", "attributes", "attribute.user"]
                .map(str::to_owned)
                .to_vec(),
            ..Interest::default()
        })
    }
}

impl Handshakes for Events {
    /// `accept:SUBPROTOCOL`, `reject:STATUS`, `ask:MESSAGE`, `next`, `trap`; then perhaps `;` and actions.
    fn on_open(connection: Connection, _request: Request) -> Admission {
        let query = connection.fact("query").unwrap_or_default().to_owned();
        let (wish, actions) = query.split_once(';').unwrap_or((&query, ""));
        let (wish, argument) = wish.split_once(':').unwrap_or((wish, ""));
        let actions = list(&connection, actions);
        match wish {
            "accept" => Admission::Accept(Acceptance {
                subprotocol: Some(argument.to_owned()).filter(|name| !name.is_empty()),
                headers: vec![("x-greeting".to_owned(), "hello".to_owned())],
                actions,
            }),
            "reject" => Admission::Reject(
                Response::text(argument.parse().unwrap_or(0), "not you").with_header("x-why", "because"),
            ),
            "ask" => Admission::Ask(exchange(argument)),
            "trap" => trap(),
            _ => Admission::Next(actions),
        }
    }

    /// Accepts a 2xx, with the answer as its greeting.
    fn on_verdict(
        _connection: Connection,
        _context: Payload,
        outcome: Result<Response, Failure>,
    ) -> Admission {
        match outcome {
            Ok(response) if response.status < 300 => Admission::Accept(Acceptance {
                subprotocol: None,
                headers: Vec::new(),
                actions: vec![Action::Reply(response.body)],
            }),
            Ok(response) => Admission::Reject(response),
            Err(failure) => Admission::Reject(Response::text(503, failure.to_string())),
        }
    }
}

impl Frames for Events {
    fn on_frame(connection: Connection, message: Payload) -> Vec<Action> {
        list(&connection, &String::from_utf8_lossy(message.as_bytes()))
    }
}

impl Responses for Events {
    fn on_response(
        connection: Option<Connection>,
        context: Payload,
        outcome: Result<Response, Failure>,
    ) -> Vec<Action> {
        let words = match outcome {
            Ok(response) => format!(
                "{} {}",
                response.status,
                String::from_utf8_lossy(response.body.as_bytes())
            ),
            Err(failure) => failure.to_string(),
        };
        let context = String::from_utf8_lossy(context.as_bytes()).into_owned();
        if context == AGAIN {
            return again("ask");
        }
        match connection {
            Some(_) => reply(format!("{context}: {words}")),
            None => vec![publish("heard", &format!("{context}: {words}"), Vec::new())],
        }
    }
}

impl Timers for Events {
    fn on_timer(connection: Connection, name: String) -> Vec<Action> {
        let user = connection.fact("attribute.user").unwrap_or("nobody");
        reply(format!("{name} ran out for {user}, {}", version()))
    }
}

impl Closings for Events {
    /// Tells the topic `closings`; goes round in circles if the attribute `again` says so, see [`again`].
    fn on_close(connection: Connection, code: u16, reason: String) -> Vec<Action> {
        let attributes = connection.fact("attributes").unwrap_or_default();
        let words = format!("{} {code} {reason} {attributes}", connection.id);
        let mut actions = vec![publish("closings", words.trim_end(), Vec::new())];
        if let Some(way) = attributes.strip_prefix("again=") {
            actions.extend(again(way));
        }
        actions
    }
}

impl Schedules for Events {
    fn on_schedule(name: String) -> Vec<Action> {
        vec![
            publish("ticks", &name, Vec::new()),
            Action::Forward(exchange(&name)),
        ]
    }
}

impl Reports for Events {
    fn on_report(connection: Option<Connection>, context: Payload, effects: Vec<Effect>) -> Vec<Action> {
        if context.as_bytes() == AGAIN.as_bytes() {
            return again("report");
        }
        let mut words = vec![String::from_utf8_lossy(context.as_bytes()).into_owned()];
        for effect in effects {
            let facts: Vec<_> = effect
                .facts
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            words.push(format!("{}({})", effect.outcome, facts.join(",")));
        }
        match connection {
            Some(_) => reply(words.join(" ")),
            None => Vec::new(),
        }
    }
}

fn list(connection: &Connection, message: &str) -> Vec<Action> {
    let wishes = message.split(';').filter(|wish| !wish.is_empty());
    wishes.flat_map(|wish| act(connection, wish)).collect()
}

/// What each wish does. Anything else is answered with the plugin's version.
fn act(connection: &Connection, wish: &str) -> Vec<Action> {
    let (wish, rest) = wish.split_once(':').unwrap_or((wish, ""));
    let (first, second) = rest.split_once('=').unwrap_or((rest, ""));
    let id = connection.id.clone();
    let membership = |topic: &str| Membership {
        connection: id.clone(),
        topic: topic.to_owned(),
    };
    match wish {
        "reply" => reply(rest),
        "subscribe" => vec![Action::Subscribe(membership(rest))],
        "unsubscribe" => vec![Action::Unsubscribe(membership(rest))],
        // TOPIC=MESSAGE; `others` leaves out the sender.
        "publish" => vec![publish(first, second, Vec::new())],
        "others" => vec![publish(first, second, vec![id])],
        // ID=MESSAGE
        "send" => vec![Action::Send(Delivery {
            connection: first.to_owned(),
            message: text(second),
        })],
        // NAME=VALUE; without a value it is removed.
        "set" => vec![Action::SetAttribute(Attribute {
            connection: id,
            name: first.to_owned(),
            value: Some(second.to_owned()).filter(|value| !value.is_empty()),
        })],
        // NAME=MILLISECONDS
        "timer" => vec![Action::SetTimer(Timer {
            connection: id,
            name: first.to_owned(),
            delay_ms: second.parse().unwrap_or(0),
        })],
        "cancel" => vec![Action::CancelTimer(TimerName {
            connection: id,
            name: rest.to_owned(),
        })],
        // ID=CODE
        "close" => vec![Action::Close(Closing {
            connection: first.to_owned(),
            code: second.parse().unwrap_or(0),
            reason: "as asked".to_owned(),
        })],
        "ask" => vec![Action::Forward(exchange(rest))],
        "report" => vec![Action::report(text("report"))],
        "again" => again(rest),
        // Counts as far as it is told, which takes a while.
        "burn" => {
            for turn in 0..rest.parse::<u64>().unwrap_or(0) {
                std::hint::black_box(turn);
            }
            reply("burned")
        }
        "fact" => reply(format!("{:?}", connections::fact(first, second))),
        "topics" => reply(topics::of(&id).join(" ")),
        "count" => reply(topics::count(rest).to_string()),
        "subscribers" => reply(sorted(topics::subscribers(rest, 100))),
        "members" => {
            let members = topics::members(rest, 100);
            reply(sorted(
                members.iter().map(|(name, n)| format!("{name}*{n}")).collect(),
            ))
        }
        _ => reply(version()),
    }
}

/// The context of what is asked for again and again.
const AGAIN: &str = "again";

/// Asks for a report, which asks for the next one; or asks PHP, whose answer asks it again.
fn again(way: &str) -> Vec<Action> {
    match way {
        "report" => vec![Action::report(text(AGAIN))],
        _ => vec![Action::Forward(exchange(AGAIN))],
    }
}

fn exchange(message: &str) -> Exchange {
    Exchange {
        upstream: None,
        request: form::post(&[("message", message.as_bytes())]),
        context: text(message),
    }
}

fn publish(topic: &str, message: &str, except: Vec<String>) -> Action {
    Action::Publish(Publication {
        topic: topic.to_owned(),
        message: text(message),
        except,
    })
}

fn text(text: impl Into<String>) -> Payload {
    Payload::Text(text.into())
}

fn reply(answer: impl Into<String>) -> Vec<Action> {
    vec![Action::Reply(text(answer))]
}

fn sorted(mut words: Vec<String>) -> String {
    words.sort();
    words.join(" ")
}

#[cfg(target_arch = "wasm32")]
fn trap() -> ! {
    core::arch::wasm32::unreachable()
}

#[cfg(not(target_arch = "wasm32"))]
fn trap() -> ! {
    std::process::abort()
}

aileron_plugin::export!(
    Events: Lifecycle, Handshakes, Frames, Responses, Timers, Closings, Schedules, Reports
);
