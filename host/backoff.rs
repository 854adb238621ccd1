//! Pauses that grow from try to try: exponential backoff with jitter.

use std::time::Duration;

/// The pause after `before` others: each is twice as long as the one before it, give or take a quarter by `chance`, which
/// is from 0 to 1. Chance spreads those that failed together.
pub(crate) fn pause(first: Duration, before: u32, longest: Duration, chance: f64) -> Duration {
    let doubled = first.saturating_mul(2_u32.saturating_pow(before));
    doubled.min(longest).mul_f64(0.75 + chance / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(2));
        for (before, chance, milliseconds) in [
            (0, 0.5, 100),
            (1, 0.5, 200),
            (2, 0.0, 300),
            (2, 1.0, 500),
            (9, 0.5, 2000),
            (u32::MAX, 1.0, 2500),
        ] {
            let expected = Duration::from_millis(milliseconds);
            assert_eq!(
                pause(first, before, longest, chance),
                expected,
                "{before} {chance}"
            );
        }
    }
}
