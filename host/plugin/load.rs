//! From the bytes of a file to a version that is fit to serve. Everything is tried before the version takes over.
//!
//! A file is a component, or a core module that carries its WIT in a custom section, or one of those for WASI preview 1;
//! modules become components here. Then it is compiled, linked, instantiated and configured: a record that does not match
//! or a bad setting only shows in the last two steps.

use std::borrow::Cow;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use sha2::{Digest, Sha256};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmparser::{Parser, Payload as Section, Validator, WasmFeatures};
use wasmtime::component::{Component, InstancePre};
use wit_component::ComponentEncoder;

use super::bindings::{Exports, InterestOut, PACKAGE, VERSION};
use super::engine::Engine;
use super::guest::Guest;
use super::instance::{CallError, Instance};
use super::probation::Probation;
use super::sockets::{self, SOCKETS};
use super::version::{FrameKinds, Instances, Interest, Version};
use crate::config::{PathPattern, Policy};
use crate::message::{Connection, excerpt};
use crate::metrics::Metrics;

/// What the interest of a plugin may say, in bytes: it is kept, and gone through at each call.
const MAX_INTEREST: usize = 64 * 1024;

/// What to load.
pub(super) struct Candidate<'a> {
    pub(super) name: Arc<str>,
    pub(super) file: Option<PathBuf>,
    pub(super) bytes: &'a [u8],
    /// Of these bytes.
    pub(super) hash: String,
    pub(super) settings: Vec<(String, String)>,
    pub(super) policy: Policy,
    pub(super) probation: Option<Probation>,
}

/// Why a file is refused, and what would help.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Not the content that the operator allows.
    #[error("its SHA-256 is {found}, but [plugins.policy.{name}] sha256 allows {allowed} alone")]
    Pinned {
        /// The plugin.
        name: Arc<str>,
        /// Of the file.
        found: String,
        /// Of the configuration.
        allowed: String,
    },
    /// Not WebAssembly.
    #[error("it is not WebAssembly: it does not begin with `\\0asm`{}", hint(.0))]
    NotWasm(Vec<u8>),
    /// Cut off or damaged.
    #[error("it is not valid WebAssembly: {0} (is the file complete?)")]
    Invalid(String),
    /// A core module without its WIT.
    #[error(
        "it is a core module without its interface; build it with wit-bindgen, or embed the interface by \
         `wasm-tools component embed wit/ --world gateway FILE`"
    )]
    NoInterface,
    /// A module that cannot become a component.
    #[error("it cannot be made a component: {0}")]
    NoComponent(String),
    /// For an engine that runs several calls of an instance at once.
    #[error(
        "it is built for the component model's own `async`, which plugins do without; build it synchronously \
         (componentize-qjs: `--sync`, jco: `--backend-qjs-disable-async`)"
    )]
    Async,
    /// The compiler refused.
    #[error("it does not compile: {0}")]
    Compile(String),
    /// It has nothing that the host could call.
    #[error("it exports no interface of {PACKAGE}* that this host (version {VERSION}) calls; it exports {0}")]
    NoHook(String),
    /// It imports something that the host does not offer.
    #[error("it imports `{0}`, which plugins are not given; {1}")]
    Import(String, &'static str),
    /// Linking failed.
    #[error("it does not link: {0}")]
    Link(String),
    /// The trial instance failed.
    #[error("its trial instance failed: {0}")]
    Trial(#[from] CallError),
    /// The plugin refused its settings.
    #[error("it refuses its settings ([plugins.config.{name}]): {refusal}")]
    Refused {
        /// The plugin.
        name: Arc<str>,
        /// Its words.
        refusal: String,
    },
    /// Its interest makes no sense.
    #[error("its interest is wrong: {0}")]
    Interest(String),
}

/// SHA-256 in hex.
pub(super) fn hash(bytes: &[u8]) -> String {
    in_hex(&Sha256::digest(bytes))
}

/// The same of what is read from a file, piece by piece.
pub(super) fn hash_of(mut file: impl Read) -> io::Result<String> {
    let mut hasher = Sha256::new();
    io::copy(&mut file, &mut hasher)?;
    Ok(in_hex(&hasher.finalize()))
}

fn in_hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Loads and tries a candidate. Blocks for as long as the compiler takes.
pub(super) fn load(
    engine: &Engine,
    metrics: &Arc<Metrics>,
    candidate: Candidate<'_>,
) -> Result<Version, LoadError> {
    let Candidate {
        name,
        file,
        bytes,
        hash,
        settings,
        policy,
        probation,
    } = candidate;
    if let Some(allowed) = policy.sha256.filter(|allowed| *allowed != hash) {
        return Err(LoadError::Pinned {
            name,
            found: hash,
            allowed,
        });
    }
    let started = Instant::now();
    let component = match component(bytes)? {
        Cow::Borrowed(component) => compile(engine, &hash, component),
        Cow::Owned(component) => compile(engine, &self::hash(&component), &component),
    }?;
    metrics.compile.observe(started.elapsed().as_secs_f64());
    let interface = interface_version(engine, &component)?;
    let code = link(engine, &component)?;
    let guest = Guest::new(name.clone(), engine.shared.clone(), &settings);
    let mut first = Instance::new(&code, guest, &metrics.instances)?;
    let wish = first
        .configure(&settings)?
        .map_err(|refusal| LoadError::Refused {
            name: name.clone(),
            refusal: excerpt(&refusal).into_owned(),
        })?;
    let interest = interest(&name, wish)?;
    metrics.generations.inc();
    Ok(Version {
        hash,
        interface,
        exports: handlers(&first)?,
        interest,
        settings,
        on_failure: policy.on_failure,
        probation,
        code,
        shared: engine.shared.clone(),
        instances: Instances::new(first),
        counters: metrics.plugin(&name),
        metrics: metrics.clone(),
        name,
        file,
    })
}

/// A plugin of any form as a component. Validating one that is a component already is left to the compiler, which skips what
/// it has compiled before: looking through the megabytes of a scripting language takes a while.
fn component(bytes: &[u8]) -> Result<Cow<'_, [u8]>, LoadError> {
    if !bytes.starts_with(b"\0asm") {
        return Err(LoadError::NotWasm(bytes.iter().take(16).copied().collect()));
    }
    if Parser::is_component(bytes) {
        return Ok(Cow::Borrowed(bytes));
    }
    validate(bytes)?;
    if !has_interface(bytes) {
        return Err(LoadError::NoInterface);
    }
    ComponentEncoder::default()
        .module(bytes)
        .and_then(|encoder| {
            encoder.adapter(
                WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
                WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
            )
        })
        .and_then(|encoder| encoder.validate(true).encode())
        .map(Cow::Owned)
        .map_err(|e| LoadError::NoComponent(format!("{e:#}")))
}

