//! What topics cost: a hundred thousand subscribers of one topic, and a hundred thousand topics with a subscriber each.
//! And for how long a publication keeps those waiting who come and go meanwhile.
//!
//! `cargo bench --bench topics [-- 1000000]`, for another number. It is the registry alone, without sockets: what a
//! publication costs before anything is written. It is delivered here, by one thread, and by the workers of a runtime. The
//! reference in each line is a bare queue, since a publication is at least so many of them.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark stops at the first surprise"
)]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::task::Poll;
use std::time::{Duration, Instant};

use aileron::config::SlowClients;
use aileron::message::{Connection, Payload};
use aileron::registry::{EVERYONE, Kept, Limits, Published, Publishing, Registration, Registry, Retention};
use aileron::send_queue::SendQueue;
use rustix::thread::ClockId;
use rustix::time::clock_gettime;
use tokio::runtime::Runtime;

const ROUNDS: usize = 9;
/// A topic without a history, and one with.
const PLAIN: &str = "plain";
const KEPT: &str = "kept";
/// What topics begin with that nobody subscribes to.
const IDLE: &str = "idle.";
/// Publications beside which others come and go.
const PUBLICATIONS: usize = 40;

fn main() {
    let number = std::env::args().find_map(|argument| argument.parse().ok());
    let many = number.unwrap_or(100_000);
    // A worker for each processor, as the gateway has.
    let runtime = Runtime::new().unwrap();
    println!(
        "medians of {ROUNDS} rounds, {many} connections, {} workers",
        runtime.metrics().num_workers()
    );
    let before = memory();
    let registry = registry();
    let clients = connect(&registry, many);
    println!(
        "a connection in the registry: {} bytes",
        (memory() - before) / many
    );
    // All that takes memory first, while the allocator has nothing to give out again.
    let topics: Vec<_> = (0..many).map(|n| format!("topic.{n}")).collect();
    let each_in_its_own = clients
        .iter()
        .zip(&topics)
        .map(|((id, ..), topic)| (id, &**topic));
    subscribe(
        &registry,
        "many topics: a topic and its subscription",
        each_in_its_own,
    );
    for topic in [PLAIN, KEPT] {
        let all_in_one = clients.iter().map(|(id, ..)| (id, topic));
        let what = format!("one topic `{topic}`: a subscription");
        subscribe(&registry, &what, all_in_one);
        clients.iter().for_each(|(_, _, send_queue)| drain(send_queue));
    }
    println!();
    let publish = |topic| registry.publish(topic, &message(), &[], None).expect("it fits");
    compare(
        "many topics: one publication to each",
        &clients,
        &runtime,
        &|| topics.iter().map(|topic| publish(topic)).collect(),
    );
    for topic in [PLAIN, KEPT] {
        compare(
            &format!("one topic `{topic}`: a publication"),
            &clients,
            &runtime,
            &|| vec![publish(topic)],
        );
    }
    for (id, ..) in &clients {
        registry.unsubscribe(id, KEPT).unwrap();
    }
    come_and_go(&registry, &clients);
    idle_topics(&registry, many);
}

fn registry() -> Arc<Registry> {
    let limits = Limits {
        message: 1 << 20,
        topics: 128,
        attributes: 1 << 14,
        history: usize::MAX,
        idle_topics: usize::MAX,
        queue: 1 << 20,
        queues: usize::MAX,
        inbound: usize::MAX,
        slow_clients: SlowClients::Close,
    };
    let kept = |name: &str| Kept {
        name: name.to_owned(),
        retention: Retention {
            messages: 100,
            time: Duration::from_secs(300),
        },
    };
    let idle = format!("{IDLE}*");
    Arc::new(Registry::new(limits, vec![kept(KEPT), kept(&idle)]))
}

/// What topics cost that nobody has subscribed to, but that keep a message each.
fn idle_topics(registry: &Registry, many: usize) {
    let (before, counted, started) = (memory(), registry.history_bytes(), Instant::now());
    for n in 0..many {
        let topic = format!("{IDLE}{n}");
        registry.publish(&topic, &message(), &[], None).expect("it fits");
    }
    let took = started.elapsed() / many as u32;
    let (bytes, counted) = (memory() - before, registry.history_bytes() - counted);
    let started = Instant::now();
    registry.expire(started);
    println!(
        "\n{many} topics without subscribers, with a message each: {took:?} and {} bytes for each, {} counted; to look for \
         what is too old takes {:.1?}",
        bytes / many,
        counted / many,
        started.elapsed()
    );
}

