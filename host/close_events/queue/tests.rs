use std::time::Duration;

use super::*;

const WIDE: Bounds = Bounds {
    entries: 1000,
    bytes: 1000,
};

fn entry(upstream: usize, client: u8, item: u32) -> Entry<u32> {
    Entry {
        upstream,
        network: [192, 0, 2, client].into(),
        bytes: 10,
        item,
    }
}

fn filled(entries: impl IntoIterator<Item = (usize, u8, u32)>) -> Queue<u32> {
    let mut queue = Queue::default();
    for (upstream, client, item) in entries {
        assert!(queue.add(entry(upstream, client, item), WIDE).is_empty());
    }
    queue
}

/// Those that can be taken without any of them being done.
fn take(queue: &mut Queue<u32>, now: Instant) -> Vec<u32> {
    std::iter::from_fn(|| queue.next(now).ok())
        .map(|entry| entry.item)
        .collect()
}

#[test]
fn clients_take_turns_however_many_events_they_have() {
    let mut queue = filled([(0, 1, 1), (0, 1, 2), (0, 1, 3), (0, 2, 4), (0, 3, 5), (0, 2, 6)]);
    let now = Instant::now();
    let mut order = Vec::new();
    while let Ok(entry) = queue.next(now) {
        order.push(entry.item);
        queue.done(entry.upstream, entry.bytes);
    }
    assert_eq!(order, [1, 4, 5, 2, 6, 3]);
    assert_eq!((queue.waiting(), queue.bytes), (0, 0));
}

#[test]
fn an_upstream_that_does_not_answer_holds_up_its_own_events_only() {
    let hanging = (0..10).map(|n| (0, 1, n));
    let mut queue = filled(hanging.chain([(1, 1, 100), (1, 1, 101)]));
    let now = Instant::now();
    let taken = take(&mut queue, now);
    assert_eq!(taken, [0, 100, 1, 101, 2, 3], "four of the one, all of the other");
    queue.done(0, 10);
    assert_eq!(take(&mut queue, now), [4]);
}

#[test]
fn what_is_sent_again_waits_until_it_is_due() {
    let mut queue = filled([(0, 1, 1)]);
    let now = Instant::now();
    let due = now + Duration::from_secs(1);
    let again = queue.next(now).ok().unwrap();
    queue.add_again(again, due);
    assert_eq!(queue.waiting(), 1);
    assert_eq!(queue.next(now).err(), Some(Some(due)));
    assert_eq!(take(&mut queue, due), [1]);
    assert_eq!(queue.next(due).err(), Some(None));
}

#[test]
fn who_has_the_most_makes_room() {
    let few = Bounds {
        entries: 3,
        bytes: 1000,
    };
    let mut queue = filled([(0, 1, 1), (0, 1, 2), (0, 1, 3)]);
    assert_eq!(queue.add(entry(0, 1, 4), few), [(4, "max-waiting")]);
    assert_eq!(queue.add(entry(0, 2, 5), few), [(3, "max-waiting")]);
    assert_eq!(
        queue.add(entry(0, 2, 6), few),
        [(6, "max-waiting")],
        "they have as many"
    );
    assert_eq!(queue.waiting(), 3);

    let little = Bounds {
        entries: 1000,
        bytes: 30,
    };
    let mut queue = filled([(0, 1, 1), (0, 1, 2), (0, 1, 3)]);
    let large = Entry {
        bytes: 20,
        ..entry(0, 2, 4)
    };
    assert_eq!(queue.add(large, little), [(3, "max-bytes"), (2, "max-bytes")]);
    assert_eq!(queue.bytes, 30);
}

/// While PHP is down all of them have been tried.
#[test]
fn what_is_to_be_sent_again_makes_room_too() {
    let few = Bounds {
        entries: 3,
        bytes: 1000,
    };
    let mut queue = filled([(0, 1, 1), (0, 1, 2), (0, 1, 3)]);
    let now = Instant::now();
    let due = now + Duration::from_secs(1);
    for _ in 0..3 {
        let again = queue.next(now).ok().unwrap();
        queue.add_again(again, due);
    }
    assert_eq!(queue.add(entry(0, 2, 4), few), [(3, "max-waiting")]);
    assert_eq!(take(&mut queue, due), [4, 1, 2]);
}
