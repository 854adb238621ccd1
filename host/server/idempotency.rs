//! Pushes that are done only once, however often they are sent: by the header `Idempotency-Key`
//! (draft-ietf-httpapi-idempotency-key-header).
//!
//! The answer to a key is remembered for a while, and given to whoever sends the same push again; if the first one is still
//! being answered, the second one waits for that answer. Another push with the same key is refused. A failed push has done
//! nothing and is not remembered.

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use sha2::{Digest, Sha256};

use crate::message::{Payload, Request, Response};

/// How long an answer is remembered.
const REMEMBERED_FOR: Duration = Duration::from_secs(300);
/// How many are remembered, and how many bytes they may have together; beyond that, the oldest is forgotten.
const MAX_KEYS: usize = 50_000;
const MAX_BYTES: usize = 32 * 1024 * 1024;
/// About what is kept for each beside the bytes of its answer.
const OVERHEAD: usize = 512;

/// Identifies a push: its method and path, and the sender's key, which may be long, as SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

/// What must be the same when a push is sent again.
type Fingerprint = [u8; 32];

type Answer = Shared<BoxFuture<'static, Response>>;

/// The answers that are remembered.
#[derive(Default)]
pub(super) struct Pushed(Mutex<Remembered>);

#[derive(Default)]
struct Remembered {
    entries: HashMap<Key, Entry>,
    /// The same by their numbers: the first is the oldest.
    order: BTreeMap<u64, (Instant, Key)>,
    /// In all entries.
    bytes: usize,
    next: u64,
}

struct Entry {
    number: u64,
    fingerprint: Fingerprint,
    answer: Answer,
    bytes: usize,
}

impl Key {
    /// The key of a push, if it has one.
    pub(super) fn of(request: &Request) -> Option<Self> {
        let key = request.header("idempotency-key")?;
        let text = format!("{} {} {key}", request.method, request.path);
        Some(Self(Sha256::digest(text).into()))
    }
}

fn fingerprint(request: &Request) -> Fingerprint {
    let mut digest = Sha256::new();
    for part in [&request.query, request.header("content-type").unwrap_or_default()] {
        digest.update(part);
        digest.update(b"\n");
    }
    digest.update(request.body.clone().into_bytes());
    digest.finalize().into()
}

impl Pushed {
    /// Gives the answer to a push; `answering` makes it if there is none yet. That goes on even if nobody is waiting any
    /// more, since a push must not be done by halves.
    pub(super) async fn once(
        self: &Arc<Self>,
        key: Key,
        request: &Request,
        answering: impl Future<Output = Response> + Send + 'static,
    ) -> Response {
        let fingerprint = fingerprint(request);
        let answer = {
            let mut remembered = self.lock();
            remembered.forget(Instant::now());
            match remembered.entries.get(&key) {
                Some(entry) if entry.fingerprint != fingerprint => return another(),
                Some(entry) => entry.answer.clone(),
                None => self.begin(&mut remembered, key, fingerprint, answering),
            }
        };
        answer.await
    }

    fn begin(
        self: &Arc<Self>,
        remembered: &mut Remembered,
        key: Key,
        fingerprint: Fingerprint,
        answering: impl Future<Output = Response> + Send + 'static,
    ) -> Answer {
        let number = remembered.next;
        remembered.next += 1;
        let (pushed, of) = (self.clone(), key);
        let task = tokio::spawn(async move {
            let response = AssertUnwindSafe(answering).catch_unwind().await;
            let response = response.unwrap_or_else(|_| failed());
            pushed.lock().done(&of, number, &response);
            response
        });
        let answer = async { task.await.unwrap_or_else(|_| failed()) }.boxed().shared();
        remembered.add(key, number, fingerprint, answer.clone());
        answer
    }

    /// Nothing here leaves the answers half changed, so a panic elsewhere does not spoil them.
    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Remembered {
    fn add(&mut self, key: Key, number: u64, fingerprint: Fingerprint, answer: Answer) {
        let bytes = OVERHEAD;
        self.bytes += bytes;
        self.order.insert(number, (Instant::now(), key));
        let entry = Entry {
            number,
            fingerprint,
            answer,
            bytes,
        };
        self.entries.insert(key, entry);
    }

    /// There is an answer, which is remembered if the push was done.
    fn done(&mut self, key: &Key, number: u64, response: &Response) {
        let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.number == number) else {
            return;
        };
        if response.status >= 300 {
            self.remove(key, number);
            return;
        }
        let bytes = response.size();
        entry.bytes += bytes;
        self.bytes += bytes;
        self.forget(Instant::now());
    }

    /// Forgets what is too old or too much.
    fn forget(&mut self, now: Instant) {
        while let Some((number, (since, key))) = self.order.first_key_value().map(|(n, entry)| (*n, *entry))
            && (now.duration_since(since) > REMEMBERED_FOR
                || self.order.len() > MAX_KEYS
                || self.bytes > MAX_BYTES)
        {
            self.remove(&key, number);
        }
    }

    fn remove(&mut self, key: &Key, number: u64) {
        self.order.remove(&number);
        if self.entries.get(key).is_some_and(|entry| entry.number == number)
            && let Some(entry) = self.entries.remove(key)
        {
            self.bytes -= entry.bytes;
        }
    }
}