fn validate(bytes: &[u8]) -> Result<(), LoadError> {
    wasmparser::validate(bytes)
        .map(drop)
        .map_err(|e| LoadError::Invalid(e.to_string()))
}

fn compile(engine: &Engine, hash: &str, component: &[u8]) -> Result<Component, LoadError> {
    let compiled = engine.component(hash, component);
    compiled.map_err(|error| not_compiled(component, &error))
}

/// Why the compiler refused a component.
fn not_compiled(component: &[u8], error: &wasmtime::Error) -> LoadError {
    if let Err(invalid) = validate(component) {
        return invalid;
    }
    let synchronous = WasmFeatures::default().difference(WasmFeatures::CM_ASYNC);
    match Validator::new_with_features(synchronous).validate_all(component) {
        Ok(_) => LoadError::Compile(format!("{error:#}")),
        Err(_) => LoadError::Async,
    }
}

/// wit-bindgen leaves the WIT in custom sections of this name.
fn has_interface(module: &[u8]) -> bool {
    Parser::new(0)
        .parse_all(module)
        .filter_map(Result::ok)
        .any(|section| matches!(section, Section::CustomSection(custom) if custom.name().starts_with("component-type")))
}

/// The version of our package that the exports name.
fn interface_version(engine: &Engine, component: &Component) -> Result<String, LoadError> {
    let ty = component.component_type();
    let names: Vec<_> = ty
        .exports(engine.wasmtime())
        .map(|(name, _)| name.to_owned())
        .collect();
    let version = names
        .iter()
        .find_map(|name| name.strip_prefix(PACKAGE)?.split_once('@'));
    match version {
        Some((_, version)) => Ok(version.to_owned()),
        None if names.is_empty() => Err(LoadError::NoHook("nothing".to_owned())),
        None => Err(LoadError::NoHook(format!("`{}`", names.join("`, `")))),
    }
}

/// `lifecycle` alone handles nothing.
fn handlers(instance: &Instance) -> Result<Exports, LoadError> {
    let exports = instance.exports();
    if exports.any() {
        return Ok(exports);
    }
    Err(LoadError::NoHook("no handler of a compatible version".to_owned()))
}

