//! What PHP is told of a request, and what comes back beside the body.

use std::collections::{BTreeMap, BTreeSet};

use aileron::message::Request;
use aileron::upstream::fastcgi::{FastCgi, Settings};

use super::{MIB, address, answer, client, get, header, request, settings, text};
use crate::support::Fpm;

/// The variables that `server.php` finds.
async fn variables(client: &FastCgi, request: &Request) -> BTreeMap<String, String> {
    let response = answer(client, request).await;
    let pairs = text(&response).lines().filter_map(|line| line.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[tokio::test]
async fn php_is_told_about_the_request_as_by_a_web_server() {
    let fpm = Fpm::start(1).await;
    let client = client(&fpm, "server.php", 0);
    let root = format!("{}/tests/php/fastcgi", env!("CARGO_MANIFEST_DIR"));
    let script = format!("{root}/server.php");
    let headers = [
        ("host", "example.org:8443"),
        ("Content-Type", "application/json"),
        ("content-length", "7000"),
        ("cookie", "a=1"),
        ("x-list", "one"),
        ("cookie", "b=2"),
        ("X-List", "two"),
        ("connection", "upgrade"),
        ("transfer-encoding", "chunked"),
        ("proxy", "http://evil.example"),
        ("x_list", "spoofed"),
    ];
    let mut full = request("PATCH", "q=1&r=%20", &headers, b"{}".to_vec());
    full.path = "/some/path".to_owned();
    let found = variables(&client, &full).await;
    let expected = [
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("REQUEST_METHOD", "PATCH"),
        ("SCRIPT_FILENAME", &script),
        ("SCRIPT_NAME", "/server.php"),
        ("PHP_SELF", "/server.php"),
        ("DOCUMENT_ROOT", &root),
        ("DOCUMENT_URI", "/server.php"),
        ("REQUEST_URI", "/some/path?q=1&r=%20"),
        ("QUERY_STRING", "q=1&r=%20"),
        ("CONTENT_TYPE", "application/json"),
        ("CONTENT_LENGTH", "2"),
        ("REMOTE_ADDR", "127.0.0.1"),
        ("REMOTE_PORT", "0"),
        ("SERVER_ADDR", "127.0.0.1"),
        ("AILERON_REQUEST", "1"),
        ("SERVER_NAME", "example.org"),
        ("SERVER_PORT", "8443"),
        ("HTTP_HOST", "example.org:8443"),
        ("HTTP_COOKIE", "a=1; b=2"),
        ("HTTP_X_LIST", "one, two"),
    ];
    for (name, value) in expected {
        assert_eq!(found.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(
        found
            .get("SERVER_SOFTWARE")
            .is_some_and(|software| software.starts_with("aileron/"))
    );
    let http: BTreeSet<&str> = found
        .keys()
        .map(String::as_str)
        .filter(|name| name.starts_with("HTTP_"))
        .collect();
    assert_eq!(http, BTreeSet::from(["HTTP_COOKIE", "HTTP_HOST", "HTTP_X_LIST"]));
}

/// What a front controller finds: the path that was asked for is not that of the script.
#[tokio::test]
async fn a_script_may_be_asked_under_another_path_and_root() {
    let fpm = Fpm::start(1).await;
    let dir = format!("{}/tests/php/fastcgi", env!("CARGO_MANIFEST_DIR"));
    let root = format!("{}/tests", env!("CARGO_MANIFEST_DIR"));
    for (path, query, uri, document, path_info) in [
        (
            "/websocket?a=1",
            "b=2",
            "/websocket?a=1&b=2",
            "/php/fastcgi/server.php",
            None,
        ),
        (
            "/php/fastcgi/server.php/chat/1",
            "",
            "/php/fastcgi/server.php/chat/1",
            "/php/fastcgi/server.php/chat/1",
            Some("/chat/1"),
        ),
    ] {
        let params = [
            ("APP_ENV", "prod"),
            ("SERVER_NAME", "shop.example"),
            ("REMOTE_ADDR", "192.0.2.1"),
        ];
        let client = FastCgi::new(Settings {
            root: Some(root.clone()),
            path: Some(path.to_owned()),
            params: params
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..settings(address(&fpm), &format!("{dir}/server.php"), 0, MIB)
        });
        let found = variables(&client, &request("", query, &[], Vec::new())).await;
        let found = |name: &str| found.get(name).map(String::as_str);
        for (name, value) in [
            ("REQUEST_URI", uri),
            ("DOCUMENT_URI", document),
            ("PHP_SELF", document),
            ("SCRIPT_NAME", "/php/fastcgi/server.php"),
            ("SCRIPT_FILENAME", &format!("{dir}/server.php")),
            ("DOCUMENT_ROOT", &root),
            ("APP_ENV", "prod"),
            ("SERVER_NAME", "shop.example"),
            ("REMOTE_ADDR", "192.0.2.1"),
        ] {
            assert_eq!(found(name), Some(value), "{name}");
        }
        assert_eq!(found("PATH_INFO"), path_info);
    }
}

#[tokio::test]
async fn what_a_request_leaves_empty_has_a_default() {
    let fpm = Fpm::start(1).await;
    let found = variables(&client(&fpm, "server.php", 0), &request("", "", &[], Vec::new())).await;
    let expected = [
        ("REQUEST_METHOD", "POST"),
        ("REQUEST_URI", "/server.php"),
        ("QUERY_STRING", ""),
        ("CONTENT_LENGTH", "0"),
        ("SERVER_NAME", "localhost"),
        ("SERVER_PORT", "80"),
    ];
    for (name, value) in expected {
        assert_eq!(found.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert_eq!(found.get("CONTENT_TYPE"), None);
}

#[tokio::test]
async fn many_and_long_request_headers_arrive() {
    let fpm = Fpm::start(1).await;
    // 200 of them, and with these lengths the variables take several records.
    let headers: Vec<(String, String)> = (0..200)
        .map(|i| {
            (
                format!("x-field-{i}"),
                "v".repeat(i * 7 + if i % 50 == 0 { 60_000 } else { 0 }),
            )
        })
        .collect();
    let mut request = get("");
    request.headers = headers.clone();
    let client = client(&fpm, "server.php", 1);
    for _ in 0..2 {
        let found = variables(&client, &request).await;
        for (i, (_, value)) in headers.iter().enumerate() {
            assert!(
                found.get(&format!("HTTP_X_FIELD_{i}")) == Some(value),
                "field {i}"
            );
        }
    }
}

#[tokio::test]
async fn many_response_headers_arrive_in_order() {
    let fpm = Fpm::start(1).await;
    let response = answer(&client(&fpm, "headers.php", 0), &get("")).await;
    let cookies: Vec<String> = (0..100).map(|i| format!("c{i}={i}; Path=/")).collect();
    assert_eq!(header(&response, "set-cookie"), cookies);
    for i in 0..100 {
        assert_eq!(header(&response, &format!("x-field-{i}")), [format!("value {i}")]);
    }
    assert_eq!(header(&response, "x-latin"), ["caf\u{fffd}"]);
    assert!(
        response
            .headers
            .iter()
            .all(|(name, _)| !name.bytes().any(|byte| byte.is_ascii_uppercase()))
    );
}

#[tokio::test]
async fn status_codes_are_php_s() {
    let fpm = Fpm::start(1).await;
    let client = client(&fpm, "status.php", 1);
    for status in [200, 201, 204, 301, 404, 418, 500, 503] {
        let response = answer(&client, &get(&format!("status={status}"))).await;
        assert_eq!(
            (response.status, text(&response)),
            (status, format!("status {status}").as_str())
        );
        assert_eq!(header(&response, "status"), [""; 0]);
    }
    let response = answer(&client, &get("status=location")).await;
    assert_eq!(
        (response.status, header(&response, "location")),
        (302, vec!["/elsewhere"])
    );
}
