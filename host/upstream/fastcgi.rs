//! FastCGI 1.0 as a web server speaks it to PHP-FPM: one request, one answer.
//!
//! The crate `fastcgi-client` 0.12 is not used because it sends the whole request before it reads (so that large
//! bodies deadlock), collects answers without a limit, and has no pool of connections.
//!
//! Read in this order: [`Settings`] and [`FastCgi`] here, then `connection` (one exchange), `record` (the protocol),
//! `params` and `response` (CGI), `stderr` and `fault` (what people read).

mod connection;
mod fault;
mod params;
mod record;
mod response;
mod stderr;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use super::Unanswered;
use crate::message::{Request, Response};
use connection::{Connection, Outgoing};
use fault::Fault;
use params::Script;

/// Where PHP-FPM is and what to ask of it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The `listen` of the FPM pool.
    pub address: Address,
    /// The absolute path of the PHP file that FPM runs, as FPM sees it.
    pub script: String,
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
    /// The name of the upstream, for logs.
    pub name: Arc<str>,
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
    settings: Settings,
    script: Script,
    /// One for each connection that may be open. None: connections are not kept, and not counted.
    permits: Option<Semaphore>,
    /// The one that was used last is taken first, so that FPM's warmest child gets the work.
    idle: Mutex<Vec<Connection>>,
}

impl FastCgi {
    /// Does not connect yet.
    pub fn new(settings: Settings) -> Self {
        let permits = settings.keep.min(Semaphore::MAX_PERMITS);
        Self {
            script: Script::new(&settings.script),
            permits: (permits > 0).then(|| Semaphore::new(permits)),
            idle: Mutex::default(),
            settings,
        }
    }

    /// Sends a request and reads the whole answer. With kept connections it waits until one is free.
    ///
    /// There is no time limit here. Dropping the future closes the connection in use; PHP may go on running.
    ///
    /// A request is sent a second time only if nothing of it had gone out: PHP never runs it twice.
    pub async fn send(&self, request: &Request) -> Result<Response, Unanswered> {
        let outgoing = Outgoing::new(request, &self.script, self.permits.is_some())?;
        // Held until the connection is idle again or closed. Nobody closes the semaphore, so there always is one.
        let _permit = match &self.permits {
            Some(permits) => permits.acquire().await.ok(),
            None => None,
        };
        self.exchange(&outgoing).await.map_err(|fault| Unanswered {
            is_unsent: fault.is_unsent(),
            failure: fault.describe(&self.settings),
        })
    }

    async fn exchange(&self, outgoing: &Outgoing) -> Result<Response, Fault> {
        if let Some(connection) = self.take_idle() {
            match self.exchange_on(connection, outgoing).await {
                // FPM has closed it since it was checked.
                Err(Fault::Unsent(_)) => {}
                end => return end,
            }
        }
        let connection = Connection::open(&self.settings.address).await?;
        self.exchange_on(connection, outgoing).await
    }

    async fn exchange_on(&self, connection: Connection, outgoing: &Outgoing) -> Result<Response, Fault> {
        let (response, connection) = connection.exchange(outgoing, &self.settings).await?;
        self.idle().extend(connection);
        Ok(response)
    }

    /// An idle connection that FPM has not closed. Those that it has closed (it was restarted, a child has done its
    /// `pm.max_requests`) are dropped.
    fn take_idle(&self) -> Option<Connection> {
        // Not checked under the lock: asking the kernel takes longer than anything else that needs it.
        std::iter::from_fn(|| self.idle().pop()).find(Connection::is_quiet)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
