//! The compiled code of plugins, kept between starts: a file for each component, named after its content and its compiler.
//!
//! Such a file is mapped into memory as it is. wasmtime's own cache compresses its files and copies them, which for the
//! forty megabytes of a plugin in Python takes longer than the rest of a start. And a mapped file is read only as far as it
//! is used, and shared by all processes through the kernel's page cache.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use wasmtime::Engine;
use wasmtime::component::Component;

/// An entry that has not been used for this long is removed when another one is written.
const KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The file name extension of entries.
const EXTENSION: &str = "cwasm";
/// How precise the time of an entry's last use is.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The directory. Its files are run as they are, so nobody except this user may put anything there.
pub(super) struct Compiled {
    dir: PathBuf,
}

impl Compiled {
    /// Makes the directory if it does not exist. The default is `$XDG_CACHE_HOME/aileron`, `~/.cache/aileron`, or a private
    /// one among the temporary directories. An error comes with the name of the directory.
    pub(super) fn open(dir: Option<&Path>) -> Result<Self, (PathBuf, io::Error)> {
        let dir = dir.map_or_else(default_dir, Path::to_owned);
        match make_safe(&dir) {
            Ok(()) => Ok(Self { dir }),
            Err(error) => Err((dir, error)),
        }
    }

    /// The component of these bytes, whose SHA-256 in hex is `hash`: from here, or else from the compiler, which takes from
    /// milliseconds to seconds on all cores.
    pub(super) fn component(&self, engine: &Engine, hash: &str, bytes: &[u8]) -> wasmtime::Result<Component> {
        let file = self.dir.join(name(engine, hash));
        if let Some(component) = mapped(engine, &file) {
            keep_longer(&file);
            return Ok(component);
        }
        let code = engine.precompile_component(bytes)?;
        match self.keep(&file, &code) {
            Ok(()) => {
                if let Some(component) = mapped(engine, &file) {
                    return Ok(component);
                }
            }
            Err(error) => {
                tracing::warn!(dir = %self.dir.display(), %error, "compiled code cannot be kept; the next start compiles again");
            }
        }
        #[expect(unsafe_code, reason = "wasmtime cannot see where the code comes from")]
        // SAFETY: this very engine has just made it.
        unsafe {
            Component::deserialize(engine, &code)
        }
    }

    /// Writes an entry atomically, so that it is never there in part: if the process or the machine stops in the middle, what
    /// was there before stays.
    fn keep(&self, file: &Path, code: &[u8]) -> io::Result<()> {
        self.clean_up();
        let fresh = file.with_extension(format!("{:x}.{EXTENSION}", fastrand::u64(..)));
        let written = File::create_new(&fresh).and_then(|mut writer| {
            writer.write_all(code)?;
            writer.sync_all()
        });
        let kept = written.and_then(|()| fs::rename(&fresh, file));
        if kept.is_err() {
            let _ = fs::remove_file(&fresh);
        }
        kept
    }

