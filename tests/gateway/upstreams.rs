//! What clients notice of an application that dies, hangs, says too much or has too much to do: nothing but the answers
//! that do not come. What the operator reads: the cause.

/// An application that is not there is left alone for a while.
mod circuit;
/// Answers that the script did not write.
mod foreign;
pub(crate) mod guarded;
/// What tells PHP that it is the gateway that asks.
mod proof;
/// More requests than PHP-FPM is to have.
mod queue;
/// What is sent again, and what is not.
mod retries;
/// What PHP is told of the gateway's patience, and clients of failures.
mod told;
/// Whose turn it is, by kind and by address.
mod turns;
/// A request that was begun arrives whole.
mod variables;
mod whole;

use std::net::SocketAddr;
use std::process::Command;

use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::support::{Client, Fpm, Gateway, Nginx, Process, eventually, free_port};

const CLIENTS: usize = 20;

async fn ask_all(clients: &mut [Client], text: &str) {
    let answers = join_all(clients.iter_mut().map(|client| client.ask(text))).await;
    assert!(answers.iter().all(|answer| answer == text), "{answers:?}");
}

async fn send_all(clients: &mut [Client], text: &str) {
    join_all(clients.iter_mut().map(|client| client.send(text))).await;
}

/// PHP-FPM is killed while it works for twenty clients and more waits behind that. Each frame fails once, with this
/// cause in the log; then FPM is back, and the next answer that each client gets is the one to its next frame.
async fn survive_the_death_of_fpm(mut fpm: Fpm, upstream: &str, cause: &[&str]) {
    let config = format!("[upstream]\nretries = 0\nbreaker-failures = 0\n{upstream}");
    let mut gateway = Gateway::start(&config).await;
    let mut clients = join_all((0..CLIENTS).map(|_| gateway.connect())).await;
    ask_all(&mut clients, "before").await;

    send_all(&mut clients, "sleep:60000").await;
    eventually("PHP at work", || (fpm.connections() > 0).then_some(())).await;
    fpm.kill();
    send_all(&mut clients, "lost").await;
    gateway.logged_times(2 * CLIENTS, cause).await;
    for client in &mut clients {
        client.is_quiet().await;
        gateway.logged(&[cause[0], &client.id]).await;
    }

    fpm.restart().await;
    ask_all(&mut clients, "after").await;
    assert_eq!(gateway.metric("aileron_connections").await, CLIENTS as f64);
    assert_eq!(gateway.count_logged(cause), 2 * CLIENTS);
}

#[tokio::test]
async fn connections_outlive_php_fpm_spoken_to_over_fresh_connections() {
    let fpm = Fpm::start(4).await;
    let upstream = fpm.upstream("frames.php");
    survive_the_death_of_fpm(fpm, &upstream, &["no answer: unreachable: ", "fastcgi+unix://"]).await;
}

#[tokio::test]
async fn connections_outlive_php_fpm_spoken_to_over_kept_connections() {
    let fpm = Fpm::start(4).await;
    let upstream = format!("keep = 2\n{}", fpm.upstream("frames.php"));
    survive_the_death_of_fpm(fpm, &upstream, &["no answer: unreachable: ", "fastcgi+unix://"]).await;
}

/// nginx answers in PHP-FPM's place, which is no answer for a client.
#[tokio::test]
async fn connections_outlive_php_fpm_behind_nginx() {
    let fpm = Fpm::start(4).await;
    let nginx = Nginx::start(&fpm).await;
    let upstream = nginx.upstream("frames.php");
    survive_the_death_of_fpm(
        fpm,
        &upstream,
        &[
            "no answer: bad-answer: the web server answered in place of PHP, with status 502",
            "is php-fpm running",
        ],
    )
    .await;
}

#[tokio::test]
async fn connections_outlive_nginx() {
    let fpm = Fpm::start(4).await;
    let mut nginx = Nginx::start(&fpm).await;
    let upstream = nginx.upstream("frames.php");
    let config = format!("[upstream]\nretries = 0\nbreaker-failures = 0\n{upstream}");
    let mut gateway = Gateway::start(&config).await;
    let mut clients = join_all((0..CLIENTS).map(|_| gateway.connect())).await;
    ask_all(&mut clients, "before").await;

    nginx.stop().await;
    send_all(&mut clients, "lost").await;
    gateway.logged_times(CLIENTS, &["no answer: unreachable: "]).await;
    gateway
        .logged(&[
            "cannot connect to http://",
            "refused",
            "is the web server running",
        ])
        .await;

    nginx.restart().await;
    ask_all(&mut clients, "after").await;
}

/// A server that accepts, and says nothing.
async fn silent_server() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut sockets: Vec<TcpStream> = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            sockets.push(socket);
        }
    });
    address
}

