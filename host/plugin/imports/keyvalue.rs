//! `wasi:keyvalue` over the gateway's store: `store` and `atomics`.

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};

use crate::plugin::guest::Guest;
use crate::plugin::keyvalue::{KeyValue, WriteError};
use bindings::wasi::keyvalue::{atomics, store};

mod bindings {
    wasmtime::component::bindgen!({
        path: "wit/deps/wasi-keyvalue-0.2.0-draft",
        world: "imports",
        imports: { default: trappable },
        with: { "wasi:keyvalue/store.bucket": super::Bucket },
    });
}

/// Keys of one page of `list-keys`.
const PAGE: usize = 1000;

#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
/// A plugin's handle on a bucket.
pub struct Bucket {
    name: String,
}

pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    fn view(guest: &mut Guest) -> View<'_> {
        View {
            data: &guest.shared.keyvalue,
            table: &mut guest.table,
        }
    }
    store::add_to_linker::<_, View<'static>>(linker, view)?;
    atomics::add_to_linker::<_, View<'static>>(linker, view)
}

struct View<'a> {
    data: &'a KeyValue,
    table: &'a mut ResourceTable,
}

impl HasData for View<'static> {
    type Data<'a> = View<'a>;
}

/// A trap for a handle that does not exist, else the function's own result.
type Answer<T> = wasmtime::Result<Result<T, store::Error>>;

impl store::Host for View<'_> {
    fn open(&mut self, name: String) -> Answer<Resource<Bucket>> {
        Ok(Ok(self.table.push(Bucket { name })?))
    }
}

impl store::HostBucket for View<'_> {
    fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<Option<Vec<u8>>> {
        let bucket = self.table.get(&bucket)?;
        Ok(Ok(self.data.read().get(&bucket.name, &key).cloned()))
    }

    fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Answer<()> {
        let bucket = self.table.get(&bucket)?;
        Ok(self
            .data
            .write()
            .set(&bucket.name, key, value)
            .map_err(store::Error::from))
    }

    fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<()> {
        let bucket = self.table.get(&bucket)?;
        self.data.write().delete(&bucket.name, &key);
        Ok(Ok(()))
    }

    fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<bool> {
        let bucket = self.table.get(&bucket)?;
        Ok(Ok(self.data.read().get(&bucket.name, &key).is_some()))
    }

    fn list_keys(&mut self, bucket: Resource<Bucket>, cursor: Option<u64>) -> Answer<store::KeyResponse> {
        let bucket = self.table.get(&bucket)?;
        let data = self.data.read();
        // They are sorted, so that a cursor (how many were seen) means something while keys come and go.
        let keys = data.keys(&bucket.name);
        let seen = cursor.and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        let page: Vec<_> = keys
            .iter()
            .skip(seen)
            .take(PAGE)
            .map(|key| (*key).clone())
            .collect();
        let next = seen.saturating_add(page.len());
        let cursor = (next < keys.len()).then_some(next as u64);
        Ok(Ok(store::KeyResponse { keys: page, cursor }))
    }

    fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for View<'_> {
    fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: u64) -> Answer<u64> {
        let bucket = self.table.get(&bucket)?;
        Ok(self
            .data
            .write()
            .increment(&bucket.name, key, delta)
            .map_err(store::Error::from))
    }
}

impl From<WriteError> for store::Error {
    fn from(error: WriteError) -> Self {
        Self::Other(error.to_string())
    }
}
