//! Connections: how many there are, which is used next, and what becomes of them when FPM restarts, reloads or dies.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aileron::message::Failure;

use super::{answers, ask, client, get, request};
use crate::support::{Fpm, eventually};

#[tokio::test]
async fn a_restart_of_fpm_between_requests_goes_unnoticed() {
    let mut fpm = Fpm::start(3).await;
    let client = Arc::new(client(&fpm, "pid.php", 3));
    for _ in 0..2 {
        // Three at once, so that all three connections are there and idle.
        let before = answers(&client, 3, "wait=50").await;
        assert_eq!(before.len(), 3);
        fpm.stop().await;
        fpm.restart().await;
        let after = answers(&client, 3, "wait=50").await;
        assert!(before.is_disjoint(&after), "{before:?} {after:?}");
    }
}

#[tokio::test]
async fn a_reload_of_fpm_between_requests_goes_unnoticed() {
    let fpm = Fpm::start(1).await;
    let client = Arc::new(client(&fpm, "pid.php", 1));
    let before = answers(&client, 1, "").await;
    fpm.signal("USR2");
    fpm.has_connections(0).await;
    fpm.listens().await;
    assert!(before.is_disjoint(&answers(&client, 1, "").await));
}

#[tokio::test]
async fn a_child_that_has_done_its_requests_is_replaced() {
    let fpm = Fpm::start_tcp(2, "pm.max_requests = 1").await;
    let client = Arc::new(client(&fpm, "pid.php", 2));
    let mut children = BTreeSet::new();
    for _ in 0..5 {
        children.extend(answers(&client, 1, "").await);
        // FPM ends its half of the connection a moment after the answer.
        eventually("a connection that FPM has ended", || {
            is_half_closed(&fpm).then_some(())
        })
        .await;
    }
    assert_eq!(children.len(), 5);
}

/// Whether there is a TCP connection to FPM whose other half FPM has ended.
fn is_half_closed(fpm: &Fpm) -> bool {
    let (_, port) = fpm.listen().split_once(':').unwrap();
    let peer = format!(":{:04X} 08 ", port.parse::<u16>().unwrap());
    // Each line has the peer and then the state, of which 08 is CLOSE_WAIT.
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    sockets.lines().any(|line| line.contains(&peer))
}

#[tokio::test]
async fn a_child_that_dies_is_told_and_its_request_is_never_repeated() {
    let fpm = Fpm::start(2).await;
    for keep in [0, 1] {
        let file = fpm.dir().join(format!("runs-{keep}"));
        let client = client(&fpm, "crash.php", keep);
        let headers = [("x-file", file.to_str().unwrap())];
        for runs in 1..3 {
            let failure = ask(&client, &request("POST", "", &headers, Vec::new()))
                .await
                .unwrap_err();
            assert!(
                matches!(&failure, Failure::Unreachable(text) if text.contains("before its answer was complete"))
            );
            assert_eq!(std::fs::read_to_string(&file).unwrap(), "ran\n".repeat(runs));
        }
    }
}

#[tokio::test]
async fn there_are_never_more_connections_than_are_kept() {
    let fpm = Fpm::start(2).await;
    let client = Arc::new(client(&fpm, "pid.php", 2));
    let requests = answers(&client, 12, "wait=20");
    let mut requests = std::pin::pin!(requests);
    let mut most = 0;
    let children = loop {
        tokio::select! {
            children = &mut requests => break children,
            () = tokio::time::sleep(Duration::from_millis(2)) => most = most.max(fpm.connections()),
        }
    };
    assert_eq!((children.len(), most, fpm.connections()), (2, 2, 2));
}

#[tokio::test]
async fn the_connection_that_has_rested_longest_is_used_next() {
    let fpm = Fpm::start(3).await;
    let client = Arc::new(client(&fpm, "pid.php", 3));
    let mut children = BTreeSet::new();
    for _ in 0..3 {
        children.extend(answers(&client, 1, "").await);
    }
    assert_eq!(children.len(), 3, "while there is room, a new one is made");
    children.clear();
    for _ in 0..3 {
        children.extend(answers(&client, 1, "").await);
    }
    assert_eq!(children.len(), 3);
    assert_eq!(fpm.connections(), 3);
}

/// As Laravel and Symfony do with every request: the child works on when the client has its answer.
#[tokio::test]
async fn a_child_that_is_still_at_work_keeps_nobody_waiting() {
    let fpm = Fpm::start(2).await;
    let client = Arc::new(client(&fpm, "finish.php", 2));
    let started = Instant::now();
    let busy = answers(&client, 1, "work=10").await;
    let other = answers(&client, 1, "").await;
    assert!(busy.is_disjoint(&other), "{busy:?} {other:?}");
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn a_request_that_is_given_up_closes_its_connection_and_frees_its_place() {
    let fpm = Fpm::start(4).await;
    for keep in [0, 1] {
        let client = Arc::new(client(&fpm, "pid.php", keep));
        let slow = get("wait=5000");
        let given_up = tokio::time::timeout(Duration::from_millis(50), client.send(&slow, None)).await;
        assert!(given_up.is_err());
        let started = Instant::now();
        assert_eq!(answers(&client, 1, "").await.len(), 1);
        assert!(
            started.elapsed() < Duration::from_secs(4),
            "{:?}",
            started.elapsed()
        );
        fpm.has_connections(keep).await;
    }
}
