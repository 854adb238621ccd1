//! The folder of compiled code. Its files are run as they are, so nobody except this user may put anything there.
//!
//! It is opened once, and used by its descriptor from then on: whoever may rename one of the folders above it cannot put
//! another one in its place. Each file is looked at by its own descriptor, too, before anything of it is read.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, openat, renameat, statat, unlinkat};

pub(super) struct Folder {
    dir: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// Makes it if it does not exist. An existing one is left as it is: others may use it too.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let dir = File::open(path)?;
        let found = dir.metadata()?;
        if !found.is_dir() {
            return Err(io::Error::from(io::ErrorKind::NotADirectory));
        }
        check(&found)?;
        Ok(Self {
            dir: dir.into(),
            path: path.to_owned(),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file to read it.
    pub(super) fn file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(&self.dir, name, flags, Mode::empty())?);
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        check(&found)?;
        Ok(file)
    }

    /// Writes a file atomically, so that it is never there in part: if the process or the machine stops in the middle, what
    /// was there before stays.
    pub(super) fn write(&self, name: &str, parts: &[&[u8]]) -> io::Result<()> {
        let fresh = format!("{:x}.{name}", fastrand::u64(..));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mut file = File::from(openat(&self.dir, &fresh, flags, Mode::RUSR | Mode::WUSR)?);
        let written = parts.iter().try_for_each(|part| file.write_all(part));
        let written = written.and_then(|()| file.sync_all());
        let kept = written.and_then(|()| Ok(renameat(&self.dir, &fresh, &self.dir, name)?));
        if kept.is_err() {
            self.remove(&fresh);
        }
        kept
    }

    /// Removes the files of an extension that have not been touched for so long. The folder is the operator's choice, so other
    /// files in it stay.
    pub(super) fn clean_up(&self, extension: &str, kept_for: Duration) {
        let entries = Dir::read_from(&self.dir).into_iter().flatten().flatten();
        for entry in entries {
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            if Path::new(name).extension().is_none_or(|found| found != extension) {
                continue;
            }
            let Ok(found) = statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            let touched = u64::try_from(found.st_mtime).unwrap_or(0);
            let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + Duration::from_secs(touched));
            if age.is_ok_and(|age| age > kept_for) {
                self.remove(name);
            }
        }
    }

    fn remove(&self, name: &str) {
        let _ = unlinkat(&self.dir, name, AtFlags::empty());
    }
}

/// Only this user may have written it.
fn check(found: &fs::Metadata) -> io::Result<()> {
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other(
            "it belongs to another user, who could put code there",
        ));
    }
    if found.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(io::Error::other(
            "other users may write to it, and could put code there (`chmod go-w` takes that from them)",
        ));
    }
    Ok(())
}
