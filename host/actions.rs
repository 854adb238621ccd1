//! What the actions of plugins do. This is the same for sessions, pushes and everything else that dispatches events.

use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use crate::dispatch::{Dispatch, Step};
use crate::message::{
    Action, Connection, Effect, Exchange, Failure, Flow, Outcome, Payload, Response, excerpt,
};
use crate::metrics::Metrics;
use crate::registry::{PRESENCE, Published, Publishing, Registry, SendError};
use crate::upstream::{Turn, Upstreams};

/// Does the actions of plugins, with everything that they act upon.
pub struct Actions {
    /// The connections and topics.
    pub registry: Arc<Registry>,
    /// The applications that are asked.
    pub upstreams: ArcSwap<Upstreams>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

impl Actions {
    /// Asks the upstream that an exchange names, or the default one of the route. Gives the context back with the outcome.
    pub async fn ask(&self, dispatch: &Dispatch, default: usize, exchange: Exchange) -> (Payload, Outcome) {
        let upstreams = self.upstreams.load_full();
        let outcome = match turn(&upstreams, dispatch.flow(), default, &exchange).await {
            Ok(turn) => turn.send(exchange.request, dispatch.connection().cloned()).await,
            Err(failure) => Err(failure),
        };
        (exchange.context, outcome)
    }

    /// Puts a frame into a connection's queue.
    pub fn send(&self, connection: &str, message: Payload) -> Result<(), SendError> {
        let result = self.registry.send(connection, message);
        if result == Err(SendError::Congested) {
            self.metrics.congested.inc();
        }
        result
    }

    /// Does an action of a plugin. One that cannot be done is logged and left out. `origin` is the connection of the event
    /// that it comes from.
    pub fn perform(
        self: &Arc<Self>,
        plugin: &Arc<str>,
        origin: Option<&Arc<Connection>>,
        action: Action,
    ) -> Performed {
        let registry = &self.registry;
        let (what, on, result) = match action {
            Action::Send { connection, message } => {
                let result = self.send(&connection, message).map(|()| Effect::new("sent"));
                ("send", connection, result)
            }
            Action::Publish {
                topic,
                message,
                except,
            } => {
                let publishing = if topic.ends_with(PRESENCE) {
                    Err(SendError::Presence)
                } else {
                    registry.publish(&topic, &message, &except, origin.map(|one| &**one))
                };
                let result = match publishing {
                    Ok(Publishing::Done(published)) => Ok(self.published(published)),
                    Ok(Publishing::Later(published)) => return self.later(published),
                    Err(cause) => Err(cause),
                };
                ("publish", topic, result)
            }
            Action::Subscribe { connection, topic } => {
                let result = match registry.subscribe(&connection, &topic) {
                    Ok(Publishing::Later(told)) => return told_later(told),
                    result => done(result.map(drop)),
                };
                ("subscribe", connection, result)
            }
            Action::Unsubscribe { connection, topic } => {
                let result = match registry.unsubscribe(&connection, &topic) {
                    Ok(Publishing::Later(told)) => return told_later(told),
                    result => done(result.map(drop)),
                };
                ("unsubscribe", connection, result)
            }
            Action::SetAttribute {
                connection,
                name,
                value,
            } => {
                let result = registry.set_attribute(&connection, &name, value.as_deref());
                ("set-attribute", connection, done(result))
            }
            Action::Timer {
                connection,
                name,
                delay,
            } => {
                let result = registry.set_timer(&connection, plugin, &name, delay);
                ("set-timer", connection, done(result))
            }
            Action::Close {
                connection,
                code,
                reason,
            } => return self.close(plugin, &connection, code, &reason).into(),
            Action::Unsupported(name) => {
                return left_out(plugin, &name, "it is not known to this host").into();
            }
            Action::Respond(_) => return left_out(plugin, "respond", "there is no push to answer").into(),
            Action::Reply(_) => return left_out(plugin, "reply", "there is no connection to answer").into(),
            // A dispatch handles these itself.
            Action::Next(_) | Action::Forward(_) | Action::Report(_) => return Effect::new("done").into(),
        };
        result
            .unwrap_or_else(|cause| {
                tracing::warn!(
                    plugin = &**plugin,
                    on = &*excerpt(&on),
                    %cause,
                    "a plugin's `{what}` was not done"
                );
                refusal(cause)
            })
            .into()
    }

    /// A publication that takes its time.
    fn later(self: &Arc<Self>, published: oneshot::Receiver<Published>) -> Performed {
        let actions = self.clone();
        Performed::Later(Box::pin(async move {
            match published.await {
                Ok(published) => actions.published(published),
                Err(_) => Effect::refused("the gateway has shut down".to_owned()),
            }
        }))
    }

    /// Brings a dispatch that has no connection to its end. `default` is the index of the upstream for requests
    /// that name none. Gives the first response of a plugin.
    pub async fn finish(self: &Arc<Self>, dispatch: &mut Dispatch, default: usize) -> Option<Response> {
        let mut answer = None;
        loop {
            match dispatch.step() {
                Step::Act(Action::Respond(response)) => {
                    answer.get_or_insert(response);
                }
                Step::Act(action) => {
                    let effect = self.act(dispatch, action).effect().await;
                    dispatch.note(effect);
                }
                Step::Ask(exchange) => {
                    let (context, outcome) = self.ask(dispatch, default, exchange).await;
                    dispatch.answered(context, outcome);
                }
                Step::Wait(result) => dispatch.decided(result.await.ok()),
                Step::Yield => tokio::task::yield_now().await,
                Step::Done => return answer,
            }
        }
    }

