//! Wiring: the only file that knows every module.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{Config, Listen, Schedule};
use crate::deliveries::Deliveries;
use crate::effects::World;
use crate::message::Peer;
use crate::metrics::Metrics;
use crate::plugin::{Connections, Plugins, PluginsError};
use crate::registry::{Kept, Limits, Registry, Retention};
use crate::schedule;
use crate::server::{self, Gateway, Listener, Role, Settings, Tls, TlsError};
use crate::session::Sessions;
use crate::upstream::{UpstreamError, Upstreams};

/// A gateway that is set up and listens, but does not serve yet.
pub struct App {
    gateway: Arc<Gateway>,
    listeners: Vec<(Listener, Role)>,
    tls: Option<Arc<Tls>>,
    schedules: Vec<Schedule>,
    poll: Duration,
    settle: Duration,
}

/// How often histories are looked at for what is too old.
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

impl Connections for Registry {
    fn find(&self, id: &str) -> Option<(Arc<Peer>, bool)> {
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

    fn subscribers(&self, topic: &str, limit: usize) -> Vec<Arc<Peer>> {
        Self::subscribers(self, topic, limit)
    }

    fn members(&self, topic: &str, limit: usize) -> Vec<(Arc<str>, usize)> {
        Self::members(self, topic, limit)
    }
}

impl App {
    /// Sets everything up, plugins included, and then listens: who can connect is served.
    pub async fn build(config: &Config) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::default());
        let registry = Arc::new(registry(config));
        let plugins = load_plugins(config, registry.clone(), metrics.clone())?;
        let upstreams = Arc::new(Upstreams::new(&config.upstreams, &metrics)?);
        let world = Arc::new(World {
            registry,
            upstreams,
            metrics,
        });
        let sessions = Arc::new(Sessions {
            deliveries: Deliveries::new(world.clone(), config.closings),
            world,
            plugins,
            in_flight: config.in_flight,
            max_message: config.max_message,
            max_queue: config.max_queue,
            heartbeat: config.heartbeat,
        });
        let tls = load_tls(config)?;
        let gateway = Arc::new(Gateway::new(sessions, Settings::new(config), tls.clone()));
        let clients = listen(&Listen::Tcp(config.listen))?;
        let listeners = match &config.push.listen {
            None => vec![(clients, Role::Both)],
            Some(push) => vec![(clients, Role::Clients), (listen(push)?, Role::Push)],
        };
        Ok(Self {
            gateway,
            listeners,
            tls,
            schedules: config.schedules.clone(),
            poll: config.plugins.poll,
            settle: config.plugins.settle,
        })
    }

    /// Serves until `stop`, then closes all connections, and waits until they have gone and plugins and PHP know.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let sessions = self.gateway.sessions.clone();
        let world = &sessions.world;
        let mut tasks = tokio::task::JoinSet::new();
        for (listener, role) in self.listeners {
            tasks.spawn(server::serve(listener, self.gateway.clone(), role));
        }
        if let Some(tls) = self.tls {
            tasks.spawn(tls.watch(world.metrics.clone()));
        }
        tasks.spawn(sessions.plugins.clone().watch(self.poll, self.settle));
        for schedule in self.schedules {
            tasks.spawn(schedule::run(schedule, sessions.plugins.clone(), world.clone()));
        }
        tasks.spawn(expire(world.registry.clone()));
        let delivering = tokio::spawn(sessions.deliveries.clone().run());
        stop.await;
        tasks.abort_all();
        world.registry.close_all().await;
        sessions.deliveries.drained().await;
        delivering.abort();
    }

    /// Where it listens and what for, in words.
    pub fn places(&self) -> impl Iterator<Item = String> {
        let (ws, http) = match self.tls {
            Some(_) => ("wss", "https"),
            None => ("ws", "http"),
        };
        self.listeners.iter().filter_map(move |(listener, role)| {
            Some(match (role, listener.place().ok()?) {
                (Role::Clients, place) => format!("{ws}://{place} for clients"),
                (Role::Both, place) => format!("{ws}://{place} for clients, on {http}://{place} for pushes"),
                (Role::Push, Listen::Unix(path)) => format!("unix:{} for pushes", path.display()),
                (Role::Push, place) => format!("http://{place} for pushes"),
            })
        })
    }

    /// What all sessions share.
    pub fn sessions(&self) -> Arc<Sessions> {
        self.gateway.sessions.clone()
    }
}

fn registry(config: &Config) -> Registry {
    let limits = Limits {
        message: config.max_message,
        topics: config.max_topics,
        attributes: config.max_attributes,
        history: config.max_history,
    };
    let kept = config.topics.iter().map(|topic| Kept {
        name: topic.name.clone(),
        retention: Retention {
            messages: topic.history,
            time: topic.history_time,
        },
    });
    Registry::new(limits, kept.collect())
}

async fn expire(registry: Arc<Registry>) {
    let mut ticks = tokio::time::interval(EXPIRY);
    loop {
        ticks.tick().await;
        registry.expire(Instant::now());
    }
}

/// Loads all plugins and says which names of the routes lead nowhere.
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

fn listen(place: &Listen) -> Result<Listener, StartError> {
    Listener::bind(place).map_err(|source| StartError::Listen {
        address: place.clone(),
        source,
    })
}
