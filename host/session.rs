//! One connection: reads messages, dispatches each, writes what comes back and what is pushed.
//!
//! A session is one task. It is idle most of its life, so it keeps little: no buffers, an empty queue. It never ends because
//! of a plugin or an upstream, only because of its client, a `close` action or the shutdown.
//!
//! `machine` decides what is next; `reader` has what comes, [`crate::send_queue`] what leaves, `handling` what is under way,
//! `deadlines` the clock, `inbound` the memory, `farewell` the end.

mod deadlines;
mod end;
mod farewell;
mod handling;
mod inbound;
mod machine;
mod opening;
mod pipeline;
mod reader;
mod socket;
mod waiting;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::time::sleep_until;

use crate::actions::Actions;
use crate::close_events::CloseEvents;
use crate::config::Heartbeat;
use crate::plugin::Plugins;
use crate::send_queue::Compression;
use crate::websocket::{Rules, Window};
use machine::{NEVER, Session};
pub use opening::Opened;
use reader::Reader;
pub use socket::{Socket, Stream};

/// What all sessions share.
pub struct Sessions {
    /// What actions act upon.
    pub actions: Arc<Actions>,
    /// Who decides.
    pub plugins: Arc<Plugins>,
    /// What is asked for when a connection has gone.
    pub close_events: Arc<CloseEvents>,
    /// What new connections are bound by.
    pub settings: ArcSwap<Settings>,
}

/// What one connection is bound by, from its beginning to its end.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Frames of one connection handled at a time.
    pub in_flight: usize,
    /// The longest message, in bytes.
    pub max_message: usize,
    /// The longest outbound queue, in bytes.
    pub max_queue: usize,
    /// Frames that one client may send in a second, pings among them; 0 for no limit.
    pub max_frames_per_second: usize,
    /// Bytes that are read of one client in a second; 0 for no limit.
    pub max_bytes_per_second: usize,
    /// How long a message may take from its first bytes to its last; none for no limit.
    pub message_timeout: Option<Duration>,
    /// Whether compression is agreed on with clients that offer it, and from how many bytes on a message is compressed.
    pub compression: Option<usize>,
    /// Pings, and how long connections may last.
    pub heartbeat: Heartbeat,
    /// How long a shutdown may take.
    pub grace: Duration,
}

impl Opened {
    /// Runs the session to its end. `read_already` came with the handshake. It holds its `permit` among all connections until
    /// then.
    pub async fn run(
        mut self,
        socket: Socket,
        read_already: Vec<u8>,
        window: Option<Window>,
        _permit: impl Send,
    ) {
        let sessions = self.sessions.clone();
        let settings = sessions.settings.load_full();
        let opened = Instant::now();
        tracing::info!(
            connection = &*self.connection.id,
            client = %self.connection.client_address,
            path = &*self.connection.path,
            "connection opened"
        );
        let (socket, write) = socket.split();
        let compression = window.map(|window| Compression {
            window,
            threshold: settings.compression.unwrap_or(usize::MAX),
        });
        self.send_queue
            .attach(write, compression, settings.heartbeat.idle_timeout.is_some());
        let rules = Rules {
            max_message: settings.max_message,
            inflates: window.is_some(),
        };
        let reader = Reader::new(rules, settings.max_bytes_per_second, read_already, opened);
        let mut session = Session::new(&sessions, &self, (socket, reader), settings, opened);
        let end = {
            let mut timer = pin!(sleep_until((opened + NEVER).into()));
            poll_fn(|cx| session.poll(cx, timer.as_mut(), &self)).await
        };
        self.send_queue.shut(end.is_loss());
        let (handling, rest, inbound) = session.into_rest(&end);
        (self.code, self.reason) = end.tell(&self.connection, opened.elapsed());
        // Its close event comes when all of it is done, and a shutdown waits for that.
        let expected = sessions.close_events.expect_one();
        self.leave();
        if !(handling.is_empty() && rest.is_empty()) {
            let registry = sessions.actions.registry.clone();
            // Boxed: it is rare, and would lie idle in the memory of every connection.
            Box::pin(async move {
                tokio::select! {
                    () = handling.finish(rest) => {}
                    () = registry.hurried() => {}
                }
            })
            .await;
        }
        drop(inbound);
        drop(self);
        drop(expected);
    }
}
