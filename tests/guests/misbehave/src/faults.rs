//! The faults themselves. None of these returns to the host, but for the one that is only slow.

use std::hint::black_box;
use std::time::Duration;

use aileron_plugin::Action;

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
