//! How much an instance may log: a plugin often logs what strangers cause, and an outage of PHP must not fill the disk.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::token_bucket::TokenBucket;

/// Lines a second, of one instance.
const RATE: usize = 500;

/// Shared by all ways in which an instance logs.
#[derive(Clone)]
pub(super) struct Lines(Arc<Mutex<Counts>>);

struct Counts {
    bucket: Option<TokenBucket>,
    left_out: usize,
}

impl Lines {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Counts {
            bucket: TokenBucket::new(RATE, Instant::now()),
            left_out: 0,
        })))
    }

    /// Whether a line may be logged now. Says when lines begin to be left out, and with the next one how many there were.
    pub(super) fn admit(&self, plugin: &str) -> bool {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if counts
            .bucket
            .as_mut()
            .is_none_or(|bucket| bucket.left(now) >= 1.0)
        {
            if let Some(bucket) = &mut counts.bucket {
                bucket.take(1, now);
            }
            let left_out = std::mem::take(&mut counts.left_out);
            if left_out > 0 {
                tracing::warn!(plugin, left_out, "lines of the plugin were left out");
            }
            return true;
        }
        if counts.left_out == 0 {
            tracing::warn!(
                plugin,
                "the plugin logs more than {RATE} lines a second; the rest is left out"
            );
        }
        counts.left_out += 1;
        false
    }
}
