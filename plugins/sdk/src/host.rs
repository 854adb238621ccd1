//! What the host offers to read and keep: connections, topics, configuration, and a store shared by all instances and
//! plugins.
//!
//! Only a plugin that calls these functions imports them. They need the gateway around them: natively a call panics, so
//! keep them out of what unit tests run.

pub use crate::bindings::imports::aileron::gateway::{connections, topics};
pub use crate::bindings::imports::wasi::config::store as config;

pub mod keyvalue {
    //! `wasi:keyvalue`: what must outlast an instance, or be seen by another one.

    pub use crate::bindings::imports::wasi::keyvalue::{atomics, store};
}
