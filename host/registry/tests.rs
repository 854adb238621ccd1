//! The registry against a model of it, and under threads: whatever happens in whatever order, nothing is left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::task::Poll;
use std::time::Instant;

use futures_util::FutureExt;
use proptest::prelude::*;

use super::*;
use crate::send_queue::{Drained, Publication};
use crate::websocket::Frame;

const FOREVER: Duration = Duration::from_secs(1_000_000);

fn registry() -> Arc<Registry> {
    registry_with(SlowClients::Skip)
}

fn registry_with(slow_clients: SlowClients) -> Arc<Registry> {
    let limits = Limits {
        message: 1000,
        topics: 3,
        attributes: 100,
        history: 100_000,
        idle_topics: 100,
        queue: 100_000,
        queues: usize::MAX,
        inbound: usize::MAX,
        slow_clients,
    };
    let kept = Kept {
        name: "kept.*".to_owned(),
        retention: Retention {
            messages: 5,
            time: Duration::from_secs(60),
        },
    };
    Arc::new(Registry::new(limits, vec![kept]))
}

fn connect_with(registry: &Arc<Registry>, id: &str, query: &str) -> (Registration, Arc<SendQueue>) {
    let connection = Connection::new(id.into(), ([127, 0, 0, 1], 1).into(), "/", query, "");
    let send_queue = registry.send_queue();
    (
        registry.register(Arc::new(connection), send_queue.clone()),
        send_queue,
    )
}

pub(super) fn connect(registry: &Arc<Registry>, id: &str) -> (Registration, Arc<SendQueue>) {
    connect_with(registry, id, "")
}

fn text(text: &str) -> Payload {
    Payload::Text(text.into())
}

/// What is in a queue, as text.
fn received(send_queue: &SendQueue) -> Vec<String> {
    let mut bytes = Vec::new();
    let drained = send_queue.drain(|_, parts| {
        let before = bytes.len();
        bytes.extend(parts.iter().flat_map(|part| part.iter().copied()));
        Poll::Ready(Ok(bytes.len() - before))
    });
    assert_eq!(drained.unwrap().0, Drained::Empty);
    let mut rest = &bytes[..];
    let mut texts = Vec::new();
    while let [first, length, more @ ..] = rest {
        assert_eq!(*first, 0x81, "a text");
        let (length, more) = match (length, more) {
            (126, [high, low, more @ ..]) => (usize::from(*high) << 8 | usize::from(*low), more),
            (length, more) => (usize::from(*length), more),
        };
        let (text, more) = more.split_at(length);
        texts.push(String::from_utf8(text.to_vec()).unwrap());
        rest = more;
    }
    texts
}

/// A publication that goes to few is delivered when it is published, unless another one is being delivered.
fn published(publishing: Publishing) -> Published {
    match publishing {
        Publishing::Done(published) => published,
        Publishing::Later(published) => published.blocking_recv().unwrap(),
    }
}

fn publish(registry: &Registry, topic: &str, message: &str) -> Published {
    published(registry.publish(topic, &text(message), &[], None).unwrap())
}

#[test]
fn a_name_belongs_to_who_took_it_last() {
    let registry = registry();
    let (old, _) = connect(&registry, "a");
    let (new, send_queue) = connect(&registry, "a");
    drop(old);
    assert_eq!(registry.count(), 1, "the older one's end is not the newer one's");
    assert_eq!(registry.send("a", text("x")), Ok(()));
    assert_eq!(received(&send_queue), ["x"]);
    drop(new);
    assert_eq!(registry.send("a", text("x")), Err(SendError::NotFound));
    assert_eq!(registry.count(), 0);
}

#[tokio::test]
async fn closing_all_reaches_those_who_come_late_and_ends_with_the_last() {
    let registry = registry();
    let (first, send_queue) = connect(&registry, "a");
    let mut all = Box::pin(registry.close_all(Duration::ZERO, FOREVER));
    assert!((&mut all).now_or_never().is_none());
    assert_eq!(
        send_queue.take_requests().1.map(|ending| ending.code),
        Some(GOING_AWAY)
    );
    let (late, send_queue) = connect(&registry, "b");
    assert_eq!(
        send_queue.take_requests().1.map(|ending| ending.code),
        Some(GOING_AWAY)
    );
    drop(first);
    assert!((&mut all).now_or_never().is_none());
    drop(late);
    all.await;
}

