//! What a change of the directory means: a pure decision, from what serves and what is found to what is to be done.

use std::collections::BTreeMap;

/// What is known of a file: SHA-256 of the content that serves, and of the one that was refused last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) serving: Option<String>,
    pub(super) refused: Option<String>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Try this content, and let it serve if it is good.
    Load(String),
    /// The content that serves is back where a refused one stood: nothing is wrong any more.
    Forgive(String),
    /// The file is gone: take it out of the chain.
    Remove(String),
}

/// Content decides, never a time stamp: what serves is not loaded again, what was refused is not tried again.
pub(super) fn plan(known: &BTreeMap<String, Known>, found: &BTreeMap<String, String>) -> Vec<Step> {
    let gone = known
        .keys()
        .filter(|file| !found.contains_key(*file))
        .cloned()
        .map(Step::Remove);
    let there = found.iter().filter_map(|(file, hash)| {
        let known = known.get(file).cloned().unwrap_or_default();
        if known.serving.as_ref() == Some(hash) {
            known.refused.is_some().then(|| Step::Forgive(file.clone()))
        } else if known.refused.as_ref() == Some(hash) {
            None
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
        };
        BTreeMap::from([("a.wasm".to_owned(), known)])
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
        ];
        for (known, found, steps, name) in table {
            assert_eq!(plan(&known, &found), steps, "{name}");
        }
    }

    type Files = BTreeMap<String, String>;

    fn files() -> impl Strategy<Value = Files> {
        prop::collection::btree_map("[ab]", "[0-3]", 0..3)
    }

    proptest! {
        /// Whatever happens to a directory, and whichever contents are good: when the steps are done, what is good
        /// serves, what is bad does not, and nothing is left to do.
        #[test]
        fn after_the_steps_the_chain_is_what_the_directory_says(history in prop::collection::vec(files(), 1..8)) {
            let good = |hash: &str| hash < "2";
            let mut known: BTreeMap<String, Known> = BTreeMap::new();
            for found in &history {
                for step in plan(&known, found) {
                    match step {
                        Step::Load(file) => {
                            let hash = found[&file].clone();
                            let entry = known.entry(file).or_default();
                            if good(&hash) {
                                *entry = Known { serving: Some(hash), refused: None };
                            } else {
                                entry.refused = Some(hash);
                            }
                        }
                        Step::Forgive(file) => known.entry(file).or_default().refused = None,
                        Step::Remove(file) => {
                            known.remove(&file);
                        }
                    }
                }
                prop_assert_eq!(plan(&known, found), vec![]);
                for (file, hash) in found {
                    let serving = known[file].serving.as_deref();
                    prop_assert!(serving.is_none_or(good));
                    prop_assert_eq!(serving == Some(hash), good(hash));
                }
                prop_assert_eq!(known.len(), found.len());
            }
        }
    }
}
