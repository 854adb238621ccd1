//! Requests and answers: every size, every byte, whatever either side leaves out.

use aileron::message::{Failure, Payload};

use super::{MIB, answer, ask, assert_same, client, client_with, get, header, noise, request, text};
use crate::support::Fpm;

#[tokio::test]
async fn a_small_request_comes_back_over_fresh_and_kept_connections() {
    let fpm = Fpm::start(2).await;
    for keep in [0, 1] {
        let client = client(&fpm, "echo.php", keep);
        for _ in 0..3 {
            let response = answer(&client, &request("", "", &[], b"hello".to_vec())).await;
            assert_eq!((response.status, text(&response)), (200, "hello"));
            assert_eq!(header(&response, "content-type"), ["application/octet-stream"]);
        }
        fpm.has_connections(keep).await;
    }
}

#[tokio::test]
async fn large_bodies_go_both_ways_at_the_same_time() {
    let fpm = Fpm::start(2).await;
    for keep in [0, 1] {
        let client = client(&fpm, "echo.php", keep);
        // A PUT is sent back piece by piece as it arrives; a POST is taken in by PHP before the script runs.
        for method in ["PUT", "POST"] {
            let body = noise(20 * MIB + 3);
            let response = answer(&client, &request(method, "", &[], body.clone())).await;
            assert_same(&response.body.into_bytes(), &body);
        }
    }
}

#[tokio::test]
async fn bodies_around_the_size_of_a_record_stay_whole() {
    let fpm = Fpm::start(1).await;
    let client = client(&fpm, "echo.php", 1);
    for size in [0, 1, 65_534, 65_535, 65_536, 131_070, 131_071] {
        let body = noise(size);
        let response = answer(&client, &request("POST", "", &[], body.clone())).await;
        assert_same(&response.body.into_bytes(), &body);
    }
}

#[tokio::test]
async fn it_works_over_tcp_too() {
    let fpm = Fpm::start_tcp(2, "").await;
    for keep in [0, 1] {
        let client = client(&fpm, "echo.php", keep);
        for size in [5, 20 * MIB] {
            let body = noise(size);
            let response = answer(&client, &request("PUT", "", &[], body.clone())).await;
            assert_same(&response.body.into_bytes(), &body);
        }
    }
}

#[tokio::test]
async fn an_empty_answer_is_an_answer() {
    let fpm = Fpm::start(1).await;
    let response = answer(&client(&fpm, "empty.php", 0), &get("")).await;
    assert_eq!((response.status, response.body), (200, Payload::Text("".into())));
}

#[tokio::test]
async fn an_answer_without_any_header_is_an_answer() {
    let fpm = Fpm::start_with(
        1,
        "php_admin_value[default_mimetype] =\nphp_admin_flag[expose_php] = off",
    )
    .await;
    let response = answer(&client(&fpm, "pid.php", 0), &get("")).await;
    assert_eq!((response.status, response.headers.len()), (200, 0));
    assert!(text(&response).parse::<u32>().is_ok());
}

#[tokio::test]
async fn every_byte_comes_through() {
    let fpm = Fpm::start(1).await;
    let all: Vec<u8> = (0..=255).collect();
    let response = answer(&client(&fpm, "bytes.php", 0), &get("")).await;
    assert_eq!(response.body, Payload::Binary(all.clone().into()));
    let response = answer(
        &client(&fpm, "echo.php", 0),
        &request("POST", "", &[], all.clone()),
    )
    .await;
    assert_eq!(response.body, Payload::Binary(all.into()));
}

#[tokio::test]
async fn a_script_need_not_read_the_body() {
    let fpm = Fpm::start(1).await;
    for keep in [0, 1] {
        let client = client(&fpm, "early.php", keep);
        for (method, query) in [("PUT", ""), ("POST", ""), ("PUT", "finish"), ("POST", "finish")] {
            let response = ask(&client, &request(method, query, &[], noise(20 * MIB))).await;
            assert_eq!(
                response.as_ref().map(text),
                Ok("early"),
                "{method} {query} keep {keep}"
            );
        }
    }
}

#[tokio::test]
async fn a_body_that_php_refuses_does_not_spoil_the_next_request() {
    let fpm = Fpm::start_with(1, "php_admin_value[post_max_size] = 1K").await;
    for keep in [0, 1] {
        let client = client(&fpm, "early.php", keep);
        for size in [2 * MIB, 10, 2000, 10] {
            let response = ask(&client, &request("POST", "", &[], noise(size))).await;
            assert_eq!(response.as_ref().map(text), Ok("early"), "{size} keep {keep}");
        }
    }
}

#[tokio::test]
async fn an_answer_over_the_limit_is_refused_and_its_connection_closed() {
    let fpm = Fpm::start(1).await;
    for keep in [0, 1] {
        let client = client_with(&fpm, "large.php", keep, 100_000);
        let response = answer(&client, &get("size=100000")).await;
        assert_eq!(response.body.len(), 100_000);
        let failure = ask(&client, &get("size=100001")).await.unwrap_err();
        assert!(
            matches!(&failure, Failure::TooLarge(text) if text.contains("over 100000 bytes")),
            "{failure}"
        );
        fpm.has_connections(0).await;
        let response = answer(&client, &get("size=3")).await;
        assert_eq!(text(&response), "xxx");
    }
}
