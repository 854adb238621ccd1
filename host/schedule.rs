//! What happens at intervals: the gateway asks its plugins, and through them PHP, without a client being involved.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::actions::Actions;
use crate::config::Schedule;
use crate::dispatch::Dispatch;
use crate::message::Event;
use crate::plugin::Plugins;

/// Runs all schedules, forever. When they change, all of them begin their intervals anew.
pub async fn run(
    mut schedules: watch::Receiver<Vec<Schedule>>,
    plugins: Arc<Plugins>,
    actions: Arc<Actions>,
) {
    loop {
        let mut running = JoinSet::new();
        for schedule in schedules.borrow_and_update().iter() {
            running.spawn(repeat(schedule.clone(), plugins.clone(), actions.clone()));
        }
        if schedules.changed().await.is_err() {
            // They cannot change any more.
            running.join_all().await;
            return;
        }
    }
}

/// Runs one. It never overlaps with itself: if it takes longer than its interval, it skips the runs that it misses.
async fn repeat(schedule: Schedule, plugins: Arc<Plugins>, actions: Arc<Actions>) {
    let name: Arc<str> = schedule.name.as_str().into();
    let mut due = Instant::now() + jittered(schedule.every);
    loop {
        sleep_until(due).await;
        let began = Instant::now();
        let event = Event::Schedule(name.clone());
        let chain = plugins.push_chain();
        let result = if chain.iter().any(|version| version.wants(&event)) {
            let mut dispatch = Dispatch::begin(chain, event);
            actions.finish(&mut dispatch, schedule.upstream).await;
            if dispatch.has_failed() { "failed" } else { "done" }
        } else {
            tracing::warn!(
                schedule = &*name,
                "no plugin takes this schedule; [plugins] built-in = \"application\" does"
            );
            "unheard"
        };
        tracing::debug!(schedule = &*name, result, took = ?began.elapsed(), "a schedule has run");
        actions.metrics.schedule(&name, result);
        due = (began + jittered(schedule.every)).max(Instant::now());
    }
}

/// Give or take a tenth, so that several gateways do not run in step.
fn jittered(every: Duration) -> Duration {
    every.mul_f64(0.9 + fastrand::f64() / 5.0)
}
