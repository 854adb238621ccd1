//! Which plugin files have changed and then been left alone for long enough: one that is being copied is not read before it
//! is complete. Each settles by itself, so that one that is written again and again does not hold up the others. Pure: time
//! is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::directory::{Stamp, Stamps};

/// The files that have settled, and whether each is there.
pub(super) type Settled = BTreeMap<String, bool>;

pub(super) struct Settling {
    /// How long a file must stay the same.
    time: Duration,
    /// What each file was when it was given last.
    given: Stamps,
    /// The files that are something else now.
    changing: BTreeMap<String, Changing>,
}

struct Changing {
    /// None: it is not there.
    stamp: Option<Stamp>,
    /// Since when it has been that.
    since: Instant,
    began: Instant,
    is_told: bool,
}

impl Settling {
    /// Files that are as these are settled already.
    pub(super) fn new(time: Duration, given: Stamps) -> Self {
        Self {
            time,
            given,
            changing: BTreeMap::new(),
        }
    }

    /// Whether there are files that have not settled, and it has to be looked again.
    pub(super) fn is_under_way(&self) -> bool {
        !self.changing.is_empty()
    }

    /// Takes what was found just now, and gives the files that have settled, each change once.
    pub(super) fn look(&mut self, found: &Stamps, now: Instant) -> Settled {
        let names: BTreeSet<&String> = found.keys().chain(self.given.keys()).collect();
        self.changing.retain(|name, _| names.contains(name));
        let mut settled = Settled::new();
        for name in names {
            let stamp = found.get(name);
            if stamp == self.given.get(name) {
                self.changing.remove(name);
                continue;
            }
            let changing = self.changing.entry(name.clone()).or_insert_with(|| Changing {
                stamp: stamp.cloned(),
                since: now,
                began: now,
                is_told: false,
            });
            if changing.stamp.as_ref() != stamp {
                (changing.stamp, changing.since) = (stamp.cloned(), now);
            }
            if now.saturating_duration_since(changing.since) >= self.time {
                settled.insert(name.clone(), stamp.is_some());
            }
        }
        for (name, is_there) in &settled {
            self.changing.remove(name);
            match found.get(name) {
                Some(stamp) if *is_there => self.given.insert(name.clone(), stamp.clone()),
                _ => self.given.remove(name),
            };
        }
        settled
    }

    /// The files that have been changing for longer than this, each once until it has settled.
    pub(super) fn restless(&mut self, longer_than: Duration, now: Instant) -> Vec<String> {
        let untold = self.changing.iter_mut().filter(|(_, changing)| {
            !changing.is_told && now.saturating_duration_since(changing.began) > longer_than
        });
        untold
            .map(|(name, changing)| {
                changing.is_told = true;
                name.clone()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_millis(200);

    /// Files with a stamp that stands for their content.
    fn found(files: &[(&str, i64)]) -> Stamps {
        let stamps = files
            .iter()
            .map(|(name, content)| ((*name).to_owned(), Stamp::of(*content)));
        stamps.collect()
    }

    fn settled(files: &[(&str, bool)]) -> Settled {
        let files = files
            .iter()
            .map(|(name, is_there)| ((*name).to_owned(), *is_there));
        files.collect()
    }

    #[test]
    fn a_file_settles_while_another_one_is_written_again_and_again() {
        let mut settling = Settling::new(TIME, found(&[("busy", 0), ("gone", 0), ("same", 0)]));
        let start = Instant::now();
        let mut given = Vec::new();
        for n in 0..100 {
            let found = found(&[("busy", n), ("new", 1), ("same", 0)]);
            let now = start + Duration::from_millis(100) * u32::try_from(n).unwrap();
            given.extend(settling.look(&found, now));
            assert_eq!(
                settling.restless(Duration::from_secs(5), now),
                vec!["busy".to_owned(); usize::from(n == 52)],
                "told once, {n}"
            );
        }
        assert_eq!(given, [("gone".to_owned(), false), ("new".to_owned(), true)]);
        let end = start + Duration::from_secs(10);
        let last = found(&[("busy", 99), ("new", 1), ("same", 0)]);
        assert_eq!(settling.look(&last, end + TIME), settled(&[("busy", true)]));
        assert!(!settling.is_under_way());
    }

    #[test]
    fn what_is_back_before_it_was_missed_has_not_changed() {
        let mut settling = Settling::new(TIME, found(&[("a", 1)]));
        let start = Instant::now();
        assert_eq!(settling.look(&found(&[]), start), settled(&[]));
        assert!(settling.is_under_way());
        assert_eq!(settling.look(&found(&[("a", 1)]), start + TIME), settled(&[]));
        assert_eq!(
            settling.look(&found(&[]), start + TIME * 2),
            settled(&[]),
            "again"
        );
        assert_eq!(
            settling.look(&found(&[]), start + TIME * 3),
            settled(&[("a", false)])
        );
        assert!(!settling.is_under_way());
        // A new file that goes before it has settled was never there.
        assert_eq!(settling.look(&found(&[("b", 1)]), start + TIME * 4), settled(&[]));
        assert_eq!(settling.look(&found(&[]), start + TIME * 5), settled(&[]));
        assert!(!settling.is_under_way());
    }
}
