//! The dispatch of one event: through the chain of plugins, to upstreams and back, until nothing is left to do.
//!
//! A dispatch decides nothing and does no I/O. It calls plugins, and tells its owner (a session, a push request, …) step by
//! step what to do or what to wait for. It keeps the chain with which it began, so a reload changes nothing for it.

use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::config::OnFailure;
use crate::message::{
    Acceptance, Action, Admission, Connection, Decision, Effect, Event, Exchange, Flow, Outcome, Payload,
    Request, Response,
};
use crate::plugin::{Call, CallResult, Chain};

/// An event that is being handled, and how far that is.
pub struct Dispatch {
    chain: Arc<Chain>,
    /// Index of the plugin that has the event.
    at: usize,
    event: Event,
    actions: std::vec::IntoIter<Action>,
    /// How many of the actions ask for a report. Counted once per list, since it matters for each action.
    reports: u32,
    exchanges: VecDeque<Exchange>,
    /// Set if the event goes on to the next plugin after these actions, perhaps with another payload.
    onward: Option<Option<Payload>>,
    /// The decision of a slow plugin, which has to be awaited.
    queued: Option<oneshot::Receiver<CallResult>>,
    /// What became of the actions so far, for a report.
    effects: Vec<Effect>,
    /// What was decided about a handshake. Boxed: other events have none.
    verdict: Option<Box<Verdict>>,
    failed: bool,
}

/// What the plugins have decided about a handshake. Nothing at all means that the connection may open.
#[derive(Debug, Default)]
pub struct Verdict {
    /// In the order of the plugins, without their actions, which are steps like all others.
    pub acceptances: Vec<Acceptance>,
    /// The first rejection.
    pub rejection: Option<Response>,
}

/// RFC 6455 section 7.4.1: the server met a condition that kept it from fulfilling the request.
const INTERNAL_ERROR: u16 = 1011;

/// What the owner has to do.
pub enum Step {
    /// Do this action, which can be any except `Next`, `Forward` and `Report`. Then ask for the next step.
    Act(Action),
    /// Ask an upstream, and come back with `answered`.
    Ask(Exchange),
    /// Wait for a slow plugin, and come back with `decided`.
    Wait(oneshot::Receiver<CallResult>),
    /// Nothing is left.
    Done,
}

impl Dispatch {
    /// Begins: calls the first plugin that wants the event.
    pub fn begin(chain: Arc<Chain>, event: Event) -> Self {
        let mut dispatch = Self::new(chain, event);
        dispatch.call_from(0);
        dispatch
    }

    /// Begins and ends with one plugin, if it is in the chain and wants the event.
    pub fn begin_at(chain: Arc<Chain>, plugin: &str, event: Event) -> Self {
        let mut dispatch = Self::new(chain, event);
        let found = dispatch.chain.iter().position(|version| *version.name == *plugin);
        if let Some(index) = found {
            dispatch.call_at(index);
        }
        dispatch
    }

    fn new(chain: Arc<Chain>, event: Event) -> Self {
        Self {
            chain,
            at: 0,
            event,
            actions: Vec::new().into_iter(),
            reports: 0,
            exchanges: VecDeque::new(),
            onward: None,
            queued: None,
            effects: Vec::new(),
            verdict: None,
            failed: false,
        }
    }

    /// The plugin whose actions are being done.
    pub fn plugin(&self) -> Option<&Arc<str>> {
        self.chain.get(self.at).map(|version| &version.name)
    }

    /// Bytes of what the event came with.
    pub fn size(&self) -> usize {
        self.event.size()
    }

    /// The flow that its requests belong to.
    pub fn flow(&self) -> Flow {
        self.event.flow()
    }

    /// Whether the plugin wants to be told the effects of the current actions.
    pub fn is_reported(&self) -> bool {
        self.reports > 0
    }

    /// Records the effect of the last action, if there is going to be a report.
    pub fn note(&mut self, effect: Effect) {
        if self.is_reported() {
            self.effects.push(effect);
        }
    }

