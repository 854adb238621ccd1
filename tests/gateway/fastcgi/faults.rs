//! What goes wrong, and what people read about it.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

use aileron::message::Failure;
use aileron::upstream::fastcgi::Address;
use tempfile::TempDir;

use super::log::Log;
use super::{MIB, answer, ask, client, client_at, get, text};
use crate::support::{Fpm, free_port};

#[tokio::test]
async fn error_text_goes_to_the_log_and_not_into_the_answer() {
    let (log, _guard) = Log::capture();
    let fpm = Fpm::start(1).await;
    let response = answer(&client(&fpm, "stderr.php", 1), &get("")).await;
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
async fn what_fpm_says_without_running_the_script_is_no_answer() {
    let (log, _guard) = Log::capture();
    let fpm = Fpm::start_with(1, "security.limit_extensions = .php").await;
    let text = fpm.dir().join("a.txt");
    std::fs::write(&text, "hello").unwrap();
    for (script, words) in [
        ("no-such-file.php", "finds no script"),
        (text.to_str().unwrap(), "`security.limit_extensions`"),
    ] {
        let client = client(&fpm, script, 1);
        for _ in 0..2 {
            let failure = ask(&client, &get("")).await.unwrap_err();
            assert_eq!(failure.kind(), "bad-answer");
            let text = failure.to_string();
            assert!(text.contains(words) && text.contains(script), "{text}");
        }
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
    let fpm = Fpm::start_with(1, "php_admin_value[output_buffering] = 4096").await;
    let client = client(&fpm, "fatal.php", 1);
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
async fn nobody_there_is_told_with_the_cure() {
    let port = free_port();
    let directory = TempDir::new().unwrap();
    let missing = directory.path().join("missing.sock");
    let stale = directory.path().join("stale.sock");
    drop(UnixListener::bind(&stale).unwrap());
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
            let outcome = ask(&client_at(address.clone(), "pid.php", keep, MIB), &get("")).await;
            assert_eq!(outcome, Err(Failure::Unreachable(expected.clone())));
        }
    }
}

#[tokio::test]
async fn a_full_backlog_is_told_with_the_cure() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("full.sock");
    let socket = tokio::net::UnixSocket::new_stream().unwrap();
    socket.bind(&path).unwrap();
    let _listener = socket.listen(1).unwrap();
    let client = Arc::new(client_at(Address::Unix(path), "pid.php", 0, MIB));
    let mut requests = tokio::task::JoinSet::new();
    // Nobody accepts: the requests that found a place in the backlog wait, the first that did not comes back.
    for _ in 0..10 {
        let client = client.clone();
        requests.spawn(async move { ask(&client, &get("")).await });
    }
    let outcome = requests.join_next().await.unwrap().unwrap();
    assert!(
        matches!(&outcome, Err(Failure::Unreachable(text)) if text.contains("its backlog is full")),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_kept_connection_that_takes_nothing_any_more_is_replaced() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("fake.sock");
    let listener = UnixListener::bind(&path).unwrap();
    // An application that reads no second request, and does not close: only sending shows it.
    let application = std::thread::spawn(move || {
        let serve = || -> std::io::Result<UnixStream> {
            let (mut stream, _) = listener.accept()?;
            assert!(stream.read(&mut [0; 65_536])? > 0);
            // Before the answer: the client may send again as soon as it has that.
            stream.shutdown(Shutdown::Read)?;
            stream.write_all(b"\x01\x06\0\x01\0\x03\0\0\n\nx\x01\x03\0\x01\0\x08\0\0\0\0\0\0\0\0\0\0")?;
            Ok(stream)
        };
        [serve().unwrap(), serve().unwrap()]
    });
    let client = client_at(Address::Unix(path), "pid.php", 1, MIB);
    for _ in 0..2 {
        let response = answer(&client, &get("")).await;
        assert_eq!(text(&response), "\nx");
    }
    application.join().unwrap();
}

#[tokio::test]
async fn a_web_server_at_the_address_is_told() {
    use tokio::io::AsyncWriteExt;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap().to_string());
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        stream
    };
    let client = client_at(address, "pid.php", 1, MIB);
    let request = get("");
    let (outcome, _stream) = tokio::join!(ask(&client, &request), server);
    assert!(
        matches!(&outcome, Err(Failure::Other(kind, _)) if kind == "bad-answer"),
        "{outcome:?}"
    );
}
