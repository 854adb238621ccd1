//! Does what the message says, most of it what a plugin should not do: `WISH` or `WISH:ARGUMENT`, see [`act`].
//!
//! Settings: `refuse` is the text with which `configure` refuses, `trap-at-start = true` makes it trap, `greeting` comes
//! back by `greeting`; `facts` and `paths` (lists with commas) and `frames` are the interest. `trap-every` is a list of
//! `VERSION=N`: that version of this plugin traps at every n-th message, whatever it says.

mod faults;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use aileron_plugin::host::{config, connections, keyvalue};
use aileron_plugin::{
    Action, Closing, Connection, Delivery, Exchange, Failure, Frames, Interest, Lifecycle, Membership,
    Payload, Publication, Pushes, Request, Response, Responses, form, log,
};
use version::version;

struct Misbehave;

/// The setting as `configure` was given it.
static GREETING: OnceLock<String> = OnceLock::new();

/// At which message this version traps; 0 at none.
static TRAP_EVERY: AtomicUsize = AtomicUsize::new(0);
/// Messages of this instance. The next instance counts anew.
static MESSAGES: AtomicUsize = AtomicUsize::new(0);

impl Lifecycle for Misbehave {
    fn configure(settings: Vec<(String, String)>) -> Result<Interest, String> {
        let setting = |name: &str| {
            let found = settings.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.as_str())
        };
        let list = |name: &str| -> Vec<String> {
            let items = setting(name).unwrap_or_default().split(',');
            items.filter(|item| !item.is_empty()).map(str::to_owned).collect()
        };
        if let Some(refusal) = setting("refuse") {
            return Err(refusal.to_owned());
        }
        if setting("trap-at-start") == Some("true") {
            faults::trap();
        }
        let every = list("trap-every").into_iter().find_map(|entry| {
            let (of, every) = entry.split_once('=')?;
            every.parse().ok().filter(|_| of == version())
        });
        TRAP_EVERY.store(every.unwrap_or(0), Ordering::Relaxed);
        let _ = GREETING.set(setting("greeting").unwrap_or_default().to_owned());
        let wishes = ["frames", "response-headers"];
        let wishes = wishes.map(|name| Some((name.to_owned(), setting(name)?.to_owned())));
        Ok(Interest {
            facts: list("facts"),
            paths: list("paths"),
            others: wishes.into_iter().flatten().collect(),
        })
    }
}

impl Frames for Misbehave {
    fn on_frame(connection: Connection, message: Payload) -> Vec<Action> {
        let nth = MESSAGES.fetch_add(1, Ordering::Relaxed) + 1;
        if nth.checked_rem(TRAP_EVERY.load(Ordering::Relaxed)) == Some(0) {
            faults::trap();
        }
        match message {
            Payload::Text(text) => act(&connection, &text),
            Payload::Binary(_) => vec![Action::Next(None)],
        }
    }
}

/// What each message does. Anything else is answered `ok MESSAGE`.
fn act(connection: &Connection, message: &str) -> Vec<Action> {
    let id = connection.id.clone();
    let (wish, argument) = message.split_once(':').unwrap_or((message, ""));
    match wish {
        "trap" => faults::trap(),
        "loop" => faults::run_for_ever(),
        "grow" => faults::grow(),
        "sleep" => faults::sleep(),
        // Burns so many turns of a loop, and answers.
        "burn" => reply(faults::burn(argument)),
        "big" => reply("x".repeat(argument.parse().unwrap_or(0))),
        "version" => reply(version()),
        "greeting" => reply(GREETING.get().cloned().unwrap_or_default()),
        "setting" => reply(format!("{:?}", config::get(argument))),
        "fact" => reply(format!("{:?}", connections::fact(&id, argument))),
        "facts" => reply(format!("{:?}", connection.facts)),
        "count" => reply(count(argument)),
        "log" => speak(argument),
        "count-and-trap" => {
            count(argument);
            faults::trap();
        }
        // Opens so many buckets, and keeps them.
        "hoard" => reply(faults::hoard(argument)),
        // Opens a bucket whose name has so many bytes.
        "open" => reply(faults::open(argument)),
        // Sets keys until no more fit, and gives how many there are by the pages of their list.
        "fill" => reply(faults::fill()),
        // Sets a key in so many buckets, one after the other, and deletes it again.
        "buckets" => reply(faults::buckets(argument)),
        "next" if argument.is_empty() => vec![Action::Next(None)],
        "next" => vec![Action::Next(Some(text(argument)))],
        "send" => {
            let delivery = Delivery {
                connection: argument.to_owned(),
                message: text("sent to you"),
            };
            vec![Action::Send(delivery), Action::Reply(text("sent"))]
        }
        "close" => vec![Action::Close(Closing {
            connection: id,
            code: argument.parse().unwrap_or(0),
            reason: "as asked".to_owned(),
        })],
        "unsupported" => unsupported(id),
        "forward" => forward(argument),
        _ => reply(format!("ok {message}")),
    }
}

