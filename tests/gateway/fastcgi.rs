//! The FastCGI client against a real PHP-FPM, one of its own for each test.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "clippy takes the helpers of an integration test for production code"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aileron::message::{Failure, Outcome, Payload, Request, Response};
use aileron::upstream::fastcgi::{Address, FastCgi, Settings};
use tempfile::TempDir;

const MIB: usize = 1 << 20;

/// A PHP-FPM. It ends when this is dropped.
struct Fpm {
    address: Address,
    directory: TempDir,
    process: Child,
}

impl Fpm {
    /// Starts one on a Unix socket. `pool` is added to the configuration of its pool.
    async fn start(children: usize, pool: &str) -> Self {
        let directory = TempDir::new().expect("a directory");
        let socket = directory.path().join("fpm.sock");
        Self::start_at(Address::Unix(socket), directory, children, pool).await
    }

    async fn start_tcp(children: usize) -> Self {
        let address = Address::Tcp(format!("127.0.0.1:{}", free_port()));
        Self::start_at(address, TempDir::new().expect("a directory"), children, "").await
    }

    async fn start_at(address: Address, directory: TempDir, children: usize, pool: &str) -> Self {
        let listen = match &address {
            Address::Tcp(address) => address.clone(),
            Address::Unix(path) => path.display().to_string(),
        };
        // FPM asks root, and nobody else, for a user to run its children as.
        let is_root = directory.path().metadata().expect("the directory").uid() == 0;
        let user = if is_root { "user = root\ngroup = root" } else { "" };
        let log = directory.path().join("fpm.log");
        let configuration = format!(
            "[global]\ndaemonize = no\nerror_log = {log}\n\
             [www]\nlisten = {listen}\n{user}\npm = static\npm.max_children = {children}\ncatch_workers_output = no\n\
             php_admin_value[post_max_size] = 64M\nphp_admin_flag[log_errors] = on\n\
             php_admin_flag[display_errors] = off\n{pool}\n",
            log = log.display(),
        );
        std::fs::write(directory.path().join("fpm.conf"), configuration).expect("written");
        let process = spawn(directory.path());
        let fpm = Self {
            address,
            directory,
            process,
        };
        fpm.wait_until_ready().await;
        fpm
    }

    async fn restart(&mut self) {
        self.stop();
        self.process = spawn(self.directory.path());
        self.wait_until_ready().await;
    }

    async fn wait_until_ready(&self) {
        let listens = || match &self.address {
            Address::Tcp(address) => std::net::TcpStream::connect(address).is_ok(),
            Address::Unix(path) => UnixStream::connect(path).is_ok(),
        };
        if !eventually(listens).await {
            let log = std::fs::read_to_string(self.directory.path().join("fpm.log"));
            panic!("php-fpm does not listen; its log: {log:?}");
        }
        // The connection that was the test is not to be counted.
        if let Address::Unix(_) = &self.address {
            assert!(eventually(|| self.connections() == 0).await);
        }
    }

    /// Ends the master, which ends its children.
    fn stop(&mut self) {
        self.signal("TERM");
        let _ = self.process.wait();
    }

    fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        let _ = Command::new("kill").args(["-s", name, &pid]).status();
    }

    fn client(&self, script: &str, keep: usize) -> FastCgi {
        self.client_with(script, keep, 64 * MIB)
    }

    fn client_with(&self, script: &str, keep: usize, max_answer: usize) -> FastCgi {
        client(self.address.clone(), script, keep, max_answer)
    }

    /// How many connections to the Unix socket there are, accepted or not.
    fn connections(&self) -> usize {
        let Address::Unix(path) = &self.address else {
            panic!("not a Unix socket")
        };
        let sockets = std::fs::read_to_string("/proc/net/unix").expect("Linux");
        let path = path.to_str().expect("UTF-8");
        // The sixth column is the state; 01 is the one that listens.
        let is_connection = |line: &&str| line.ends_with(path) && line.split(' ').nth(5) != Some("01");
        sockets.lines().filter(is_connection).count()
    }
}

impl Drop for Fpm {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn(directory: &Path) -> Child {
    Command::new(binary())
        // As root too, without the php.ini of this machine, in the foreground.
        .args(["-R", "-n", "-F", "-y"])
        .arg(directory.join("fpm.conf"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("php-fpm starts")
}

fn binary() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let plain = std::env::split_paths(&path).map(|directory| directory.join("php-fpm"));
    let versions = std::fs::read_dir("/usr/sbin").into_iter().flatten().flatten();
    let versions = versions.map(|entry| entry.path()).filter(|path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("php-fpm"))
    });
    plain
        .chain(versions)
        .find(|path| path.is_file())
        .expect("these tests need php-fpm (apt install php-fpm)")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("bound").port()
}

