//! Exchanges with an application that is played by the test: outcomes that PHP-FPM itself rarely shows.

use std::future::pending;
use std::time::Duration;

use tokio::io::{DuplexStream, duplex, split};

use super::super::params::Place;
use super::*;
use crate::message::Payload;
use crate::metrics::Metrics;

const OK: &[u8] = b"\x01\x06\0\x01\0\x0a\0\0X: y\n\nbody\x01\x03\0\x01\0\x08\0\0\0\0\0\0\0\0\0\0";

fn settings() -> Settings {
    Settings {
        address: Address::Tcp("fpm:9000".to_owned()),
        log_limit: Default::default(),
        inbound: crate::budget::Budget::new(usize::MAX),
        resolve_links: false,
        root: None,
        path: None,
        params: Vec::new(),
        script: "/index.php".to_owned(),
        keep: 0,
        max_answer: 1000,
        timeout: Duration::from_secs(10),
        name: "php".into(),
        metrics: Metrics::default().upstream("php"),
    }
}

fn outgoing(body: Vec<u8>) -> Outgoing {
    let request = Request {
        method: String::new(),
        path: String::new(),
        query: String::new(),
        headers: Vec::new(),
        body: Payload::Binary(body.into()),
    };
    let script = Script::new(&Place {
        filename: "/index.php",
        ..Place::default()
    });
    Outgoing::new(&request, None, &script, true).expect("good")
}

async fn talk(stream: DuplexStream, body: Vec<u8>) -> Result<(Response, bool), Fault> {
    let (reader, writer) = split(stream);
    exchange(
        reader,
        writer,
        &mut BytesMut::new(),
        &outgoing(body),
        &settings(),
        pending(),
    )
    .await
}

/// The outcome for an application that sends these bytes, then closes.
async fn answered(bytes: &[u8]) -> Result<(Response, bool), Fault> {
    let (ours, mut theirs) = duplex(1 << 20);
    theirs.write_all(bytes).await.expect("room");
    theirs.shutdown().await.expect("open");
    talk(ours, Vec::new()).await
}

async fn failure(bytes: &[u8]) -> String {
    match answered(bytes).await {
        Err(fault) => fault.describe(&settings()).to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_answer_that_ends_cleanly_leaves_the_connection_to_the_next_request() {
    let (response, is_clean) = answered(OK).await.expect("good");
    assert_eq!(response.body, Payload::Text("body".into()));
    assert!(is_clean);
}

#[tokio::test]
async fn bytes_after_the_answer_spoil_the_connection() {
    let (_, is_clean) = answered(&[OK, b"\x01"].concat()).await.expect("good");
    assert!(!is_clean);
}

#[tokio::test]
async fn a_body_that_was_not_taken_spoils_the_connection() {
    let (ours, mut theirs) = duplex(8192);
    theirs.write_all(OK).await.expect("room");
    let (_, is_clean) = talk(ours, vec![0; 1 << 20]).await.expect("good");
    assert!(!is_clean);
}

#[tokio::test]
async fn nothing_is_sent_to_a_connection_that_is_closed() {
    let (ours, theirs) = duplex(64);
    drop(theirs);
    assert!(matches!(talk(ours, Vec::new()).await, Err(Fault::Unsent(_))));
}

#[tokio::test]
async fn failures_say_what_came_instead_of_an_answer() {
    let end = |status| [&[1, 3, 0, 1, 0, 8, 0, 0], &[0, 0, 0, 0, status, 0, 0, 0][..]].concat();
    let table: [(Vec<u8>, &str); 8] = [
        (
            vec![],
            "unreachable: fastcgi://fpm:9000 closed the connection before its answer was complete",
        ),
        (
            OK[..30].to_vec(),
            "unreachable: fastcgi://fpm:9000 closed the connection before its answer was complete",
        ),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            "bad-answer: fastcgi://fpm:9000 sent a record of version 72",
        ),
        (
            end(0),
            "bad-answer: the answer of fastcgi://fpm:9000 is not a cgi answer: it ended before",
        ),
        (
            end(1),
            "bad-answer: fastcgi://fpm:9000 rejected the request: CannotMultiplex",
        ),
        (
            end(2),
            "overloaded: fastcgi://fpm:9000 says that it is overloaded",
        ),
        (
            end(3),
            "bad-answer: fastcgi://fpm:9000 rejected the request: UnknownRole",
        ),
        (
            end(4),
            "bad-answer: fastcgi://fpm:9000 rejected the request: Unknown(4)",
        ),
    ];
    for (bytes, expected) in table {
        let failure = failure(&bytes).await;
        assert!(failure.starts_with(expected), "{failure}");
    }
}

#[tokio::test]
async fn the_answer_has_a_limit() {
    let mut out = b"\x01\x06\0\x01\x04\x01\0\0\n".to_vec();
    out.resize(8 + 1025, b'x');
    let expected = "too-large: the answer of fastcgi://fpm:9000 is over 1000 bytes (max-answer)";
    assert_eq!(failure(&out).await, expected);
}
