//! What one session waits for: dispatches for which an upstream or a slow plugin is asked.

use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::pipeline::Ticket;
use crate::dispatch::Dispatch;

/// Dispatches, few at a time, which are all looked at whenever the session is woken.
///
/// `FuturesUnordered` would look only at those that have something to tell. But it has its task polled once more for each
/// that is pushed, to be fair to other tasks, and for that tokio wakes another thread: two calls of the kernel a frame.
#[derive(Default)]
pub(super) struct Waiting<'a>(Vec<BoxFuture<'a, (Ticket, Option<Dispatch>)>>);

impl<'a> Waiting<'a> {
    /// Adds one. It gives none if nothing is to be done any more.
    pub(super) fn push(&mut self, dispatch: impl Future<Output = (Ticket, Option<Dispatch>)> + Send + 'a) {
        self.0.push(dispatch.boxed());
    }

    /// The next one that need not wait any longer.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<(Ticket, Option<Dispatch>)> {
        let mut dispatches = self.0.iter_mut().enumerate();
        let resumed = dispatches.find_map(|(index, dispatch)| match dispatch.poll_unpin(cx) {
            Poll::Ready(resumed) => Some((index, resumed)),
            Poll::Pending => None,
        });
        let Some((index, resumed)) = resumed else {
            return Poll::Pending;
        };
        drop(self.0.swap_remove(index));
        if self.0.is_empty() {
            // A burst must not cost memory for the rest of a long life.
            self.0 = Vec::new();
        }
        Poll::Ready(resumed)
    }
}
