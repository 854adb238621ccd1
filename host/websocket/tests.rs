//! Both directions, whatever comes; and the same as tungstenite.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::testing::{End, client_frame, compare, read};
use super::*;

const MAX: usize = 66_000;
const RULES: Rules = Rules {
    max_message: MAX,
    inflates: true,
};

#[test]
fn reasons_fit_into_close_frames() {
    let violations = [
        (
            Violation::Protocol("a reserved bit is set"),
            1002,
            "protocol error: a reserved bit is set",
        ),
        (Violation::Utf8, 1007, "the text is not valid UTF-8"),
        (
            Violation::TooLarge { max: 7 },
            1009,
            "the message is over 7 bytes",
        ),
        (Violation::Deflate, 1007, "the compressed message is not valid"),
    ];
    for (violation, code, reason) in violations {
        assert_eq!(violation.close_code(), code);
        assert_eq!(violation.reason(), reason);
    }
}

/// A message as a client sends it: where it is cut into fragments, whether it is compressed, and what is sent in between.
#[derive(Clone, Debug)]
struct Sent {
    data: Data,
    window: Option<Window>,
    cuts: Vec<(Index, Option<Incoming>)>,
    mask: [u8; 4],
}

fn control() -> impl Strategy<Value = Incoming> {
    let payload = || vec(any::<u8>(), 0..=125).prop_map(Bytes::from);
    prop_oneof![
        payload().prop_map(Incoming::Ping),
        payload().prop_map(Incoming::Pong)
    ]
}

fn data() -> impl Strategy<Value = Data> {
    prop_oneof![
        4 => "\\PC{0,200}".prop_map(|text| Data::Text(text.into())),
        3 => vec(any::<u8>(), 0..300).prop_map(|bytes| Data::Binary(bytes.into())),
        1 => (0..MAX).prop_map(|size| Data::Text("é".repeat(size / 2).into())),
    ]
}

prop_compose! {
    fn sent()(
        data in data(),
        window in prop_oneof![Just(None), Just(Some(Window::Full)), Just(Some(Window::Small))],
        cuts in vec((any::<Index>(), proptest::option::of(control())), 0..5),
        mask in any::<[u8; 4]>(),
    ) -> Sent {
        Sent { data, window, cuts, mask }
    }
}

/// Writes a message, and what a server has to make of it.
fn send(sent: Sent, bytes: &mut Vec<u8>, expected: &mut Vec<Incoming>) {
    let mut frame = Frame::message(&sent.data);
    if let Some(smaller) = sent.window.and_then(|window| frame.deflated(window)) {
        frame = smaller;
    }
    let payload = frame.payload();
    let mut cuts: Vec<_> = sent
        .cuts
        .into_iter()
        .map(|(at, control)| (at.index(payload.len() + 1), control))
        .collect();
    cuts.sort_by_key(|(at, _)| *at);
    let (mut first, mut begin) = (frame.header()[0] & !FIN, 0);
    for (at, control) in cuts {
        bytes.extend(client_frame(first, sent.mask, &payload[begin..at]));
        expected.push(Incoming::Fragment);
        (first, begin) = (CONTINUATION, at);
        match &control {
            Some(Incoming::Ping(payload)) => bytes.extend(client_frame(FIN | PING, sent.mask, payload)),
            Some(Incoming::Pong(payload)) => bytes.extend(client_frame(FIN | PONG, sent.mask, payload)),
            _ => {}
        }
        expected.extend(control);
    }
    bytes.extend(client_frame(FIN | first, sent.mask, &payload[begin..]));
    expected.push(Incoming::Message(sent.data));
}

/// A frame that may be anything, but is one mostly.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        8 => proptest::sample::select(vec![0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x00, 0x80, 0x89, 0x8a, 0x88]),
        1 => any::<u8>(),
    ];
    let payload = prop_oneof![
        6 => "\\PC{0,40}".prop_map(String::into_bytes),
        2 => vec(any::<u8>(), 0..140),
        2 => (990..1020u16, "\\PC{0,10}").prop_map(|(code, reason)| [&code.to_be_bytes(), reason.as_bytes()].concat()),
        1 => (0..3000usize).prop_map(|size| vec![b'a'; size]),
    ];
    let mask = prop_oneof![Just([0; 4]), any::<[u8; 4]>()];
    // Seldom: a cut in the middle of a character, and of a frame; another byte in the header, or anywhere.
    let change = prop_oneof![
        12 => Just(None),
        1 => (0..6usize, any::<u8>()).prop_map(Some),
        1 => (0..60usize, any::<u8>()).prop_map(Some),
    ];
    (
        first,
        payload,
        mask,
        change,
        proptest::option::weighted(0.1, 0..20usize),
    )
        .prop_map(|(first, mut payload, mask, change, cut)| {
            if let Some(cut) = cut {
                payload.truncate(cut);
            }
            let mut frame = client_frame(first, mask, &payload);
            if let Some((at, byte)) = change
                && let Some(changed) = frame.get_mut(at)
            {
                *changed = byte;
            }
            frame
        })
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        vec(1..20usize, 1..10),
        vec(1..5000usize, 1..10),
        Just(vec![1]),
        Just(vec![usize::MAX]),
    ]
}

/// Below what tungstenite is compared with, and above what most of these messages have.
fn max_message() -> impl Strategy<Value = usize> {
    proptest::sample::select(vec![0, 1, 30, 125, 126, 1000, MAX])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_sent_comes_in_however_it_is_cut(
        messages in vec(sent(), 0..6),
        close in proptest::option::of((1000..1004u16, "\\PC{0,30}")),
        sizes in sizes(),
    ) {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for sent in messages {
            send(sent, &mut bytes, &mut expected);
        }
        let mut end = End::Waiting;
        if let Some((code, reason)) = close {
            let frame = Frame::close(code, &reason);
            bytes.extend(client_frame(FIN | CLOSE, [1, 2, 3, 4], frame.payload()));
            expected.push(Incoming::Close(Some((code, reason.into()))));
            end = End::Closed;
        }
        let reading = read(&bytes, RULES, &sizes);
        prop_assert_eq!(reading.events, expected);
        prop_assert_eq!(reading.end, end);
    }

    #[test]
    fn any_bytes_are_taken_as_by_tungstenite(
        bytes in vec(any::<u8>(), 0..60),
        max_message in max_message(),
        sizes in sizes(),
    ) {
        let rules = Rules { max_message, inflates: false };
        compare(&bytes, max_message, &read(&bytes, rules, &sizes));
    }

    #[test]
    fn any_frames_are_taken_as_by_tungstenite(
        frames in vec(any_frame(), 0..12),
        cut in proptest::option::weighted(0.2, any::<Index>()),
        max_message in max_message(),
        sizes in sizes(),
    ) {
        let mut bytes = frames.concat();
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        let rules = Rules { max_message, inflates: false };
        compare(&bytes, max_message, &read(&bytes, rules, &sizes));
    }

    #[test]
    fn cuts_do_not_matter(frames in vec(any_frame(), 0..8), max_message in max_message(), sizes in sizes()) {
        let rules = Rules { max_message, inflates: true };
        // Some of them compressed, or said to be.
        let frames = frames.into_iter().map(|mut frame| {
            if frame.last().is_some_and(|last| last % 2 == 0) {
                frame[0] |= RSV1;
            }
            frame
        });
        let bytes = frames.collect::<Vec<_>>().concat();
        prop_assert_eq!(read(&bytes, rules, &sizes), read(&bytes, rules, &[usize::MAX]));
    }
}
