//! Wiring: the only file that knows every module.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::actions::Actions;
use crate::close_events::CloseEvents;
use crate::config::{Config, ConfigProblem, Listen, Schedule};
use crate::memory;
use crate::message::Connection;
use crate::metrics::Metrics;
use crate::plugin::{Connections, Plugins, PluginsError};
use crate::registry::{Kept, Limits, Registry, Relief, Retention};
use crate::schedule;
use crate::server::{self, Descriptors, Gateway, Inherited, Listener, Role, Settings, Tls, TlsError};
use crate::session::{self, Sessions};
use crate::telemetry;
use crate::upstream::{UpstreamError, Upstreams};

/// A gateway that is set up and listening, but not serving yet.
pub struct App {
    gateway: Arc<Gateway>,
    listeners: Vec<(Listener, Role)>,
    tls: Option<Arc<Tls>>,
    schedules: watch::Sender<Vec<Schedule>>,
    poll: Duration,
    settle: Duration,
}

/// Changes a gateway while it serves.
pub struct Control {
    config: Config,
    gateway: Arc<Gateway>,
    schedules: watch::Sender<Vec<Schedule>>,
}

/// How many connections a shutdown closes per second, if the grace period is long enough.
const CLOSES_PER_SECOND: u32 = 2000;

/// How often histories are searched for messages that are too old.
const EXPIRY: Duration = Duration::from_secs(1);

/// The gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Plugins.
    #[error(transparent)]
    Plugins(#[from] PluginsError),
    /// Upstreams.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A listener.
    #[error(
        "cannot listen on {address} (is another program there? `--listen` or the key `listen` sets another address)"
    )]
    Listen {
        /// Where.
        address: Listen,
        /// Why.
        source: std::io::Error,
    },
}