    /// Does an action of the plugin whose turn it is in a dispatch.
    pub fn act(self: &Arc<Self>, dispatch: &Dispatch, action: Action) -> Performed {
        match dispatch.plugin() {
            Some(plugin) => self.perform(plugin, dispatch.connection(), action),
            None => Effect::new("done").into(),
        }
    }

    fn published(&self, published: Published) -> Effect {
        let Published {
            recipients,
            congested,
            closed,
            dropped,
            position,
        } = published;
        self.metrics.published.inc();
        self.metrics.congested.inc_by(congested as u64);
        self.metrics.slow_client("closed", closed);
        self.metrics.slow_client("dropped", dropped);
        let mut facts = vec![
            ("recipients", recipients.to_string()),
            ("congested", congested.to_string()),
        ];
        if let Some(position) = position {
            facts.push(("epoch", position.epoch));
            facts.push(("offset", position.offset.to_string()));
        }
        Effect {
            outcome: "sent",
            facts,
        }
    }

    fn close(&self, plugin: &Arc<str>, connection: &str, code: u16, reason: &str) -> Effect {
        if !may_be_sent(code) {
            let cause = format!("{code} is not a close code that may be sent (RFC 6455 section 7.4)");
            tracing::warn!(
                plugin = &**plugin,
                connection = &*excerpt(connection),
                code,
                "a plugin's `close` has a code that must not be sent; it is left out"
            );
            return Effect::refused(cause);
        }
        if !self.registry.close(connection, code, truncate(reason)) {
            tracing::info!(
                plugin = &**plugin,
                connection = &*excerpt(connection),
                "a plugin's `close` names a connection that is not there"
            );
            return Effect::new("not-found");
        }
        Effect::new("closed")
    }
}

/// An action that is done, or will be. What comes behind it in its list waits for it.
pub enum Performed {
    /// It is done.
    Now(Effect),
    /// It will be.
    Later(BoxFuture<'static, Effect>),
}

impl Performed {
    /// Waits until it is done.
    pub async fn effect(self) -> Effect {
        match self {
            Self::Now(effect) => effect,
            Self::Later(effect) => effect.await,
        }
    }
}

impl From<Effect> for Performed {
    fn from(effect: Effect) -> Self {
        Self::Now(effect)
    }
}

/// The first half of `ask`, which sends nothing yet: waits for the turn of an exchange.
pub async fn turn<'a>(
    upstreams: &'a Upstreams,
    flow: Flow,
    default: usize,
    exchange: &Exchange,
) -> Result<Turn<'a>, Failure> {
    let index = find(upstreams, default, exchange.upstream.as_deref())?;
    upstreams.turn(index, flow).await
}

/// The index of the upstream that a plugin means.
pub fn find(upstreams: &Upstreams, default: usize, name: Option<&str>) -> Result<usize, Failure> {
    let Some(name) = name else { return Ok(default) };
    upstreams.find(name).ok_or_else(|| {
        let text = format!("no upstream is called `{}` in the configuration", excerpt(name));
        Failure::Other("unknown-upstream".to_owned(), text)
    })
}

/// A join or a leave is done, and those who want to know of it are being told: whoever causes many of them waits for that.
fn told_later(told: oneshot::Receiver<Published>) -> Performed {
    Performed::Later(Box::pin(async move {
        let _ = told.await;
        Effect::new("done")
    }))
}

fn done(result: Result<(), SendError>) -> Result<Effect, SendError> {
    result.map(|()| Effect::new("done"))
}

fn left_out(plugin: &Arc<str>, action: &str, cause: &str) -> Effect {
    tracing::warn!(
        plugin = &**plugin,
        action,
        "a plugin's action is left out: {cause}"
    );
    Effect::refused(cause.to_owned())
}

/// Its name in reports.
fn refusal(cause: SendError) -> Effect {
    match cause {
        SendError::NotFound => Effect::new("not-found"),
        SendError::Congested => Effect::new("congested"),
        SendError::TooLarge => Effect::new("too-large"),
        SendError::Name | SendError::Presence | SendError::Topics | SendError::Attributes => {
            Effect::refused(cause.to_string())
        }
    }
}

/// RFC 6455 section 7.4: 1004 to 1006 and 1015 never appear in a frame.
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// A control frame holds 125 bytes, two of them the code (RFC 6455 section 5.5).
fn truncate(reason: &str) -> &str {
    reason.get(..reason.floor_char_boundary(123)).unwrap_or(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_cut_between_characters() {
        assert_eq!(truncate("short"), "short");
        assert_eq!(truncate(&"é".repeat(100)).len(), 122);
    }

    #[test]
    fn codes_that_must_not_be_sent_are_known() {
        for code in [1000, 1001, 1008, 1013, 3000, 4999] {
            assert!(may_be_sent(code), "{code}");
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
            assert!(!may_be_sent(code), "{code}");
        }
    }
}