#[tokio::test]
async fn an_upstream_that_never_answers_holds_up_nobody_elses() {
    let fpm = Fpm::start(2).await;
    let silent = silent_server().await;
    let config = format!(
        r#"
        [upstream]
        {}
        [upstreams.silent-http]
        url = "http://{silent}/"
        timeout = "2s"
        [upstreams.silent-fastcgi]
        url = "fastcgi://{silent}"
        script = "/index.php"
        timeout = "2s"
        [[route]]
        path = "/http"
        upstream = "silent-http"
        [[route]]
        path = "/fastcgi"
        upstream = "silent-fastcgi"
        "#,
        fpm.upstream("frames.php")
    );
    let mut gateway = Gateway::start(&config).await;
    let mut works = gateway.connect().await;
    for (path, upstream) in [("/http", "silent-http"), ("/fastcgi", "silent-fastcgi")] {
        let mut stuck = gateway.connect_to(path).await;
        let id = stuck.id.clone();
        stuck.send("anybody there?").await;
        for _ in 0..20 {
            assert_eq!(works.ask("hello").await, "hello");
        }
        stuck.is_quiet().await;
        assert_eq!(
            gateway.count_logged(&["timeout", &id]),
            0,
            "all that was while it waited"
        );
        gateway
            .logged(&["ERROR", "no answer: timeout", "within 2s", &id])
            .await;
        stuck.is_quiet().await;
        let failures = format!("aileron_upstream_failures_total{{upstream=\"{upstream}\",kind=\"timeout\"}}");
        assert_eq!(gateway.metric(&failures).await, 1.0);
    }
}

#[tokio::test]
async fn an_answer_over_the_limit_is_logged_and_not_sent() {
    let fpm = Fpm::start(2).await;
    let nginx = Nginx::start(&fpm).await;
    for upstream in [fpm.upstream("frames.php"), nginx.upstream("frames.php")] {
        let mut gateway = Gateway::start(&format!("[upstream]\nmax-answer = \"1KiB\"\n{upstream}")).await;
        let mut client = gateway.connect().await;
        let fits = "x".repeat(1024);
        assert_eq!(client.ask(&fits).await, fits);
        client.send(&"x".repeat(1025)).await;
        gateway
            .logged(&["no answer: too-large", "over 1024 bytes (max-answer)", &client.id])
            .await;
        assert_eq!(client.ask("after").await, "after");
    }
}

#[tokio::test]
async fn what_finds_no_place_to_wait_is_refused_and_logged() {
    let fpm = Fpm::start(4).await;
    let config = format!(
        "[upstream]\nmax-requests = 1\nmax-waiting = 1\n{}",
        fpm.upstream("frames.php")
    );
    let mut gateway = Gateway::start(&config).await;
    let mut first = gateway.connect().await;
    first.send("sleep:1000").await;
    fpm.has_connections(1).await;
    let mut second = gateway.connect().await;
    let mut third = gateway.connect().await;
    second.send("waits").await;
    third.send("waits").await;
    let line = gateway
        .logged(&["no answer: overloaded", "(max-requests, max-waiting)"])
        .await;
    // Which of the two came first is not known.
    let (mut waits, mut refused) = if line.contains(&second.id) {
        (third, second)
    } else {
        (second, third)
    };
    assert_eq!(first.text().await, "slept 1000");
    assert_eq!(waits.text().await, "waits");
    assert_eq!(refused.ask("again").await, "again");
    assert_eq!(gateway.count_logged(&["overloaded"]), 1);
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_named_in_the_log() {
    let dir = TempDir::new().unwrap();
    let made = Command::new("openssl")
        .current_dir(dir.path())
        .args("req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=aileron-test".split(' '))
        .args("-addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=CA:FALSE -keyout key.pem -out cert.pem".split(' '))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let address = format!("127.0.0.1:{}", free_port());
    let mut server = Command::new("openssl");
    server.current_dir(dir.path()).args([
        "s_server", "-quiet", "-www", "-cert", "cert.pem", "-key", "key.pem", "-accept", &address,
    ]);
    let _server = Process::start(server);
    eventually("openssl listening", || {
        std::net::TcpStream::connect(&address).ok()
    })
    .await;

    let mut gateway = Gateway::start(&format!("[upstream]\nurl = \"https://{address}/\"\n")).await;
    let mut client = gateway.connect().await;
    client.send("hello").await;
    let line = gateway.logged(&["no answer: unreachable", &client.id]).await;
    assert!(line.contains("certificate"), "{line}");
    assert!(line.contains("UnknownIssuer"), "{line}");
    assert!(line.contains("does this system trust who signed it"), "{line}");
    client.is_quiet().await;
}

#[tokio::test]
async fn user_and_password_of_a_url_are_sent() {
    let fpm = Fpm::start(1).await;
    let nginx = Nginx::start(&fpm).await;
    let upstream = nginx
        .upstream("frames.php")
        .replace("http://", "http://user:secret@");
    let gateway = Gateway::start(&format!("[upstream]\n{upstream}")).await;
    let mut client = gateway.connect().await;
    assert_eq!(client.ask("authorization").await, "Basic dXNlcjpzZWNyZXQ=");
}

/// The gateway may start before its application.
#[tokio::test]
async fn an_application_that_comes_up_later_is_found() {
    let mut fpm = Fpm::start(2).await;
    fpm.stop().await;
    let mut gateway = Gateway::start(&format!("[upstream]\n{}", fpm.upstream("frames.php"))).await;
    let mut client = gateway.connect().await;
    client.send("too early").await;
    gateway
        .logged(&[
            "no answer: unreachable: cannot connect to",
            "is php-fpm running",
            &client.id,
        ])
        .await;
    fpm.restart().await;
    assert_eq!(client.ask("in time").await, "in time");
}
