//! What happens at intervals: the gateway asks its plugins, and through them PHP, without a client's doing.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::config::Schedule;
use crate::effects::World;
use crate::journey::Journey;
use crate::message::Event;
use crate::plugin::Plugins;

/// Runs a schedule for ever. It never overlaps with itself: one that takes longer than its interval skips what it misses.
pub async fn run(schedule: Schedule, plugins: Arc<Plugins>, world: Arc<World>) {
    let name: Arc<str> = schedule.name.as_str().into();
    let mut due = Instant::now() + jittered(schedule.every);
    loop {
        sleep_until(due).await;
        let began = Instant::now();
        let event = Event::Schedule(name.clone());
        let chain = plugins.push_chain();
        let result = if chain.iter().any(|version| version.wants(&event)) {
            let mut journey = Journey::begin(chain, event);
            world.finish(&mut journey, schedule.upstream).await;
            if journey.has_failed() { "failed" } else { "done" }
        } else {
            tracing::warn!(
                schedule = &*name,
                "no plugin takes this schedule; [plugins] built-in = \"application\" does"
            );
            "unheard"
        };
        tracing::debug!(schedule = &*name, result, took = ?began.elapsed(), "a schedule has run");
        world.metrics.schedule(&name, result);
        due = (began + jittered(schedule.every)).max(Instant::now());
    }
}

/// Give or take a tenth, so that several gateways do not fall into step.
fn jittered(every: Duration) -> Duration {
    every.mul_f64(0.9 + fastrand::f64() / 5.0)
}