/// Another configuration cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// What it says cannot be used while the gateway runs.
    #[error(transparent)]
    Config(#[from] ConfigProblem),
    /// Upstreams.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

impl Connections for Registry {
    fn find(&self, id: &str) -> Option<(Arc<Connection>, bool)> {
        Self::find(self, id)
    }

    fn count(&self) -> usize {
        Self::count(self)
    }

    fn topics_of(&self, id: &str) -> Vec<String> {
        Self::topics_of(self, id)
    }

    fn subscriber_count(&self, topic: &str) -> usize {
        Self::subscriber_count(self, topic)
    }

    fn subscribers(&self, topic: &str, limit: usize) -> Vec<Arc<Connection>> {
        Self::subscribers(self, topic, limit)
    }

    fn members(&self, topic: &str, limit: usize) -> Vec<(Arc<str>, usize)> {
        Self::members(self, topic, limit)
    }
}

impl App {
    /// Sets everything up, including the plugins, and then listens: every client that can connect will be served.
    pub async fn build(config: &Config) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::default());
        let (limits, kept) = rules(config);
        let registry = Arc::new(Registry::new(limits, kept));
        let plugins = load_plugins(config, registry.clone(), metrics.clone())?;
        let upstreams = Upstreams::new(&config.upstreams, &metrics, registry.inbound().clone())?;
        let upstreams = ArcSwap::from_pointee(upstreams);
        let actions = Arc::new(Actions {
            registry,
            upstreams,
            metrics,
        });
        let sessions = Arc::new(Sessions {
            close_events: CloseEvents::new(actions.clone(), config.closings),
            actions,
            plugins,
            settings: ArcSwap::from_pointee(session_settings(config)),
        });
        let tls = load_tls(config)?;
        let descriptors = Descriptors::prepare(
            config
                .upstreams
                .iter()
                .map(|upstream| upstream.max_requests)
                .sum(),
        );
        let gateway = Gateway::new(sessions, Settings::new(config), tls.clone(), descriptors);
        let gateway = Arc::new(gateway);
        if descriptors.clients < config.clients.max_connections {
            let Descriptors { limit, clients, .. } = descriptors;
            tracing::warn!(
                limit,
                clients,
                "the limit of file descriptors allows fewer clients than max-connections; raise it (LimitNOFILE=, ulimit -n)"
            );
        }
        let mut inherited = Inherited::from_env();
        let mut listen = |index, address: &Listen| {
            Listener::open(&mut inherited, index, address).map_err(|source| StartError::Listen {
                address: address.clone(),
                source,
            })
        };
        let clients = listen(0, &Listen::Tcp(config.listen))?;
        let listeners = match &config.push.listen {
            None => vec![(clients, Role::Both)],
            Some(push) => vec![(clients, Role::Clients), (listen(1, push)?, Role::Push)],
        };
        Ok(Self {
            gateway,
            listeners,
            tls,
            schedules: watch::Sender::new(config.schedules.clone()),
            poll: config.plugins.poll,
            settle: config.plugins.settle,
        })
    }

    /// Serves until `stop`, then closes all connections, and waits until they are gone and plugins and PHP have been told.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let sessions = self.gateway.sessions.clone();
        let actions = &sessions.actions;
        let (mut tasks, mut until_the_end) = (JoinSet::new(), JoinSet::new());
        for (listener, role) in self.listeners {
            let serving = server::serve(listener, self.gateway.clone(), role);
            match role {
                Role::Clients => tasks.spawn(serving),
                // PHP pushes while it finishes what was begun, and a load balancer hears that it is not ready any more.
                Role::Push | Role::Both => until_the_end.spawn(serving),
            };
        }
        if let Some(tls) = self.tls {
            tasks.spawn(tls.watch(actions.metrics.clone()));
        }
        tasks.spawn(sessions.plugins.clone().watch(self.poll, self.settle));
        let schedules = self.schedules.subscribe();
        tasks.spawn(schedule::run(
            schedules,
            sessions.plugins.clone(),
            actions.clone(),
        ));
        tasks.spawn(expire(actions.registry.clone()));
        tasks.spawn(relieve(actions.clone()));
        tasks.spawn(give_memory_back(actions.registry.clone()));
        tasks.spawn(count_dropped_lines(actions.metrics.clone()));
        let delivering = tokio::spawn(sessions.close_events.clone().run());
        stop.await;
        tasks.abort_all();
        let connections = u32::try_from(actions.registry.count()).unwrap_or(u32::MAX);
        let spread = Duration::from_secs(1) * connections / CLOSES_PER_SECOND;
        // At most half of the grace period to send everyone away, what is left of three quarters for answers, the rest for
        // close frames and close events.
        let grace = sessions.settings.load().grace;
        let spread = spread.min(grace / 2);
        let patience = (grace - grace / 4).saturating_sub(spread);
        sessions.close_events.stop_pacing();
        let closing = actions.registry.close_all(spread, patience);
        if tokio::time::timeout(grace - grace / 8, closing).await.is_err() {
            // PHP must hear of those who do not answer the close frame, too.
            actions.registry.cut_all().await;
        }
        // Those who went before the shutdown are waited for no longer than those who were still there.
        if tokio::time::timeout(grace / 4, sessions.close_events.drained())
            .await
            .is_err()
        {
            actions.registry.hurry();
            sessions.close_events.drained().await;
        }
        delivering.abort();
    }

    /// What changes the gateway while it serves. `config` is what it was built with.
    pub fn control(&self, config: Config) -> Control {
        Control {
            config,
            gateway: self.gateway.clone(),
            schedules: self.schedules.clone(),
        }
    }

    /// Where it listens, and for whom, in words.
    pub fn addresses(&self) -> impl Iterator<Item = String> {
        let (ws, http) = match self.tls {
            Some(_) => ("wss", "https"),
            None => ("ws", "http"),
        };
        self.listeners.iter().filter_map(move |(listener, role)| {
            Some(match (role, listener.address().ok()?) {
                (Role::Clients, address) => format!("{ws}://{address} for clients"),
                (Role::Both, address) => {
                    format!("{ws}://{address} for clients, on {http}://{address} for pushes")
                }
                (Role::Push, Listen::Unix(path)) => format!("unix:{} for pushes", path.display()),
                (Role::Push, address) => format!("http://{address} for pushes"),
            })
        })
    }

    /// What all sessions share.
    pub fn sessions(&self) -> Arc<Sessions> {
        self.gateway.sessions.clone()
    }
}

impl Control {
    /// The configuration that is in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Applies another configuration without dropping a connection. Gives the keys that need a restart. After an error
    /// nothing has changed.
    pub fn change(&mut self, config: Config) -> Result<Vec<&'static str>, ChangeError> {
        let (config, waiting) = config.replacing(&self.config)?;
        let sessions = &self.gateway.sessions;
        let actions = &sessions.actions;
        // The last step that can fail, so nothing has changed before it.
        let upstreams = actions
            .upstreams
            .load()
            .changed(&config.upstreams, &actions.metrics)?;
        // Before longer messages and answers come.
        sessions.plugins.limit(&config.plugins);
        actions.upstreams.store(Arc::new(upstreams));
        let (limits, kept) = rules(&config);
        actions.registry.change(limits, kept);
        sessions.settings.store(Arc::new(session_settings(&config)));
        sessions.close_events.change(config.closings);
        self.gateway.settings.store(Arc::new(Settings::new(&config)));
        self.schedules.send_if_modified(|schedules| {
            let is_new = *schedules != config.schedules;
            schedules.clone_from(&config.schedules);
            is_new
        });
        let plugins = sessions.plugins.clone();
        plugins.want(config.clone());
        // Loading plugins blocks.
        tokio::task::spawn_blocking(move || plugins.reconfigure());
        self.config = config;
        Ok(waiting)
    }
}

