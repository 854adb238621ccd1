//! How a connection begins, before its handshake is answered: plugins, and through them PHP, let it in or not.

use std::convert::Infallible;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::Sessions;
use crate::actions;
use crate::close_events::Expected;
use crate::dispatch::{Dispatch, Step, Verdict};
use crate::message::{
    Acceptance, Action, Connection, Effect, Event, Headers, Payload, Request, Response, cookies, excerpt,
};
use crate::registry::Registration;
use crate::send_queue::SendQueue;

/// A connection that was let in. It is registered, so it can be sent to, and what was decided at its handshake is done.
///
/// Dropping it ends it: it leaves the registry, and plugins hear of its end. So whoever was told that it opened hears
/// that it closed, even if its socket was never there.
pub struct Opened {
    pub(super) sessions: Arc<Sessions>,
    pub(super) connection: Arc<Connection>,
    pub(super) send_queue: Arc<SendQueue>,
    /// Index of the route.
    pub(super) route: usize,
    /// Index of the route's upstream.
    pub(super) upstream: usize,
    /// For the answer to the handshake.
    pub headers: Headers,
    pub(super) code: u16,
    pub(super) reason: String,
    registration: Option<Registration>,
    /// A shutdown waits until its end has been told. Dropped last.
    _expected: Expected,
}

/// RFC 6455 section 7.1.5: the connection ended without a close frame.
const ABNORMAL: u16 = 1006;

/// The actions for when the connection is open, with the plugins that want them.
type Postponed = Vec<(Arc<str>, Action)>;

impl Sessions {
    /// Whether a plugin has a say in the handshakes of a route.
    pub fn asks_for_handshake(&self, route: usize, connection: &Connection) -> bool {
        let chain = self.plugins.chain(route);
        chain.iter().any(|version| version.wants_handshake(connection))
    }

    /// Asks the plugins whether a client may connect. What they have asked PHP is waited for, so this is to be run to its
    /// end even if the client goes away meanwhile: PHP may have counted it in. That the client has gone is told by the
    /// other end of `gone`, which is dropped; as long as nothing was sent, nothing is sent any more.
    pub async fn admit(
        self: Arc<Self>,
        connection: Arc<Connection>,
        request: Request,
        route: usize,
        upstream: usize,
        mut gone: oneshot::Receiver<Infallible>,
    ) -> Result<Opened, Response> {
        let event = Event::Open {
            connection: connection.clone(),
            request: Arc::new(request),
        };
        let mut dispatch = Dispatch::begin(self.plugins.chain(route), event);
        let mut postponed = Postponed::new();
        // Once PHP is asked, it may count the client in: a shutdown waits until it hears that the client has gone.
        let mut expected = None;
        let mut is_asked = false;
        loop {
            match dispatch.step() {
                Step::Act(action) => {
                    let effect = self.prepare(&mut postponed, &connection, &dispatch, action);
                    dispatch.note(effect);
                }
                Step::Ask(exchange) => {
                    let upstreams = self.actions.upstreams.load_full();
                    let turn = actions::turn(&upstreams, dispatch.flow(), upstream, &exchange);
                    let turn = if is_asked {
                        Some(turn.await)
                    } else {
                        tokio::select! {
                            biased;
                            _ = &mut gone => None,
                            turn = turn => Some(turn),
                        }
                    };
                    let outcome = match turn {
                        Some(Ok(turn)) => {
                            is_asked = true;
                            expected.get_or_insert_with(|| self.close_events.expect_one());
                            turn.send(exchange.request, dispatch.connection().cloned()).await
                        }
                        Some(Err(failure)) => Err(failure),
                        None => {
                            tracing::debug!(
                                connection = &*connection.id,
                                "gone before PHP was asked about it"
                            );
                            return Err(undecided());
                        }
                    };
                    dispatch.answered(exchange.context, outcome);
                }
                Step::Wait(result) => dispatch.decided(result.await.ok()),
                Step::Yield => tokio::task::yield_now().await,
                Step::Done => break,
            }
        }
        if dispatch.has_failed() {
            return Err(undecided());
        }
        let Verdict {
            acceptances,
            rejection,
        } = dispatch.into_verdict();
        if let Some(rejection) = rejection {
            return Err(rejection);
        }
        let headers = agree(&connection, acceptances);
        let mut opened = self.open(connection, route, upstream);
        opened.headers = headers;
        for (plugin, action) in postponed {
            opened.perform(&plugin, action).await;
        }
        Ok(opened)
    }

