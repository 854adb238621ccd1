//! A soak: everything that the gateway does and much of what can go wrong around it, at once and for a while. Then the load
//! stops, and what is left is looked at: memory, connections, topics, queues, descriptors.
//!
//! `tests/soak/run [MINUTES]`. The load runs twice, for the first quarter (a minute at most) to warm up and then for the
//! rest, so that what is left after the second time is compared with what was left after the first.
//!
//! Read in this order: [`load`], what all who make load share; [`talk`] and [`follow`], clients, and what they must hear;
//! [`push`], the application; [`harm`], clients that mean no good; [`flood`], clients that send too much; [`operate`], what
//! happens to PHP and to plugins; [`rest`], what is left.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "a soak stops at the first surprise, and uses a part of what the tests stand on"
)]

#[path = "../gateway"]
mod gateway {
    pub mod support;
}
mod flood;
mod follow;
mod harm;
mod load;
mod operate;
mod push;
mod rest;
mod talk;
#[path = "../bench/compare/wire.rs"]
mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::task::JoinSet;

use gateway::support::{Fpm, Gateway, guest, stamp};
use load::{Load, Tally};
use rest::Rest;

/// How many of each kind there are.
const TALKERS: usize = 60;
const STAMPED: usize = 30;
const FOLLOWERS: usize = 40;
const PUSHERS: usize = 2;
const SLOW: usize = 4;
const HOSTILE: usize = 4;
const FAULTY: usize = 2;
const FLOODING: usize = 2;

const MINUTE: Duration = Duration::from_secs(60);
const DEFAULT_MINUTES: f64 = 30.0;

#[tokio::main]
async fn main() {
    // Cargo adds an argument of its own, which is no number.
    let minutes = std::env::args().find_map(|argument| argument.parse().ok());
    let length = MINUTE.mul_f64(minutes.unwrap_or(DEFAULT_MINUTES));
    let warm_up = (length / 4).min(MINUTE);

    let fpm = Fpm::start(8).await;
    let mut gateway = Arc::new(start(&fpm).await);
    let fpm = Arc::new(Mutex::new(fpm));
    let tally = Arc::new(Tally::default());
    rest::say(&gateway, "started").await;
    let fresh = Rest::of(&gateway).await;

    run(&gateway, &fpm, &tally, warm_up).await;
    let first = Rest::settled(&gateway, &tally, &fresh).await;
    rest::say(&gateway, "warmed up and at rest").await;

    run(&gateway, &fpm, &tally, length - warm_up).await;
    let last = Rest::settled(&gateway, &tally, &fresh).await;
    rest::say(&gateway, "at rest").await;

    println!(
        "\n{tally}\n{}\n{}",
        rest::counted(&gateway).await,
        last.beside(&first)
    );
    last.is_near(&first);
    assert_eq!(gateway.count_logged(&["panicked"]), 0, "the log tells of a panic");
    let gateway = Arc::get_mut(&mut gateway).expect("all load has ended");
    gateway.process.signal("TERM");
    assert_eq!(gateway.process.exit_code().await, Some(0));
    println!("\nnothing was lost, doubled or out of order, and nothing is left");
}

async fn start(fpm: &Fpm) -> Gateway {
    let config = format!(
        r#"
        compression = true
        [upstream]
        timeout = "30s"
        {upstream}
        [plugins]
        dir = "plugins"
        cache = "cache"
        built-in = "application"
        settle = "20ms"
        poll = "100ms"
        # What traps as it starts is no version of `stamp` to go on with.
        [plugins.config.stamp]
        trap-at-start = true
        [[route]]
        path = "/php"
        plugins = []
        [[route]]
        path = "/stamp"
        plugins = ["stamp"]
        [[route]]
        path = "/events"
        plugins = ["events"]
        [[route]]
        path = "/faults"
        plugins = ["misbehave"]
        [[topic]]
        name = "kept.*"
        history = 5000
        history-time = "20s"
        [[schedule]]
        name = "tick"
        every = "1s"
        [log]
        filter = "error,aileron=info,aileron::session=error,aileron::plugin=error"
        "#,
        upstream = fpm.upstream("application.php"),
    );
    let plugins = [
        ("events", guest("events")),
        ("misbehave", guest("misbehave")),
        ("stamp", stamp(0)),
    ];
    let plugins: Vec<_> = plugins
        .iter()
        .map(|(name, content)| (*name, content.as_slice()))
        .collect();
    Gateway::with_plugins(&plugins, &config).await
}

/// Everything at once for so long. Whoever is surprised ends it all.
async fn run(gateway: &Arc<Gateway>, fpm: &Arc<Mutex<Fpm>>, tally: &Arc<Tally>, length: Duration) {
    let load = Arc::new(Load::new(gateway.clone(), tally.clone()));
    let mut tasks = JoinSet::new();
    for _ in 0..TALKERS {
        tasks.spawn(talk::with_php(load.clone()));
    }
    for _ in 0..STAMPED {
        tasks.spawn(talk::with_a_plugin(load.clone()));
    }
    for n in 0..FOLLOWERS {
        tasks.spawn(follow::follow(load.clone(), n % 2 == 0));
    }
    tasks.spawn(follow::publish(load.clone()));
    for _ in 0..PUSHERS {
        tasks.spawn(push::to_clients(load.clone()));
    }
    tasks.spawn(push::to_a_topic(load.clone()));
    for _ in 0..SLOW {
        tasks.spawn(harm::read_slowly(load.clone()));
    }
    tasks.spawn(push::flood(load.clone()));
    for _ in 0..HOSTILE {
        tasks.spawn(harm::break_the_protocol(load.clone()));
        tasks.spawn(harm::send_nonsense(load.clone()));
    }
    for _ in 0..FAULTY {
        tasks.spawn(harm::make_a_plugin_fail(load.clone()));
    }
    for _ in 0..FLOODING {
        tasks.spawn(flood::ping_and_never_read(load.clone()));
        tasks.spawn(flood::send_empty_fragments(load.clone()));
        tasks.spawn(flood::ask_and_never_read(load.clone()));
        tasks.spawn(flood::keep_php_busy(load.clone()));
        tasks.spawn(flood::speak_compressed(load.clone()));
    }
    tasks.spawn(flood::close_behind_a_message(load.clone()));
    tasks.spawn(operate::php(load.clone(), fpm.clone()));
    tasks.spawn(operate::plugins(load.clone()));

    let began = Instant::now();
    let mut minute = tokio::time::interval(MINUTE);
    minute.tick().await;
    while began.elapsed() < length {
        tokio::select! {
            ended = tasks.join_next() => {
                ended.expect("there are tasks").unwrap();
                panic!("one who makes load has ended before its time");
            }
            _ = minute.tick() => rest::say(gateway, "under load").await,
            () = tokio::time::sleep(length.saturating_sub(began.elapsed())) => {}
        }
    }
    load.stop();
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}
