//! The key-value store that all plugins share: buckets of keys and values. It is in memory, survives reloads, and is gone
//! when the gateway stops. (wasmtime's own gives each bucket a copy.)

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The store: buckets by name. An unknown name is a new bucket; the usual one has the empty name.
#[derive(Clone)]
pub(super) struct KeyValue(Arc<RwLock<Data>>);

/// What is in it.
pub(super) struct Data {
    /// None is empty. Keys are sorted, so that a list of them can go on where it was left.
    buckets: HashMap<String, BTreeMap<String, Vec<u8>>>,
    /// Bytes of names, keys and values, with what it costs to keep them.
    size: usize,
    limit: usize,
}

/// What it costs to keep a value, beside the bytes of it and of its key.
const PER_KEY: usize = 128;
/// What it costs to keep a bucket, beside its name.
const PER_BUCKET: usize = 1024;
/// The longest name of a bucket and the longest key, in bytes.
pub(super) const MAX_NAME: usize = 1024;

/// Why a value was not written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WriteError {
    #[error("the store is full: {0} bytes (keyvalue-limit)")]
    Full(usize),
    #[error("a key of {0} bytes is too long; {MAX_NAME} are allowed")]
    Key(usize),
    #[error("the value of `{0}` is not a number")]
    NotANumber(String),
    #[error("the value of `{0}` would be over 2^64")]
    Overflow(String),
}

impl KeyValue {
    /// `limit` in bytes.
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

    /// The keys of a bucket, sorted; only those behind one, if that is given.
    pub(super) fn keys(&self, bucket: &str, after: Option<&str>) -> impl Iterator<Item = &String> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let entries = self.buckets.get(bucket).into_iter();
        entries
            .flat_map(move |entries| entries.range::<str, _>((start, Bound::Unbounded)))
            .map(|(key, _)| key)
    }

    pub(super) fn get(&self, bucket: &str, key: &str) -> Option<&Vec<u8>> {
        self.buckets.get(bucket)?.get(key)
    }

    pub(super) fn set(&mut self, bucket: &str, key: String, value: Vec<u8>) -> Result<(), WriteError> {
        if key.len() > MAX_NAME {
            return Err(WriteError::Key(key.len()));
        }
        let old = self.get(bucket, &key).map_or(0, |old| entry_size(&key, old));
        let new_bucket = match self.buckets.contains_key(bucket) {
            true => 0,
            false => bucket.len() + PER_BUCKET,
        };
        let size = self.size - old + new_bucket + entry_size(&key, &value);
        // What makes it smaller is taken even if it is over a limit that was lowered.
        if size > self.limit && size > self.size {
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
        let Some(entries) = self.buckets.get_mut(bucket) else {
            return;
        };
        if let Some(value) = entries.remove(key) {
            self.size -= entry_size(key, &value);
            if entries.is_empty() {
                self.buckets.remove(bucket);
                self.size -= bucket.len() + PER_BUCKET;
            }
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

fn entry_size(key: &str, value: &[u8]) -> usize {
    key.len() + value.len() + PER_KEY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_that_of_what_is_there() {
        let store = KeyValue::new(PER_BUCKET + PER_KEY + 20);
        let mut data = store.write();
        data.set("", "key".into(), vec![0; 10]).unwrap();
        data.set("", "key".into(), vec![0; 17]).unwrap();
        assert!(data.set("", "k".into(), vec![]).is_err(), "no key more");
        assert!(data.set("another", "k".into(), vec![]).is_err(), "no bucket more");
        data.delete("", "key");
        assert_eq!(data.size, 0);
        assert!(data.buckets.is_empty());
        let long = "k".repeat(MAX_NAME + 1);
        assert_eq!(data.set("", long, vec![]), Err(WriteError::Key(MAX_NAME + 1)));
    }

    #[test]
    fn a_lower_limit_refuses_only_what_makes_it_larger() {
        let store = KeyValue::new(10_000);
        let mut data = store.write();
        data.set("", "key".into(), vec![0; 1000]).unwrap();
        data.limit(100);
        assert!(data.set("", "key".into(), vec![0; 1001]).is_err());
        data.set("", "key".into(), vec![0; 999]).unwrap();
    }

    #[test]
    fn a_list_goes_on_behind_a_key() {
        let store = KeyValue::new(10_000);
        let mut data = store.write();
        for key in ["b", "a", "c"] {
            data.set("", key.into(), vec![]).unwrap();
        }
        let keys = |after| data.keys("", after).cloned().collect::<Vec<_>>();
        assert_eq!(keys(None), ["a", "b", "c"]);
        assert_eq!(keys(Some("a")), ["b", "c"]);
        assert_eq!(keys(Some("aa")), ["b", "c"], "it may have gone meanwhile");
        assert!(keys(Some("c")).is_empty());
    }

    #[test]
    fn numbers_count_up_and_other_values_stay() {
        let store = KeyValue::new(10_000);
        let mut data = store.write();
        assert_eq!(data.increment("", "n".into(), 2).unwrap(), 2);
        assert_eq!(data.increment("", "n".into(), 3).unwrap(), 5);
        assert_eq!(data.get("", "n"), Some(&b"5".to_vec()));
        data.set("", "t".into(), b"text".to_vec()).unwrap();
        assert!(data.increment("", "t".into(), 1).is_err());
        assert!(data.increment("", "n".into(), u64::MAX).is_err());
    }
}
