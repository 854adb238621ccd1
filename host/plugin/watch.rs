//! Says when the plugin directory may have changed. The only file that names notify.
//!
//! There are two sources: notices of the kernel, and a look every few seconds for what it gives no notice of (network file
//! systems, the target of a link, a directory that was itself replaced). Neither says what changed; the caller has to look.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use super::directory::{self, Stamps};

pub(super) struct Watch {
    dir: PathBuf,
    poll: Duration,
    settle: Duration,
    noticed: Arc<Notify>,
    /// The watcher and the directory that it watches. None while there is no directory.
    watching: Option<(RecommendedWatcher, (PathBuf, u64))>,
}

impl Watch {
    pub(super) fn new(dir: &Path, poll: Duration, settle: Duration) -> Self {
        let mut watch = Self {
            dir: dir.to_owned(),
            poll,
            settle,
            noticed: Arc::new(Notify::new()),
            watching: None,
        };
        watch.rewatch();
        watch
    }

    /// Waits until the stamps differ from the last ones and have been stable for the settling time: a file that is being
    /// copied is left alone until it is complete. None: the directory cannot be read.
    pub(super) async fn changed(&mut self, seen: &Option<Stamps>) -> Option<Stamps> {
        loop {
            // Either is just a reason to look.
            let _ = tokio::time::timeout(self.poll, self.noticed.notified()).await;
            self.rewatch();
            if directory::stamps(&self.dir).ok() != *seen {
                let settled = self.settled().await;
                if settled != *seen {
                    return settled;
                }
            }
        }
    }

    /// Waits until the stamps have been stable for the settling time.
    pub(super) async fn settled(&self) -> Option<Stamps> {
        let mut before = directory::stamps(&self.dir).ok();
        loop {
            tokio::time::sleep(self.settle).await;
            let now = directory::stamps(&self.dir).ok();
            if now == before {
                return now;
            }
            before = now;
        }
    }

    /// Watches the directory that is there now, if it is not the one that is watched.
    fn rewatch(&mut self) {
        let found = directory::identity(&self.dir);
        if found.as_ref() == self.watching.as_ref().map(|(_, watched)| watched) {
            return;
        }
        self.watching = found.and_then(|found| Some((self.watcher(&found.0)?, found)));
    }

    fn watcher(&self, dir: &Path) -> Option<RecommendedWatcher> {
        let noticed = self.noticed.clone();
        let notice = move |event: notify::Result<Event>| {
            if event.is_ok_and(|event| is_only_a_look(event.kind)) {
                return;
            }
            noticed.notify_one();
        };
        let watcher = notify::recommended_watcher(notice)
            .and_then(|mut watcher| watcher.watch(dir, RecursiveMode::NonRecursive).map(|()| watcher));
        watcher
            .inspect_err(|error| {
                tracing::warn!(dir = %dir.display(), %error, poll = ?self.poll, "no notices of changes; looking regularly");
            })
            .ok()
    }
}

/// Opening and reading change nothing, but looking for changes opens and reads: each look would cause the next one.
fn is_only_a_look(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With the notices of a real directory.
    #[test]
    fn looking_at_a_directory_is_no_reason_to_look_at_it_and_a_new_file_is() {
        let dir = tempfile::tempdir().unwrap();
        let old = dir.path().join("old.wasm");
        std::fs::write(&old, "old").unwrap();
        let (sender, notices) = std::sync::mpsc::channel();
        let mut watcher = notify::recommended_watcher(sender).unwrap();
        watcher.watch(dir.path(), RecursiveMode::NonRecursive).unwrap();
        directory::stamps(dir.path()).unwrap();
        std::fs::read(&old).unwrap();
        let new = dir.path().join("new.wasm");
        std::fs::write(&new, "new").unwrap();
        let mut notices = notices.into_iter().map(Result::unwrap);
        let first = notices.find(|notice| !is_only_a_look(notice.kind)).unwrap();
        assert_eq!(first.paths, [new]);
    }
}
