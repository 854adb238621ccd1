use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// Class, network and connection.
type Path = [u8; 3];

const CLASSES: [Class; 3] = [Class::Close, Class::Message, Class::Handshake];

fn flow([class, network, connection]: Path) -> Flow {
    Flow {
        class: CLASSES[usize::from(class)],
        network: Some([192, 0, 2, network].into()),
        connection: Some(connection.to_string().as_str().into()),
    }
}

/// A message of this connection.
fn message(network: u8, connection: u8) -> Path {
    [1, network, connection]
}

fn handshake(network: u8, connection: u8) -> Path {
    [2, network, connection]
}

fn push(queue: &mut FairQueue<&'static str>, path: Path, item: &'static str) -> Option<&'static str> {
    match queue.push(flow(path), item, path[0] != 0) {
        Ok((_, displaced)) => displaced,
        Err(item) => Some(item),
    }
}

fn filled(limit: usize, waiting: &[(Path, &'static str)]) -> FairQueue<&'static str> {
    let mut queue = FairQueue::new(limit);
    for &(path, item) in waiting {
        assert_eq!(push(&mut queue, path, item), None);
    }
    queue
}

fn emptied(mut queue: FairQueue<&'static str>) -> String {
    let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
    assert!(queue.len() == 0 && queue.classes.is_empty() && queue.classes.size() == 0);
    order.join(" ")
}

#[test]
fn connections_take_turns() {
    let [a, b, c] = [1, 2, 3].map(|connection| message(1, connection));
    let waiting = [(a, "a1"), (a, "a2"), (a, "a3"), (b, "b1"), (c, "c1"), (c, "c2")];
    assert_eq!(emptied(filled(9, &waiting)), "a1 b1 c1 a2 c2 a3");
}

#[test]
fn a_network_has_one_turn_however_many_connections_it_has() {
    let many = [(1, "a1"), (2, "b1"), (3, "c1")].map(|(connection, item)| (message(1, connection), item));
    let one = [(message(2, 9), "d1"), (message(2, 9), "d2")];
    assert_eq!(emptied(filled(9, &[&many[..], &one].concat())), "a1 d1 b1 d2 c1");
}

#[test]
fn handshakes_and_close_events_hold_up_no_message_of_the_same_client() {
    let flood = [1, 2, 3].map(|connection| (handshake(1, connection), "open"));
    let gone = [4, 5].map(|connection| ([0, 1, connection], "close"));
    let rest = [(message(1, 6), "m1"), (message(1, 6), "m2")];
    let waiting = [&flood[..], &gone, &rest].concat();
    assert_eq!(emptied(filled(9, &waiting)), "open close m1 open close m2 open");
}

#[test]
fn who_has_most_waiting_makes_room() {
    let noisy = [(1, "a1"), (1, "a2"), (2, "b1"), (2, "b2"), (2, "b3")];
    let noisy = noisy.map(|(connection, item)| (message(1, connection), item));
    // What comes, what is refused for it, and what is left.
    for (path, refused, left) in [
        (message(2, 9), Some("b3"), "a1 new b1 a2 b2"),
        (handshake(1, 9), Some("b3"), "a1 new b1 a2 b2"),
        (message(1, 3), Some("b3"), "a1 b1 new a2 b2"),
        (message(1, 1), Some("new"), "a1 b1 a2 b2 b3"),
        (message(1, 2), Some("new"), "a1 b1 a2 b2 b3"),
        ([0, 1, 1], None, "a1 new b1 a2 b2 b3"),
    ] {
        let mut queue = filled(5, &noisy);
        assert_eq!(push(&mut queue, path, "new"), refused, "{path:?}");
        assert_eq!(emptied(queue), left, "{path:?}");
    }
}

#[test]
fn the_newest_of_many_connections_makes_room() {
    let flood = [(1, "o1"), (2, "o2"), (3, "o3")].map(|(connection, item)| (handshake(1, connection), item));
    let mut queue = filled(3, &flood);
    assert_eq!(push(&mut queue, handshake(1, 4), "o4"), Some("o4"));
    assert_eq!(push(&mut queue, message(1, 5), "m1"), Some("o3"));
    assert_eq!(push(&mut queue, handshake(2, 6), "p1"), Some("o2"));
    assert_eq!(
        push(&mut queue, handshake(3, 7), "q1"),
        Some("q1"),
        "each has one"
    );
    assert_eq!(emptied(queue), "o1 m1 p1");
}

#[test]
fn what_must_not_be_refused_takes_nobody_s_place() {
    let mut queue = filled(1, &[([0, 1, 1], "c1"), ([0, 1, 1], "c2"), (message(1, 1), "m1")]);
    assert_eq!(push(&mut queue, message(2, 2), "m2"), Some("m2"), "each has one");
    assert_eq!(push(&mut queue, [0, 1, 1], "c3"), None);
    assert_eq!(emptied(queue), "c1 m1 c2 c3");
}

#[test]
fn who_gives_up_leaves_no_trace() {
    let mut queue = filled(9, &[(message(1, 1), "a1")]);
    let (a2, _) = queue.push(flow(message(1, 1)), "a2", true).unwrap();
    let (b1, _) = queue.push(flow(message(2, 2)), "b1", false).unwrap();
    assert_eq!((queue.remove(&a2), queue.remove(&a2)), (Some("a2"), None));
    assert_eq!((queue.remove(&b1), queue.len()), (Some("b1"), 1));
    assert_eq!(emptied(queue), "a1");
}

#[derive(Clone, Debug)]
enum Step {
    Come(Path, bool),
    Leave,
    GiveUp(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => ((0u8..3, 0u8..3, 0u8..3), prop::bool::weighted(0.8))
            .prop_map(|((class, network, connection), is_refusable)| Step::Come([class, network, connection], is_refusable)),
        2 => Just(Step::Leave),
        1 => (0usize..20).prop_map(Step::GiveUp),
    ]
}

struct Waits {
    path: Path,
    number: usize,
    is_refusable: bool,
    id: RequestId,
}

/// The same queue as a plain list, oldest first.
#[derive(Default)]
struct List(Vec<Waits>);

impl List {
    /// How many of them may be refused.
    fn size(&self, prefix: &[u8]) -> usize {
        let of_prefix = |one: &&Waits| one.is_refusable && one.path.starts_with(prefix);
        self.0.iter().filter(of_prefix).count()
    }

    /// The most that a path of this length has which begins with this.
    fn most(&self, prefix: &[u8], length: usize) -> usize {
        let paths = self.0.iter().filter(|one| one.path.starts_with(prefix));
        paths.map(|one| self.size(&one.path[..length])).max().unwrap_or(0)
    }

    /// Those that may have to make room for a new one of this path.
    fn may_make_room(&self, path: Path) -> Vec<usize> {
        let most = self.most(&[], 2);
        let (network, is_elsewhere) = (&path[..2], most > self.size(&path[..2]) + 1);
        let has_most = |one: &Path| {
            let is_of_network = if is_elsewhere {
                self.size(&one[..2]) == most
            } else {
                one[..2] == *network && self.size(one) > self.size(&path) + 1
            };
            is_of_network && self.size(one) == self.most(&one[..2], 3)
        };
        let newest = |path: &Path| self.0.iter().rfind(|one| one.is_refusable && one.path == *path);
        let paths: BTreeSet<_> = self.0.iter().map(|one| one.path).filter(has_most).collect();
        paths.iter().filter_map(newest).map(|one| one.number).collect()
    }

    fn take(&mut self, number: usize) -> Option<Waits> {
        let place = self.0.iter().position(|one| one.number == number)?;
        Some(self.0.remove(place))
    }
}

/// How often each class, network and connection was served since it began to wait without a break, or since somebody came
/// beside it.
#[derive(Default)]
struct Served(BTreeMap<Vec<u8>, usize>);

impl Served {
    fn count(&mut self, path: Path) {
        for length in 1..=3 {
            *self.0.entry(path[..length].to_vec()).or_default() += 1;
        }
    }

    fn look(&mut self, list: &List) {
        self.0
            .retain(|prefix, _| list.0.iter().any(|one| one.path.starts_with(prefix)));
        for one in &list.0 {
            for length in 1..=3 {
                if !self.0.contains_key(&one.path[..length]) {
                    for (_, times) in self.beside(&one.path[..length]) {
                        *times = 0;
                    }
                    self.0.insert(one.path[..length].to_vec(), 0);
                }
            }
        }
    }

    /// Those that take turns with this one, itself included.
    fn beside<'a>(&'a mut self, prefix: &'a [u8]) -> impl Iterator<Item = (&'a Vec<u8>, &'a mut usize)> {
        let parent = &prefix[..prefix.len() - 1];
        self.0
            .iter_mut()
            .filter(move |(other, _)| other.len() == prefix.len() && other.starts_with(parent))
    }

    fn is_fair(&mut self) -> bool {
        let prefixes: Vec<_> = self.0.keys().cloned().collect();
        prefixes.iter().all(|prefix| {
            let times: Vec<_> = self.beside(prefix).map(|(_, times)| *times).collect();
            times
                .iter()
                .max()
                .zip(times.iter().min())
                .is_none_or(|(most, least)| most - least <= 1)
        })
    }
}

proptest! {
    /// Against a plain list: the bound holds, requests of a connection stay in order, none is lost or served twice, each
    /// level takes turns, and who is refused for somebody else is the newest of those that have most.
    #[test]
    fn a_queue_is_bounded_fair_and_loses_nothing(
        limit in 0usize..12,
        steps in prop::collection::vec(step(), 0..300),
    ) {
        let mut queue = FairQueue::new(limit);
        let (mut list, mut served) = (List::default(), Served::default());
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Come(path, is_refusable) => {
                    let is_full = is_refusable && list.size(&[]) >= limit;
                    let may_make_room = list.may_make_room(path);
                    match queue.push(flow(path), number, is_refusable) {
                        Err(own) => prop_assert!(own == number && is_full && may_make_room.is_empty()),
                        Ok((id, displaced)) => {
                            prop_assert_eq!(displaced.is_some(), is_full);
                            if let Some(displaced) = displaced {
                                prop_assert!(may_make_room.contains(&displaced));
                                list.take(displaced).unwrap();
                            }
                            list.0.push(Waits { path, number, is_refusable, id });
                        }
                    }
                }
                Step::Leave => match queue.pop() {
                    None => prop_assert!(list.0.is_empty()),
                    Some(number) => {
                        let path = list.0.iter().find(|one| one.number == number).unwrap().path;
                        let oldest = list.0.iter().find(|one| one.path == path).unwrap();
                        prop_assert_eq!(oldest.number, number);
                        list.take(number);
                        served.count(path);
                    }
                },
                Step::GiveUp(which) if !list.0.is_empty() => {
                    let one = list.0.remove(which % list.0.len());
                    prop_assert_eq!(queue.remove(&one.id), Some(one.number));
                    prop_assert_eq!(queue.remove(&one.id), None);
                }
                Step::GiveUp(_) => {}
            }
            served.look(&list);
            prop_assert!(served.is_fair(), "{:?}", served.0);
            prop_assert_eq!(queue.len(), list.0.len());
            prop_assert_eq!(queue.classes.size(), list.size(&[]));
            prop_assert!(queue.classes.size() <= limit);
        }
        prop_assert!(std::iter::from_fn(|| queue.pop()).count() == list.0.len() && queue.classes.is_empty());
    }
}
