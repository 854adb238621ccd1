use proptest::prelude::*;

use super::*;

fn flow(name: u8) -> Flow {
    Flow::Connection(name.to_string().as_str().into(), [127, 0, 0, 1].into())
}

/// A queue whose only slot is taken, with these requests waiting; each is named by its flow and what follows.
fn queue(max_waiting: usize, waiting: &[(u8, &'static str)]) -> Queue<&'static str> {
    let mut queue = Queue::new(1, max_waiting);
    assert!(queue.try_enter());
    for &(name, request) in waiting {
        assert_eq!(
            queue.wait(flow(name), request).map(|(_, displaced)| displaced),
            Some(None)
        );
    }
    queue
}

#[test]
fn slots_are_taken_without_waiting_while_there_are_any() {
    let mut queue = Queue::<()>::new(2, 0);
    assert!(queue.try_enter() && queue.try_enter() && !queue.try_enter());
    assert_eq!(queue.wait(flow(1), ()), None);
    assert_eq!(queue.leave(), None);
    assert!(queue.try_enter());
}

#[test]
fn flows_take_turns() {
    let mut queue = queue(
        9,
        &[(1, "a1"), (1, "a2"), (1, "a3"), (2, "b1"), (3, "c1"), (3, "c2")],
    );
    let order: Vec<_> = std::iter::from_fn(|| queue.leave()).collect();
    assert_eq!(order, ["a1", "b1", "c1", "a2", "c2", "a3"]);
    assert_eq!((queue.under_way(), queue.waiting()), (0, 0));
}

#[test]
fn who_has_most_waiting_makes_room() {
    let noisy = [(1, "a1"), (1, "a2"), (1, "a3")];
    // The bound, the flow of what comes, whether it may, what goes for it, and what is left.
    for (max_waiting, name, may, displaced, left) in [
        (3, 2, true, Some("a3"), "a1 new a2"),
        (3, 1, false, None, "a1 a2 a3"),
        (4, 1, true, None, "a1 a2 a3 new"),
        (4, 2, true, None, "a1 new a2 a3"),
    ] {
        let mut queue = queue(max_waiting, &noisy);
        let entry = queue.wait(flow(name), "new");
        assert_eq!(entry.is_some(), may);
        assert_eq!(entry.and_then(|(_, displaced)| displaced), displaced);
        let order: Vec<_> = std::iter::from_fn(|| queue.leave()).collect();
        assert_eq!(order.join(" "), left);
    }
}

#[test]
fn among_equals_who_comes_last_is_refused() {
    let mut queue = queue(3, &[(1, "a1"), (1, "a2"), (2, "b1")]);
    assert_eq!(queue.wait(flow(2), "b2"), None);
    assert_eq!(
        queue.wait(flow(3), "c1").map(|(_, displaced)| displaced),
        Some(Some("a2"))
    );
    assert_eq!(queue.wait(flow(4), "d1"), None);
}

#[test]
fn who_gives_up_leaves_no_trace() {
    let mut queue = queue(9, &[(1, "a1")]);
    let (a2, _) = queue.wait(flow(1), "a2").unwrap();
    let (b1, _) = queue.wait(flow(2), "b1").unwrap();
    assert!(queue.cancel(&a2) && !queue.cancel(&a2));
    assert!(queue.cancel(&b1));
    assert_eq!(queue.waiting(), 1);
    assert_eq!((queue.leave(), queue.leave()), (Some("a1"), None));
    assert!(queue.flows.is_empty() && queue.round.is_empty() && queue.sizes.is_empty());
}

#[test]
fn all_can_be_sent_away() {
    let mut queue = queue(9, &[(1, "a1"), (1, "a2"), (2, "b1")]);
    let mut all = queue.drain();
    all.sort_unstable();
    assert_eq!(all, ["a1", "a2", "b1"]);
    assert_eq!((queue.waiting(), queue.under_way(), queue.leave()), (0, 1, None));
}

#[derive(Clone, Debug)]
enum Step {
    Come(u8),
    Leave,
    GiveUp(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..5).prop_map(Step::Come),
        2 => Just(Step::Leave),
        1 => (0usize..20).prop_map(Step::GiveUp),
    ]
}

proptest! {
    /// Against a plain list: bounds hold, requests of a flow stay in order, none is lost or served twice, and who is
    /// refused for somebody else is the newest of a flow that has most.
    #[test]
    fn a_queue_is_bounded_fair_and_loses_nothing(
        slots in 1usize..4,
        max_waiting in 0usize..8,
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let mut queue = Queue::new(slots, max_waiting);
        let mut list: Vec<(u8, usize, WaiterId)> = Vec::new();
        // How often each flow was served since it began to wait without a break.
        let mut served = [None::<usize>; 5];
        for (number, step) in steps.into_iter().enumerate() {
            let size = |list: &[(u8, usize, WaiterId)], name| list.iter().filter(|(n, ..)| *n == name).count();
            match step {
                Step::Come(_) if queue.try_enter() => prop_assert!(list.is_empty()),
                Step::Come(name) => {
                    let most = (0..5).map(|name| size(&list, name)).max().unwrap();
                    match queue.wait(flow(name), (name, number)) {
                        None => prop_assert!(list.len() == max_waiting && size(&list, name) + 1 >= most),
                        Some((id, None)) => list.push((name, number, id)),
                        Some((id, Some((other, newest)))) => {
                            prop_assert!(list.len() == max_waiting && size(&list, name) + 1 < most);
                            prop_assert_eq!(size(&list, other), most);
                            let last = list.iter().rposition(|(n, ..)| *n == other).unwrap();
                            prop_assert_eq!(list.remove(last).1, newest);
                            list.push((name, number, id));
                        }
                    }
                }
                Step::Leave => match queue.leave() {
                    None => prop_assert!(list.is_empty()),
                    Some((name, oldest)) => {
                        let first = list.iter().position(|(n, ..)| *n == name).unwrap();
                        prop_assert_eq!(list.remove(first).1, oldest);
                        served[usize::from(name)] = served[usize::from(name)].map(|times| times + 1);
                    }
                },
                Step::GiveUp(which) if !list.is_empty() => {
                    let (.., id) = list.remove(which % list.len());
                    prop_assert!(queue.cancel(&id));
                }
                Step::GiveUp(_) => {}
            }
            for name in 0..5 {
                let times = &mut served[usize::from(name)];
                match size(&list, name) {
                    0 => *times = None,
                    // Who comes into the round counts from where the others are.
                    _ if times.is_none() => {
                        served = served.map(|times| times.map(|_| 0));
                        served[usize::from(name)] = Some(0);
                    }
                    _ => {}
                }
            }
            let waiting: Vec<_> = served.iter().flatten().collect();
            if let (Some(least), Some(most)) = (waiting.iter().min(), waiting.iter().max()) {
                prop_assert!(**most - **least <= 1, "{served:?}");
            }
            prop_assert!(queue.under_way() <= slots && queue.waiting() <= max_waiting);
            prop_assert!(list.is_empty() || queue.under_way() == slots);
            prop_assert_eq!(queue.waiting(), list.len());
        }
    }
}