type Client = (String, Registration, Arc<SendQueue>);

fn connect(registry: &Arc<Registry>, many: usize) -> Vec<Client> {
    (0..many).map(|n| connect_one(registry, n)).collect()
}

fn connect_one(registry: &Arc<Registry>, n: usize) -> Client {
    let id = format!("127.0.0.1:{n}");
    let send_queue = registry.send_queue();
    let registration = registry.register(Arc::new(connection(&id)), send_queue.clone());
    (id, registration, send_queue)
}

fn connection(id: &str) -> Connection {
    Connection::new(
        id.into(),
        ([127, 0, 0, 1], 1).into(),
        "/ws",
        "",
        "host: localhost",
    )
}

fn subscribe<'a>(
    registry: &Registry,
    what: &str,
    subscriptions: impl ExactSizeIterator<Item = (&'a String, &'a str)>,
) {
    let many = subscriptions.len();
    let (before, started) = (memory(), Instant::now());
    for (id, topic) in subscriptions {
        registry.subscribe(id, topic).expect("it is open");
    }
    println!(
        "{what} takes {:?} and {} bytes",
        started.elapsed() / many as u32,
        (memory() - before) / many
    );
}

/// What is published reaches everyone once. Both ways and the bare queues in turn, so that a machine that is busy for a
/// moment disturbs all alike.
fn compare(what: &str, clients: &[Client], runtime: &Runtime, publish: &dyn Fn() -> Vec<Publishing>) {
    let here = || {
        let done = publish().into_iter().map(|publishing| match publishing {
            Publishing::Done(published) => published.recipients,
            Publishing::Later(_) => panic!("there is nobody else to do it"),
        });
        assert_eq!(done.sum::<usize>(), clients.len());
    };
    let by_workers = || {
        let reached = runtime.block_on(async {
            let mut reached = 0;
            for publishing in publish() {
                reached += published(publishing).await.recipients;
            }
            reached
        });
        assert_eq!(reached, clients.len());
    };
    let bare = || {
        let message = message();
        for (_, _, send_queue) in clients {
            send_queue.push(message.clone().into()).expect("it fits");
        }
    };
    let turns: [&dyn Fn(); 3] = [&here, &by_workers, &bare];
    let mut times = turns.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for (run, times) in turns.iter().zip(&mut times) {
            let started = Instant::now();
            run();
            times.push(started.elapsed());
            clients.iter().for_each(|(_, _, send_queue)| drain(send_queue));
        }
    }
    let [here, by_workers, bare] = times.map(median);
    let shown = |time: Duration| {
        let each = time / clients.len() as u32;
        let ratio = time.as_secs_f64() / bare.as_secs_f64();
        format!("{time:.1?}, {each:?} for each delivery, {ratio:.2} x")
    };
    println!("{what}, for which bare queues take {bare:.1?}");
    println!("  here:       {}", shown(here));
    println!("  by workers: {}", shown(by_workers));
}

async fn published(publishing: Publishing) -> Published {
    match publishing {
        Publishing::Done(published) => published,
        Publishing::Later(later) => later.await.expect("the runtime goes on"),
    }
}

/// What a connection does in a loop while its clock runs.
type Turn<'a> = dyn Fn(&mut Clock) + Sync + 'a;

