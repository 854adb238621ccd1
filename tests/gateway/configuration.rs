//! What `aileron check` says of each file in `tests/config`: nothing bad of the valid ones, and of each invalid one
//! exactly what stands beside it in `*.err`. `UPDATE_GOLDEN=1` writes these files anew.

use std::path::{Path, PathBuf};
use std::process::Output;

use crate::support::{command, repository};

/// The files of a kind, in order.
fn files(kind: &str) -> Vec<PathBuf> {
    let dir = repository("tests/config").join(kind);
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

/// Exit code, and what it said on standard error, with the file's name for its path.
fn check(file: &Path) -> (Option<i32>, String) {
    let dir = file.parent().unwrap();
    let Output { status, stderr, .. } = command(dir)
        .args(["check", "--config"])
        .arg(file)
        .output()
        .unwrap();
    let said = String::from_utf8(stderr).unwrap();
    (status.code(), said.replace(&format!("{}/", dir.display()), ""))
}

#[test]
fn what_is_valid_is_accepted() {
    for file in files("valid") {
        let (code, said) = check(&file);
        assert_eq!(code, Some(0), "{}: {said}", file.display());
    }
}

#[test]
fn what_is_wrong_is_shown_where_it_stands_with_what_would_be_right() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for file in files("invalid") {
        let (code, said) = check(&file);
        assert_eq!(code, Some(64), "{}: {said}", file.display());
        let golden = file.with_extension("err");
        if update {
            std::fs::write(&golden, &said).unwrap();
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        if said != expected {
            wrong.push(format!("said:\n{said}instead of:\n{expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whatever is wrong: the file, the line, the column, the line itself and a mark under it.
#[test]
fn each_complaint_points_at_its_line() {
    for file in files("invalid") {
        let (_, said) = check(&file);
        let mut lines = said.lines();
        let place = lines.next().unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        let place = place
            .strip_prefix("aileron: ")
            .and_then(|rest| rest.strip_prefix(name));
        let numbers: Vec<_> = place.unwrap_or_default().split(':').collect();
        let [_, line, column, ""] = numbers.as_slice() else {
            panic!("no line and column: {said}");
        };
        let text = std::fs::read_to_string(&file).unwrap();
        let line: usize = line.parse().unwrap();
        let shown = text.lines().nth(line - 1).unwrap_or_default();
        // Where a value may be a credential, it is masked.
        let (as_it_is, as_shown) = (shown.trim_start(), lines.next().unwrap().trim_start());
        let is_shown = |(one, other)| one == other || other == '*';
        assert_eq!(as_it_is.chars().count(), as_shown.chars().count(), "{said}");
        assert!(as_it_is.chars().zip(as_shown.chars()).all(is_shown), "{said}");
        assert!(
            column.parse::<usize>().unwrap() <= shown.chars().count() + 1,
            "{said}"
        );
        assert!(lines.next().unwrap().trim_start().starts_with('^'), "{said}");
        assert!(lines.next().is_some_and(|problem| problem.len() > 10), "{said}");
    }
}