/// The key is that of another push.
fn another() -> Response {
    let text = "another push had this `Idempotency-Key`; each needs a key of its own\n";
    Response {
        status: 422,
        headers: vec![("content-type".to_owned(), "text/plain; charset=utf-8".to_owned())],
        body: Payload::Text(text.into()),
    }
}

/// The answer has panicked.
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
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::oneshot;

    fn request(key: &str, body: &str) -> Request {
        Request {
            method: "POST".to_owned(),
            path: "/send".to_owned(),
            query: String::new(),
            headers: vec![("idempotency-key".to_owned(), key.to_owned())],
            body: Payload::Text(body.into()),
        }
    }

    async fn once(
        pushed: &Arc<Pushed>,
        request: Request,
        answering: impl Future<Output = Response> + Send + 'static,
    ) -> u16 {
        let key = Key::of(&request).unwrap();
        pushed.once(key, &request, answering).await.status
    }

    fn with_status(status: u16) -> Response {
        Response { status, ..failed() }
    }

    #[tokio::test]
    async fn a_push_that_succeeds_is_done_once_and_one_that_fails_again() {
        let pushed = Arc::default();
        let done = Arc::new(AtomicUsize::new(0));
        let push = |status| {
            let done = done.clone();
            async move {
                done.fetch_add(1, Ordering::SeqCst);
                with_status(status)
            }
        };
        assert_eq!(once(&pushed, request("a", ""), push(500)).await, 500);
        assert_eq!(once(&pushed, request("a", ""), push(200)).await, 200);
        assert_eq!(once(&pushed, request("a", ""), push(201)).await, 200);
        assert_eq!(once(&pushed, request("b", ""), push(202)).await, 202);
        assert_eq!(once(&pushed, request("b", "another"), push(202)).await, 422);
        assert_eq!(done.load(Ordering::SeqCst), 3);
        let panics = async { panic!("on purpose") };
        assert_eq!(once(&pushed, request("c", ""), panics).await, 500);
        assert_eq!(once(&pushed, request("c", ""), push(200)).await, 200);
    }

    #[tokio::test]
    async fn who_comes_while_it_is_done_waits_for_the_same_answer() {
        let pushed = Arc::default();
        let (release, released) = oneshot::channel::<()>();
        let mut first = Box::pin(once(&pushed, request("a", ""), async {
            let _ = released.await;
            with_status(200)
        }));
        assert!((&mut first).now_or_never().is_none());
        // The first sender gives up; the push goes on.
        drop(first);
        let second = once(&pushed, request("a", ""), async { unreachable!() });
        release.send(()).unwrap();
        assert_eq!(second.await, 200);
    }

    /// Those who waited for the failed one come back to it late, when the next one is long there.
    #[tokio::test]
    async fn a_failure_that_nobody_waited_for_or_somebody_too_late_does_not_undo_the_retry() {
        let pushed = Arc::default();
        let (release, released) = oneshot::channel::<()>();
        let mut gone = Box::pin(once(&pushed, request("a", ""), async {
            let _ = released.await;
            with_status(500)
        }));
        let mut late = Box::pin(once(&pushed, request("a", ""), async { unreachable!() }));
        assert!((&mut gone).now_or_never().is_none() && (&mut late).now_or_never().is_none());
        drop(gone);
        release.send(()).unwrap();
        while !pushed.lock().entries.is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            once(&pushed, request("a", ""), async { with_status(200) }).await,
            200
        );
        assert_eq!(late.await, 500);
        assert_eq!(
            once(&pushed, request("a", ""), async { unreachable!() }).await,
            200
        );
        // The age of the failed try is not that of the one that succeeded.
        let mut remembered = pushed.lock();
        assert_eq!(remembered.order.len(), 1);
        let (since, _) = *remembered.order.first_key_value().unwrap().1;
        remembered.forget(since + REMEMBERED_FOR);
        assert_eq!(remembered.entries.len(), 1);
    }

    /// However long their keys are.
    #[tokio::test]
    async fn failures_are_forgotten_at_once_and_make_nobody_else_forgotten() {
        let pushed: Arc<Pushed> = Arc::default();
        assert_eq!(
            once(&pushed, request("a", ""), async { with_status(200) }).await,
            200
        );
        let long = "x".repeat(30_000);
        for n in 0..MAX_KEYS + 10 {
            let status = once(&pushed, request(&format!("{n} {long}"), ""), async {
                with_status(404)
            });
            assert_eq!(status.await, 404);
        }
        assert_eq!(
            once(&pushed, request("a", ""), async { unreachable!() }).await,
            200
        );
        let remembered = pushed.lock();
        assert_eq!((remembered.entries.len(), remembered.order.len()), (1, 1));
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded_in_number_and_in_bytes() {
        let pushed: Arc<Pushed> = Arc::default();
        for n in 0..MAX_KEYS + 10 {
            let status = once(&pushed, request(&n.to_string(), ""), async { with_status(200) });
            assert_eq!(status.await, 200);
        }
        assert!(pushed.lock().entries.len() <= MAX_KEYS + 1);
        for n in 0..40 {
            let long = Response {
                body: Payload::Text("x".repeat(1024 * 1024).into()),
                ..with_status(200)
            };
            once(&pushed, request(&format!("long {n}"), ""), async { long }).await;
        }
        let remembered = pushed.lock();
        assert!(remembered.bytes <= MAX_BYTES);
        let counted: usize = remembered.entries.values().map(|entry| entry.bytes).sum();
        assert_eq!(counted, remembered.bytes);
    }
}
