//! The sockets of WASI, which exist but cannot be used: Python's toolchain imports them for every plugin.
//!
//! Those of wasmtime-wasi would wait, on threads that must not. So each component gets functions of the very types that it
//! imports, and calling one fails with an error that says what to do instead.

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, ResourceType};

use super::guest::Guest;

/// The prefix of the names of their interfaces.
pub(super) const SOCKETS: &str = "wasi:sockets/";

#[derive(Debug, thiserror::Error)]
#[error("it called `{0}`, but plugins have no network; a plugin returns `forward` to ask an upstream")]
struct NoNetwork(String);

/// Never created: the functions that would create one fail.
struct Denied;

/// Whether a component imports any of them.
pub(super) fn are_wanted(component: &Component) -> bool {
    let ty = component.component_type();
    let mut imports = ty.imports(component.engine());
    imports.any(|(name, _)| name.starts_with(SOCKETS))
}

/// Adds those that a component imports.
pub(super) fn deny(linker: &mut Linker<Guest>, component: &Component) -> wasmtime::Result<()> {
    let engine = component.engine();
    // The types of other interfaces are seen here again, under names that must not be given a second meaning.
    let mut known: Vec<ResourceType> = Vec::new();
    for (interface, import) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(instance) = import.ty else {
            continue;
        };
        for (name, export) in instance.exports(engine) {
            match export.ty {
                ComponentItem::Resource(ty) if !known.contains(&ty) => {
                    known.push(ty);
                    if interface.starts_with(SOCKETS) {
                        let denied = ResourceType::host::<Denied>();
                        linker
                            .instance(interface)?
                            .resource(name, denied, |_, _| Ok(()))?;
                    }
                }
                ComponentItem::ComponentFunc(_) if interface.starts_with(SOCKETS) => {
                    let function = format!("{interface} {name}");
                    linker
                        .instance(interface)?
                        .func_new(name, move |_, _, _, _| Err(NoNetwork(function.clone()).into()))?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}
