//! A PHP-FPM whose script notes all that reaches it, and holds a request until the test lets go.

use std::path::PathBuf;

use tempfile::TempDir;

use crate::support::{Fpm, Nginx, eventually};

pub struct Guarded {
    pub fpm: Fpm,
    dir: TempDir,
}

impl Guarded {
    pub async fn start(children: usize) -> Self {
        let dir = TempDir::new().unwrap();
        let notes = dir.path().join("notes");
        let fpm = Fpm::start_with(children, &format!("env[NOTES] = {}", notes.display())).await;
        Self { fpm, dir }
    }

    /// Lines of the section `[upstream]`.
    pub fn upstream(&self) -> String {
        self.fpm.upstream("guarded.php")
    }

    /// The same through nginx.
    pub fn upstream_through(&self, nginx: &Nginx) -> String {
        nginx.upstream("guarded.php")
    }

    /// What has reached PHP, in order.
    pub fn notes(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.file()).unwrap_or_default();
        // The last line may be there in part.
        let (whole, _) = text.rsplit_once('\n').unwrap_or_default();
        whole.lines().map(str::to_owned).collect()
    }

    pub fn count(&self, note: &str) -> usize {
        self.notes().iter().filter(|noted| *noted == note).count()
    }

    pub async fn has_noted(&self, note: &str) {
        eventually(&format!("{note:?} at PHP"), || {
            (self.count(note) > 0).then_some(())
        })
        .await;
    }

    /// Lets all requests go that hold, now and from now on.
    pub fn let_go(&self) {
        std::fs::write(self.file().with_extension("go"), "").unwrap();
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("notes")
    }
}
