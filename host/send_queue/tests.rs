use proptest::prelude::*;

use super::*;
use crate::budget::FREE;

const COST: usize = 64 + 2;

fn text(n: usize) -> Frame {
    Frame::text("x".repeat(n).into())
}

fn publication(n: usize) -> Publication {
    Publication::new(text(n))
}

fn publish(queue: &SendQueue, n: usize, makes_room: bool) -> Result<usize, Refused> {
    queue.publish(&publication(n), makes_room, &AtomicBool::new(true))
}

fn queue(limit: usize) -> SendQueue {
    SendQueue::new(limit, Outgoing::new(usize::MAX))
}

/// Takes as much as there is, in pieces of so many bytes.
fn written(queue: &SendQueue, piece: usize) -> Vec<u8> {
    let mut all = Vec::new();
    let drained = queue.drain(|_, parts| {
        let bytes: Vec<u8> = parts
            .iter()
            .flat_map(|part| part.iter().copied())
            .take(piece)
            .collect();
        all.extend_from_slice(&bytes);
        Poll::Ready(Ok(bytes.len()))
    });
    assert_eq!(drained.unwrap(), (Drained::Empty, all.len()));
    all
}

fn wire(frames: &[Frame]) -> Vec<u8> {
    frames.iter().flat_map(|frame| frame.joined().to_vec()).collect()
}

#[test]
fn nothing_comes_behind_the_close() {
    let queue = queue(1000);
    queue.push(text(1)).unwrap();
    queue.close(1000, "enough");
    queue.close(1001, "again");
    assert_eq!(queue.push(text(1)), Err(Refused::Closed));
    assert_eq!(publish(&queue, 1, true), Err(Refused::Closed));
    let (_, ending) = queue.take_requests();
    assert_eq!(ending.map(|ending| ending.code), Some(1000));
    // What is being handled is still answered, up to the close frame.
    queue.reply(text(5));
    queue.finish(Frame::close(1000, "enough"));
    queue.reply(text(6));
    assert_eq!(
        written(&queue, 3),
        wire(&[text(1), text(5), Frame::close(1000, "enough")])
    );
}

#[test]
fn a_patient_close_can_be_hurried_and_any_other_is_the_first_one() {
    let queue = queue(1000);
    queue.close_patiently(1001, "later");
    queue.close(1000, "too late");
    assert!(queue.take_requests().1.unwrap().is_patient);
    queue.hurry(1001, "now");
    assert!(!queue.take_requests().1.unwrap().is_patient);
}

#[test]
fn what_was_published_makes_room_oldest_first_and_what_was_sent_does_not() {
    let queue = queue(3 * COST + 100);
    publish(&queue, 20, false).unwrap();
    queue.push(text(20)).unwrap();
    publish(&queue, 30, false).unwrap();
    assert_eq!(publish(&queue, 40, false), Err(Refused::Full));
    assert_eq!(publish(&queue, 40, true), Ok(1));
    assert_eq!(publish(&queue, 130, true), Ok(2));
    assert_eq!(
        publish(&queue, 350, true),
        Err(Refused::Full),
        "the message of its own stays"
    );
    let kept = [text(20), text(130)];
    assert_eq!(
        written(&queue, usize::MAX),
        wire(&kept),
        "and nothing goes for what cannot fit"
    );
}

/// A client must not have a gap that it does not know of.
#[test]
fn what_a_topic_with_a_history_publishes_stays_and_others_make_room_for_it() {
    let queue = queue(3 * COST + 100);
    let publish_kept = |n| queue.publish(&Publication::kept(text(n)), true, &AtomicBool::new(true));
    assert_eq!(publish_kept(20), Ok(0));
    publish(&queue, 30, true).unwrap();
    publish(&queue, 40, true).unwrap();
    assert_eq!(publish_kept(40), Ok(1));
    assert_eq!(publish(&queue, 30, true), Ok(1));
    assert_eq!(publish_kept(20), Ok(1));
    assert_eq!(publish(&queue, 90, true), Err(Refused::Full));
    assert_eq!(publish_kept(90), Err(Refused::Full));
    let kept = [text(20), text(40), text(20)];
    assert_eq!(written(&queue, usize::MAX), wire(&kept));
}

#[test]
fn a_subscription_that_has_ended_is_sent_nothing() {
    let queue = queue(1000);
    let is_active = AtomicBool::new(true);
    queue.deactivate(&is_active);
    assert_eq!(
        queue.publish(&publication(1), false, &is_active),
        Err(Refused::Closed)
    );
    assert_eq!(queue.bytes(), 0);
}

