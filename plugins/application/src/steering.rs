//! How PHP steers the gateway: the `Aileron-…` headers of its answers.

mod values;

use aileron_plugin::log::Level;
use aileron_plugin::{
    Action, Attribute, Closing, Headers, Membership, Payload, Publication, Timer, TimerName,
};

use crate::Note;
use values::{attribute, closing, element, list, timer};

/// What the headers of an answer come to.
#[derive(Debug, PartialEq)]
pub struct Steering {
    /// For the host, in the order in which they make sense.
    pub actions: Vec<Action>,
    /// The one that is agreed on; only an `open` has a use for it.
    pub subprotocol: Option<String>,
    /// What was ignored, and why.
    pub notes: Vec<Note>,
}

/// Reads the headers of an answer. Without a connection only what is published counts. The message is the body, if the
/// answer has one that is to be sent.
pub fn read(headers: &Headers, connection: Option<&str>, message: Option<Payload>) -> Steering {
    let mut wishes = Wishes::default();
    let mut notes = Vec::new();
    for (name, value) in headers.iter().filter(|(name, _)| name.starts_with("aileron-")) {
        for element in elements(name, value) {
            if let Err(problem) = wishes.add(name, element) {
                notes.push((
                    Level::Warn,
                    format!("header {name}: {element:?}: {problem}; ignored"),
                ));
            }
        }
    }
    if !wishes.publish.is_empty() && message.is_none() {
        notes.push((Level::Warn, "the answer has no body to publish".to_owned()));
    }
    Steering {
        subprotocol: wishes.subprotocol.take(),
        actions: wishes.into_actions(connection, message),
        notes,
    }
}

/// The elements of a header's value, which is a list unless it may have commas of its own.
fn elements<'a>(header: &str, value: &'a str) -> Vec<&'a str> {
    match header {
        "aileron-attribute" | "aileron-close" | "aileron-subprotocol" => vec![value.trim()],
        _ => list(value),
    }
}

/// What the headers ask for, by what it is.
#[derive(Default)]
struct Wishes {
    attributes: Vec<(String, Option<String>)>,
    unsubscribe: Vec<String>,
    subscribe: Vec<String>,
    timers: Vec<(String, Option<u32>)>,
    publish: Vec<String>,
    except: Vec<String>,
    silent: bool,
    close: Option<(u16, String)>,
    subprotocol: Option<String>,
}

impl Wishes {
    fn add(&mut self, header: &str, value: &str) -> Result<(), &'static str> {
        match header {
            "aileron-subscribe" => self.subscribe.push(element(value)?),
            "aileron-unsubscribe" => self.unsubscribe.push(element(value)?),
            "aileron-attribute" => self.attributes.push(attribute(value)?),
            "aileron-timer" => self.timers.push(timer(value)?),
            "aileron-publish" => self.publish.push(element(value)?),
            "aileron-except" => self.except.push(element(value)?),
            "aileron-reply" if value == "no" => self.silent = true,
            "aileron-reply" => return Err("must be no"),
            "aileron-close" => self.close = Some(closing(value)?),
            // The kind of the message that is there already.
            "aileron-frame" if matches!(value, "text" | "binary") => {}
            "aileron-frame" => return Err("must be text or binary"),
            "aileron-subprotocol" => self.subprotocol = Some(value.to_owned()),
            _ => return Err("no such header"),
        }
        Ok(())
    }

    /// What is published follows what is subscribed to, so that a new subscriber hears it; a close is behind all.
    fn into_actions(self, connection: Option<&str>, message: Option<Payload>) -> Vec<Action> {
        let (reply, published) = if self.publish.is_empty() {
            (message.filter(|_| !self.silent), None)
        } else {
            (None, message)
        };
        let mut actions = Vec::new();
        if let Some(id) = connection {
            let attributes = self.attributes.into_iter();
            let unsubscribe = self.unsubscribe.into_iter().map(|topic| membership(id, topic));
            let subscribe = self.subscribe.into_iter().map(|topic| membership(id, topic));
            let timers = self.timers.into_iter();
            // The attributes come first, since a subscriber is known by one. Then the message, which is to be the first
            // thing that a new connection hears.
            actions.extend(attributes.map(|(name, value)| set_attribute(id, name, value)));
            actions.extend(reply.map(Action::Reply));
            actions.extend(unsubscribe.map(Action::Unsubscribe));
            actions.extend(subscribe.map(Action::Subscribe));
            actions.extend(timers.map(|(name, delay)| set_timer(id, name, delay)));
        }
        if let Some(message) = published {
            let except = excepted(self.except, connection);
            actions.extend(self.publish.into_iter().map(|topic| {
                Action::Publish(Publication {
                    topic,
                    message: message.clone(),
                    except: except.clone(),
                })
            }));
        }
        if let (Some(id), Some((code, reason))) = (connection, self.close) {
            actions.push(Action::Close(Closing {
                connection: id.to_owned(),
                code,
                reason,
            }));
        }
        actions
    }
}

/// The ids of those who are left out. `self` is the connection, if there is one.
fn excepted(except: Vec<String>, connection: Option<&str>) -> Vec<String> {
    let id = |name: String| match name.as_str() {
        "self" => connection.map(str::to_owned),
        _ => Some(name),
    };
    except.into_iter().filter_map(id).collect()
}

fn membership(id: &str, topic: String) -> Membership {
    Membership {
        connection: id.to_owned(),
        topic,
    }
}

fn set_attribute(id: &str, name: String, value: Option<String>) -> Action {
    Action::SetAttribute(Attribute {
        connection: id.to_owned(),
        name,
        value,
    })
}

fn set_timer(id: &str, name: String, delay: Option<u32>) -> Action {
    let connection = id.to_owned();
    match delay {
        Some(delay_ms) => Action::SetTimer(Timer {
            connection,
            name,
            delay_ms,
        }),
        None => Action::CancelTimer(TimerName { connection, name }),
    }
}

#[cfg(test)]
mod tests;
