//! The faults themselves: those that never return to the host, and those that take what they can of it.

use std::hint::black_box;
use std::time::Duration;

use aileron_plugin::Action;
use aileron_plugin::host::keyvalue::store;

/// Dies of a panic.
#[expect(clippy::panic, reason = "that is the point")]
pub(crate) fn trap() -> ! {
    panic!("trapped as asked");
}

/// Never comes to an end.
pub(crate) fn run_for_ever() -> ! {
    loop {
        black_box(());
    }
}

/// Allocates until there is no more. Does not write to what it gets, which would take longer than it may.
pub(crate) fn grow() -> ! {
    let mut hoard = Vec::new();
    loop {
        hoard.push(Vec::<u8>::with_capacity(1 << 20));
        black_box(&hoard);
    }
}

/// Waits, where that is possible at all.
pub(crate) fn sleep() -> Vec<Action> {
    std::thread::sleep(Duration::from_secs(1));
    Vec::new()
}

/// Counts as far as it is told, which takes a while.
pub(crate) fn burn(turns: &str) -> String {
    let turns: u64 = turns.parse().unwrap_or(0);
    for turn in 0..turns {
        black_box(turn);
    }
    format!("burned {turns}")
}

/// Opens buckets and never drops them.
pub(crate) fn hoard(times: &str) -> String {
    for n in 0..times.parse().unwrap_or(0) {
        match store::open("") {
            Ok(bucket) => std::mem::forget(bucket),
            Err(error) => return format!("{n} {error:?}"),
        }
    }
    "all of them".to_owned()
}

pub(crate) fn open(length: &str) -> String {
    match store::open(&"n".repeat(length.parse().unwrap_or(0))) {
        Ok(_) => "opened".to_owned(),
        Err(error) => format!("{error:?}"),
    }
}

pub(crate) fn fill() -> String {
    let Ok(bucket) = store::open("filled") else {
        return "not opened".to_owned();
    };
    let mut set = 0;
    while bucket.set(&format!("{set:07}"), &[]).is_ok() {
        set += 1;
    }
    let (mut listed, mut cursor) = (Vec::new(), None);
    loop {
        let Ok(page) = bucket.list_keys(cursor) else {
            return "not listed".to_owned();
        };
        listed.extend(page.keys);
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    let is_each_once = (0..set).all(|n| listed.get(n) == Some(&format!("{n:07}")));
    format!("set {set}, listed {}, each once: {is_each_once}", listed.len())
}

pub(crate) fn buckets(times: &str) -> String {
    for n in 0..times.parse().unwrap_or(0) {
        let done = store::open(&n.to_string()).and_then(|bucket| {
            bucket.set("key", &[])?;
            bucket.delete("key")
        });
        if let Err(error) = done {
            return format!("{n} {error:?}");
        }
    }
    "all of them".to_owned()
}