fn rules(config: &Config) -> (Limits, Vec<Kept>) {
    let limits = Limits {
        message: config.max_message,
        topics: config.max_topics,
        attributes: config.max_attributes,
        history: config.max_history,
        idle_topics: config.max_idle_topics,
        queue: config.max_queue,
        queues: config.max_queues,
        inbound: config.max_inbound,
        slow_clients: config.slow_clients,
    };
    let kept = config.topics.iter().map(|topic| Kept {
        name: topic.name.clone(),
        retention: Retention {
            messages: topic.history,
            time: topic.history_time,
        },
    });
    (limits, kept.collect())
}

fn session_settings(config: &Config) -> session::Settings {
    session::Settings {
        in_flight: config.in_flight,
        max_message: config.max_message,
        max_queue: config.max_queue,
        max_frames_per_second: config.max_frames_per_second,
        max_bytes_per_second: config.max_bytes_per_second,
        message_timeout: config.message_timeout,
        compression: config.compression,
        heartbeat: config.heartbeat,
        grace: config.grace,
    }
}

/// Makes room when clients hold more than they may together.
async fn relieve(actions: Arc<Actions>) {
    let tell = |relief: Relief, connection: &Connection| {
        let id = &*connection.id;
        match relief {
            Relief::Outgoing => {
                actions.metrics.slow_client("closed", 1);
                tracing::warn!(
                    connection = id,
                    "all queues are over max-queues; the longest one of the address with the most is closed with 1008"
                );
            }
            Relief::Inbound => {
                actions.metrics.inbound_relief.inc();
                tracing::warn!(
                    connection = id,
                    "too much has come in (max-inbound); who holds most of the address with the most is closed with 1013"
                );
            }
        }
    };
    let registry = &actions.registry;
    tokio::join!(registry.relieve_outgoing(tell), registry.relieve_inbound(tell));
}

/// Has the allocator give back what it keeps of a burst.
async fn give_memory_back(registry: Arc<Registry>) {
    /// Less than this is not worth the time.
    const MUCH: usize = 16 * 1024 * 1024;
    let mut ticks = tokio::time::interval(EXPIRY);
    let mut peak = 0;
    loop {
        ticks.tick().await;
        let budgets = [registry.inbound(), &registry.outgoing().budget];
        let used: usize = budgets.iter().map(|budget| budget.used()).sum();
        peak = budgets
            .iter()
            .map(|budget| budget.take_peak())
            .sum::<usize>()
            .max(peak);
        if peak > MUCH && used < peak / 4 {
            peak = used;
            // It takes milliseconds, with the locks of the allocator.
            drop(tokio::task::spawn_blocking(memory::give_back).await);
        }
    }
}

/// Tells the metrics of log lines that nobody read.
async fn count_dropped_lines(metrics: Arc<Metrics>) {
    let mut ticks = tokio::time::interval(EXPIRY);
    loop {
        ticks.tick().await;
        let counted = metrics.log_lines_dropped.get();
        metrics.log_lines_dropped.inc_by(telemetry::dropped() - counted);
    }
}

async fn expire(registry: Arc<Registry>) {
    /// So many topics take longer to look at than it takes to have another thread do it.
    const MANY: usize = 1000;
    let mut ticks = tokio::time::interval(EXPIRY);
    loop {
        ticks.tick().await;
        if registry.topic_count() < MANY {
            registry.expire(Instant::now());
        } else {
            let registry = registry.clone();
            drop(tokio::task::spawn_blocking(move || registry.expire(Instant::now())).await);
        }
    }
}

/// Loads all plugins, and logs which names in routes have no plugin.
pub fn load_plugins(
    config: &Config,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
) -> Result<Arc<Plugins>, PluginsError> {
    let plugins = Plugins::new(config, registry, metrics)?;
    for name in plugins.unknown_names() {
        tracing::error!(
            plugin = name,
            "a route names a plugin that is not in the directory; its chain goes on without it"
        );
    }
    Ok(plugins)
}

/// The certificate of the clients' listener, if it has one.
pub fn load_tls(config: &Config) -> Result<Option<Arc<Tls>>, TlsError> {
    config
        .tls
        .as_ref()
        .map(|files| Tls::load(files).map(Arc::new))
        .transpose()
}