/// How long a join and a leave take, by another thread, while a publication is being delivered to everyone else: as long as
/// the topic is locked, and they wait. One processor is left to that thread, as far as others leave it.
fn come_and_go(registry: &Arc<Registry>, clients: &[Client]) {
    let processors = std::thread::available_parallelism().unwrap().get();
    let mut workers = tokio::runtime::Builder::new_multi_thread();
    let runtime = workers.worker_threads(processors.max(2) - 1).build().unwrap();
    let (id, _registration, send_queue) = connect_one(registry, clients.len());
    let of_topic = |clock: &mut Clock| {
        clock.time(|| registry.subscribe(&id, PLAIN).unwrap());
        clock.time(|| registry.unsubscribe(&id, PLAIN).unwrap());
        drain(&send_queue);
    };
    let of_everyone = |clock: &mut Clock| {
        let connection = Arc::new(connection("127.0.0.2:1"));
        let send_queue = registry.send_queue();
        let registration = clock.time(|| registry.register(connection, send_queue));
        clock.time(|| drop(registration));
    };
    let publish = |topic| {
        let started = Instant::now();
        let published = runtime.block_on(async {
            let publishing = registry.publish(topic, &message(), &[], None).expect("it fits");
            published(publishing).await
        });
        assert!(published.recipients >= clients.len());
        started.elapsed()
    };
    let turns: [(_, &Turn<'_>); 2] = [(PLAIN, &of_topic), (EVERYONE, &of_everyone)];
    for (topic, turn) in turns {
        let (mut alone, mut beside, mut publications) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..PUBLICATIONS {
            let mut took = Duration::ZERO;
            beside.extend(meanwhile(turn, || took = publish(topic)));
            clients.iter().for_each(|(_, _, send_queue)| drain(send_queue));
            alone.extend(meanwhile(turn, || std::thread::sleep(took)));
            publications.push(took);
        }
        publications.sort_unstable();
        println!(
            "\njoins and leaves of `{topic}`, with {} in it, at rest and beside {PUBLICATIONS} publications that took {:.1?} \
             (median) to {:.1?}",
            clients.len(),
            at(&publications, 0.5),
            at(&publications, 1.0)
        );
        println!("  at rest: {}", Wait::shown(&alone));
        println!("  beside:  {}", Wait::shown(&beside));
    }
}

/// Takes turns on a thread of their own for as long as something else lasts. Gives how long each took.
fn meanwhile(turn: &Turn<'_>, run: impl FnOnce()) -> Vec<Wait> {
    let (has_begun, is_over) = (Barrier::new(2), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut clock = Clock::new();
            turn(&mut clock);
            clock.waits.clear();
            has_begun.wait();
            while !is_over.load(Ordering::Relaxed) {
                turn(&mut clock);
            }
            clock.waits
        });
        has_begun.wait();
        run();
        is_over.store(true, Ordering::Relaxed);
        thread.join().unwrap()
    })
}

/// How long something took. On a busy machine others get the processor in the middle of it, which is not the lock's doing:
/// so what the thread itself did counts, and whether it went to sleep by itself. Here it does that for a lock alone: of the
/// topic, of a queue, or of the allocator.
struct Wait {
    took: Duration,
    /// Of it, on a processor.
    worked: Duration,
    has_slept: bool,
}

/// Takes the time of what its thread does.
struct Clock {
    status: File,
    waits: Vec<Wait>,
}

impl Clock {
    fn new() -> Self {
        Self {
            status: File::open("/proc/thread-self/status").unwrap(),
            waits: Vec::new(),
        }
    }

    fn time<T>(&mut self, run: impl FnOnce() -> T) -> T {
        let slept = self.slept();
        let (worked, started) = (worked(), Instant::now());
        let result = run();
        let (took, worked) = (started.elapsed(), self::worked() - worked);
        self.waits.push(Wait {
            took,
            worked,
            has_slept: self.slept() != slept,
        });
        result
    }

    /// How often the thread has gone to sleep.
    fn slept(&self) -> u64 {
        let mut text = [0; 4096];
        let n = self.status.read_at(&mut text, 0).unwrap();
        let text = std::str::from_utf8(text.get(..n).unwrap()).unwrap();
        let mut lines = text.lines();
        let count = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count.unwrap().trim().parse().unwrap()
    }
}

/// The processor time of this thread.
fn worked() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
}

impl Wait {
    fn shown(waits: &[Self]) -> String {
        let mut took: Vec<_> = waits.iter().map(|wait| wait.took).collect();
        took.sort_unstable();
        let asleep = waits.iter().filter(|wait| wait.has_slept);
        format!(
            "{} of them, p50 {:.1?}, p99 {:.1?}, max {:.1?}; work of its own at most {:.1?}; {} waited for a lock, at most {:.1?}",
            waits.len(),
            at(&took, 0.5),
            at(&took, 0.99),
            at(&took, 1.0),
            waits.iter().map(|wait| wait.worked).max().unwrap_or_default(),
            asleep.clone().count(),
            asleep.map(|wait| wait.took).max().unwrap_or_default(),
        )
    }
}

/// Of sorted times.
fn at(sorted: &[Duration], share: f64) -> Duration {
    let place = (sorted.len().saturating_sub(1) as f64 * share).round() as usize;
    sorted.get(place).copied().unwrap_or_default()
}

fn message() -> Payload {
    Payload::Text("a message of thirty-two letters".into())
}

/// Writes what waits to nowhere.
fn drain(send_queue: &SendQueue) {
    send_queue
        .drain(|_, parts| Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum())))
        .unwrap();
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    at(&times, 0.5)
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
