//! The plugin directory at a moment: which files are there, and with which content.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, open, openat, statat};
use rustix::io::Errno;

use super::load;

/// What tells whether a file may have changed, without reading it. Links are followed, so that a link that is pointed at
/// another file counts as a change, as does a link to a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: i64,
    changed: (i64, u64),
}

impl Stamp {
    /// Of what cannot be looked at, or is not a file.
    const UNREADABLE: Self = Self {
        device: 0,
        inode: 0,
        size: -1,
        changed: (0, 0),
    };
}

#[cfg(test)]
impl Stamp {
    /// One that stands for a content.
    pub(super) fn of(content: i64) -> Self {
        Self {
            device: 0,
            inode: 0,
            size: content,
            changed: (0, 0),
        }
    }
}

/// The longest plugin file, in bytes. One in Python, which are the longest by far, has 18 MB.
const MAX_LENGTH: u64 = 128 << 20;

/// The stamps of all plugin files, by file name, which is the order of the chain.
pub(super) type Stamps = BTreeMap<String, Stamp>;

/// A plugin file that was read.
pub(super) struct Content {
    pub(super) bytes: Vec<u8>,
    pub(super) hash: String,
}

/// The directory, opened. What is seen through it is one directory, even if its name leads to another one meanwhile, or to
/// none: files that were moved away with it are not taken for removed ones.
pub(super) struct Directory {
    opened: OwnedFd,
    path: PathBuf,
}

impl Directory {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            opened: open(path, flags, Mode::empty())?,
            path: path.to_owned(),
        })
    }

    /// As it is configured. For people: it may lead to another directory by now.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Looks at the files. Hidden ones and those not named `*.wasm` are not plugins: editors and copying programs write to
    /// such names first.
    pub(super) fn stamps(&self) -> io::Result<Stamps> {
        let mut stamps = Stamps::new();
        for entry in Dir::read_from(&self.opened)? {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().ok().filter(|name| is_plugin(name)) else {
                continue;
            };
            // A dangling link, or something that is not a file, still counts as there: the version that serves goes on.
            let stamp = match statat(&self.opened, name, AtFlags::empty()) {
                Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::RegularFile => Stamp {
                    device: found.st_dev,
                    inode: found.st_ino,
                    size: found.st_size,
                    changed: (found.st_ctime, found.st_ctime_nsec),
                },
                _ if self.has(name) => Stamp::UNREADABLE,
                // It was removed between the two calls.
                _ => continue,
            };
            stamps.insert(name.to_owned(), stamp);
        }
        Ok(stamps)
    }

    /// Whether there is an entry of this name, whatever it is or leads to.
    pub(super) fn has(&self, name: &str) -> bool {
        !matches!(
            statat(&self.opened, name, AtFlags::SYMLINK_NOFOLLOW),
            Err(Errno::NOENT)
        )
    }

    /// SHA-256 of a plugin file, in hex. It is never in memory as a whole.
    pub(super) fn hash(&self, name: &str) -> io::Result<String> {
        self.file(name).and_then(load::hash_of)
    }

    /// Reads a plugin file.
    pub(super) fn read(&self, name: &str) -> io::Result<Content> {
        let mut bytes = Vec::new();
        self.file(name)?.read_to_end(&mut bytes)?;
        Ok(Content {
            hash: load::hash(&bytes),
            bytes,
        })
    }

    /// What there is of a file, unless that is more than any plugin has.
    fn file(&self, name: &str) -> io::Result<impl Read> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(&self.opened, name, flags, Mode::empty())?);
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        let length = found.len();
        if length > MAX_LENGTH {
            let text = format!(
                "it has {length} bytes, and the longest plugin may have {} MiB",
                MAX_LENGTH >> 20
            );
            return Err(io::Error::other(text));
        }
        // It may grow while it is being read.
        Ok(file.take(MAX_LENGTH))
    }
}

/// The directory that a path leads to now, with all links resolved: that is the one to watch.
pub(super) fn identity(path: &Path) -> Option<(PathBuf, u64)> {
    let real = path.canonicalize().ok()?;
    let inode = std::fs::metadata(&real).ok()?.ino();
    Some((real, inode))
}

/// The plugin's name: its file name without `.wasm`.
pub(super) fn plugin_name(file: &str) -> &str {
    file.strip_suffix(".wasm").unwrap_or(file)
}

/// The name without the number that gives its place in the chain: `chat` for `20-chat`.
pub(super) fn short_name(name: &str) -> &str {
    let rest = name.trim_start_matches(|c: char| c.is_ascii_digit());
    match rest.strip_prefix(['-', '_']) {
        Some(short) if rest.len() < name.len() && !short.is_empty() => short,
        _ => name,
    }
}

fn is_plugin(name: &str) -> bool {
    name.ends_with(".wasm") && !name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn names_lose_their_number_and_nothing_else() {
        for (name, short) in [
            ("20-chat", "chat"),
            ("5_a", "a"),
            ("chat", "chat"),
            ("20", "20"),
            ("2fa", "2fa"),
            ("7-", "7-"),
        ] {
            assert_eq!(short_name(name), short);
        }
    }

    #[test]
    fn temporary_and_hidden_files_are_no_plugins() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "b.wasm",
            "a.wasm",
            ".c.wasm",
            "d.wasm.part",
            "e.wasm~",
            "notes.txt",
        ] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        fs::create_dir(dir.path().join("f.wasm")).unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join("g.wasm")).unwrap();
        std::os::unix::fs::symlink("notes.txt", dir.path().join("h.wasm")).unwrap();
        let found = Directory::open(dir.path()).unwrap().stamps().unwrap();
        let names: Vec<_> = found.into_keys().collect();
        // Whatever is not a file counts as there, and cannot be read.
        assert_eq!(names, ["a.wasm", "b.wasm", "f.wasm", "g.wasm", "h.wasm"]);
        let opened = Directory::open(dir.path()).unwrap();
        assert!(opened.hash("f.wasm").is_err() && opened.hash("g.wasm").is_err() && opened.has("g.wasm"));
    }

    #[test]
    fn a_directory_that_is_moved_away_while_it_is_looked_at_is_seen_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (plugins, away) = (dir.path().join("plugins"), dir.path().join("away"));
        fs::create_dir(&plugins).unwrap();
        fs::write(plugins.join("a.wasm"), "a").unwrap();
        let opened = Directory::open(&plugins).unwrap();
        let before = opened.stamps().unwrap();
        fs::rename(&plugins, away).unwrap();
        fs::create_dir(&plugins).unwrap();
        assert_eq!(opened.stamps().unwrap(), before);
        assert_eq!(opened.read("a.wasm").unwrap().bytes, b"a");
        assert_eq!(opened.hash("a.wasm").unwrap(), load::hash(b"a"));
    }
}
