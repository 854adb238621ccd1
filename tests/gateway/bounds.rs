//! What clients may cost and take, whatever they do: memory, PHP's places, the time of others. Each bound is reached, and a
//! client beside it goes on. What is measured is printed.

/// Messages that come and go compressed.
mod compression;
/// The close frame of a client is seen, and what came before it is handled.
mod farewells;
/// Frames that ask for nothing, as many as clients can send.
mod floods;
/// More comes in than PHP takes.
mod inbound;
/// What a large publication leaves behind.
mod leftovers;
/// Who does not read holds no place of PHP's.
mod places;
/// What plugins may have of the host.
mod plugins;
/// Who says nothing, who cannot be heard, and who never comes to an end.
mod silence;
/// What one bound lets through, the next one lets through.
mod sizes;
/// All of it at once.
mod together;

use serde_json::Value;

use crate::slow::publish;
use crate::support::Gateway;

const MIB: usize = 1024 * 1024;

const CONNECTIONS: &str = "aileron_connections";

/// Publishes to the topic `news`, far more than the sockets of those take who do not read, until a result is as wanted.
async fn publish_until(gateway: &Gateway, mut is_wanted: impl AsyncFnMut(&Value) -> bool) {
    let filler = "x".repeat(60_000);
    for _ in 0..10_000 {
        if is_wanted(&publish(gateway, "news", &filler).await).await {
            return;
        }
    }
    panic!("600 MB are more than any kernel takes");
}

/// The one in the middle.
fn median<T: Ord + Copy>(values: &mut [T]) -> T {
    values.sort_unstable();
    values[values.len() / 2]
}
