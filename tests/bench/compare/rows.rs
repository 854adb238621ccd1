//! What is measured.

mod echo;
mod idle;
mod php;
mod publish;
mod swap;

use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};

use crate::report::{Contender, Row, Target, Unit};

const ROUNDS: usize = 5;
/// One measurement of a round.
const TIME: Duration = Duration::from_secs(2);
/// What comes before the first round: caches, pools and branch predictors fill up.
const WARM_UP: Duration = Duration::from_millis(500);

/// The load answers no pings, and the references send none.
const QUIET: &str = "ping-interval = 0\n";

/// All of them by name, in the order of the table.
pub fn all() -> Vec<(&'static str, BoxFuture<'static, Vec<Row>>)> {
    vec![
        ("php", php::rows().boxed()),
        ("echo", echo::rows().boxed()),
        ("publish-text", publish::text().boxed()),
        ("publish-json", publish::json().boxed()),
        ("publish-compressed", publish::compressed().boxed()),
        ("swap", swap::rows().boxed()),
        ("idle", idle::rows().boxed()),
    ]
}

/// A contender, and how it is measured once.
type Turn<'a> = (&'static str, Box<dyn FnMut(Duration) -> f64 + 'a>);

fn turn<'a>(name: &'static str, measure: impl FnMut(Duration) -> f64 + 'a) -> Turn<'a> {
    (name, Box::new(measure))
}

/// All contenders in turn, round after round.
fn compete(what: &'static str, unit: Unit, mut turns: Vec<Turn<'_>>, targets: Vec<Target>) -> Row {
    for (_, measure) in &mut turns {
        measure(WARM_UP);
    }
    let mut contenders: Vec<_> = turns
        .iter()
        .map(|(name, _)| Contender {
            name,
            rounds: Vec::new(),
        })
        .collect();
    for _ in 0..ROUNDS {
        for ((_, measure), contender) in turns.iter_mut().zip(&mut contenders) {
            contender.rounds.push(measure(TIME));
        }
    }
    Row {
        what,
        unit,
        contenders,
        targets,
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// Of all its threads, in steps of 10 ms.
fn processor_time(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The name in parentheses may hold spaces; user and system time are the fields 14 and 15.
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = |n: usize| fields[n].parse::<u64>().unwrap();
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}
