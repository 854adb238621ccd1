//! The key-value store that all plugins share: buckets of keys and values. It is in memory, survives reloads, and is gone
//! when the gateway stops. (wasmtime's own gives each bucket a copy.)

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The store: buckets by name. An unknown name is a new bucket; the usual one has the empty name.
#[derive(Clone)]
pub(super) struct KeyValue(Arc<RwLock<Data>>);

/// What is in it.
pub(super) struct Data {
    buckets: HashMap<String, HashMap<String, Vec<u8>>>,
    /// Bytes of keys and values.
    size: usize,
    limit: usize,
}

/// Why a value was not written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WriteError {
    #[error("the store is full: {0} bytes (keyvalue-limit)")]
    Full(usize),
    #[error("the value of `{0}` is not a number")]
    NotANumber(String),
    #[error("the value of `{0}` would be over 2^64")]
    Overflow(String),
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

    // Nothing below leaves the data half changed, so a panic elsewhere does no harm to it.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Data> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Data> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Data {
    /// Applies another limit. What is over it stays.
    pub(super) fn limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// The keys of a bucket, sorted.
    pub(super) fn keys(&self, bucket: &str) -> Vec<&String> {
        let entries = self.buckets.get(bucket);
        let mut keys: Vec<_> = entries.into_iter().flat_map(HashMap::keys).collect();
        keys.sort_unstable();
        keys
    }

    pub(super) fn get(&self, bucket: &str, key: &str) -> Option<&Vec<u8>> {
        self.buckets.get(bucket)?.get(key)
    }

    pub(super) fn set(&mut self, bucket: &str, key: String, value: Vec<u8>) -> Result<(), WriteError> {
        let old = self.get(bucket, &key).map_or(0, |old| key.len() + old.len());
        let size = self.size - old + key.len() + value.len();
        if size > self.limit {
            return Err(WriteError::Full(self.limit));
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

    pub(super) fn delete(&mut self, bucket: &str, key: &str) {
        if let Some(value) = self
            .buckets
            .get_mut(bucket)
            .and_then(|entries| entries.remove(key))
        {
            self.size -= key.len() + value.len();
        }
    }

    pub(super) fn increment(&mut self, bucket: &str, key: String, delta: u64) -> Result<u64, WriteError> {
        let number = |value: &Vec<u8>| std::str::from_utf8(value).ok()?.parse::<u64>().ok();
        let old = match self.get(bucket, &key) {
            None => 0,
            Some(value) => match number(value) {
                Some(old) => old,
                None => return Err(WriteError::NotANumber(key)),
            },
        };
        let Some(new) = old.checked_add(delta) else {
            return Err(WriteError::Overflow(key));
        };
        self.set(bucket, key, new.to_string().into_bytes())?;
        Ok(new)
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
