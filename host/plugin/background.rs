//! Work of seconds, the compiler's above all: on threads of low priority, so that nobody's frame waits for it.

use std::sync::{Mutex, PoisonError};
use std::thread;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// As nice(1) counts: a tenth of a processor that others want, and all of one that nobody wants.
const NICE: i32 = 10;

/// The work ended in a panic, or got no thread.
#[derive(Debug, thiserror::Error)]
#[error("its thread could not be started, or has panicked")]
pub(super) struct Lost;

/// Does work on a thread of its own, and waits for it.
pub(super) async fn run(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Lost> {
    let (done, is_done) = oneshot::channel();
    let runtime = Handle::current();
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
        // A plugin may start a timer of WASI, which belongs to a runtime.
        let _entered = runtime.enter();
        step_back();
        work();
        let _ = done.send(());
    });
    thread.map_err(|_| Lost)?;
    is_done.await.map_err(|_| Lost)
}

/// Does the same with each of these, with as many at a time as there are processors, and waits until all is done. The threads
/// have the priority of the one that calls.
pub(super) fn each<T: Send>(items: Vec<T>, work: impl Fn(T) + Sync) {
    let threads = thread::available_parallelism()
        .map_or(1, Into::into)
        .min(items.len());
    if threads < 2 {
        return items.into_iter().for_each(work);
    }
    let runtime = Handle::try_current().ok();
    let items = Mutex::new(items.into_iter());
    let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                // A plugin may start a timer of WASI, which belongs to a runtime.
                let _entered = runtime.as_ref().map(Handle::enter);
                while let Some(item) = next() {
                    work(item);
                }
            });
        }
    });
}

/// Has the compiler's threads step back too. They are those of rayon, for the whole process; whoever comes first sets them
/// up.
pub(super) fn prepare_compiler() {
    let threads = rayon::ThreadPoolBuilder::new().thread_name(|n| format!("compiler-{n}"));
    if let Err(error) = threads.start_handler(|_| step_back()).build_global() {
        tracing::debug!(%error, "the compiler's threads were there already");
    }
}

/// On Linux each thread has a priority of its own.
fn step_back() {
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "a thread stays at the usual priority");
    }
}
