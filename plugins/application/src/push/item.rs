//! One thing that a push asks for: something for some clients, or a message for the subscribers of topics.

use std::collections::BTreeSet;

use aileron_plugin::{Action, Attribute, Closing, Delivery, Membership, Payload, Publication};

use super::results::Target;

/// What a form or an object of JSON says.
#[derive(Debug, Default, PartialEq)]
pub struct Item {
    pub clients: Option<Vec<String>>,
    pub topics: Option<Vec<String>>,
    pub everyone: bool,
    pub except: Vec<String>,
    pub message: Option<Payload>,
    pub unsubscribe: Vec<String>,
    pub subscribe: Vec<String>,
    pub attributes: Vec<(String, Option<String>)>,
    pub close: Option<(u16, String)>,
}

/// What an item comes to.
#[derive(Debug, PartialEq, Eq)]
pub struct Size {
    pub actions: usize,
    /// Of messages, one for each target.
    pub bytes: usize,
}

impl Item {
    /// Whether the members go together.
    pub fn check(&self) -> Result<(), &'static str> {
        let addresses = [self.clients.is_some(), self.topics.is_some(), self.everyone];
        if addresses.into_iter().filter(|given| *given).count() != 1 {
            return Err("there must be one of client_id, topic and everyone");
        }
        let for_clients = self.actions_for_clients();
        if self.clients.is_none() && for_clients > 0 {
            return Err("subscribe, unsubscribe, attributes and close go with client_id");
        }
        if self.message.is_none() && for_clients == 0 {
            return Err("there is no message");
        }
        Ok(())
    }

    /// What it comes to, at most. A `usize` of WebAssembly has but 32 bits.
    pub fn size(&self) -> Size {
        let targets = match (&self.clients, &self.topics) {
            (Some(clients), _) => clients.len(),
            (None, Some(topics)) => topics.len(),
            (None, None) => 1,
        };
        let message = self.message.as_ref();
        Size {
            actions: targets.saturating_mul(self.actions_for_clients() + message.iter().count()),
            bytes: targets.saturating_mul(message.map_or(0, |message| message.as_bytes().len())),
        }
    }

    /// How many actions there are for each client, beside the message.
    fn actions_for_clients(&self) -> usize {
        self.attributes.len() + self.unsubscribe.len() + self.subscribe.len() + self.close.iter().count()
    }

    /// Adds what is to be done, and for whom, with the number of actions for each.
    pub fn act(self, actions: &mut Vec<Action>, targets: &mut Vec<(Target, usize)>) {
        if let Some(clients) = &self.clients {
            let except: BTreeSet<_> = self.except.iter().collect();
            for id in clients.iter().filter(|id| !except.contains(id)) {
                let before = actions.len();
                self.act_on(id, actions);
                targets.push((Target::ClientId(id.clone()), actions.len() - before));
            }
        }
        let Some(message) = self.message else {
            return;
        };
        let mut publish = |topic, target| {
            actions.push(Action::Publish(Publication {
                topic,
                message: message.clone(),
                except: self.except.clone(),
            }));
            targets.push((target, 1));
        };
        for topic in self.topics.into_iter().flatten() {
            publish(topic.clone(), Target::Topic(topic));
        }
        if self.everyone {
            publish("*".to_owned(), Target::Everyone(true));
        }
    }

    /// In the order of the answers' headers: a subscriber is known by an attribute, and a close is behind the message.
    fn act_on(&self, id: &str, actions: &mut Vec<Action>) {
        let connection = || id.to_owned();
        let membership = |topic: &String| Membership {
            connection: connection(),
            topic: topic.clone(),
        };
        actions.extend(self.attributes.iter().map(|(name, value)| {
            Action::SetAttribute(Attribute {
                connection: connection(),
                name: name.clone(),
                value: value.clone(),
            })
        }));
        actions.extend(self.message.iter().map(|message| {
            Action::Send(Delivery {
                connection: connection(),
                message: message.clone(),
            })
        }));
        let unsubscribe = self.unsubscribe.iter().map(membership);
        actions.extend(unsubscribe.map(Action::Unsubscribe));
        let subscribe = self.subscribe.iter().map(membership);
        actions.extend(subscribe.map(Action::Subscribe));
        actions.extend(self.close.iter().map(|(code, reason)| {
            Action::Close(Closing {
                connection: connection(),
                code: *code,
                reason: reason.clone(),
            })
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    fn text(text: &str) -> Payload {
        Payload::Text(text.into())
    }

    fn for_clients(clients: &[&str]) -> Item {
        Item {
            clients: Some(owned(clients)),
            except: owned(&["c"]),
            message: Some(text("hi")),
            unsubscribe: owned(&["old"]),
            subscribe: owned(&["new"]),
            attributes: vec![("user".into(), None)],
            close: Some((4001, "bye".into())),
            ..Item::default()
        }
    }

    fn acted(item: Item) -> (Vec<Action>, Vec<(Target, usize)>) {
        let (mut actions, mut targets) = (Vec::new(), Vec::new());
        item.act(&mut actions, &mut targets);
        (actions, targets)
    }

    #[test]
    fn clients_get_all_in_order() {
        let connection = || "b".to_owned();
        let membership = |topic: &str| Membership {
            connection: connection(),
            topic: topic.into(),
        };
        let expected = vec![
            Action::SetAttribute(Attribute {
                connection: connection(),
                name: "user".into(),
                value: None,
            }),
            Action::Send(Delivery {
                connection: connection(),
                message: text("hi"),
            }),
            Action::Unsubscribe(membership("old")),
            Action::Subscribe(membership("new")),
            Action::Close(Closing {
                connection: connection(),
                code: 4001,
                reason: "bye".into(),
            }),
        ];
        let targets = vec![(Target::ClientId("b".into()), 5)];
        assert_eq!(acted(for_clients(&["c", "b"])), (expected, targets));
    }

    #[test]
    fn topics_and_everyone_get_the_message() {
        let publication = |topic: &str| {
            Action::Publish(Publication {
                topic: topic.into(),
                message: text("hi"),
                except: owned(&["a"]),
            })
        };
        let to = |topics: Option<&[&str]>| Item {
            topics: topics.map(owned),
            everyone: topics.is_none(),
            except: owned(&["a"]),
            message: Some(text("hi")),
            ..Item::default()
        };
        let (actions, targets) = acted(to(Some(&["x", "y"])));
        assert_eq!(actions, [publication("x"), publication("y")]);
        assert_eq!(
            targets,
            [(Target::Topic("x".into()), 1), (Target::Topic("y".into()), 1)]
        );
        let (actions, targets) = acted(to(None));
        assert_eq!(actions, [publication("*")]);
        assert_eq!(targets, [(Target::Everyone(true), 1)]);
    }

    #[test]
    fn the_size_counts_each_target() {
        let size = |actions, bytes| Size { actions, bytes };
        assert_eq!(for_clients(&["a", "b"]).size(), size(10, 4));
        let everyone = Item {
            everyone: true,
            message: Some(text("hi")),
            ..Item::default()
        };
        assert_eq!(everyone.size(), size(1, 2));
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let topic = || Item {
            topics: Some(owned(&["x"])),
            message: Some(text("hi")),
            ..Item::default()
        };
        assert_eq!(topic().check(), Ok(()));
        assert_eq!(for_clients(&[]).check(), Ok(()));
        for (item, problem) in [
            (Item::default(), "one of client_id, topic and everyone"),
            (
                Item {
                    everyone: true,
                    ..topic()
                },
                "one of client_id",
            ),
            (
                Item {
                    topics: Some(Vec::new()),
                    ..for_clients(&["a"])
                },
                "one of client_id",
            ),
            (
                Item {
                    subscribe: owned(&["y"]),
                    ..topic()
                },
                "go with client_id",
            ),
            (
                Item {
                    close: Some((1000, String::new())),
                    ..topic()
                },
                "go with client_id",
            ),
            (
                Item {
                    message: None,
                    ..topic()
                },
                "no message",
            ),
            (
                Item {
                    clients: Some(owned(&["a"])),
                    ..Item::default()
                },
                "no message",
            ),
        ] {
            assert!(
                item.check().is_err_and(|error| error.contains(problem)),
                "{item:?}"
            );
        }
    }
}