fn text(text: impl Into<String>) -> Payload {
    Payload::Text(text.into())
}

fn reply(answer: impl Into<String>) -> Vec<Action> {
    vec![Action::Reply(text(answer))]
}

/// Counts under a key, in the store that all instances share.
fn count(key: &str) -> String {
    let counted = keyvalue::store::open("").and_then(|bucket| keyvalue::atomics::increment(&bucket, key, 1));
    match counted {
        Ok(number) => number.to_string(),
        Err(error) => format!("{error:?}"),
    }
}

/// By each way into the log that this build has; without WASI the standard streams lead nowhere.
fn speak(words: &str) -> Vec<Action> {
    log::warn(&format!("logged {words}"));
    println!("printed {words}");
    eprintln!("complained {words}");
    reply("spoken")
}

/// What a host of version 0.1.0 leaves out, and one action that it does.
fn unsupported(connection: String) -> Vec<Action> {
    let topic = "news".to_owned();
    vec![
        Action::Publish(Publication {
            topic: topic.clone(),
            message: text("to all"),
            except: Vec::new(),
        }),
        Action::Other(("dance".to_owned(), text("tango"))),
        Action::Subscribe(Membership { connection, topic }),
        Action::Reply(text("the rest is done")),
    ]
}

/// `forward:UPSTREAM:MESSAGE`; without a name, the upstream of the route.
fn forward(argument: &str) -> Vec<Action> {
    let (upstream, message) = argument.split_once(':').unwrap_or((argument, ""));
    let request = Request {
        method: String::new(),
        path: String::new(),
        query: String::new(),
        headers: vec![("content-type".to_owned(), form::URLENCODED.to_owned())],
        body: text(form::encode(&[("message", message.as_bytes())])),
    };
    vec![Action::Forward(Exchange {
        upstream: Some(upstream.to_owned()).filter(|name| !name.is_empty()),
        request,
        context: text(version()),
    })]
}

impl Responses for Misbehave {
    /// Answers with the answer, and with the versions that asked and heard.
    fn on_response(
        _connection: Option<Connection>,
        context: Payload,
        outcome: Result<Response, Failure>,
    ) -> Vec<Action> {
        let asked = String::from_utf8_lossy(context.as_bytes());
        let answer = match &outcome {
            Ok(response) => String::from_utf8_lossy(response.body.as_bytes()).into_owned(),
            Err(failure) => failure.to_string(),
        };
        match (answer.as_str(), &outcome) {
            ("trap", _) => faults::trap(),
            ("headers", Ok(response)) => return reply(names(&response.headers)),
            _ => {}
        }
        reply(format!("{answer}, asked by {asked}, heard by {}", version()))
    }
}

/// The names of headers, in order.
fn names(headers: &[(String, String)]) -> String {
    let mut names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.join(" ")
}

impl Pushes for Misbehave {
    /// Only below `/misbehave`: the body is the wish.
    fn on_push(request: Request) -> Vec<Action> {
        if !request.path.starts_with("/misbehave") {
            return vec![Action::Next(None)];
        }
        match request.body.as_bytes() {
            b"trap" => faults::trap(),
            b"loop" => faults::run_for_ever(),
            b"grow" => faults::grow(),
            b"nothing" => Vec::new(),
            _ => vec![Action::Respond(Response {
                status: 200,
                headers: Vec::new(),
                body: request.body,
            })],
        }
    }
}

aileron_plugin::export!(Misbehave: Lifecycle, Frames, Responses, Pushes);
