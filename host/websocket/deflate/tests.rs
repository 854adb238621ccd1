use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const MAX: usize = 200_000;

/// What a sender makes of these parts, each of which it flushes its own way, without what it leaves out.
fn compress(level: u32, bits: u8, parts: &[(Vec<u8>, FlushCompress)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 * MAX);
    let mut state = Compress::new_with_window_bits(Compression::new(level), false, bits);
    for (part, flush) in parts {
        let before = state.total_in();
        let _ = state.compress_vec(part, &mut out, *flush).expect("it compresses");
        assert_eq!(state.total_in() - before, part.len() as u64);
        if matches!(flush, FlushCompress::Finish) {
            state.reset();
        }
    }
    out
}

fn inflated(compressed: &[u8], max: usize) -> Result<Vec<u8>, Violation> {
    inflate(compressed, max, <[u8]>::to_vec)
}

fn deflated(payload: &[u8], window: Window) -> Option<Vec<u8>> {
    deflate(payload, window, <[u8]>::to_vec)
}

/// Without any pattern.
fn noise(size: usize) -> Vec<u8> {
    let mut random = 1_u64;
    let next = |_| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 56) as u8
    };
    (0..size).map(next).collect()
}

/// flate2 by itself, in one go.
fn inflated_by_flate2(compressed: &[u8], bits: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 * MAX);
    let stream = [compressed, &LEFT_OUT].concat();
    let mut state = Decompress::new_with_window_bits(false, bits);
    state
        .decompress_vec(&stream, &mut out, FlushDecompress::Sync)
        .expect("it decompresses");
    assert_eq!(state.total_in(), stream.len() as u64);
    out
}

#[test]
fn the_small_window_looks_no_further_than_512_bytes() {
    let within = noise(200).repeat(3);
    assert!(deflated(&within, Window::Small).is_some());
    let beyond = noise(513).repeat(3);
    assert!(deflated(&beyond, Window::Full).is_some());
    assert_eq!(deflated(&beyond, Window::Small), None);
}

#[test]
fn what_inflates_without_bounds_is_refused_within_bounds() {
    let bomb = compress(9, 15, &[(vec![0; 200 * MAX], FlushCompress::Sync)]);
    let bomb = bomb.strip_suffix(&LEFT_OUT).expect("flushed");
    assert!(bomb.len() < MAX, "{}", bomb.len());
    for max in [0, 1, 100, FIRST, MAX] {
        let mut inflater = Inflater::new();
        assert_eq!(inflater.run(bomb, max), Err(Violation::TooLarge { max }));
        let held = inflater.out.capacity();
        assert!(held <= max + 1, "{held}");
        keep(&mut inflater.out);
        assert!(inflater.out.capacity() <= KEPT);
    }
    // The next one is not affected.
    assert_eq!(inflated(bomb, 7), Err(Violation::TooLarge { max: 7 }));
    assert_eq!(
        inflated(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], 5),
        Ok(b"Hello".to_vec())
    );
}

#[test]
fn the_limit_is_exact() {
    for size in [
        0,
        1,
        2,
        FIRST - 1,
        FIRST,
        FIRST + 1,
        2 * FIRST,
        KEPT,
        KEPT + 1,
        MAX,
    ] {
        let message: Vec<_> = (0..size).map(|n| (n / 7) as u8).collect();
        let parts = [(message.clone(), FlushCompress::Sync)];
        let compressed = compress(6, 15, &parts);
        let compressed = compressed.strip_suffix(&LEFT_OUT).expect("flushed");
        assert_eq!(inflated(compressed, size), Ok(message), "{size}");
        if let Some(max) = size.checked_sub(1) {
            assert_eq!(inflated(compressed, max), Err(Violation::TooLarge { max }));
        }
    }
}

#[test]
fn what_is_cut_is_refused() {
    for size in 700..1000_u32 {
        let noise = (0..size).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8);
        let compressed = compress(3, 9, &[(noise.collect(), FlushCompress::Sync)]);
        let compressed = compressed.strip_suffix(&LEFT_OUT).expect("flushed");
        // With some of these, what is added at the end can be read as more of the message, and then as its end.
        for cut in 1..4 {
            let cut = &compressed[..compressed.len() - cut];
            assert_eq!(inflated(cut, MAX), Err(Violation::Deflate), "{size}");
        }
    }
}

#[test]
fn what_cannot_be_compressed_is_within_the_bound() {
    let noise = noise(MAX);
    for level in 0..=9 {
        // Flushed every 4 KiB, as by a sender that has no more memory.
        let parts: Vec<_> = noise
            .chunks(4096)
            .map(|part| (part.to_vec(), FlushCompress::Sync))
            .collect();
        assert!(compress(level, 15, &parts).len() < bound(MAX));
    }
    assert_eq!(deflated(&noise, Window::Full), None);
    assert_eq!(deflated(&noise, Window::Small), None);
}

#[test]
fn what_does_not_get_smaller_leaves_no_trace() {
    let mut random = 1_u64;
    let text = "it is compressed again, and again, and again";
    for _ in 0..2000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // Noise, long enough to fill the compressor.
        let noise: Vec<_> = (0..40_000_u64)
            .map(|n| (random.wrapping_mul(2 * n + 1) >> 56) as u8)
            .collect();
        let _ = deflated(&noise[..(random >> 32) as usize % noise.len()], Window::Full);
        let compressed = deflated(text.as_bytes(), Window::Full).expect("smaller");
        assert_eq!(inflated(&compressed, 100).as_deref(), Ok(text.as_bytes()));
    }
}

fn flush() -> impl Strategy<Value = FlushCompress> {
    prop_oneof![
        Just(FlushCompress::None),
        Just(FlushCompress::Partial),
        Just(FlushCompress::Sync),
        Just(FlushCompress::Full),
        Just(FlushCompress::Finish),
    ]
}

/// Some that compress well, and some that do not.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..3000),
        vec(b'a'..b'e', 0..9000),
        (vec(any::<u8>(), 1..700), 1..60usize).prop_map(|(part, times)| part.repeat(times)),
    ]
}

proptest! {
    #[test]
    fn what_is_deflated_inflates_again(payload in payload()) {
        for (window, bits) in [(Window::Full, 15), (Window::Small, 9)] {
            if let Some(compressed) = deflated(&payload, window) {
                prop_assert!(compressed.len() < payload.len());
                prop_assert_eq!(&inflated_by_flate2(&compressed, bits), &payload);
                prop_assert_eq!(inflated(&compressed, payload.len()), Ok(payload.clone()));
            }
        }
    }

    #[test]
    fn whatever_a_sender_makes_inflates(
        parts in vec((payload(), flush()), 0..6),
        last in payload(),
        level in 0..10u32,
        bits in 9..16u8,
    ) {
        let mut parts = parts;
        parts.push((last, FlushCompress::Sync));
        let message: Vec<_> = parts.iter().flat_map(|(part, _)| part.clone()).collect();
        let compressed = compress(level, bits, &parts);
        let compressed = compressed.strip_suffix(&LEFT_OUT).expect("flushed");
        prop_assert_eq!(inflated(compressed, MAX), Ok(message.clone()));
        // What is cut off shows, if it was anything.
        if let Some((_, cut)) = compressed.split_last()
            && let Ok(cut) = inflated(cut, MAX)
        {
            prop_assert_eq!(cut, message);
        }
    }

    #[test]
    fn any_bytes_inflate_or_are_refused(compressed in vec(any::<u8>(), 0..300), max in 0..5000usize) {
        if let Ok(message) = inflated(&compressed, max) {
            prop_assert!(message.len() <= max);
        }
    }
}
