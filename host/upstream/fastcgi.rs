//! FastCGI 1.0 as a web server speaks it to PHP-FPM: one request, one answer.
//!
//! The crate `fastcgi-client` 0.12 is not used because it sends the whole request before it reads (so that large
//! bodies deadlock), collects answers without a limit, and has no pool of connections.
//!
//! Read in this order: [`Settings`] and [`FastCgi`] here, then `connection` (one exchange), `whole` (one that is not
//! cut off), `record` (the protocol),
//! `params` and `response` (CGI), `stderr` and `fault` (what people read).

mod connection;
mod fault;
mod params;
mod record;
mod response;
mod stderr;
mod whole;

use std::collections::VecDeque;
use std::fmt;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Unanswered;
use crate::budget::Budget;
use crate::log_limit::LogLimit;
use crate::message::{self, Request, Response};
use crate::metrics::UpstreamMetrics;
use connection::{Connection, Outgoing};
use fault::Fault;
use params::{Place, Script};

/// Where PHP-FPM is and what to ask of it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The `listen` of the FPM pool.
    pub address: Address,
    /// The absolute path of the PHP file that FPM runs, as FPM sees it.
    pub script: String,
    /// The document root; none for the directory of the script.
    pub root: Option<String>,
    /// The path and query of requests that name none; none for the path of the script below the root.
    pub path: Option<String>,
    /// Variables beside the usual ones, or in place of them.
    pub params: Vec<(String, String)>,
    /// Whether to ask for the file that `script` leads to through symbolic links at the time of the request.
    pub resolve_links: bool,
    /// How many connections to keep, which is also how many are open at once. 0: a fresh connection for each request,
    /// as many as there are requests.
    ///
    /// A kept connection holds a child of FPM even while it is idle, so this must not exceed `pm.max_children`; the
    /// remaining children are for everybody else. `pm.max_requests = 0` goes with it: FPM closes the connection of a
    /// child that has done its requests only a moment after the last answer, and a request that is sent in that
    /// moment fails as unreachable.
    pub keep: usize,
    /// The longest body of an answer, in bytes.
    pub max_answer: usize,
    /// How long the rest of a request may take that nobody waits for any more.
    pub timeout: Duration,
    /// The name of the upstream, for logs.
    pub name: Arc<str>,
    /// Of the upstream.
    pub metrics: UpstreamMetrics,
    /// For what every answer may cause.
    pub log_limit: Arc<LogLimit>,
    /// What the gateway holds of what clients have sent, to which the rest of a request belongs that nobody waits for.
    pub inbound: Arc<Budget>,
}

impl Settings {
    fn script(&self, filename: &str, root: Option<&str>) -> Script {
        Script::new(&Place {
            filename,
            root,
            path: self.path.as_deref(),
            params: &self.params,
        })
    }
}

/// Where PHP-FPM listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Host and port, such as `127.0.0.1:9000`.
    Tcp(String),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host_and_port) => write!(f, "fastcgi://{host_and_port}"),
            Self::Unix(path) => write!(f, "fastcgi+unix://{}", path.display()),
        }
    }
}

/// A client of one PHP-FPM pool.
#[derive(Debug)]
pub struct FastCgi {
    settings: Arc<Settings>,
    script: Script,
    /// One for each connection that may be open. None: connections are not kept, and not counted.
    permits: Option<Arc<Semaphore>>,
    /// In the order in which they became idle.
    idle: Mutex<VecDeque<Connection>>,
}

/// The right to have a connection, if connections are counted: held until it is idle again or closed.
type Permit = Option<Arc<OwnedSemaphorePermit>>;

impl FastCgi {
    /// Does not connect yet.
    pub fn new(settings: Settings) -> Self {
        let permits = settings.keep.min(Semaphore::MAX_PERMITS);
        Self {
            script: settings.script(&settings.script, settings.root.as_deref()),
            permits: (permits > 0).then(|| Arc::new(Semaphore::new(permits))),
            idle: Mutex::default(),
            settings: Arc::new(settings),
        }
    }

    /// Sends a request and reads the whole answer. With kept connections it waits until one is free.
    ///
    /// This has no time limit of its own. Dropping the future closes the connection: at once, or, if a long request has been
    /// sent in part, when the rest of it has left. PHP may go on running.
    ///
    /// A request is sent a second time only if nothing of it had gone out: PHP never runs it twice.
    pub async fn send(
        &self,
        request: &Request,
        client: Option<&message::Connection>,
    ) -> Result<Response, Unanswered> {
        let resolved = self.resolved().await;
        let script = resolved.as_ref().unwrap_or(&self.script);
        let outgoing = Arc::new(Outgoing::new(request, client, script, self.permits.is_some())?);
        let permit = match &self.permits {
            // Nobody closes the semaphore, so there always is one.
            Some(permits) => permits.clone().acquire_owned().await.ok().map(Arc::new),
            None => None,
        };
        self.exchange(&outgoing, &permit)
            .await
            .map_err(|fault| Unanswered {
                is_unsent: fault.is_unsent(),
                failure: fault.describe(&self.settings),
            })
    }

    /// The file that the script leads to, if that is wanted and it is on this machine.
    async fn resolved(&self) -> Option<Script> {
        if !self.settings.resolve_links {
            return None;
        }
        let real = tokio::fs::canonicalize(&self.settings.script).await.ok()?;
        let root = match &self.settings.root {
            Some(root) => tokio::fs::canonicalize(root).await.ok(),
            None => None,
        };
        let root = root.as_deref().and_then(Path::to_str);
        Some(self.settings.script(real.to_str()?, root))
    }

    async fn exchange(&self, outgoing: &Arc<Outgoing>, permit: &Permit) -> Result<Response, Fault> {
        if let Some(connection) = self.take_idle() {
            match self.exchange_on(connection, outgoing, permit).await {
                // FPM has closed it since it was checked.
                Err(Fault::Unsent(_)) => {}
                end => return end,
            }
        }
        let connection = Connection::open(&self.settings.address).await?;
        self.exchange_on(connection, outgoing, permit).await
    }

    async fn exchange_on(
        &self,
        connection: Connection,
        outgoing: &Arc<Outgoing>,
        permit: &Permit,
    ) -> Result<Response, Fault> {
        let (response, connection) = if outgoing.is_long() {
            let (outgoing, settings) = (outgoing.clone(), self.settings.clone());
            whole::exchange(connection, outgoing, settings, permit.clone()).await?
        } else {
            connection.exchange(outgoing, &self.settings, pending()).await?
        };
        self.idle().extend(connection);
        Ok(response)
    }

    /// An idle connection that FPM has not closed. Those that it has closed (it was restarted, a child has done its
    /// `pm.max_requests`) are dropped.
    ///
    /// A child that has answered may still be at work (`fastcgi_finish_request()`), and what is sent to it waits. So while
    /// there is room for a further connection, none is taken, and then the one that has rested longest.
    fn take_idle(&self) -> Option<Connection> {
        let permits = self.permits.as_ref()?;
        loop {
            let connection = {
                let mut idle = self.idle();
                // Those in use leave so many permits.
                if idle.len() <= permits.available_permits() {
                    return None;
                }
                idle.pop_front()?
            };
            // Not checked under the lock: asking the kernel takes longer than anything else that needs it.
            if connection.is_quiet() {
                return Some(connection);
            }
        }
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
