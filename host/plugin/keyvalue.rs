//! `wasi:keyvalue`, store and atomics: what plugins remember together. In memory, shared by all instances of all
//! plugins, kept over reloads, gone when the gateway stops. (wasmtime's own gives each bucket a copy.)

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};

use super::guest::Guest;
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

/// The store: buckets by name. An unknown name is a new bucket; the usual one is the empty name.
#[derive(Clone)]
pub(super) struct KeyValue(Arc<RwLock<Data>>);

struct Data {
    buckets: HashMap<String, HashMap<String, Vec<u8>>>,
    /// Bytes of keys and values.
    size: usize,
    limit: usize,
}

#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
/// A plugin's handle on a bucket.
pub struct Bucket {
    name: String,
}

impl KeyValue {
    /// `limit` in bytes of keys and values together.
    pub(super) fn new(limit: usize) -> Self {
        Self(Arc::new(RwLock::new(Data {
            buckets: HashMap::new(),
            size: 0,
            limit,
        })))
    }

    // Nothing below leaves the data half changed, so a panic elsewhere does not spoil it.
    fn read(&self) -> RwLockReadGuard<'_, Data> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Data> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Data {
    fn get(&self, bucket: &str, key: &str) -> Option<&Vec<u8>> {
        self.buckets.get(bucket)?.get(key)
    }

    fn set(&mut self, bucket: &str, key: String, value: Vec<u8>) -> Result<(), store::Error> {
        let old = self.get(bucket, &key).map_or(0, |old| key.len() + old.len());
        let size = self.size - old + key.len() + value.len();
        if size > self.limit {
            return Err(store::Error::Other(format!(
                "the store is full: {} bytes (keyvalue-limit)",
                self.limit
            )));
        }
        self.size = size;
        match self.buckets.get_mut(bucket) {
            Some(entries) => entries.insert(key, value),
            None => self
                .buckets
                .entry(bucket.to_owned())
                .or_default()
                .insert(key, value),
        };
        Ok(())
    }

    fn delete(&mut self, bucket: &str, key: &str) {
        if let Some(value) = self
            .buckets
            .get_mut(bucket)
            .and_then(|entries| entries.remove(key))
        {
            self.size -= key.len() + value.len();
        }
    }

    fn increment(&mut self, bucket: &str, key: String, delta: u64) -> Result<u64, store::Error> {
        let old = match self.get(bucket, &key) {
            None => 0,
            Some(value) => std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse::<u64>().ok())
                .ok_or_else(|| store::Error::Other(format!("the value of `{key}` is no number")))?,
        };
        let new = old
            .checked_add(delta)
            .ok_or_else(|| store::Error::Other(format!("the value of `{key}` would be over 2^64")))?;
        self.set(bucket, key, new.to_string().into_bytes())?;
        Ok(new)
    }
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
        Ok(self.data.write().set(&bucket.name, key, value))
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
        // Sorted, so that a cursor (how many were seen) means something while keys come and go.
        let mut keys: Vec<_> = data
            .buckets
            .get(&bucket.name)
            .into_iter()
            .flat_map(HashMap::keys)
            .collect();
        keys.sort_unstable();
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
        Ok(self.data.write().increment(&bucket.name, key, delta))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_that_of_what_is_there() {
        let store = KeyValue::new(20);
        let mut data = store.write();
        data.set("", "key".into(), vec![0; 10]).unwrap();
        data.set("", "key".into(), vec![0; 17]).unwrap();
        assert!(data.set("", "k".into(), vec![]).is_err(), "20 bytes are taken");
        data.delete("", "key");
        assert_eq!(data.size, 0);
    }

    #[test]
    fn numbers_count_up_and_other_values_stay() {
        let store = KeyValue::new(100);
        let mut data = store.write();
        assert_eq!(data.increment("", "n".into(), 2).unwrap(), 2);
        assert_eq!(data.increment("", "n".into(), 3).unwrap(), 5);
        assert_eq!(data.get("", "n"), Some(&b"5".to_vec()));
        data.set("", "t".into(), b"text".to_vec()).unwrap();
        assert!(data.increment("", "t".into(), 1).is_err());
        assert!(data.increment("", "n".into(), u64::MAX).is_err());
    }
}