#[test]
fn control_frames_pass_what_waits_and_only_the_newest_pong_is_kept() {
    let queue = queue(10_000);
    for n in 0..100 {
        queue.pong(vec![n].into());
    }
    assert_eq!(queue.bytes(), 0);
    queue.push(text(200)).unwrap();
    // A frame that is half written is not interrupted.
    let mut half = Vec::new();
    let mut pieces = 0;
    let drained = queue.drain(|_, parts| {
        pieces += 1;
        if pieces > 2 {
            return Poll::Pending;
        }
        let bytes: Vec<u8> = parts
            .iter()
            .flat_map(|part| part.iter().copied())
            .take(50)
            .collect();
        half.extend_from_slice(&bytes);
        Poll::Ready(Ok(bytes.len()))
    });
    assert_eq!(drained.unwrap(), (Drained::Blocked, half.len()));
    queue.push(text(1)).unwrap();
    queue.ping();
    queue.pong(vec![7].into());
    half.extend(written(&queue, 9));
    let expected = [
        Frame::pong(vec![99].into()),
        text(200),
        Frame::pong(vec![7].into()),
        Frame::ping(Bytes::new()),
        text(1),
    ];
    assert_eq!(half, wire(&expected));
}

#[test]
fn an_abort_leaves_the_frame_that_is_half_written() {
    let outgoing = Outgoing::new(usize::MAX);
    let queue = SendQueue::new(usize::MAX, outgoing.clone());
    for n in [9000, 9001, 9002] {
        queue.push(text(n)).unwrap();
    }
    let mut first = true;
    queue
        .drain(|_, _| match std::mem::take(&mut first) {
            true => Poll::Ready(Ok(10)),
            false => Poll::Pending,
        })
        .unwrap();
    queue.abort(1008, "too slow");
    assert!(outgoing.budget.used() < 9100);
    queue.finish(Frame::close(1008, "too slow"));
    let expected = wire(&[text(9000), Frame::close(1008, "too slow")]);
    assert_eq!(written(&queue, usize::MAX), expected[10..]);
    assert_eq!(outgoing.budget.used(), 0);
}

#[test]
fn all_queues_together_are_bounded_beyond_what_is_free() {
    let outgoing = Outgoing::new(10_000);
    let queues = [(); 3].map(|()| SendQueue::new(100_000, outgoing.clone()));
    assert_eq!(queues[0].push(text(FREE - 100)), Ok(()));
    assert_eq!(outgoing.budget.used(), 0);
    assert_eq!(queues[0].push(text(6_000)), Ok(()));
    assert_eq!(queues[1].push(text(FREE + 3_000)), Ok(()));
    assert_eq!(
        queues[1].push(text(2_000)),
        Err(Refused::Full),
        "together they would be over"
    );
    assert_eq!(
        queues[2].push(text(1_000)),
        Ok(()),
        "a modest one is not disturbed"
    );
    written(&queues[0], usize::MAX);
    assert_eq!(queues[1].push(text(2_000)), Ok(()));
    queues[2].reply(text(20_000));
    assert!(
        outgoing.budget.excess() > 0,
        "an answer is taken, and somebody must make room"
    );
    drop(queues);
    assert_eq!(outgoing.budget.used(), 0);
}

#[test]
fn who_agreed_on_compression_gets_it_and_all_share_one() {
    let queue = queue(usize::MAX);
    let compression = Compression {
        window: Window::Full,
        threshold: 100,
    };
    queue.attach(None, Some(compression), false);
    let large = text(1000);
    queue.push(large.clone()).unwrap();
    publish(&queue, 1000, false).unwrap();
    queue.push(text(99)).unwrap();
    let small = large.deflated(Window::Full).unwrap();
    assert_eq!(
        written(&queue, usize::MAX),
        wire(&[small.clone(), small, text(99)])
    );
}

proptest! {
    #[test]
    fn the_order_holds_and_the_bounds_too(
        sizes in prop::collection::vec(prop::option::of(0usize..6000), 0..60),
        piece in 1usize..20_000,
    ) {
        let outgoing = Outgoing::new(3_000);
        let queue = SendQueue::new(10_000, outgoing.clone());
        let mut expected = Vec::new();
        let mut seen = Vec::new();
        for size in sizes {
            match size {
                Some(n) => {
                    let bytes = queue.bytes();
                    let cost = cost_of(n);
                    let fits = queue.push(text(n)).is_ok();
                    let own = bytes == 0 || bytes + cost <= 10_000;
                    let all = bytes == 0 || (bytes + cost).saturating_sub(FREE) <= 3_000;
                    prop_assert_eq!(fits, own && all);
                    if fits {
                        expected.extend(wire(&[text(n)]));
                    }
                }
                None => seen.extend(written(&queue, piece)),
            }
            prop_assert_eq!(outgoing.budget.used(), queue.bytes().saturating_sub(FREE));
        }
        seen.extend(written(&queue, piece));
        prop_assert_eq!(seen, expected);
        prop_assert_eq!(outgoing.budget.used(), 0);
    }
}

fn cost_of(n: usize) -> usize {
    state::cost(&text(n))
}
