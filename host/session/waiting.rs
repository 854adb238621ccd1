//! What one session waits for: dispatches on which an upstream or a slow plugin is asked.

use std::future::poll_fn;
use std::task::Poll;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::pipeline::Ticket;
use crate::dispatch::Dispatch;

/// Journeys, few at a time, which are all looked at whenever the session is woken.
///
/// `FuturesUnordered` would look only at those that have something to tell. But it has its task polled once more for each
/// that is pushed, to be fair to other tasks, and for that tokio wakes another thread: two calls of the kernel a frame.
#[derive(Default)]
pub(super) struct Waiting<'a>(Vec<BoxFuture<'a, (Ticket, Dispatch)>>);

impl<'a> Waiting<'a> {
    pub(super) fn push(&mut self, dispatch: impl Future<Output = (Ticket, Dispatch)> + Send + 'a) {
        self.0.push(dispatch.boxed());
    }

    /// The next one that need not wait any longer. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> (Ticket, Dispatch) {
        poll_fn(|context| {
            let mut dispatches = self.0.iter_mut().enumerate();
            let resumed = dispatches.find_map(|(index, dispatch)| match dispatch.poll_unpin(context) {
                Poll::Ready(resumed) => Some((index, resumed)),
                Poll::Pending => None,
            });
            match resumed {
                Some((index, resumed)) => {
                    drop(self.0.swap_remove(index));
                    Poll::Ready(resumed)
                }
                None => Poll::Pending,
            }
        })
        .await
    }
}
