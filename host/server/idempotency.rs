//! Pushes that are done only once, however often they are sent: by the header `Idempotency-Key`
//! (draft-ietf-httpapi-idempotency-key-header).
//!
//! The answer to a key is remembered for a while, and given to whoever sends the key again; if the first push is still being
//! answered, the second one waits for that answer. A failed push has done nothing and is not remembered.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use hyper::Method;
use hyper::header::HeaderValue;

use crate::message::{Payload, Response};

/// How long an answer is remembered.
const REMEMBERED_FOR: Duration = Duration::from_secs(300);
/// How many are remembered; with one more, the oldest is forgotten.
const MAX_KEYS: usize = 10_000;

/// Identifies a push: its method and path, and the sender's key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(Box<[u8]>);

impl Key {
    pub(super) fn new(method: &Method, path: &str, key: &HeaderValue) -> Self {
        let parts = [method.as_str().as_bytes(), path.as_bytes(), key.as_bytes()];
        Self(parts.join(&b' ').into())
    }
}

type Answer = Shared<BoxFuture<'static, Response>>;

/// The answers that are remembered.
#[derive(Default)]
pub(super) struct Pushed(Mutex<Remembered>);

#[derive(Default)]
struct Remembered {
    answers: HashMap<Key, Answer>,
    /// Oldest first.
    order: VecDeque<(Instant, Key)>,
}

impl Pushed {
    /// Gives the answer to a key; `answering` makes it if there is none yet. That goes on even if nobody is waiting any more,
    /// since a push must not be done by halves.
    pub(super) async fn once(
        &self,
        key: Key,
        answering: impl Future<Output = Response> + Send + 'static,
    ) -> Response {
        let answer = self.lock().answer(&key, answering);
        let response = answer.await;
        if response.status >= 300 {
            self.lock().answers.remove(&key);
        }
        response
    }

    /// Nothing here leaves the answers half changed, so a panic elsewhere does not spoil them.
    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Remembered {
    fn answer(&mut self, key: &Key, answering: impl Future<Output = Response> + Send + 'static) -> Answer {
        let now = Instant::now();
        while let Some((since, _)) = self.order.front()
            && (now.duration_since(*since) > REMEMBERED_FOR || self.order.len() >= MAX_KEYS)
        {
            if let Some((_, oldest)) = self.order.pop_front() {
                self.answers.remove(&oldest);
            }
        }
        if let Some(answer) = self.answers.get(key) {
            return answer.clone();
        }
        let task = tokio::spawn(answering);
        let answer = async { task.await.unwrap_or_else(|_| failed()) }.boxed().shared();
        self.answers.insert(key.clone(), answer.clone());
        self.order.push_back((now, key.clone()));
        answer
    }
}

/// The task has panicked.
fn failed() -> Response {
    Response {
        status: 500,
        headers: Vec::new(),
        body: Payload::Text("".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn key(text: &str) -> Key {
        Key::new(&Method::POST, "/send", &HeaderValue::from_str(text).unwrap())
    }

    #[tokio::test]
    async fn a_push_that_succeeds_is_done_once_and_one_that_fails_again() {
        let pushed = Pushed::default();
        let done = Arc::new(AtomicUsize::new(0));
        let push = |status| {
            let done = done.clone();
            async move {
                done.fetch_add(1, Ordering::SeqCst);
                Response { status, ..failed() }
            }
        };
        assert_eq!(pushed.once(key("a"), push(500)).await.status, 500);
        assert_eq!(pushed.once(key("a"), push(200)).await.status, 200);
        assert_eq!(pushed.once(key("a"), push(201)).await.status, 200);
        assert_eq!(pushed.once(key("b"), push(202)).await.status, 202);
        assert_eq!(done.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn who_comes_while_it_is_done_waits_for_the_same_answer() {
        let pushed = Pushed::default();
        let (release, released) = tokio::sync::oneshot::channel::<()>();
        let mut first = Box::pin(pushed.once(key("a"), async {
            let _ = released.await;
            Response {
                status: 200,
                ..failed()
            }
        }));
        assert!((&mut first).now_or_never().is_none());
        // The first sender gives up; the push goes on.
        drop(first);
        let second = pushed.once(key("a"), async { unreachable!() });
        release.send(()).unwrap();
        assert_eq!(second.await.status, 200);
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded() {
        let mut remembered = Remembered::default();
        for n in 0..MAX_KEYS + 10 {
            drop(remembered.answer(&key(&n.to_string()), async { failed() }));
        }
        assert_eq!(
            (remembered.answers.len(), remembered.order.len()),
            (MAX_KEYS, MAX_KEYS)
        );
    }
}
