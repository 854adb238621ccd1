//! Which file of the host imports which, by its `use` lines and the paths in its code.

use std::collections::{BTreeMap, BTreeSet};

/// A module by the names from the root to it, which are also those of its file.
type Module = Vec<String>;

/// What a file names, by absolute paths.
struct File {
    /// Each path with the name that it has here.
    imports: Vec<(String, Vec<String>)>,
    /// Of the rest of the code.
    paths: Vec<Vec<String>>,
}

/// The pairs of files that import each other.
///
/// A file and one that it is below are no such pair, for that is how a module is laid out: `plugin.rs` has what its
/// files share, and puts them to use. Nor does it matter that a file re-exports what is in those below it: whoever imports
/// such an item imports it from the file where it is.
pub fn circles(sources: &[(String, String)]) -> Vec<String> {
    let files = read(sources);
    let mut edges = BTreeSet::new();
    for (module, file) in &files {
        let imports = file.imports.iter().map(|(_, path)| path);
        for path in imports.chain(&file.paths) {
            edges.extend(home(&files, path, 9).map(|home| (module, home)));
        }
    }
    let is_circle = |(one, other): &(&Module, &Module)| {
        one < other && edges.contains(&(*other, *one)) && !one.starts_with(other) && !other.starts_with(one)
    };
    edges
        .iter()
        .copied()
        .filter(is_circle)
        .map(|(one, other)| format!("{}.rs and {}.rs", one.join("/"), other.join("/")))
        .collect()
}

fn read(sources: &[(String, String)]) -> BTreeMap<Module, File> {
    let module = |file: &str| -> Module {
        let names = file.trim_end_matches(".rs").split('/').map(str::to_owned);
        names.filter(|name| name != "lib").collect()
    };
    let is_read = |file: &str| file != "main.rs" && !file.ends_with("tests.rs");
    let sources = || sources.iter().filter(|(file, _)| is_read(file));
    let modules: BTreeSet<_> = sources().map(|(file, _)| module(file)).collect();
    let read = |(file, text): &(String, String)| {
        let module = module(file);
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let (uses, rest) = split_uses(code);
        let absolute = |path: Vec<String>| absolute(&modules, &module, path);
        let imports = uses.iter().flat_map(|tree| leaves(tree));
        let file = File {
            imports: imports
                .filter_map(|(name, path)| Some((name, absolute(path)?)))
                .collect(),
            paths: paths(&rest).filter_map(absolute).collect(),
        };
        (module, file)
    };
    sources().map(read).collect()
}

/// The file that an item is in, through the re-exports on the way.
fn home<'a>(files: &'a BTreeMap<Module, File>, path: &[String], hops: usize) -> Option<&'a Module> {
    let length = (0..=path.len())
        .rev()
        .find(|length| files.contains_key(&path[..*length]))?;
    let (module, file) = files.get_key_value(&path[..length])?;
    let import = path.get(length).and_then(|item| {
        let mut imports = file.imports.iter();
        imports.find(|(name, _)| name == item)
    });
    match import {
        Some((_, import)) if hops > 0 => home(files, import, hops - 1),
        _ => Some(module),
    }
}

/// From the root of the crate; none for what is in another crate, or in the file itself.
fn absolute(modules: &BTreeSet<Module>, module: &Module, path: Vec<String>) -> Option<Vec<String>> {
    let mut names = path.into_iter().peekable();
    let mut base = match names.peek()?.as_str() {
        "crate" => Vec::new(),
        "self" | "super" => module.clone(),
        child if modules.contains(&[&module[..], &[child.to_owned()]].concat()) => module.clone(),
        _ => return None,
    };
    names.next_if(|name| name == "crate" || name == "self");
    while names.next_if(|name| name == "super").is_some() {
        base.pop();
    }
    base.extend(names);
    Some(base)
}

/// The trees of the `use` lines, and the code without them.
fn split_uses(code: &str) -> (Vec<String>, String) {
    let (mut uses, mut rest) = (Vec::new(), String::new());
    for statement in code.split_inclusive(';') {
        let line = statement
            .rfind("use ")
            .map(|at| (at, statement[..at].lines().last()));
        match line {
            Some((at, before))
                if before
                    .is_none_or(|text| matches!(text.trim(), "" | "pub" | "pub(super)" | "pub(crate)")) =>
            {
                rest.push_str(&statement[..at]);
                uses.push(statement[at + 4..].trim_end_matches(';').to_owned());
            }
            _ => rest.push_str(statement),
        }
    }
    (uses, rest)
}

/// What a tree of `use` imports: each item's name here and its path.
fn leaves(tree: &str) -> Vec<(String, Vec<String>)> {
    let tree = tree.trim();
    if let Some((start, group)) = tree.split_once('{') {
        let group = group.trim_end_matches('}');
        let (mut depth, mut items) = (0, vec![String::new()]);
        for character in group.chars() {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    items.push(String::new());
                    continue;
                }
                _ => {}
            }
            items.last_mut().unwrap().push(character);
        }
        return items
            .iter()
            .filter(|item| !item.trim().is_empty())
            .flat_map(|item| leaves(&format!("{start}{}", item.trim())))
            .collect();
    }
    let (path, alias) = tree.split_once(" as ").unwrap_or((tree, ""));
    let path: Vec<_> = path.split("::").map(str::to_owned).collect();
    // `use a::b::{self}` is `a::b`.
    let path = match path.as_slice() {
        [start @ .., last] if last == "self" && !start.is_empty() => start.to_vec(),
        _ => path,
    };
    let name = if alias.is_empty() {
        path.last().unwrap().clone()
    } else {
        alias.to_owned()
    };
    vec![(name, path)]
}

/// The paths in code.
fn paths(code: &str) -> impl Iterator<Item = Vec<String>> {
    let is_of_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    code.split(move |c| !is_of_path(c))
        .filter(|word| word.contains("::"))
        .map(|word| {
            word.split("::")
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect()
        })
}

/// The name and the text of each file.
type Files<'a> = &'a [(&'a str, &'a str)];

#[test]
fn what_imports_each_other_is_found() {
    let circles = |sources: Files<'_>| {
        let owned = |(file, text): &(&str, &str)| (format!("{file}.rs"), (*text).to_owned());
        circles(&sources.iter().map(owned).collect::<Vec<_>>())
    };
    let table: [(Files<'_>, &[&str]); 6] = [
        (&[("a", "use crate::b::B;"), ("b", "")], &[]),
        (
            &[
                ("a", "use crate::b::{B, c::D};"),
                ("b", "fn f() { crate::a::g() }"),
            ],
            &["a.rs and b.rs"],
        ),
        (
            &[
                ("a/b", "use super::c::C;"),
                ("a/c", "pub(super) use super::{b::B};"),
            ],
            &["a/b.rs and a/c.rs"],
        ),
        // The usual shape: what files share is in the one above them.
        (&[("a", "mod b;\nuse b::B;"), ("a/b", "use super::A;")], &[]),
        // A detour by the file above does not help.
        (
            &[
                ("a", "mod b;\nmod c;\nuse b::B;\nuse c::C as D;"),
                ("a/b", "use super::D;"),
                ("a/c", "use super::B;"),
            ],
            &["a/b.rs and a/c.rs"],
        ),
        (
            &[
                ("a", "use crate::b::B;"),
                ("b", "#[cfg(test)]\nmod tests { use crate::a::A; }"),
            ],
            &[],
        ),
    ];
    for (sources, expected) in table {
        assert_eq!(circles(sources), expected, "{sources:?}");
    }
}
