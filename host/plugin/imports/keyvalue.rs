//! `wasi:keyvalue` over the gateway's store: `store` and `atomics`.

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};

use crate::plugin::guest::Guest;
use crate::plugin::keyvalue::{KeyValue, MAX_NAME, WriteError};
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
    /// The last page of `list-keys`, for the next one.
    listed: Option<Listed>,
}

/// How far a list of keys has come.
struct Listed {
    /// The cursor that was given.
    cursor: u64,
    last: String,
}

pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    fn view(guest: &mut Guest) -> View<'_> {
        View {
            data: &guest.shared.keyvalue,
            table: &mut guest.table,
            is_out_of_handles: &mut guest.is_out_of_handles,
        }
    }
    store::add_to_linker::<_, View<'static>>(linker, view)?;
    atomics::add_to_linker::<_, View<'static>>(linker, view)
}

struct View<'a> {
    data: &'a KeyValue,
    table: &'a mut ResourceTable,
    is_out_of_handles: &'a mut bool,
}

impl HasData for View<'static> {
    type Data<'a> = View<'a>;
}

/// A trap for a handle that does not exist, else the function's own result.
type Answer<T> = wasmtime::Result<Result<T, store::Error>>;

impl store::Host for View<'_> {
    fn open(&mut self, name: String) -> Answer<Resource<Bucket>> {
        if name.len() > MAX_NAME {
            let text = format!(
                "a name of {} bytes is too long; {MAX_NAME} are allowed",
                name.len()
            );
            return Ok(Err(store::Error::Other(text)));
        }
        let opened = self.table.push(Bucket { name, listed: None });
        Ok(opened.map_err(|_| {
            *self.is_out_of_handles = true;
            let text = format!(
                "{} handles are open, which is the most; drop the buckets that are not used",
                self.table.max_capacity()
            );
            store::Error::Other(text)
        }))
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
        let bucket = self.table.get_mut(&bucket)?;
        let data = self.data.read();
        // A cursor is how many were seen. It means something while keys come and go, since the handle knows the last one;
        // another handle has to count.
        let seen = cursor.unwrap_or(0);
        let last = bucket.listed.take().filter(|listed| listed.cursor == seen);
        let after = last.as_ref().map(|listed| listed.last.as_str());
        let counted = match after {
            Some(_) => 0,
            None => usize::try_from(seen).unwrap_or(usize::MAX),
        };
        let mut rest = data.keys(&bucket.name, after).skip(counted);
        let keys: Vec<_> = rest.by_ref().take(PAGE).cloned().collect();
        let cursor = seen.saturating_add(keys.len() as u64);
        bucket.listed = keys.last().cloned().map(|last| Listed { cursor, last });
        let cursor = rest.next().map(|_| cursor);
        Ok(Ok(store::KeyResponse { keys, cursor }))
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
