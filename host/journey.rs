//! One event on its way: through the chain of plugins, to upstreams and back, until nothing is left to do.
//!
//! A journey decides nothing and does no I/O. It calls plugins, and tells its owner (a session, or a push request) step
//! by step what to do or to wait for. It holds the chain that was there when it began, so a reload changes nothing for it.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::message::{Action, Event, Exchange, Outcome, Payload, Request};
use crate::plugin::{Call, CallResult, Chain};

/// An event that is being handled.
pub struct Journey {
    chain: Arc<Chain>,
    /// Index of the plugin that has the event.
    at: usize,
    event: Event,
    actions: std::vec::IntoIter<Action>,
    exchanges: VecDeque<Exchange>,
    /// The event goes on to the next plugin when the list is done, perhaps with another payload.
    onward: Option<Option<Payload>>,
    /// A slow plugin's answer is awaited.
    queued: Option<oneshot::Receiver<CallResult>>,
    failed: bool,
}

/// What the owner is to do.
pub enum Step {
    /// Do this: `Reply`, `Respond`, `Send`, `Close` or `Unsupported`. Then ask for the next step.
    Act(Action),
    /// Ask an upstream, and come back with `answered`.
    Ask(Exchange),
    /// Wait for a slow plugin, and come back with `decided`.
    Wait(oneshot::Receiver<CallResult>),
    /// Nothing is left.
    Done,
}

impl Journey {
    /// Begins: calls the first plugin that wants the event.
    pub fn begin(chain: Arc<Chain>, event: Event) -> Self {
        let mut journey = Self {
            chain,
            at: 0,
            event,
            actions: Vec::new().into_iter(),
            exchanges: VecDeque::new(),
            onward: None,
            queued: None,
            failed: false,
        };
        journey.call_from(0);
        journey
    }

    /// Whether a plugin failed on the way.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// The next step.
    pub fn step(&mut self) -> Step {
        loop {
            if let Some(queued) = self.queued.take() {
                return Step::Wait(queued);
            }
            match self.actions.next() {
                Some(Action::Next(payload)) => self.onward = Some(payload),
                Some(Action::Forward(exchange)) => self.exchanges.push_back(exchange),
                Some(action) => return Step::Act(action),
                None => {
                    if let Some(exchange) = self.exchanges.pop_front() {
                        return Step::Ask(exchange);
                    }
                    let Some(payload) = self.onward.take() else {
                        return Step::Done;
                    };
                    if let Some(payload) = payload {
                        self.event = replace_payload(&self.event, payload);
                    }
                    self.call_from(self.at + 1);
                }
            }
        }
    }

    /// An upstream has answered: the plugin that forwarded hears it.
    pub fn answered(&mut self, context: Payload, outcome: Outcome) {
        let Some(version) = self.chain.get(self.at) else {
            return;
        };
        if !version.hears_responses() {
            tracing::warn!(
                plugin = &*version.name,
                "it forwards but exports no `responses`; the answer is dropped"
            );
            return;
        }
        let event = Event::Response {
            peer: self.event.peer().cloned(),
            context,
            outcome: Arc::new(outcome),
        };
        let call = version.call(&event);
        self.take(call, event.kind());
    }

    /// A slow plugin has decided. None: it was dropped before it could.
    pub fn decided(&mut self, result: Option<CallResult>) {
        match result {
            Some(result) => self.take(Call::Done(result), self.event.kind()),
            None => self.failed = true,
        }
    }

    fn call_from(&mut self, index: usize) {
        let wanted = self
            .chain
            .iter()
            .enumerate()
            .skip(index)
            .find(|(_, version)| version.wants(&self.event));
        let Some((index, version)) = wanted else { return };
        self.at = index;
        let call = version.call(&self.event);
        self.take(call, self.event.kind());
    }

    fn take(&mut self, call: Call, event: &'static str) {
        match call {
            Call::Done(Ok(actions)) => self.actions = actions.into_iter(),
            Call::Queued(result) => self.queued = Some(result),
            Call::Done(Err(cause)) => {
                self.failed = true;
                let plugin = self.chain.get(self.at).map_or("", |version| &*version.name);
                let connection = self.event.peer().map_or("", |peer| &*peer.id);
                tracing::error!(plugin, event, connection, %cause, "plugin failed; the event is dropped");
            }
        }
    }
}

/// The event that the next plugin sees.
fn replace_payload(event: &Event, payload: Payload) -> Event {
    match event {
        Event::Frame { peer, .. } => Event::Frame {
            peer: peer.clone(),
            message: payload,
        },
        Event::Push(request) => {
            let mut request = Request::clone(request);
            request.body = payload;
            Event::Push(Arc::new(request))
        }
        Event::Response { .. } => event.clone(),
    }
}