    /// Takes an action of a handshake: attributes count at once, the rest is for later.
    fn prepare(
        &self,
        postponed: &mut Postponed,
        connection: &Arc<Connection>,
        dispatch: &Dispatch,
        action: Action,
    ) -> Effect {
        match action {
            Action::SetAttribute {
                connection: id,
                name,
                value,
            } if *id == *connection.id => {
                let result = self
                    .actions
                    .registry
                    .set_attribute_of(connection, &name, value.as_deref());
                if let Err(cause) = result {
                    tracing::warn!(connection = id, name = &*excerpt(&name), %cause, "an attribute was not set");
                    return Effect::refused(cause.to_string());
                }
            }
            action => {
                if let Some(plugin) = dispatch.plugin() {
                    postponed.push((plugin.clone(), action));
                }
            }
        }
        Effect::new("done")
    }

    /// Lets a connection in without asking.
    pub fn open(self: Arc<Self>, connection: Arc<Connection>, route: usize, upstream: usize) -> Opened {
        let expected = self.close_events.expect_one();
        let send_queue = self.actions.registry.send_queue();
        let registration = self
            .actions
            .registry
            .register(connection.clone(), send_queue.clone());
        self.actions.metrics.connections.inc();
        self.actions.metrics.connections_total.inc();
        Opened {
            sessions: self,
            connection,
            send_queue,
            route,
            upstream,
            headers: Vec::new(),
            code: ABNORMAL,
            reason: "the connection was lost before it was upgraded".to_owned(),
            registration: Some(registration),
            _expected: expected,
        }
    }
}

impl Opened {
    /// Ends its registration: nothing can be sent to it any more.
    pub(super) fn leave(&mut self) {
        if let Some(registration) = self.registration.take() {
            drop(registration);
            self.sessions.actions.metrics.connections.dec();
        }
    }

    /// So many bytes have come in from it that are not done with.
    pub(super) fn set_inbound(&self, bytes: usize) {
        if let Some(registration) = &self.registration {
            registration.set_inbound(bytes);
        }
    }

    /// The subprotocol that is agreed on.
    pub fn subprotocol(&self) -> Option<&str> {
        self.connection.subprotocol.get().map(|name| &**name)
    }

    async fn perform(&self, plugin: &Arc<str>, action: Action) {
        match action {
            Action::Reply(payload) => self.greet(payload),
            action => {
                let actions = &self.sessions.actions;
                let performed = actions.perform(plugin, Some(&self.connection), action);
                drop(performed.effect().await);
            }
        }
    }

    fn greet(&self, payload: Payload) {
        if self.send_queue.push(payload.into()).is_err() {
            tracing::warn!(
                connection = &*self.connection.id,
                "a greeting does not fit into the queue"
            );
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.leave();
        let sessions = &self.sessions;
        let event = Event::Close {
            connection: self.connection.clone(),
            code: self.code,
            reason: std::mem::take(&mut self.reason).into(),
        };
        let dispatch = Dispatch::begin(sessions.plugins.chain(self.route), event);
        sessions.close_events.begin(dispatch, self.upstream);
    }
}

/// Settles the subprotocol and the cookies of a connection by what plugins have accepted it with. Gives the headers for the answer.
fn agree(connection: &Connection, acceptances: Vec<Acceptance>) -> Headers {
    let mut all = Headers::new();
    let mut agreed = None;
    for Acceptance {
        subprotocol, headers, ..
    } in acceptances
    {
        all.extend(headers);
        match subprotocol {
            Some(name) if !offers(connection, &name) => tracing::warn!(
                connection = &*connection.id,
                subprotocol = &*excerpt(&name),
                "a plugin chose a subprotocol that the client does not offer; none is agreed on"
            ),
            chosen => agreed = chosen,
        }
    }
    if let Some(subprotocol) = agreed {
        let _ = connection.subprotocol.set(subprotocol.into());
    }
    // The browser has them from now on, but sends no further header on this connection.
    let is_set = |(name, _): &&(String, String)| name == "set-cookie";
    if all.iter().any(|header| is_set(&header)) {
        let set = all.iter().filter(is_set).map(|(_, value)| value.as_str());
        let before = connection.header("cookie").unwrap_or_default();
        let cookies = cookies::after(before, set, &connection.path);
        let _ = connection.cookies.set(cookies.into());
    }
    all
}

/// Whether a name is among those that the client offers (RFC 6455 section 11.3.4).
fn offers(connection: &Connection, name: &str) -> bool {
    let offers = connection
        .headers
        .lines()
        .filter_map(|line| line.strip_prefix("sec-websocket-protocol: "));
    offers
        .flat_map(|names| names.split(','))
        .any(|offered| offered.trim() == name)
}

fn undecided() -> Response {
    Response {
        status: 500,
        headers: vec![("content-type".to_owned(), "text/plain; charset=utf-8".to_owned())],
        body: Payload::Text(
            "whether this client may connect could not be decided; the gateway's log says why\n".into(),
        ),
    }
}
