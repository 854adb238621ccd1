use std::os::unix::fs::{PermissionsExt, symlink};

use tempfile::TempDir;

use super::*;

/// The smallest component.
const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

fn entries(dir: &TempDir) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.path()).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// An empty cache, and its only entry once that is there.
fn cache() -> (TempDir, Engine, Compiled, PathBuf) {
    let (dir, engine) = (TempDir::new().unwrap(), Engine::default());
    let compiled = Compiled::open(Some(dir.path()));
    let entry = dir.path().join(name(&engine, "hash"));
    (dir, engine, compiled, entry)
}

/// Whether what was compiled is found: what is given instead is not a component, so it cannot come from the compiler.
fn is_kept(compiled: &Compiled, engine: &Engine) -> bool {
    compiled.component(engine, "hash", b"").is_ok()
}

#[test]
fn what_was_compiled_is_found_again() {
    let (dir, engine, compiled, _) = cache();
    compiled.component(&engine, "hash", EMPTY).unwrap();
    assert_eq!(entries(&dir).len(), 1);
    assert!(is_kept(&compiled, &engine));
    assert!(compiled.component(&engine, "other", b"").is_err());
}

#[test]
fn every_bit_of_what_was_compiled_counts() {
    let (_dir, engine, compiled, entry) = cache();
    compiled.component(&engine, "hash", EMPTY).unwrap();
    let whole = fs::read(&entry).unwrap();
    for place in (0..whole.len()).step_by(whole.len() / 50) {
        let mut damaged = whole.clone();
        damaged[place] ^= 4;
        fs::write(&entry, damaged).unwrap();
        assert!(!is_kept(&compiled, &engine), "byte {place}");
    }
    for cut in [&whole[..0], &whole[..20], &whole[..whole.len() - 1]] {
        fs::write(&entry, cut).unwrap();
        assert!(!is_kept(&compiled, &engine), "{} bytes", cut.len());
    }
    compiled.component(&engine, "hash", EMPTY).unwrap();
    assert_eq!(fs::read(&entry).unwrap(), whole);
}

#[test]
fn what_others_may_have_written_is_not_used_and_made_anew() {
    let (dir, engine, compiled, entry) = cache();
    compiled.component(&engine, "hash", EMPTY).unwrap();
    let mode = || fs::metadata(&entry).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    fs::set_permissions(&entry, fs::Permissions::from_mode(0o620)).unwrap();
    assert!(!is_kept(&compiled, &engine));
    compiled.component(&engine, "hash", EMPTY).unwrap();
    assert_eq!(mode(), 0o600);
    let elsewhere = dir.path().join("elsewhere");
    fs::rename(&entry, &elsewhere).unwrap();
    symlink(&elsewhere, &entry).unwrap();
    assert!(!is_kept(&compiled, &engine));
}

#[test]
fn another_folder_in_place_of_the_one_that_was_opened_is_not_used() {
    let parent = TempDir::new().unwrap();
    let (dir, moved) = (parent.path().join("compiled"), parent.path().join("moved"));
    let engine = Engine::default();
    let compiled = Compiled::open(Some(&dir));
    fs::rename(&dir, &moved).unwrap();
    fs::create_dir(&dir).unwrap();
    compiled.component(&engine, "hash", EMPTY).unwrap();
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    assert_eq!(fs::read_dir(&moved).unwrap().count(), 1);
}

#[test]
fn what_is_used_is_kept_and_unused_code_goes_after_a_while_and_nothing_else() {
    let (dir, engine, compiled, _) = cache();
    for hash in ["used", "unused"] {
        compiled.component(&engine, hash, EMPTY).unwrap();
    }
    let foreign = dir.path().join("notes.txt");
    fs::write(&foreign, "not a gateway's").unwrap();
    let long_ago = SystemTime::now() - 2 * KEPT_FOR;
    for file in entries(&dir) {
        File::open(file).unwrap().set_modified(long_ago).unwrap();
    }
    compiled.component(&engine, "used", EMPTY).unwrap();
    compiled.component(&engine, "new", EMPTY).unwrap();
    let mut left = entries(&dir);
    left.sort();
    let entry = |hash| dir.path().join(name(&engine, hash));
    assert_eq!(left, [entry("new"), foreign, entry("used")]);
}

#[test]
fn a_folder_that_others_may_write_to_is_not_used_and_none_is_changed() {
    let parent = TempDir::new().unwrap();
    let dir = parent.path().join("compiled");
    let engine = Engine::default();
    let mode = || fs::metadata(&dir).unwrap().permissions().mode() & 0o777;
    assert!(Compiled::open(Some(&dir)).0.is_some());
    assert_eq!(mode(), 0o700);
    for (open, is_safe) in [(0o755, true), (0o775, false), (0o777, false)] {
        fs::set_permissions(&dir, fs::Permissions::from_mode(open)).unwrap();
        let compiled = Compiled::open(Some(&dir));
        assert_eq!(compiled.0.is_some(), is_safe, "{open:o}");
        assert_eq!(mode(), open);
        compiled.component(&engine, "hash", EMPTY).unwrap();
    }
}
