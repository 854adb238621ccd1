//! The plugins of `tests/guests`: built when they are older than their sources, changed where a test wants another
//! version, put into a gateway's directory, and watched there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use wit_component::ComponentEncoder;

use super::{Gateway, PATIENCE, repository};

/// A gateway that takes up changes of its plugin directory at once. Settings of plugins may follow.
pub const QUICK: &str = "[plugins]\ndir = \"plugins\"\nsettle = \"20ms\"\npoll = \"100ms\"\n";

/// A plugin as a core module with its interface, which is what most tests take.
pub fn guest(name: &str) -> Vec<u8> {
    read(&built().join(format!("{name}.wasm")))
}

/// The same as a component, made here.
pub fn component(name: &str) -> Vec<u8> {
    let encoder = ComponentEncoder::default().module(&guest(name)).unwrap();
    encoder.validate(true).encode().unwrap()
}

/// A plugin built for `wasip1` or `wasip2`. None, said loudly, where this Rust cannot build that.
pub fn guest_for(target: &str, name: &str) -> Option<Vec<u8>> {
    let missing = built().join(format!("{target}.missing"));
    if let Ok(reason) = std::fs::read_to_string(missing) {
        eprintln!("SKIPPED: no plugins for {target} are tested: {}", reason.trim());
        return None;
    }
    Some(read(&built().join(format!("{name}.{target}.wasm"))))
}

/// The guest `stamp` of a version; each has other bytes.
pub fn stamp(number: usize) -> Vec<u8> {
    with_version(guest("stamp"), number)
}

/// A guest with a version written into it.
pub fn with_version(mut guest: Vec<u8>, number: usize) -> Vec<u8> {
    let place = version(0).into_bytes();
    let found: Vec<_> = (0..guest.len())
        .filter(|at| guest[*at..].starts_with(&place))
        .collect();
    assert_eq!(found.len(), 1, "the place for the version is there once");
    guest[found[0]..][..place.len()].copy_from_slice(version(number).as_bytes());
    guest
}

/// What a guest says when it is asked for its version.
pub fn version(number: usize) -> String {
    format!("VERSION-{number:08}")
}

/// As `/plugins` and the log name a content.
pub fn hash(content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Puts a file in its place in one step, as `mv` does.
pub fn put(path: &Path, content: &[u8]) {
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, content).unwrap();
    std::fs::rename(fresh, path).unwrap();
}

impl Gateway {
    /// Starts with these plugins in its directory.
    pub async fn with_plugins(plugins: &[(&str, &[u8])], config: &str) -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::create_dir(dir.path().join("plugins")).unwrap();
        for (name, content) in plugins {
            std::fs::write(dir.path().join("plugins").join(format!("{name}.wasm")), content).unwrap();
        }
        Self::start_in(dir, config).await
    }

    /// The path of a plugin in the gateway's directory.
    pub fn plugin_file(&self, name: &str) -> PathBuf {
        self.plugins().join(format!("{name}.wasm"))
    }

    /// A plugin as `/plugins` shows it.
    pub async fn plugin(&self, name: &str) -> Option<Value> {
        let mut chain = self.chain().await.into_iter();
        chain.find(|plugin| plugin["name"] == name)
    }

    /// Waits until `/plugins` shows a plugin as wanted.
    pub async fn shows(&self, name: &str, what: &str, look: impl Fn(&Value) -> bool) -> Value {
        let plugin = async || self.plugin(name).await.filter(&look);
        until(&format!("{name} is {what}"), plugin).await
    }

    /// Waits until this content serves and nothing else is wanted of the plugin.
    pub async fn serves(&self, name: &str, content: &[u8]) {
        let hash = hash(content);
        let look = |plugin: &Value| plugin["state"] == "serving" && plugin["hash"] == *hash;
        self.shows(name, "serving the new content", look).await;
    }

    /// Waits until a plugin is not listed any more.
    pub async fn forgets(&self, name: &str) {
        let gone = async || self.plugin(name).await.is_none().then_some(());
        until(&format!("{name} is gone"), gone).await;
    }

    /// Waits until a metric has a value.
    pub async fn measures(&self, metric: &str, value: f64) {
        self.shows_metric(&format!("{metric} is {value}"), metric, |n| n == value)
            .await;
    }

    /// Waits until a metric is as wanted.
    pub async fn shows_metric(&self, what: &str, metric: &str, look: impl Fn(f64) -> bool) {
        let look = async || look(self.metric(metric).await).then_some(());
        until(what, look).await;
    }
}

/// `eventually`, for what must be asked for.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(start.elapsed() < PATIENCE, "not seen within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The directory of the built guests, up to date.
fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let out = repository("tests/guests/target/guests");
        // The script leaves this behind when all is done.
        let built = out.join("built").metadata().and_then(|found| found.modified());
        if built.is_err() || built.is_ok_and(|built| built < last_change()) {
            build();
        }
        out
    })
}

fn build() {
    let script = repository("tests/guests/build");
    eprintln!("building the guests by {}", script.display());
    let built = Command::new(&script).stdin(Stdio::null()).output().unwrap();
    assert!(
        built.status.success(),
        "{} failed:\n{}",
        script.display(),
        String::from_utf8_lossy(&built.stderr)
    );
}

/// When what guests are made of was changed last.
fn last_change() -> SystemTime {
    let sources = ["tests/guests", "plugins/sdk", "plugins/build", "wit"];
    let times = sources.map(|source| newest(&repository(source)));
    times.into_iter().max().unwrap()
}

fn newest(path: &Path) -> SystemTime {
    if path.ends_with("target") {
        return SystemTime::UNIX_EPOCH;
    }
    let found = path.metadata().unwrap();
    if !found.is_dir() {
        return found.modified().unwrap();
    }
    let entries = path
        .read_dir()
        .unwrap()
        .map(|entry| newest(&entry.unwrap().path()));
    entries.max().unwrap_or(SystemTime::UNIX_EPOCH)
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path)
        .unwrap_or_else(|error| panic!("{} ({error}): did tests/guests/build make it?", path.display()))
}