#[test]
fn a_publication_reaches_subscribers_but_those_who_are_left_out() {
    let registry = registry();
    let clients = ["a", "b", "c"].map(|id| connect(&registry, id));
    for id in ["a", "b"] {
        registry.subscribe(id, "news").unwrap();
    }
    let publishing = registry
        .publish("news", &text("x"), &["b".to_owned()], None)
        .unwrap();
    assert_eq!(
        published(publishing),
        Published {
            recipients: 1,
            ..Published::default()
        }
    );
    assert_eq!(publish(&registry, "*", "all").recipients, 3);
    let got = clients
        .each_ref()
        .map(|(_, send_queue)| received(send_queue).join(" "));
    assert_eq!(got, ["x all", "all", "all"]);
    assert_eq!(publish(&registry, "nobody", "x"), Published::default());
}

#[test]
fn a_full_queue_delays_nobody_and_is_dealt_with_as_the_policy_says() {
    let counts = |published: Published| {
        (
            published.recipients,
            published.congested,
            published.closed,
            published.dropped,
        )
    };
    for (policy, expected) in [
        (SlowClients::Skip, (1, 1, 0, 0)),
        (SlowClients::Close, (1, 1, 1, 0)),
        (SlowClients::DropOldest, (2, 0, 0, 1)),
    ] {
        let registry = registry_with(policy);
        let (_slow, full) = connect(&registry, "slow");
        let (_quick, send_queue) = connect(&registry, "quick");
        for id in ["slow", "quick"] {
            registry.subscribe(id, "news").unwrap();
            registry.subscribe(id, "kept.1").unwrap();
        }
        let older = Publication::new(Frame::text("x".repeat(900).into()));
        full.publish(&older, false, &AtomicBool::new(true)).unwrap();
        while full.push(Frame::text("x".repeat(900).into())).is_ok() {}
        let is_closed = || full.push(Frame::text("x".repeat(900).into())) == Err(Refused::Closed);
        let published = publish(&registry, "news", &"y".repeat(900));
        assert_eq!(counts(published), expected, "{policy:?}");
        assert_eq!(
            is_closed(),
            policy == SlowClients::Close,
            "a plain topic may have gaps"
        );
        // What may go makes room for one with a history, which may not have gaps itself.
        let reached = publish(&registry, "kept.1", &"z".repeat(800)).recipients;
        assert_eq!(reached == 2, policy == SlowClients::DropOldest, "{policy:?}");
        assert_eq!(is_closed(), reached == 1);
        assert_eq!(publish(&registry, "kept.1", &"z".repeat(900)).recipients, 1);
        assert!(is_closed(), "there is nothing left that may go");
        assert_eq!(received(&send_queue).len(), 4);
    }
}

#[test]
fn bounds_are_held() {
    let registry = registry();
    let _client = connect(&registry, "a");
    assert_eq!(
        registry.send("a", text(&"x".repeat(1001))),
        Err(SendError::TooLarge)
    );
    assert_eq!(
        registry.publish("t", &text(&"x".repeat(1001)), &[], None).err(),
        Some(SendError::TooLarge)
    );
    for name in ["1", "2", "3", "3"] {
        assert_eq!(registry.subscribe("a", name).map(drop), Ok(()));
    }
    assert_eq!(registry.subscribe("a", "4").map(drop), Err(SendError::Topics));
    registry.unsubscribe("a", "2").unwrap();
    assert_eq!(registry.subscribe("a", "4").map(drop), Ok(()));
    assert_eq!(registry.topics_of("a"), ["1", "3", "4"]);
    for name in ["", "*", "a\nb", &"x".repeat(256)] {
        assert_eq!(
            registry.subscribe("a", name).map(drop),
            Err(SendError::Name),
            "{name:?}"
        );
    }
    let long = "x".repeat(101);
    assert_eq!(
        registry.set_attribute("a", "n", Some(&long)),
        Err(SendError::Attributes)
    );
    assert_eq!(registry.subscribe("b", "1").map(drop), Err(SendError::NotFound));
}

