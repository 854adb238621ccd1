//! What a change of the directory means: a pure function from what serves and what is found to what has to be done.

use std::collections::BTreeMap;

/// What is known of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// SHA-256 of the content that serves.
    pub(super) serving: Option<String>,
    /// SHA-256 of the content that was refused or rolled back last, and is not tried again.
    pub(super) refused: Option<String>,
    /// It was removed, and is remembered in case it comes back.
    pub(super) is_gone: bool,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Try this content, and let it serve if it is good.
    Load(String),
    /// The content that serves is back in place of a refused one: nothing is wrong any more.
    Forgive(String),
    /// The file is back with the content that was rolled back before it was removed: refuse it.
    Refuse(String),
    /// The file is gone: take it out of the chain.
    Remove(String),
}

/// Content decides, never a time stamp: a content that serves is not loaded again, and one that was refused or rolled back
/// is not tried again.
pub(super) fn plan(known: &BTreeMap<String, Known>, found: &BTreeMap<String, String>) -> Vec<Step> {
    let gone = known
        .iter()
        .filter(|(file, known)| !known.is_gone && !found.contains_key(*file))
        .map(|(file, _)| Step::Remove(file.clone()));
    let there = found.iter().filter_map(|(file, hash)| {
        let known = known.get(file).cloned().unwrap_or_default();
        if known.serving.as_ref() == Some(hash) {
            // Where the same content was refused, it was for its settings, and those have not changed with the file.
            let is_another = known.refused.as_ref().is_some_and(|refused| refused != hash);
            is_another.then(|| Step::Forgive(file.clone()))
        } else if known.refused.as_ref() == Some(hash) {
            known.is_gone.then(|| Step::Refuse(file.clone()))
        } else {
            Some(Step::Load(file.clone()))
        }
    });
    gone.chain(there).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn known(serving: Option<&str>, refused: Option<&str>) -> BTreeMap<String, Known> {
        let known = Known {
            serving: serving.map(str::to_owned),
            refused: refused.map(str::to_owned),
            is_gone: false,
        };
        BTreeMap::from([("a.wasm".to_owned(), known)])
    }

    fn gone(refused: Option<&str>) -> BTreeMap<String, Known> {
        let mut known = known(None, refused);
        known.values_mut().for_each(|file| file.is_gone = true);
        known
    }

    fn found(hash: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("a.wasm".to_owned(), hash.to_owned())])
    }

    #[test]
    fn each_change_of_content_is_one_step() {
        let file = || "a.wasm".to_owned();
        let table = [
            (
                BTreeMap::new(),
                found("1"),
                vec![Step::Load(file())],
                "a new file",
            ),
            (
                known(Some("1"), None),
                found("1"),
                vec![],
                "touched, or saved unchanged",
            ),
            (
                known(Some("1"), None),
                found("2"),
                vec![Step::Load(file())],
                "replaced",
            ),
            (
                known(Some("1"), Some("2")),
                found("2"),
                vec![],
                "still the broken one",
            ),
            (
                known(Some("1"), Some("2")),
                found("1"),
                vec![Step::Forgive(file())],
                "put back",
            ),
            (
                known(Some("1"), Some("2")),
                found("3"),
                vec![Step::Load(file())],
                "mended",
            ),
            (
                known(None, Some("2")),
                BTreeMap::new(),
                vec![Step::Remove(file())],
                "broken and deleted",
            ),
            (gone(None), BTreeMap::new(), vec![], "still gone"),
            (gone(None), found("1"), vec![Step::Load(file())], "gone and back"),
            (
                gone(Some("2")),
                found("2"),
                vec![Step::Refuse(file())],
                "rolled back, gone, and back unchanged",
            ),
            (
                gone(Some("2")),
                found("3"),
                vec![Step::Load(file())],
                "rolled back, gone, and back mended",
            ),
        ];
        for (known, found, steps, name) in table {
            assert_eq!(plan(&known, &found), steps, "{name}");
        }
    }

    type Files = BTreeMap<String, String>;

    fn files() -> impl Strategy<Value = Files> {
        prop::collection::btree_map("[ab]", "[0-3]", 0..3)
    }

    /// Does a step, in a world where 0 and 1 are good, 2 fails its probation, and 3 does not load.
    fn take(known: &mut BTreeMap<String, Known>, found: &Files, step: Step) {
        match step {
            Step::Load(file) => {
                let hash = found[&file].clone();
                let entry = known.entry(file).or_default();
                entry.is_gone = false;
                match (hash.as_str(), &entry.serving) {
                    ("3", _) | ("2", Some(_)) => entry.refused = Some(hash),
                    _ => (entry.serving, entry.refused) = (Some(hash), None),
                }
            }
            Step::Forgive(file) => known.entry(file).or_default().refused = None,
            Step::Refuse(file) => known.entry(file).or_default().is_gone = false,
            Step::Remove(file) => {
                let entry = known.entry(file).or_default();
                entry.is_gone = true;
                entry.serving = None;
                entry.refused.take_if(|refused| refused == "3");
            }
        }
    }

    proptest! {
        /// Whatever happens to a directory, and whichever contents are good: when the steps are done, what is good
        /// serves, what is bad does not if there was something better, and nothing is left to do.
        #[test]
        fn after_the_steps_the_chain_is_what_the_directory_says(history in prop::collection::vec(files(), 1..8)) {
            let mut known: BTreeMap<String, Known> = BTreeMap::new();
            for found in &history {
                let before = known.clone();
                for step in plan(&known, found) {
                    take(&mut known, found, step);
                }
                prop_assert_eq!(plan(&known, found), vec![]);
                for (file, hash) in found {
                    let before = before.get(file).cloned().unwrap_or_default();
                    let serving = known[file].serving.as_deref();
                    prop_assert!(serving != Some("3"));
                    if hash < &"2".to_owned() {
                        prop_assert_eq!(serving, Some(hash.as_str()));
                    }
                    if hash == "2" && before.refused.as_ref() == Some(hash) {
                        prop_assert!(serving != Some("2"), "what was rolled back serves again");
                    }
                }
                let there = known.values().filter(|file| !file.is_gone).count();
                prop_assert_eq!(there, found.len());
            }
        }
    }
}
