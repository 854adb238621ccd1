//! The compiled code of plugins, kept between starts: a file for each component, named after its content and its compiler.
//!
//! Such a file is mapped into memory as it is. wasmtime's own cache compresses its files and copies them, which for the
//! forty megabytes of a plugin in Python takes longer than the rest of a start. And a mapped file is shared by all processes
//! through the kernel's page cache. Behind the code stands its checksum: code of which a bit has changed would crash the
//! gateway.

mod folder;

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use folder::Folder;

/// An entry that has not been used for this long is removed when another one is written.
const KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The file name extension of entries.
const EXTENSION: &str = "cwasm";
/// How precise the time of an entry's last use is.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Bytes of the checksum at the end of an entry.
const CHECKSUM: u64 = 32;

/// The cache. Without a usable folder nothing is kept.
pub(super) struct Compiled(Option<Folder>);

impl Compiled {
    /// Opens the folder, and creates it if it does not exist. The default is `$XDG_CACHE_HOME/aileron`, `~/.cache/aileron`, or a
    /// private folder in the one for temporary files. Plugins work without a cache, so the gateway starts even if it cannot
    /// use the folder.
    pub(super) fn open(dir: Option<&Path>) -> Self {
        let dir = dir.map_or_else(default_dir, Path::to_owned);
        let folder = Folder::open(&dir).inspect_err(|error| {
            tracing::warn!(
                dir = %dir.display(),
                %error,
                "compiled plugins are not kept, so each start compiles them anew ([plugins] `cache` sets another directory)"
            );
        });
        Self(folder.ok())
    }

    /// The component of these bytes, whose SHA-256 in hex is `hash`: from here, or else from the compiler, which takes from
    /// milliseconds to seconds on all cores.
    pub(super) fn component(&self, engine: &Engine, hash: &str, bytes: &[u8]) -> wasmtime::Result<Component> {
        let Some(folder) = &self.0 else {
            return Component::new(engine, bytes);
        };
        let name = name(engine, hash);
        if let Some(component) = mapped(engine, folder, &name) {
            return Ok(component);
        }
        let code = engine.precompile_component(bytes)?;
        folder.clean_up(EXTENSION, KEPT_FOR);
        match folder.write(&name, &[&code, &Sha256::digest(&code)]) {
            Ok(()) => {
                if let Some(component) = mapped(engine, folder, &name) {
                    return Ok(component);
                }
            }
            Err(error) => {
                tracing::warn!(dir = %folder.path().display(), %error, "compiled code cannot be kept; the next start compiles again");
            }
        }
        #[expect(unsafe_code, reason = "wasmtime cannot see where the code comes from")]
        // SAFETY: this very engine has just made it.
        unsafe {
            Component::deserialize(engine, &code)
        }
    }
}

/// An entry is useless for another version of the compiler, other settings of it, or another kind of processor.
fn name(engine: &Engine, hash: &str) -> String {
    let mut compiler = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut compiler);
    format!("{hash}-{:016x}.{EXTENSION}", compiler.finish())
}

/// Gives none if the entry does not exist or cannot be used.
fn mapped(engine: &Engine, folder: &Folder, name: &str) -> Option<Component> {
    let file = match folder.file(name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(file = name, %error, "compiled code is not used; compiling again");
            return None;
        }
    };
    match is_whole(&file) {
        Ok(true) => {}
        Ok(false) => {
            tracing::warn!(file = name, "compiled code is damaged; compiling again");
            return None;
        }
        Err(error) => {
            tracing::warn!(file = name, %error, "compiled code cannot be read; compiling again");
            return None;
        }
    }
    // By the descriptor whose content was checked, which has this name.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    #[expect(unsafe_code, reason = "wasmtime cannot see where the code comes from")]
    // SAFETY: only this user can have written the file, `Compiled` writes only what an engine has made, as a whole, and the
    // checksum tells that it is still that. wasmtime refuses what an engine unlike this one has made.
    let component = unsafe { Component::deserialize_file(engine, path) };
    keep_longer(&file, name);
    component
        .inspect_err(
            |error| tracing::debug!(file = name, %error, "compiled code cannot be used; compiling again"),
        )
        .ok()
}

/// Whether the checksum at the end is that of what is before it.
fn is_whole(mut file: &File) -> io::Result<bool> {
    let Some(length) = file.metadata()?.len().checked_sub(CHECKSUM) else {
        return Ok(false);
    };
    let mut found = Sha256::new();
    io::copy(&mut file.take(length), &mut found)?;
    let mut expected = Vec::new();
    file.read_to_end(&mut expected)?;
    Ok(found.finalize()[..] == expected[..])
}

/// Notes that an entry was used.
fn keep_longer(file: &File, name: &str) {
    let noted = file
        .metadata()
        .and_then(|found| found.modified())
        .and_then(|used| {
            if age(used) > DAY {
                file.set_modified(SystemTime::now())?;
            }
            Ok(())
        });
    if let Err(error) = noted {
        tracing::debug!(file = name, %error, "the use of compiled code cannot be noted");
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

#[cfg(test)]
mod tests;