    /// What was decided about a handshake, once the last step is done.
    pub fn into_verdict(self) -> Verdict {
        self.verdict.map(|verdict| *verdict).unwrap_or_default()
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
                Some(Action::Report(context)) => {
                    self.reports -= 1;
                    self.report(context);
                }
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

    /// An upstream has answered: the plugin that forwarded is told.
    pub fn answered(&mut self, context: Payload, mut outcome: Outcome) {
        if let Some(version) = self.chain.get(self.at) {
            version.trim(&mut outcome);
        }
        let outcome = Arc::new(outcome);
        let event = match &self.event {
            Event::Open { connection, .. } => Event::Verdict {
                connection: connection.clone(),
                context,
                outcome,
            },
            event => Event::Response {
                connection: event.connection().cloned(),
                context,
                outcome,
            },
        };
        self.hear(
            &event,
            "it forwards but exports no `responses`; the answer is dropped",
        );
    }

    /// The actions before the report are done: the plugin is told their effects.
    fn report(&mut self, context: Payload) {
        let event = Event::Report {
            connection: self.event.connection().cloned(),
            context,
            effects: std::mem::take(&mut self.effects).into(),
        };
        self.hear(&event, "it asks for a report but exports no `reports`");
    }

    /// Tells the plugin that has the event about something that it has caused.
    fn hear(&mut self, event: &Event, otherwise: &'static str) {
        let Some(version) = self.chain.get(self.at) else {
            return;
        };
        if !version.wants(event) {
            tracing::warn!(plugin = &*version.name, "{otherwise}");
            return;
        }
        let call = version.call(event);
        self.take(call, event.kind());
    }

    /// A slow plugin has decided. None: it was dropped before it could.
    pub fn decided(&mut self, result: Option<CallResult>) {
        match result {
            Some(result) => self.take(Call::Done(result), self.event.kind()),
            None => self.fail("the thread that it was called on has ended", self.event.kind()),
        }
    }

    fn call_from(&mut self, index: usize) {
        let mut rest = self.chain.iter().enumerate().skip(index);
        if let Some((index, _)) = rest.find(|(_, version)| version.wants(&self.event)) {
            self.call_at(index);
        }
    }

    fn call_at(&mut self, index: usize) {
        let Some(version) = self.chain.get(index) else {
            return;
        };
        self.at = index;
        if version.wants(&self.event) {
            let call = version.call(&self.event);
            self.take(call, self.event.kind());
        }
    }

    fn take(&mut self, call: Call, event: &'static str) {
        match call {
            Call::Done(Ok(Decision::Actions(actions))) => self.queue(actions),
            Call::Done(Ok(Decision::Admission(admission))) => self.admit(*admission),
            Call::Queued(result) => self.queued = Some(result),
            Call::Done(Err(cause)) => self.fail(&cause, event),
        }
    }

    /// Puts actions before those that are left, which there may be after a report.
    fn queue(&mut self, mut actions: Vec<Action>) {
        let reports = actions.iter().map(|action| matches!(action, Action::Report(_)));
        self.reports += reports.map(u32::from).sum::<u32>();
        actions.extend(self.actions.by_ref());
        self.actions = actions.into_iter();
    }

    fn admit(&mut self, admission: Admission) {
        match admission {
            Admission::Next(actions) => {
                self.onward.get_or_insert(None);
                self.queue(actions);
            }
            Admission::Accept(mut acceptance) => {
                self.queue(std::mem::take(&mut acceptance.actions));
                self.verdict.get_or_insert_default().acceptances.push(acceptance);
            }
            Admission::Reject(response) => {
                let verdict = self.verdict.get_or_insert_default();
                verdict.rejection.get_or_insert(response);
            }
            Admission::Ask(exchange) => self.exchanges.push_back(exchange),
            Admission::Unsupported(name) => {
                self.onward.get_or_insert(None);
                self.queue(vec![Action::Unsupported(name)]);
            }
        }
    }

    /// The plugin that has the event failed. What happens to the event is the operator's choice; the actions that the plugin
    /// returned before are done.
    fn fail(&mut self, cause: impl Display, event: &'static str) {
        let Some(version) = self.chain.get(self.at) else {
            return;
        };
        let plugin = &*version.name;
        let id = self.event.connection().map_or("", |connection| &*connection.id);
        match (version.on_failure, self.open_connection()) {
            (OnFailure::Next, _) => {
                tracing::error!(plugin, event, connection = id, %cause, "plugin failed; the event goes on to the next one");
                self.onward.get_or_insert(None);
            }
            (OnFailure::Close, Some(connection)) => {
                tracing::error!(plugin, event, connection = id, %cause, "plugin failed; the connection is closed");
                let close = Action::Close {
                    connection: connection.id.to_string(),
                    code: INTERNAL_ERROR,
                    reason: "a plugin failed".to_owned(),
                };
                self.failed = true;
                let actions: Vec<_> = self.actions.by_ref().chain([close]).collect();
                self.actions = actions.into_iter();
            }
            (OnFailure::Drop | OnFailure::Close, _) => {
                tracing::error!(plugin, event, connection = id, %cause, "plugin failed; the event is dropped");
                self.failed = true;
            }
        }
    }

    /// The connection of the event, unless it is not open yet or has gone.
    fn open_connection(&self) -> Option<&Arc<Connection>> {
        match &self.event {
            Event::Frame { connection, .. } | Event::Timer { connection, .. } => Some(connection),
            _ => None,
        }
    }
}

/// The event that the next plugin sees.
fn replace_payload(event: &Event, payload: Payload) -> Event {
    match event {
        Event::Frame { connection, .. } => Event::Frame {
            connection: connection.clone(),
            message: payload,
        },
        Event::Push(request) => {
            let mut request = Request::clone(request);
            request.body = payload;
            Event::Push(Arc::new(request))
        }
        event => event.clone(),
    }
}
