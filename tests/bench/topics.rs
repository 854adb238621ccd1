//! What topics cost: a hundred thousand subscribers of one topic, and a hundred thousand topics with a subscriber each.
//!
//! `cargo bench --bench topics [-- 1000000]`, for another number. It is the registry alone, without sockets: what a
//! publication costs before any session writes. The reference in each line is a bare queue, since a publication is at
//! least so many of them.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark stops at the first surprise"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use aileron::config::SlowClients;
use aileron::message::{Connection, Payload};
use aileron::registry::{Kept, Limits, Registration, Registry, Retention};
use aileron::send_queue::{Outbound, SendQueue};

const ROUNDS: usize = 9;

fn main() {
    let number = std::env::args().find_map(|argument| argument.parse().ok());
    let many = number.unwrap_or(100_000);
    println!("medians of {ROUNDS} rounds, {many} connections");
    let before = memory();
    let registry = registry();
    let clients = connect(&registry, many);
    println!(
        "a connection in the registry: {} bytes",
        (memory() - before) / many
    );
    // First, while the allocator has nothing to give out again: what it holds is what is measured.
    many_topics(&registry, &clients);
    drop(clients);
    let clients = connect(&registry, many);
    one_topic(&registry, &clients);
}

fn registry() -> Arc<Registry> {
    let limits = Limits {
        message: 1 << 20,
        topics: 128,
        attributes: 1 << 14,
        history: 64 << 20,
        queue: 1 << 20,
        queues: usize::MAX,
        slow_clients: SlowClients::Close,
    };
    let kept = Kept {
        name: "kept".to_owned(),
        retention: Retention {
            messages: 100,
            time: Duration::from_secs(300),
        },
    };
    Arc::new(Registry::new(limits, vec![kept]))
}

type Client = (String, Registration, Arc<SendQueue>);

fn connect(registry: &Arc<Registry>, many: usize) -> Vec<Client> {
    let one = |n: usize| {
        let id = format!("127.0.0.1:{n}");
        let connection = Connection::new(
            id.as_str().into(),
            ([127, 0, 0, 1], 1).into(),
            "/ws",
            "",
            "host: localhost",
        );
        let send_queue = registry.send_queue();
        (
            id,
            registry.register(Arc::new(connection), send_queue.clone()),
            send_queue,
        )
    };
    (0..many).map(one).collect()
}

fn one_topic(registry: &Arc<Registry>, clients: &[Client]) {
    for topic in ["plain", "kept"] {
        let before = memory();
        let started = Instant::now();
        for (id, _, _) in clients {
            registry.subscribe(id, topic).expect("it is open");
        }
        let each = started.elapsed() / clients.len() as u32;
        println!(
            "\none topic `{topic}`: a subscription takes {each:?} and {} bytes",
            (memory() - before) / clients.len()
        );
        clients.iter().for_each(|(_, _, send_queue)| drain(send_queue));
        let publish = || {
            let published = registry.publish(topic, &message(), &[]).expect("it fits");
            assert_eq!(published.recipients, clients.len());
        };
        let bare = || {
            for (_, _, send_queue) in clients {
                send_queue.push(Outbound::Message(message())).expect("it fits");
            }
        };
        compare("a publication", publish, bare, clients);
    }
}

fn many_topics(registry: &Arc<Registry>, clients: &[Client]) {
    let before = memory();
    let started = Instant::now();
    for (n, (id, _, _)) in clients.iter().enumerate() {
        registry.subscribe(id, &format!("topic.{n}")).expect("it is open");
    }
    let each = started.elapsed() / clients.len() as u32;
    println!(
        "\n{} topics: a topic and its subscription take {each:?} and {} bytes",
        clients.len(),
        (memory() - before) / clients.len()
    );
    let names: Vec<_> = (0..clients.len()).map(|n| format!("topic.{n}")).collect();
    let publish = || {
        for name in &names {
            registry.publish(name, &message(), &[]).expect("it fits");
        }
    };
    let bare = || {
        for (_, _, send_queue) in clients {
            send_queue.push(Outbound::Message(message())).expect("it fits");
        }
    };
    compare("one publication to each", publish, bare, clients);
}

/// Both in turn, so that a machine that is busy for a moment disturbs both alike.
fn compare(what: &str, publish: impl Fn(), bare: impl Fn(), clients: &[Client]) {
    let (mut times, mut bare_times) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for (times, run) in [(&mut times, &publish as &dyn Fn()), (&mut bare_times, &bare)] {
            let started = Instant::now();
            run();
            times.push(started.elapsed());
            clients.iter().for_each(|(_, _, send_queue)| drain(send_queue));
        }
    }
    let (time, bare) = (median(times), median(bare_times));
    println!(
        "  {what}: {time:?}, {:?} for each delivery; bare queues {bare:?}; {:.2} x",
        time / clients.len() as u32,
        time.as_secs_f64() / bare.as_secs_f64()
    );
}

fn message() -> Payload {
    Payload::Text("a message of thirty-two letters".into())
}

fn drain(send_queue: &SendQueue) {
    while send_queue.try_next().is_some() {}
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Resident, in bytes.
fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}
