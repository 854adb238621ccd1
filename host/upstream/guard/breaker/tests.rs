use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
/// Pauses of exactly their length.
const NO_CHANCE: f64 = 0.5;

struct Clocked {
    breaker: Breaker,
    now: Instant,
}

impl Clocked {
    fn new(max_failures: usize) -> Self {
        Self {
            breaker: Breaker::new(max_failures, SECOND),
            now: Instant::now(),
        }
    }

    fn admit(&mut self) -> Result<Permit, Denied> {
        self.breaker.admit(self.now)
    }

    fn settle(&mut self, permit: &Permit, sign: Sign) -> Option<Change> {
        self.breaker.settle(permit, sign, self.now, NO_CHANCE)
    }

    fn end(&mut self, sign: Sign) -> Option<Change> {
        let permit = self.admit().unwrap();
        self.settle(&permit, sign)
    }
}

fn opened(seconds: u64, again: bool) -> Option<Change> {
    let pause = Duration::from_secs(seconds);
    Some(Change::Opened { pause, again })
}

#[test]
fn it_opens_after_failures_in_a_row() {
    let mut clocked = Clocked::new(3);
    for sign in [
        Sign::Absent,
        Sign::Absent,
        Sign::Life,
        Sign::Absent,
        Sign::Nothing,
        Sign::Absent,
    ] {
        assert_eq!(clocked.end(sign), None);
    }
    assert_eq!(clocked.end(Sign::Absent), opened(1, false));
    assert_eq!(clocked.breaker.level(), 2);
    assert_eq!(clocked.admit(), Err(Denied::Open(SECOND)));
}

#[test]
fn what_fails_on_one_client_alone_counts_once() {
    let mut clocked = Clocked::new(3);
    let client = |n: u8| Sign::Broken(Some([192, 0, 2, n].into()));
    for _ in 0..100 {
        assert_eq!(clocked.end(client(1)), None);
    }
    assert_eq!(clocked.end(client(2)), None);
    assert_eq!(clocked.end(Sign::Life), None);
    for n in [1, 2, 1, 2] {
        assert_eq!(clocked.end(client(n)), None);
    }
    assert_eq!(clocked.end(client(3)), opened(1, false));
}

#[test]
fn zero_switches_it_off() {
    let mut clocked = Clocked::new(0);
    for _ in 0..1000 {
        assert_eq!(clocked.end(Sign::Absent), None);
    }
}

#[test]
fn one_probe_at_a_time_goes_through_after_the_pause() {
    let mut clocked = Clocked::new(1);
    assert_eq!(clocked.end(Sign::Absent), opened(1, false));
    clocked.now += SECOND;
    let probe = clocked.admit().unwrap();
    assert_eq!(clocked.breaker.level(), 1);
    assert_eq!(clocked.admit(), Err(Denied::Probing));
    assert_eq!(clocked.settle(&probe, Sign::Life), Some(Change::Closed));
    assert_eq!(clocked.breaker.level(), 0);
    assert!(clocked.admit().is_ok() && clocked.admit().is_ok());
}

#[test]
fn pauses_double_up_to_a_bound_and_begin_anew_after_life() {
    let mut clocked = Clocked::new(1);
    assert_eq!(clocked.end(Sign::Absent), opened(1, false));
    for seconds in [2, 4, 8, 16, 30, 30] {
        clocked.now += LONGEST_PAUSE;
        assert_eq!(clocked.end(Sign::Absent), opened(seconds, true));
    }
    clocked.now += LONGEST_PAUSE;
    assert_eq!(clocked.end(Sign::Life), Some(Change::Closed));
    assert_eq!(clocked.end(Sign::Absent), opened(1, false));
}

#[test]
fn a_probe_that_proves_nothing_is_followed_by_the_next() {
    let mut clocked = Clocked::new(1);
    clocked.end(Sign::Absent);
    clocked.now += SECOND;
    assert_eq!(clocked.end(Sign::Nothing), None);
    assert!(clocked.admit().is_ok());
    assert_eq!(clocked.admit(), Err(Denied::Probing));
}

#[test]
fn what_began_before_it_opened_can_close_it_and_not_open_it_again() {
    let mut clocked = Clocked::new(1);
    let [fails, lives, late] = [(); 3].map(|()| clocked.admit().unwrap());
    assert_eq!(clocked.settle(&fails, Sign::Absent), opened(1, false));
    assert_eq!(clocked.settle(&lives, Sign::Life), Some(Change::Closed));
    assert_eq!(clocked.settle(&late, Sign::Absent), None);
    assert!(clocked.admit().is_ok());
}

proptest! {
    /// However requests end and time passes: nothing goes through during a pause, and at most one at a time after it.
    #[test]
    fn while_it_is_open_at_most_one_goes_through(
        steps in prop::collection::vec((0u8..5, 0usize..9, 0u64..40_000), 0..200),
    ) {
        let mut clocked = Clocked::new(3);
        let mut under_way: Vec<(Permit, bool)> = Vec::new();
        let mut until = None;
        for (kind, which, milliseconds) in steps {
            match kind {
                0 | 1 => {
                    if let Ok(permit) = clocked.admit() {
                        prop_assert!(until.is_none_or(|until| until <= clocked.now));
                        prop_assert!(until.is_none() || under_way.iter().all(|(_, is_probe)| !is_probe));
                        under_way.push((permit, until.is_some()));
                    }
                }
                2 => clocked.now += Duration::from_millis(milliseconds),
                _ if under_way.is_empty() => {}
                _ => {
                    let (permit, _) = under_way.remove(which % under_way.len());
                    let sign = [Sign::Absent, Sign::Broken(None), Sign::Nothing, Sign::Life][which % 4];
                    match clocked.settle(&permit, sign) {
                        Some(Change::Opened { pause, .. }) => {
                            prop_assert!((SECOND..=LONGEST_PAUSE).contains(&pause));
                            until = Some(clocked.now + pause);
                        }
                        Some(Change::Closed) => {
                            until = None;
                            under_way.iter_mut().for_each(|(_, is_probe)| *is_probe = false);
                        }
                        None => prop_assert!(sign != Sign::Life || until.is_none()),
                    }
                }
            }
        }
    }
}
