//! The dispatch of one event: through the chain of plugins, to upstreams and back, until nothing is left to do.
//!
//! A dispatch decides nothing and does no I/O. It calls plugins, and tells its owner (a session, a push request, …) step by
//! step what to do or what to wait for. It keeps the chain with which it began, so a reload changes nothing for it.

use std::collections::VecDeque;
use std::fmt::Display;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::config::OnFailure;
use crate::message::{
    Acceptance, Action, Admission, Connection, Decision, Effect, Event, Exchange, Failure, Flow, Outcome,
    Payload, Request, Response,
};
use crate::plugin::{Call, CallResult, Chain, MAX_CALLS};

/// An event that is being handled, and how far that is.
pub struct Dispatch {
    chain: Arc<Chain>,
    /// Index of the plugin that has the event.
    at: usize,
    /// How often that plugin was called because of the event.
    calls: u32,
    /// The owner has not let others go on since the last call.
    owes_a_turn: bool,
    event: Event,
    actions: std::vec::IntoIter<Action>,
    /// How many of the actions ask for a report. Counted once per list, since it matters for each action.
    reports: u32,
    exchanges: VecDeque<Exchange>,
    /// Set if the event goes on to the next plugin after these actions, perhaps with another payload.
    onward: Option<Option<Payload>>,
    /// The decision of a slow plugin, which has to be awaited.
    queued: Option<oneshot::Receiver<CallResult>>,
    /// The answer that the plugin is being told, with its size, in case it is too much for the plugin.
    answer: Option<(Payload, usize)>,
    /// What became of the actions so far, for a report.
    effects: Vec<Effect>,
    /// What was decided about a handshake. Boxed: other events have none.
    verdict: Option<Box<Verdict>>,
    /// Why a plugin failed on the way.
    failure: Option<String>,
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

/// After so many calls for one event, others have their turn before each further one. Fewer than most events take would cost
/// these a pause.
const CALLS_IN_A_ROW: u32 = 8;

/// An answer up to this size cannot be what puts a plugin over a limit.
const SMALL: usize = 64 * 1024;

/// What the owner has to do.
pub enum Step {
    /// Do this action, which can be any except `Next`, `Forward` and `Report`. Then ask for the next step.
    Act(Action),
    /// Ask an upstream, and come back with `answered`.
    Ask(Exchange),
    /// Wait for a slow plugin, and come back with `decided`.
    Wait(oneshot::Receiver<CallResult>),
    /// Let other tasks of the runtime have a turn (`tokio::task::yield_now`), then ask for the next step.
    Yield,
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
            calls: 0,
            owes_a_turn: false,
            event,
            actions: Vec::new().into_iter(),
            reports: 0,
            exchanges: VecDeque::new(),
            onward: None,
            queued: None,
            answer: None,
            effects: Vec::new(),
            verdict: None,
            failure: None,
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

    /// The connection of its event, which may have gone.
    pub fn connection(&self) -> Option<&Arc<Connection>> {
        self.event.connection()
    }

    /// The address of the client that the event is of.
    pub fn client_address(&self) -> Option<IpAddr> {
        self.connection().map(|connection| connection.client_address)
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
        self.failure.is_some()
    }

    /// Which plugin failed on the way, and why.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// The next step.
    pub fn step(&mut self) -> Step {
        loop {
            if let Some(queued) = self.queued.take() {
                self.owes_a_turn = false;
                return Step::Wait(queued);
            }
            if std::mem::take(&mut self.owes_a_turn) {
                return Step::Yield;
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
        let size = outcome.as_ref().map_or(0, |response| response.body.len());
        self.answer = (size > SMALL).then(|| (context.clone(), size));
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
        self.count_call();
        let call = self
            .chain
            .get(self.at)
            .map(|version| version.call(event, &self.event, self.calls));
        if let Some(call) = call {
            self.take(call, event.kind());
        }
    }

    /// The plugin that has the event is about to be called because of it, perhaps again.
    fn count_call(&mut self) {
        self.calls += 1;
        self.owes_a_turn = self.calls > CALLS_IN_A_ROW;
        if self.calls > MAX_CALLS {
            // What the calls before have asked for would only lead to further ones.
            self.exchanges.clear();
            let actions = self.actions.by_ref();
            let rest: Vec<_> = actions
                .filter(|action| !matches!(action, Action::Report(_)))
                .collect();
            (self.actions, self.reports) = (rest.into_iter(), 0);
        }
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
        (self.at, self.calls) = (index, 0);
        self.count_call();
        let call = self.chain.get(index).filter(|version| version.wants(&self.event));
        if let Some(call) = call.map(|version| version.call(&self.event, &self.event, self.calls)) {
            self.take(call, self.event.kind());
        }
    }

    fn take(&mut self, call: Call, event: &'static str) {
        let result = match call {
            Call::Done(result) => result,
            Call::Queued(result) => {
                self.queued = Some(result);
                return;
            }
        };
        match (result, self.answer.take()) {
            (Ok(Decision::Actions(actions)), _) => self.queue(actions),
            (Ok(Decision::Admission(admission)), _) => self.admit(*admission),
            (Err(cause), Some((context, size))) if cause.is_over_a_limit() => {
                // It cannot take the answer, but it may have something to say to whoever waits for one.
                let text = format!("the plugin cannot take the answer of {size} bytes: {cause}");
                self.answered(context, Err(Failure::TooLarge(text)));
            }
            (Err(cause), _) => self.fail(&cause, event),
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
        let failure = || Some(format!("plugin `{plugin}` failed: {cause}"));
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
                self.failure = failure();
                let actions: Vec<_> = self.actions.by_ref().chain([close]).collect();
                self.actions = actions.into_iter();
            }
            (OnFailure::Drop | OnFailure::Close, _) => {
                tracing::error!(plugin, event, connection = id, %cause, "plugin failed; the event is dropped");
                self.failure = failure();
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
