//! Says what has changed in the plugin directory. The only file that names notify.
//!
//! There are two sources: notices of the kernel, and a look every few seconds for what it gives no notice of (network file
//! systems, the target of a link, a directory that was itself replaced). Either is just a reason to look.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use super::directory::{self, Directory, Stamps};
use super::settling::{Settled, Settling};

/// A file that changes for so long without settling is worth a line in the log.
const RESTLESS: Duration = Duration::from_secs(10);

pub(super) struct Watch {
    dir: PathBuf,
    poll: Duration,
    settle: Duration,
    settling: Settling,
    /// There was no directory at the last look.
    is_gone: bool,
    noticed: Arc<Notify>,
    /// The watcher and the directory that it watches. None while there is no directory.
    watching: Option<(RecommendedWatcher, (PathBuf, u64))>,
}

impl Watch {
    /// Files that are as these are have not changed.
    pub(super) fn new(dir: &Path, poll: Duration, settle: Duration, known: Stamps) -> Self {
        let mut watch = Self {
            dir: dir.to_owned(),
            poll,
            settle,
            settling: Settling::new(settle, known),
            is_gone: false,
            noticed: Arc::new(Notify::new()),
            watching: None,
        };
        watch.rewatch();
        // Something may have changed before.
        watch.noticed.notify_one();
        watch
    }

    /// Waits until files have changed and have settled, and gives them with the directory that they were seen in.
    pub(super) async fn changed(&mut self) -> (Directory, Settled) {
        loop {
            if self.settling.is_under_way() {
                tokio::time::sleep(self.settle).await;
            } else {
                let _ = tokio::time::timeout(self.poll, self.noticed.notified()).await;
            }
            self.rewatch();
            let looked = Directory::open(&self.dir).and_then(|dir| Ok((dir.stamps()?, dir)));
            let Ok((found, dir)) = looked.inspect_err(|error| self.tell_gone(error)) else {
                self.is_gone = true;
                continue;
            };
            if std::mem::take(&mut self.is_gone) {
                tracing::info!(dir = %self.dir.display(), "the plugin directory is back");
            }
            let now = Instant::now();
            let settled = self.settling.look(&found, now);
            for file in self.settling.restless(RESTLESS.max(self.settle * 2), now) {
                let settle = self.settle;
                tracing::warn!(
                    file,
                    ?settle,
                    "a plugin file keeps changing; it is taken when it has stayed the same for [plugins] settle"
                );
            }
            if !settled.is_empty() {
                return (dir, settled);
            }
        }
    }

    fn tell_gone(&self, error: &std::io::Error) {
        if !self.is_gone {
            let dir = self.dir.display();
            tracing::error!(%dir, %error, "the plugin directory is gone; the plugins that serve go on");
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
        Directory::open(dir.path()).unwrap().stamps().unwrap();
        std::fs::read(&old).unwrap();
        let new = dir.path().join("new.wasm");
        std::fs::write(&new, "new").unwrap();
        let mut notices = notices.into_iter().map(Result::unwrap);
        let first = notices.find(|notice| !is_only_a_look(notice.kind)).unwrap();
        assert_eq!(first.paths, [new]);
    }
}