#[test]
fn a_name_joins_with_its_first_connection_and_leaves_with_its_last() {
    let registry = registry();
    let (_watcher, heard) = connect(&registry, "watcher");
    registry.subscribe("watcher", "room:presence").unwrap();
    let mut clients = BTreeMap::new();
    for (id, user) in [("1", Some("ann")), ("2", Some("ann")), ("3", None)] {
        clients.insert(id, connect(&registry, id));
        registry.set_attribute(id, "user", user).unwrap();
        registry.subscribe(id, "room").unwrap();
    }
    let members: BTreeSet<_> = registry.members("room", 10).into_iter().collect();
    assert_eq!(members, BTreeSet::from([("3".into(), 1), ("ann".into(), 2)]));
    // A new name counts for later subscriptions.
    registry.set_attribute("1", "user", Some("eve")).unwrap();
    for id in ["1", "2", "3"] {
        clients.remove(id);
    }
    let events = [("join", "ann"), ("join", "3"), ("leave", "ann"), ("leave", "3")];
    let expected =
        events.map(|(event, member)| format!(r#"{{"topic":"room","event":"{event}","member":"{member}"}}"#));
    assert_eq!(received(&heard), expected);
    assert_eq!(registry.subscriber_count("room"), 0);
}

/// What a client that resumes is told first.
fn resumed(registry: &Arc<Registry>, position: &str) -> Vec<String> {
    let query = format!("a=b&resume=kept.1%3A{position}&resume=nonsense");
    let (_client, send_queue) = connect_with(registry, "resuming", &query);
    registry.subscribe("resuming", "kept.1").unwrap();
    let first = received(&send_queue);
    // A position is good for once: what comes later was not missed.
    registry.unsubscribe("resuming", "kept.1").unwrap();
    registry.subscribe("resuming", "kept.1").unwrap();
    let again = received(&send_queue);
    assert!(again.len() == 1 && !again[0].contains("recovered"), "{again:?}");
    first
}

#[test]
fn who_comes_back_gets_what_was_missed_or_is_told() {
    let registry = registry();
    let (_client, send_queue) = connect(&registry, "a");
    registry.subscribe("a", "kept.1").unwrap();
    let first: serde_json::Value = serde_json::from_str(&received(&send_queue)[0]).unwrap();
    assert_eq!(first["subscribed"], true);
    assert_eq!(first["offset"], 0);
    assert!(first.get("recovered").is_none());
    let epoch = first["epoch"].as_str().unwrap().to_owned();
    for n in 1..=7 {
        let published = publish(&registry, "kept.1", &format!("m{n}"));
        assert_eq!(published.position.unwrap().offset, n);
    }
    assert_eq!(received(&send_queue).len(), 7);

    let data = |frames: &[String]| -> Vec<String> {
        let values = frames
            .iter()
            .map(|frame| serde_json::from_str::<serde_json::Value>(frame).unwrap());
        values
            .filter_map(|value| Some(value["data"].as_str()?.to_owned()))
            .collect()
    };
    let missed = resumed(&registry, &format!("{epoch}:4"));
    assert!(
        missed[0].contains(r#""offset":4,"subscribed":true,"recovered":true"#),
        "{missed:?}"
    );
    assert_eq!(data(&missed), ["m5", "m6", "m7"]);
    let missed = resumed(&registry, &format!("{epoch}:7"));
    assert!(
        missed.len() == 1 && missed[0].contains(r#""recovered":true"#),
        "{missed:?}"
    );
    for lost in [format!("{epoch}:1"), format!("{epoch}:8"), "another:7".to_owned()] {
        let missed = resumed(&registry, &lost);
        assert!(missed.len() == 1, "{missed:?}");
        assert!(
            missed[0].contains(r#""offset":7,"subscribed":true,"recovered":false"#),
            "{missed:?}"
        );
    }
}

/// The registry with other bounds for histories.
fn bounded(history: usize, idle_topics: usize) -> Arc<Registry> {
    let registry = registry();
    let rules = registry.rules.load_full();
    let limits = Limits {
        history,
        idle_topics,
        ..rules.limits.clone()
    };
    registry.change(limits, rules.kept.clone());
    registry
}

/// Whether somebody who has seen nothing but the beginning gets this many messages.
fn keeps(registry: &Arc<Registry>, topic: &str, begin: &Position) -> Option<usize> {
    let query = format!("resume={topic}:{}:{}", begin.epoch, begin.offset);
    let (_client, send_queue) = connect_with(registry, "late", &query);
    registry.subscribe("late", topic).unwrap();
    let frames = received(&send_queue);
    frames[0]
        .contains(r#""recovered":true"#)
        .then_some(frames.len() - 1)
}

#[test]
fn who_holds_most_gives_way_and_not_who_publishes() {
    let registry = bounded(30_000, 100);
    let first = publish(&registry, "kept.quiet", "x").position.unwrap();
    for _ in 0..3 {
        publish(&registry, "kept.quiet", "x");
    }
    for n in 0..200 {
        // It keeps no more than five messages, so that the others could.
        publish(&registry, &format!("kept.loud.{}", n % 10), &"x".repeat(900));
        assert!(registry.history_bytes() <= 30_000, "{}", registry.history_bytes());
    }
    assert_eq!(keeps(&registry, "kept.quiet", &first), Some(3));
    assert!(registry.history_bytes() > 20_000, "{}", registry.history_bytes());
    assert!(registry.take_history_losses().0 > 0);
    // Each of the loud ones has its share.
    let last = publish(&registry, "kept.loud.3", "x").position.unwrap();
    let before = Position {
        offset: last.offset - 1,
        ..last
    };
    assert_eq!(keeps(&registry, "kept.loud.3", &before), Some(1));
    registry.expire(Instant::now() + FOREVER);
    assert_eq!((registry.history_bytes(), registry.topic_count()), (0, 0));
}

#[test]
fn topics_without_subscribers_go_when_they_are_too_many_the_one_unused_for_longest_first() {
    let registry = bounded(usize::MAX, 10);
    let used = publish(&registry, "kept.used", "x").position.unwrap();
    let unused = publish(&registry, "kept.unused", "x").position.unwrap();
    let (client, _queue) = connect(&registry, "a");
    registry.subscribe("a", "kept.busy").unwrap();
    for n in 0..1000 {
        publish(&registry, &format!("kept.{n}"), "x");
        publish(&registry, "kept.used", "x");
        assert!(registry.idle_topic_count() <= 10);
        assert!(registry.topic_count() <= 11);
        // They count, too, when they never had a message.
        registry.subscribe("a", &format!("kept.empty.{n}")).unwrap();
        registry.unsubscribe("a", &format!("kept.empty.{n}")).unwrap();
    }
    assert!(registry.topics_of("a").contains(&"kept.busy".to_owned()));
    assert!(registry.take_history_losses().1 > 1900);
    let recent = Position { offset: 997, ..used };
    assert_eq!(keeps(&registry, "kept.used", &recent), Some(4));
    assert_eq!(keeps(&registry, "kept.unused", &unused), None);
    drop(client);
    registry.expire(Instant::now() + FOREVER);
    assert_eq!((registry.history_bytes(), registry.topic_count()), (0, 0));
    assert_eq!(registry.idle_topic_count(), 0);
}

/// Empty topics must not leave messages no room.
#[test]
fn topics_without_subscribers_take_no_more_than_half() {
    let registry = bounded(100_000, usize::MAX);
    let (_client, _queue) = connect(&registry, "a");
    registry.subscribe("a", "kept.mine").unwrap();
    let first = publish(&registry, "kept.mine", &"x".repeat(900))
        .position
        .unwrap();
    for n in 0..1000 {
        publish(&registry, &format!("kept.{n}"), "");
        assert!(registry.history_bytes() <= 100_000);
        if n % 100 == 0 {
            publish(&registry, "kept.mine", &"x".repeat(900));
        }
    }
    let recent = Position { offset: 7, ..first };
    assert_eq!(keeps(&registry, "kept.mine", &recent), Some(4));
}

/// What a client was left out of does not come when it resumes, whatever its connection is called by then.
#[test]
fn who_was_left_out_stays_left_out() {
    let registry = registry();
    let name = |frames: &[String]| {
        let first: serde_json::Value = serde_json::from_str(&frames[0]).unwrap();
        first["client"].as_str().unwrap().to_owned()
    };
    let data = |frames: &[String]| {
        let data = frames.iter().filter_map(|frame| frame.split_once(r#""data":""#));
        data.map(|(_, data)| data.trim_end_matches("\"}").to_owned())
            .collect::<Vec<_>>()
    };
    let (_other, other_queue) = connect(&registry, "other");
    registry.subscribe("other", "kept.1").unwrap();
    let (first, queue) = connect(&registry, "first");
    registry.subscribe("first", "kept.1").unwrap();
    let frames = received(&queue);
    let called = name(&frames);
    assert_ne!(called, name(&received(&other_queue)));
    let epoch = publish(&registry, "kept.1", "seen").position.unwrap().epoch;
    assert_eq!(data(&received(&queue)), ["seen"]);
    let publish_except = |message: &str, id: &str, sender: Option<&Connection>| {
        let except = [id.to_owned()];
        published(
            registry
                .publish("kept.1", &text(message), &except, sender)
                .unwrap(),
        )
    };
    publish_except("own", "first", None);
    let connection = first.entry.connection.clone();
    drop(first);
    // Its last message was still being handled.
    publish_except("own, late", "first", Some(&connection));
    publish_except("of another", "other", Some(&connection));

    // It comes back twice, without having seen anything new meanwhile.
    let query = format!("resume=kept.1:{epoch}:1&resume-as={called}");
    let (second, queue) = connect_with(&registry, "second", &query);
    publish_except("own again", "second", None);
    registry.subscribe("second", "kept.1").unwrap();
    let frames = received(&queue);
    assert_eq!(name(&frames), called);
    assert_eq!(data(&frames), ["of another"]);
    drop(second);
    let (_third, queue) = connect_with(&registry, "third", &query);
    registry.subscribe("third", "kept.1").unwrap();
    assert_eq!(data(&received(&queue)), ["of another"]);
    // Others get everything.
    let (_fourth, queue) = connect_with(&registry, "fourth", &format!("resume=kept.1:{epoch}:1"));
    registry.subscribe("fourth", "kept.1").unwrap();
    assert_eq!(data(&received(&queue)).len(), 4);
}

#[test]
fn a_long_name_is_held_once_for_all_subscriptions() {
    let registry = registry();
    let (client, _queue) = connect(&registry, "a");
    registry.set_attribute("a", "user", Some("ann")).unwrap();
    for topic in ["1", "2", "3"] {
        registry.subscribe("a", topic).unwrap();
    }
    let memberships = lock(&client.entry.memberships);
    let names: Vec<_> = memberships
        .topics
        .iter()
        .map(|one| one.subscriber.member.clone().unwrap())
        .collect();
    assert!(names.iter().all(|name| Arc::ptr_eq(name, &names[0])));
}

#[derive(Clone, Debug)]
enum Step {
    Connect(usize),
    Name(usize, bool),
    Subscribe(usize, usize),
    Unsubscribe(usize, usize),
    Publish(usize),
    Close(usize),
    Expire,
}

const TOPICS: [&str; 5] = ["a", "b", "kept.1", "a:presence", "kept.2"];

fn step() -> impl Strategy<Value = Step> {
    let (client, topic) = (0..4usize, 0..TOPICS.len());
    prop_oneof![
        2 => client.clone().prop_map(Step::Connect),
        1 => (client.clone(), any::<bool>()).prop_map(|(c, named)| Step::Name(c, named)),
        4 => (client.clone(), topic.clone()).prop_map(|(c, t)| Step::Subscribe(c, t)),
        2 => (client.clone(), topic.clone()).prop_map(|(c, t)| Step::Unsubscribe(c, t)),
        3 => topic.prop_map(Step::Publish),
        2 => client.prop_map(Step::Close),
        1 => Just(Step::Expire),
    ]
}

/// Nothing is left: no topic, no subscriber, no byte, and nobody holds a connection any more.
fn assert_nothing_is_left(registry: &Registry, connections: &[Arc<Connection>]) {
    registry.expire(Instant::now() + FOREVER);
    assert_eq!(registry.count(), 0);
    assert_eq!(registry.topic_count(), 0);
    assert_eq!(registry.history_bytes(), 0);
    assert_eq!(registry.idle_topic_count(), 0);
    for connection in connections {
        assert_eq!(
            Arc::strong_count(connection),
            1,
            "{} is still held",
            connection.id
        );
    }
}

proptest! {
    #[test]
    fn any_order_of_steps_agrees_with_the_model_and_leaves_nothing(steps in prop::collection::vec(step(), 0..80)) {
        let registry = bounded(2_000, 1);
        let mut clients: BTreeMap<usize, Registration> = BTreeMap::new();
        let mut model: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        let mut connections = Vec::new();
        for step in steps {
            match step {
                Step::Connect(c) => {
                    // A connection that takes the name of one that is still there is another matter.
                    clients.remove(&c);
                    let (registration, _) = connect(&registry, &c.to_string());
                    connections.push(registration.entry.connection.clone());
                    clients.insert(c, registration);
                    model.insert(c, BTreeSet::new());
                }
                Step::Name(c, named) => {
                    let _ = registry.set_attribute(&c.to_string(), "user", named.then_some("ann"));
                }
                Step::Subscribe(c, t) => {
                    let result = registry.subscribe(&c.to_string(), TOPICS[t]).map(drop);
                    match model.get_mut(&c) {
                        None => prop_assert_eq!(result, Err(SendError::NotFound)),
                        Some(topics) if topics.len() == 3 && !topics.contains(&t) => {
                            prop_assert_eq!(result, Err(SendError::Topics));
                        }
                        Some(topics) => {
                            prop_assert_eq!(result, Ok(()));
                            topics.insert(t);
                        }
                    }
                }
                Step::Unsubscribe(c, t) => {
                    let _ = registry.unsubscribe(&c.to_string(), TOPICS[t]);
                    if let Some(topics) = model.get_mut(&c) {
                        topics.remove(&t);
                    }
                }
                Step::Publish(t) => {
                    let expected = model.values().filter(|topics| topics.contains(&t)).count();
                    prop_assert_eq!(publish(&registry, TOPICS[t], "x").recipients, expected);
                }
                Step::Close(c) => {
                    clients.remove(&c);
                    model.remove(&c);
                }
                Step::Expire => registry.expire(Instant::now()),
            }
            prop_assert_eq!(registry.count(), model.len());
            prop_assert!(registry.idle_topic_count() <= 1);
            for (t, name) in TOPICS.iter().enumerate() {
                let expected = model.values().filter(|topics| topics.contains(&t)).count();
                prop_assert_eq!(registry.subscriber_count(name), expected);
                let members: usize = registry.members(name, usize::MAX).iter().map(|(_, n)| n).sum();
                prop_assert_eq!(members, expected);
            }
        }
        clients.clear();
        assert_nothing_is_left(&registry, &connections);
    }
}

#[test]
fn threads_that_all_do_everything_leave_nothing() {
    let registry = bounded(2_000, 1);
    let connections: Mutex<Vec<Arc<Connection>>> = Mutex::default();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (registry, connections) = (&registry, &connections);
            scope.spawn(move || {
                for n in 0..2_000 {
                    let id = format!("{thread}-{}", n % 3);
                    let (registration, send_queue) = connect(registry, &id);
                    lock(connections).push(registration.entry.connection.clone());
                    let topic = TOPICS[fastrand::usize(..TOPICS.len())];
                    // Others may have filled its topics meanwhile.
                    let subscribed = registry.subscribe(&id, topic).map(drop);
                    assert!(
                        matches!(subscribed, Ok(()) | Err(SendError::Topics)),
                        "{subscribed:?}"
                    );
                    // Others leave and end the topics that this one joins and publishes to.
                    let other = format!("{}-{}", (thread + 1) % 4, n % 3);
                    let _ = registry.subscribe(&other, topic);
                    publish(registry, topic, "x");
                    if n % 2 == 0 {
                        let _ = registry.unsubscribe(&other, topic);
                    }
                    registry.expire(Instant::now());
                    drop((registration, send_queue));
                }
            });
        }
    });
    assert_nothing_is_left(&registry, &lock(&connections));
}
