//! What the host offers to plugins besides WASI: connections and topics to read, the log, the settings, the key-value store.

mod keyvalue;

use wasmtime::component::{HasData, Linker};
use wasmtime_wasi_config::WasiConfig;

use super::guest::Guest;
use crate::message::excerpt;
use bindings::aileron::gateway::connections::{self, Status};
use bindings::aileron::gateway::topics;
use bindings::wasi::logging::logging::{self, Level};

mod bindings {
    wasmtime::component::bindgen!({
        path: "wit",
        inline: "
            package aileron:host;
            world offered {
                import aileron:gateway/connections@0.1.1;
                import aileron:gateway/topics@0.1.1;
                import wasi:logging/logging@0.1.0-draft;
            }
        ",
    });
}

pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    connections::add_to_linker::<_, ToGuest>(linker, |guest| guest)?;
    topics::add_to_linker::<_, ToGuest>(linker, |guest| guest)?;
    logging::add_to_linker::<_, ToGuest>(linker, |guest| guest)?;
    wasmtime_wasi_config::add_to_linker(linker, |guest| WasiConfig::new(&guest.settings))?;
    keyvalue::add_to_linker(linker)
}

struct ToGuest;

impl HasData for ToGuest {
    type Data<'a> = &'a mut Guest;
}

impl connections::Host for Guest {
    fn status_of(&mut self, id: String) -> Status {
        match self.shared.connections.find(&id) {
            None => Status::Absent,
            Some((_, true)) => Status::Congested,
            Some((_, false)) => Status::Open,
        }
    }

    fn fact(&mut self, id: String, name: String) -> Option<String> {
        let (connection, _) = self.shared.connections.find(&id)?;
        connection.fact(&name).map(std::borrow::Cow::into_owned)
    }

    fn count(&mut self) -> u32 {
        number(self.shared.connections.count())
    }
}

impl topics::Host for Guest {
    fn of(&mut self, connection: String) -> Vec<String> {
        self.shared.connections.topics_of(&connection)
    }

    fn count(&mut self, topic: String) -> u32 {
        number(self.shared.connections.subscriber_count(&topic))
    }

    fn subscribers(&mut self, topic: String, limit: u32) -> Vec<String> {
        let subscribers = self.shared.connections.subscribers(&topic, limit as usize);
        subscribers
            .iter()
            .map(|connection| connection.id.to_string())
            .collect()
    }

    fn members(&mut self, topic: String, limit: u32) -> Vec<(String, u32)> {
        let members = self.shared.connections.members(&topic, limit as usize);
        members
            .iter()
            .map(|(name, connections)| (name.to_string(), number(*connections)))
            .collect()
    }
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl logging::Host for Guest {
    fn log(&mut self, level: Level, context: String, message: String) {
        let plugin = &*self.plugin;
        let is_shown = match level {
            Level::Trace => tracing::enabled!(tracing::Level::TRACE),
            Level::Debug => tracing::enabled!(tracing::Level::DEBUG),
            Level::Info => tracing::enabled!(tracing::Level::INFO),
            Level::Warn => tracing::enabled!(tracing::Level::WARN),
            Level::Error | Level::Critical => tracing::enabled!(tracing::Level::ERROR),
        };
        // What the operator does not want to see leaves the room to the rest.
        if !is_shown || !self.lines.admit(plugin) {
            return;
        }
        let (context, message) = (&*excerpt(&context), &*excerpt(&message));
        match level {
            Level::Trace => tracing::trace!(plugin, context, "{message}"),
            Level::Debug => tracing::debug!(plugin, context, "{message}"),
            Level::Info => tracing::info!(plugin, context, "{message}"),
            Level::Warn => tracing::warn!(plugin, context, "{message}"),
            Level::Error | Level::Critical => tracing::error!(plugin, context, "{message}"),
        }
    }
}
