//! Work that takes seconds, above all that of the compiler: on threads of low priority, so that no frame waits for it.

use std::sync::{Mutex, PoisonError};
use std::thread;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// By the scale of nice(1): a tenth of a processor that others want too, and all of an idle one.
const NICE: i32 = 10;

/// The work panicked, or its thread could not be started.
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

/// Does the work for each of these, as many at a time as there are processors, and waits until all is done. The threads
/// have the priority of the calling one.
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

/// Lowers the priority of the compiler's threads too. They are rayon's, for the whole process; the first user sets them up.
pub(super) fn prepare_compiler() {
    let threads = rayon::ThreadPoolBuilder::new().thread_name(|n| format!("compiler-{n}"));
    if let Err(error) = threads.start_handler(|_| step_back()).build_global() {
        tracing::debug!(%error, "the compiler's threads existed already");
    }
}

/// On Linux each thread has a priority of its own.
fn step_back() {
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "a thread keeps the usual priority");
    }
}
