//! The plugin directory at a moment: which files are there, and with which content.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::load;

/// What tells whether a file may have changed, without reading it. Links are followed, so that a link that is pointed at
/// another file counts as a change, as does a link to a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
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

/// Looks at the directory. Hidden files and those not named `*.wasm` are not plugins: editors and copying programs write
/// to such names first.
pub(super) fn stamps(dir: &Path) -> io::Result<Stamps> {
    let mut stamps = Stamps::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str().filter(|name| is_plugin(name)) else {
            continue;
        };
        // A file that was removed between the two calls, or a dangling link, is not there.
        let Ok(found) = fs::metadata(dir.join(name)) else {
            continue;
        };
        if found.is_file() {
            let stamp = Stamp {
                device: found.dev(),
                inode: found.ino(),
                size: found.size(),
                changed: (found.ctime(), found.ctime_nsec()),
            };
            stamps.insert(name.to_owned(), stamp);
        }
    }
    Ok(stamps)
}

/// SHA-256 of the plugin files that are there, in hex, each if it can be read. None of them is in memory as a whole.
pub(super) fn hashes(dir: &Path, stamps: &Stamps) -> BTreeMap<String, io::Result<String>> {
    let files = stamps.keys().map(|name| {
        let hash = open(&dir.join(name)).and_then(load::hash_of);
        (name.clone(), hash)
    });
    // A file that was removed since the stamps were taken is not there.
    files
        .filter(|(_, hash)| !matches!(hash, Err(error) if error.kind() == io::ErrorKind::NotFound))
        .collect()
}

/// Reads a plugin file.
pub(super) fn read(path: &Path) -> io::Result<Content> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(Content {
        hash: load::hash(&bytes),
        bytes,
    })
}

/// What there is of a file, unless that is more than any plugin has.
fn open(path: &Path) -> io::Result<impl Read> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
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

/// The directory itself, with all links resolved: if the name leads to another one, that one must be watched.
pub(super) fn identity(dir: &Path) -> Option<(PathBuf, u64)> {
    let real = dir.canonicalize().ok()?;
    let inode = fs::metadata(&real).ok()?.ino();
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
        let names: Vec<_> = stamps(dir.path()).unwrap().into_keys().collect();
        assert_eq!(names, ["a.wasm", "b.wasm", "h.wasm"]);
    }
}