/// Polls for what nobody announces, for ten seconds at most.
async fn eventually(mut happened: impl FnMut() -> bool) -> bool {
    for _ in 0..1000 {
        if happened() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

fn client(address: Address, script: &str, keep: usize, max_answer: usize) -> FastCgi {
    let script = format!("{}/tests/php/fastcgi/{script}", env!("CARGO_MANIFEST_DIR"));
    FastCgi::new(Settings {
        address,
        script,
        keep,
        max_answer,
        name: "php".into(),
    })
}

fn request(method: &str, query: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Request {
    Request {
        method: method.to_owned(),
        path: String::new(),
        query: query.to_owned(),
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        body: Payload::from_body(body.into()),
    }
}

fn get(query: &str) -> Request {
    request("GET", query, &[], Vec::new())
}

fn text(response: &Response) -> &str {
    match &response.body {
        Payload::Text(text) => text,
        Payload::Binary(bytes) => panic!("{} bytes that are no text", bytes.len()),
    }
}

/// An outcome is due even where an error of the client would make both sides wait for each other.
async fn ask(client: &FastCgi, request: &Request) -> Outcome {
    tokio::time::timeout(Duration::from_secs(30), client.send(request))
        .await
        .expect("an outcome in time")
}

async fn answer(client: &FastCgi, request: &Request) -> Response {
    ask(client, request).await.expect("an answer")
}

fn header<'a>(response: &'a Response, name: &str) -> Vec<&'a str> {
    response
        .headers
        .iter()
        .filter(|(n, _)| n == name)
        .map(|(_, value)| value.as_str())
        .collect()
}

async fn variables(client: &FastCgi, request: &Request) -> BTreeMap<String, String> {
    let response = answer(client, request).await;
    let pairs = text(&response).lines().filter_map(|line| line.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn noise(size: usize) -> Vec<u8> {
    (0..size)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 16) as u8)
        .collect()
}

/// Two outcomes that must be equal, without the megabytes in the message.
fn assert_same(left: &[u8], right: &[u8]) {
    assert!(
        left == right,
        "{} bytes and {} bytes differ",
        left.len(),
        right.len()
    );
}

#[tokio::test]
async fn a_small_request_comes_back_over_fresh_and_kept_connections() {
    let fpm = Fpm::start(2, "").await;
    for keep in [0, 1] {
        let client = fpm.client("echo.php", keep);
        for _ in 0..3 {
            let response = answer(&client, &request("", "", &[], b"hello".to_vec())).await;
            assert_eq!((response.status, text(&response)), (200, "hello"));
            assert_eq!(header(&response, "content-type"), ["application/octet-stream"]);
        }
        assert!(eventually(|| fpm.connections() == keep).await, "keep {keep}");
    }
}

#[tokio::test]
async fn large_bodies_go_both_ways_at_the_same_time() {
    let fpm = Fpm::start(2, "").await;
    for keep in [0, 1] {
        let client = fpm.client("echo.php", keep);
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
    let fpm = Fpm::start(1, "").await;
    let client = fpm.client("echo.php", 1);
    for size in [0, 1, 65_534, 65_535, 65_536, 131_070, 131_071] {
        let body = noise(size);
        let response = answer(&client, &request("POST", "", &[], body.clone())).await;
        assert_same(&response.body.into_bytes(), &body);
    }
}

#[tokio::test]
async fn it_works_over_tcp_too() {
    let fpm = Fpm::start_tcp(2).await;
    for keep in [0, 1] {
        let client = fpm.client("echo.php", keep);
        for size in [5, 20 * MIB] {
            let body = noise(size);
            let response = answer(&client, &request("PUT", "", &[], body.clone())).await;
            assert_same(&response.body.into_bytes(), &body);
        }
    }
}

#[tokio::test]
async fn php_is_told_about_the_request_as_by_a_web_server() {
    let fpm = Fpm::start(1, "").await;
    let client = fpm.client("server.php", 0);
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

#[tokio::test]
async fn what_a_request_leaves_empty_has_a_default() {
    let fpm = Fpm::start(1, "").await;
    let found = variables(&fpm.client("server.php", 0), &request("", "", &[], Vec::new())).await;
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
    let fpm = Fpm::start(1, "").await;
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
    let client = fpm.client("server.php", 1);
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
    let fpm = Fpm::start(1, "").await;
    let response = answer(&fpm.client("headers.php", 0), &get("")).await;
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
    let fpm = Fpm::start(1, "").await;
    let client = fpm.client("status.php", 1);
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

#[tokio::test]
async fn an_empty_answer_is_an_answer() {
    let fpm = Fpm::start(1, "").await;
    let response = answer(&fpm.client("empty.php", 0), &get("")).await;
    assert_eq!((response.status, response.body), (200, Payload::Text("".into())));
}

#[tokio::test]
async fn an_answer_without_any_header_is_an_answer() {
    let fpm = Fpm::start(
        1,
        "php_admin_value[default_mimetype] =\nphp_admin_flag[expose_php] = off",
    )
    .await;
    let response = answer(&fpm.client("pid.php", 0), &get("")).await;
    assert_eq!((response.status, response.headers.len()), (200, 0));
    assert!(text(&response).parse::<u32>().is_ok());
}

#[tokio::test]
async fn every_byte_comes_through() {
    let fpm = Fpm::start(1, "").await;
    let all: Vec<u8> = (0..=255).collect();
    let response = answer(&fpm.client("bytes.php", 0), &get("")).await;
    assert_eq!(response.body, Payload::Binary(all.clone().into()));
    let response = answer(&fpm.client("echo.php", 0), &request("POST", "", &[], all.clone())).await;
    assert_eq!(response.body, Payload::Binary(all.into()));
}

#[tokio::test]
async fn error_text_goes_to_the_log_and_not_into_the_answer() {
    let (log, _guard) = Log::capture();
    let fpm = Fpm::start(1, "").await;
    let response = answer(&fpm.client("stderr.php", 1), &get("")).await;
    assert_eq!(text(&response), "the answer");
    let lines = log.lines();
    let prefix = "upstream=php php-fpm wrote to stderr: ";
    let lines: Vec<_> = lines
        .iter()
        .filter_map(|line| line.strip_prefix(prefix))
        .collect();
    assert_eq!(lines[..2], ["first words", "second"]);
    assert!(
        lines[2].starts_with("third xxxx") && lines[2].len() <= 1024,
        "{}",
        lines[2]
    );
    assert_eq!(lines[3..6], ["line 0", "line 1", "line 2"]);
    // 32 lines, and that there were more.
    assert_eq!((lines.len(), lines[32]), (33, "more, which is left out here"));
}

#[tokio::test]
async fn a_missing_script_is_fpm_s_404() {
    let (log, _guard) = Log::capture();
    let fpm = Fpm::start(1, "").await;
    let client = fpm.client("no-such-file.php", 1);
    for _ in 0..2 {
        let response = answer(&client, &get("")).await;
        assert_eq!((response.status, text(&response)), (404, "File not found.\n"));
    }
    assert!(
        log.lines()[0].ends_with("Primary script unknown"),
        "{:?}",
        log.lines()
    );
}

#[tokio::test]
async fn a_fatal_error_is_a_500() {
    let (log, _guard) = Log::capture();
    let fpm = Fpm::start(1, "php_admin_value[output_buffering] = 4096").await;
    let client = fpm.client("fatal.php", 1);
    for _ in 0..2 {
        assert_eq!(answer(&client, &get("")).await.status, 500);
    }
    assert!(
        log.lines()[0]
            .contains("PHP Fatal error:  Uncaught Error: Call to undefined function no_such_function"),
        "{:?}",
        log.lines()
    );
}

#[tokio::test]
async fn a_script_need_not_read_the_body() {
    let fpm = Fpm::start(1, "").await;
    for keep in [0, 1] {
        let client = fpm.client("early.php", keep);
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
    let fpm = Fpm::start(1, "php_admin_value[post_max_size] = 1K").await;
    for keep in [0, 1] {
        let client = fpm.client("early.php", keep);
        for size in [2 * MIB, 10, 2000, 10] {
            let response = ask(&client, &request("POST", "", &[], noise(size))).await;
            assert_eq!(response.as_ref().map(text), Ok("early"), "{size} keep {keep}");
        }
    }
}

#[tokio::test]
async fn an_answer_over_the_limit_is_refused_and_its_connection_closed() {
    let fpm = Fpm::start(1, "").await;
    for keep in [0, 1] {
        let client = fpm.client_with("large.php", keep, 100_000);
        let response = answer(&client, &get("size=100000")).await;
        assert_eq!(response.body.len(), 100_000);
        let failure = ask(&client, &get("size=100001")).await.expect_err("too large");
        assert!(
            matches!(&failure, Failure::TooLarge(text) if text.contains("over 100000 bytes")),
            "{failure}"
        );
        assert!(eventually(|| fpm.connections() == 0).await);
        let response = answer(&client, &get("size=3")).await;
        assert_eq!(text(&response), "xxx");
    }
}

#[tokio::test]
async fn a_restart_of_fpm_between_requests_goes_unnoticed() {
    let mut fpm = Fpm::start(3, "").await;
    let client = Arc::new(fpm.client("pid.php", 3));
    for _ in 0..2 {
        // Three at once, so that all three connections are there and idle.
        let before = answers(&client, 3, "wait=50").await;
        assert_eq!(before.len(), 3);
        fpm.restart().await;
        let after = answers(&client, 3, "wait=50").await;
        assert!(before.is_disjoint(&after), "{before:?} {after:?}");
    }
}

#[tokio::test]
async fn a_reload_of_fpm_between_requests_goes_unnoticed() {
    let fpm = Fpm::start(1, "").await;
    let client = Arc::new(fpm.client("pid.php", 1));
    let before = answers(&client, 1, "").await;
    fpm.signal("USR2");
    assert!(eventually(|| fpm.connections() == 0).await);
    fpm.wait_until_ready().await;
    assert!(before.is_disjoint(&answers(&client, 1, "").await));
}

#[tokio::test]
async fn a_child_that_has_done_its_requests_is_replaced() {
    let fpm = Fpm::start(2, "pm.max_requests = 1").await;
    let client = Arc::new(fpm.client("pid.php", 2));
    let mut children = BTreeSet::new();
    for _ in 0..5 {
        children.extend(answers(&client, 1, "").await);
        // FPM ends its half of the connection a moment after the answer, and shows that to nobody else.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(children.len(), 5);
}

#[tokio::test]
async fn a_child_that_dies_is_told_and_its_request_is_never_repeated() {
    let fpm = Fpm::start(2, "").await;
    for keep in [0, 1] {
        let file = fpm.directory.path().join(format!("runs-{keep}"));
        let client = fpm.client("crash.php", keep);
        let headers = [("x-file", file.to_str().expect("UTF-8"))];
        for runs in 1..3 {
            let failure = ask(&client, &request("POST", "", &headers, Vec::new()))
                .await
                .expect_err("no answer");
            assert!(
                matches!(&failure, Failure::Unreachable(text) if text.contains("before its answer was complete"))
            );
            assert_eq!(
                std::fs::read_to_string(&file).expect("written"),
                "ran\n".repeat(runs)
            );
        }
    }
}

#[tokio::test]
async fn there_are_never_more_connections_than_are_kept() {
    let fpm = Fpm::start(2, "").await;
    let client = Arc::new(fpm.client("pid.php", 2));
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
async fn the_connection_used_last_is_used_next() {
    let fpm = Fpm::start(3, "").await;
    let client = Arc::new(fpm.client("pid.php", 3));
    assert_eq!(answers(&client, 3, "wait=50").await.len(), 3);
    let mut children = BTreeSet::new();
    for _ in 0..5 {
        children.extend(answers(&client, 1, "").await);
    }
    assert_eq!(children.len(), 1);
}

#[tokio::test]
async fn a_request_that_is_given_up_closes_its_connection_and_frees_its_place() {
    let fpm = Fpm::start(4, "").await;
    for keep in [0, 1] {
        let client = Arc::new(fpm.client("pid.php", keep));
        let slow = get("wait=1000");
        let given_up = tokio::time::timeout(Duration::from_millis(50), client.send(&slow)).await;
        assert!(given_up.is_err());
        let started = std::time::Instant::now();
        assert_eq!(answers(&client, 1, "").await.len(), 1);
        assert!(
            started.elapsed() < Duration::from_millis(800),
            "{:?}",
            started.elapsed()
        );
        assert!(eventually(|| fpm.connections() == keep).await);
    }
}

#[tokio::test]
async fn nobody_there_is_told_with_the_cure() {
    let port = free_port();
    let directory = TempDir::new().expect("a directory");
    let missing = directory.path().join("missing.sock");
    let stale = directory.path().join("stale.sock");
    drop(UnixListener::bind(&stale).expect("bound"));
    let table = [
        (
            Address::Tcp(format!("127.0.0.1:{port}")),
            format!(
                "cannot connect to fastcgi://127.0.0.1:{port}: Connection refused \
                 (is php-fpm running and listening there?)"
            ),
        ),
        (
            Address::Unix(stale.clone()),
            format!(
                "cannot connect to fastcgi+unix://{}: Connection refused (is php-fpm running and listening there?)",
                stale.display()
            ),
        ),
        (
            Address::Unix(missing.clone()),
            format!(
                "cannot connect to fastcgi+unix://{}: No such file or directory \
                 (is php-fpm running, with this `listen`?)",
                missing.display()
            ),
        ),
    ];
    for (address, expected) in table {
        for keep in [0, 1] {
            let outcome = ask(&client(address.clone(), "pid.php", keep, MIB), &get("")).await;
            assert_eq!(outcome, Err(Failure::Unreachable(expected.clone())));
        }
    }
}

#[tokio::test]
async fn a_full_backlog_is_told_with_the_cure() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("full.sock");
    let socket = tokio::net::UnixSocket::new_stream().expect("a socket");
    socket.bind(&path).expect("bound");
    let _listener = socket.listen(1).expect("listening");
    let client = Arc::new(client(Address::Unix(path), "pid.php", 0, MIB));
    let mut requests = tokio::task::JoinSet::new();
    // Nobody accepts: the requests that found a place in the backlog wait, the first that did not comes back.
    for _ in 0..10 {
        let client = client.clone();
        requests.spawn(async move { ask(&client, &get("")).await });
    }
    let outcome = requests.join_next().await.expect("some").expect("no panic");
    assert!(
        matches!(&outcome, Err(Failure::Unreachable(text)) if text.contains("its backlog is full")),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_kept_connection_that_takes_nothing_any_more_is_replaced() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("fake.sock");
    let listener = UnixListener::bind(&path).expect("bound");
    // An application that stops reading after its answer, and does not close: only sending shows it.
    let application = std::thread::spawn(move || {
        let serve = || -> std::io::Result<UnixStream> {
            let (mut stream, _) = listener.accept()?;
            assert!(stream.read(&mut [0; 65_536])? > 0);
            stream.write_all(b"\x01\x06\0\x01\0\x03\0\0\n\nx\x01\x03\0\x01\0\x08\0\0\0\0\0\0\0\0\0\0")?;
            stream.shutdown(Shutdown::Read)?;
            Ok(stream)
        };
        [serve().expect("a request"), serve().expect("a request")]
    });
    let client = client(Address::Unix(path), "pid.php", 1, MIB);
    for _ in 0..2 {
        let response = answer(&client, &get("")).await;
        assert_eq!(text(&response), "\nx");
    }
    application
        .join()
        .expect("both requests came over connections of their own");
}

#[tokio::test]
async fn a_web_server_at_the_address_is_told() {
    use tokio::io::AsyncWriteExt;
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a port");
    let address = Address::Tcp(listener.local_addr().expect("bound").to_string());
    let server = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .expect("sent");
        stream
    };
    let client = client(address, "pid.php", 1, MIB);
    let request = get("");
    let (outcome, _stream) = tokio::join!(client.send(&request), server);
    assert!(
        matches!(&outcome, Err(Failure::Other(kind, _)) if kind == "bad-answer"),
        "{outcome:?}"
    );
}

/// Sends requests at once and collects the different answers.
async fn answers(client: &Arc<FastCgi>, requests: usize, query: &str) -> BTreeSet<String> {
    let mut tasks = tokio::task::JoinSet::<Outcome>::new();
    for _ in 0..requests {
        let (client, request) = (client.clone(), get(query));
        tasks.spawn(async move { ask(&client, &request).await });
    }
    tasks
        .join_all()
        .await
        .into_iter()
        .map(|outcome| text(&outcome.expect("an answer")).to_owned())
        .collect()
}

/// What this thread has logged: the fields in order, then the message.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn capture() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let guard = tracing::subscriber::set_default(log.clone());
        (log, guard)
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().expect("no panic").clone()
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("aileron")
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.0
            .lock()
            .expect("no panic")
            .push(format!("{}{}", fields.fields, fields.message));
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[derive(Default)]
struct Fields {
    fields: String,
    message: String,
}

impl tracing::field::Visit for Fields {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => self.fields += &format!("{name}={value:?} "),
        }
    }
}