    /// Removes entries that have not been used for long: those of plugins and gateways that no longer exist. The directory is
    /// the operator's choice, so other files in it stay.
    fn clean_up(&self) {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        for entry in entries {
            let path = entry.path();
            let is_ours = path.extension().is_some_and(|extension| extension == EXTENSION);
            let used = entry.metadata().and_then(|metadata| metadata.modified());
            if is_ours && used.is_ok_and(|used| age(used) > KEPT_FOR) {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// An entry is useless for another version of the compiler, other settings of it, or another kind of processor.
fn name(engine: &Engine, hash: &str) -> String {
    let mut compiler = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut compiler);
    format!("{hash}-{:016x}.{EXTENSION}", compiler.finish())
}

/// None if there is no such entry, or if it is for another engine.
fn mapped(engine: &Engine, file: &Path) -> Option<Component> {
    if !file.exists() {
        return None;
    }
    #[expect(unsafe_code, reason = "wasmtime cannot see where the code comes from")]
    // SAFETY: nobody except this user writes to the directory, and `keep` only puts there what an engine has made, as a
    // whole, and never changed afterwards. wasmtime refuses what an engine unlike this one has made.
    let component = unsafe { Component::deserialize_file(engine, file) };
    component
        .inspect_err(
            |error| tracing::debug!(file = %file.display(), %error, "compiled code cannot be used; compiling again"),
        )
        .ok()
}

/// Notes that an entry was used.
fn keep_longer(file: &Path) {
    let noted = File::open(file).and_then(|file| {
        if age(file.metadata()?.modified()?) > DAY {
            file.set_modified(SystemTime::now())?;
        }
        Ok(())
    });
    if let Err(error) = noted {
        tracing::debug!(file = %file.display(), %error, "the use of compiled code cannot be noted");
    }
}

fn age(time: SystemTime) -> Duration {
    time.elapsed().unwrap_or_default()
}

fn default_dir() -> PathBuf {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    match base {
        Some(base) if fs::create_dir_all(&base).is_ok() => base.join("aileron"),
        _ => std::env::temp_dir().join(format!("aileron-{}", rustix::process::geteuid().as_raw())),
    }
}

/// An existing one is left as it is: others may use it too.
fn make_safe(dir: &Path) -> io::Result<()> {
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let found = fs::metadata(dir)?;
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other(
            "it belongs to another user, who could put code there",
        ));
    }
    if found.permissions().mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(io::Error::other(
            "other users may write to it, and could put code there (`chmod go-w` takes that from them)",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// The smallest component.
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    fn entries(dir: &TempDir) -> Vec<PathBuf> {
        let entries = fs::read_dir(dir.path()).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn what_was_compiled_is_found_again() {
        let (dir, engine) = (TempDir::new().unwrap(), Engine::default());
        let compiled = Compiled::open(Some(dir.path())).ok().unwrap();
        compiled.component(&engine, "hash", EMPTY).unwrap();
        assert_eq!(entries(&dir).len(), 1);
        // Not a component, so it cannot come from the compiler.
        compiled.component(&engine, "hash", b"").unwrap();
        assert!(compiled.component(&engine, "other", b"").is_err());
    }

    #[test]
    fn what_is_damaged_is_compiled_again() {
        let (dir, engine) = (TempDir::new().unwrap(), Engine::default());
        let compiled = Compiled::open(Some(dir.path())).ok().unwrap();
        for damaged in [&b""[..], b"damaged"] {
            let file = dir.path().join(name(&engine, "hash"));
            fs::write(&file, damaged).unwrap();
            compiled.component(&engine, "hash", EMPTY).unwrap();
            assert!(fs::metadata(&file).unwrap().len() > 7);
        }
    }

    #[test]
    fn what_is_used_is_kept_and_unused_code_goes_after_a_while_and_nothing_else() {
        let (dir, engine) = (TempDir::new().unwrap(), Engine::default());
        let compiled = Compiled::open(Some(dir.path())).ok().unwrap();
        for hash in ["used", "unused"] {
            compiled.component(&engine, hash, EMPTY).unwrap();
        }
        let foreign = dir.path().join("notes.txt");
        fs::write(&foreign, "not a gateway's").unwrap();
        let long_ago = SystemTime::now() - 2 * KEPT_FOR;
        for file in entries(&dir) {
            File::open(file).unwrap().set_modified(long_ago).unwrap();
        }
        compiled.component(&engine, "used", EMPTY).unwrap();
        compiled.component(&engine, "new", EMPTY).unwrap();
        let mut left = entries(&dir);
        left.sort();
        let entry = |hash| dir.path().join(name(&engine, hash));
        assert_eq!(left, [entry("new"), foreign, entry("used")]);
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_refused_and_none_is_changed() {
        let parent = TempDir::new().unwrap();
        let dir = parent.path().join("compiled");
        let mode = || fs::metadata(&dir).unwrap().permissions().mode() & 0o777;
        assert!(Compiled::open(Some(&dir)).is_ok());
        assert_eq!(mode(), 0o700);
        for (open, is_safe) in [(0o755, true), (0o775, false), (0o777, false)] {
            fs::set_permissions(&dir, fs::Permissions::from_mode(open)).unwrap();
            assert_eq!(Compiled::open(Some(&dir)).is_ok(), is_safe, "{open:o}");
            assert_eq!(mode(), open);
        }
    }
}