/// Imports that the host does not offer are refused here, where the operator sees it, rather than stubbed. (Stubs would also
/// hide what the linker would find for another version of the same interface.)
fn link(engine: &Engine, component: &Component) -> Result<InstancePre<Guest>, LoadError> {
    for (name, _) in component.component_type().imports(engine.wasmtime()) {
        check_import(name)?;
    }
    let linked = if sockets::are_wanted(component) {
        let mut linker = engine.linker().clone();
        sockets::deny(&mut linker, component).and_then(|()| linker.instantiate_pre(component))
    } else {
        engine.linker().instantiate_pre(component)
    };
    linked.map_err(|e| LoadError::Link(format!("{e:#}")))
}

fn check_import(name: &str) -> Result<(), LoadError> {
    const OFFERED: [&str; 10] = [
        PACKAGE,
        "wasi:cli/",
        "wasi:clocks/",
        "wasi:config/",
        "wasi:filesystem/",
        "wasi:io/",
        "wasi:keyvalue/",
        "wasi:logging/",
        "wasi:random/",
        SOCKETS,
    ];
    if OFFERED.iter().any(|prefix| name.starts_with(prefix)) {
        return Ok(());
    }
    let cure = if name.starts_with("wasi:http/") {
        "build it without (jco: `--disable http fetch-event`), and return `forward` to ask an upstream"
    } else {
        "build it without that import"
    };
    Err(LoadError::Import(name.to_owned(), cure))
}

fn interest(plugin: &str, wish: InterestOut) -> Result<Interest, LoadError> {
    let others = wish.others.iter().map(|(name, value)| name.len() + value.len());
    let names = wish.facts.iter().chain(&wish.paths).map(String::len);
    let bytes: usize = names.chain(others).sum();
    if bytes > MAX_INTEREST {
        let text = format!("it has {bytes} bytes, and {MAX_INTEREST} are allowed");
        return Err(LoadError::Interest(text));
    }
    let mut interest = Interest::default();
    for pattern in &wish.paths {
        interest
            .paths
            .push(PathPattern::parse(pattern).map_err(LoadError::Interest)?);
    }
    for fact in wish.facts {
        if Connection::knows_fact(&fact) {
            interest.facts.push(fact);
        } else {
            tracing::warn!(
                plugin,
                fact = &*excerpt(&fact),
                "the plugin asks for a fact that this host does not know"
            );
        }
    }
    for (name, value) in &wish.others {
        match (name.as_str(), value.as_str()) {
            ("frames", "text") => interest.frames = FrameKinds::Text,
            ("frames", "binary") => interest.frames = FrameKinds::Binary,
            ("response-headers", names) => {
                let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
                interest.response_headers = Some(names.map(str::to_owned).collect());
            }
            _ => tracing::warn!(
                plugin,
                name = &*excerpt(name),
                value = &*excerpt(value),
                "the plugin has a wish that this host does not know"
            ),
        }
    }
    Ok(interest)
}

/// What a file that is not WebAssembly probably is instead.
fn hint(start: &[u8]) -> &'static str {
    match start {
        [] => ", it is empty",
        [b'(', ..] => "; text format must be assembled first (`wasm-tools parse`)",
        [0x1f, 0x8b, ..] => ", it is gzipped",
        [b'<', ..] => ", it looks like an HTML page",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(bytes: &[u8]) -> String {
        component(bytes).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_plugin_is_told_apart() {
        assert!(refusal(b"").contains("it is empty"));
        assert!(refusal(b"<!doctype html>").contains("HTML"));
        assert!(refusal(b"(module)").contains("text format"));
        assert!(refusal(b"\0asm\x01\0\0\0\x01").contains("complete"));
        assert!(refusal(b"\0asm\x01\0\0\0").contains("wasm-tools component embed"));
    }

    #[test]
    fn what_needs_the_component_model_s_async_is_told_from_what_the_compiler_refuses() {
        let refused = |component: &[u8]| not_compiled(component, &wasmtime::Error::msg("why")).to_string();
        let empty = b"\0asm\x0d\0\x01\0";
        assert!(refused(empty).contains("why"));
        let with_task_cancel = [empty, &b"\x08\x02\x01\x25"[..]].concat();
        assert!(component(&with_task_cancel).is_ok());
        assert!(refused(&with_task_cancel).contains("--sync"));
    }
}
