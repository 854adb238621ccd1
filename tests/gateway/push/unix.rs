//! Pushes by a Unix socket: no port, no token, and the file system says who may.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use reqwest::Method;
use tempfile::TempDir;
use tokio::process::Command;

use super::said;
use crate::support::{Answer, Gateway, Process, answer, command};

const CONFIG: &str = "listen = \"127.0.0.1:0\"\n[push]\nlisten = \"unix:push.sock\"\n";

/// curl, the command, at a socket.
async fn curl(socket: &Path, path: &str, arguments: &[&str]) -> Answer {
    let output = Command::new("curl")
        .args(["-s", "-w", "\n%{http_code}", "--unix-socket"])
        .arg(socket)
        .args(arguments)
        .arg(format!("http://gateway{path}"))
        .output()
        .await
        .unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let (body, status) = output.rsplit_once('\n').unwrap();
    said(status.parse().unwrap(), body)
}

#[tokio::test]
async fn curl_pushes_by_a_socket_that_owner_and_group_may_open() {
    let gateway = Gateway::start(CONFIG).await;
    let socket = gateway.file("push.sock");
    let meta = std::fs::metadata(&socket).unwrap();
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.permissions().mode() & 0o777, 0o660);
    let mut client = gateway.connect().await;
    let form = format!("client_id={}&message=pushed", client.id);
    assert_eq!(
        curl(&socket, "/send", &["-d", &form]).await,
        said(200, "Message sent")
    );
    assert_eq!(client.text().await, "pushed");
    assert_eq!(curl(&socket, "/live", &[]).await, said(200, "live\n"));
    // Where clients connect there are no pushes.
    let elsewhere = answer(gateway_request(&gateway, "/send")).await;
    assert_eq!(elsewhere.status, 404);
    client.is_quiet().await;
}

/// A request to the clients' listener, by TCP.
fn gateway_request(gateway: &Gateway, path: &str) -> reqwest::RequestBuilder {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    http.request(Method::GET, format!("http://{}{path}", gateway.clients))
}

#[tokio::test]
async fn a_token_counts_there_too_and_addresses_do_not() {
    let gateway = Gateway::start(&format!("{CONFIG}token = \"t\"\nallow = [\"192.0.2.1\"]\n")).await;
    let socket = gateway.file("push.sock");
    assert_eq!(curl(&socket, "/topics", &[]).await.status, 401);
    let token = ["-H", "Authorization: Bearer t"];
    assert_eq!(curl(&socket, "/topics", &token).await, said(200, "{}\n"));
}

/// Clients come from everywhere, and pushes need no token all the same.
#[tokio::test]
async fn it_is_as_good_as_loopback() {
    let gateway = Gateway::start(&CONFIG.replace("127.0.0.1", "0.0.0.0")).await;
    assert_eq!(gateway.get("/topics").await, said(200, "{}\n"));
}

#[tokio::test]
async fn what_a_killed_run_has_left_is_replaced_and_what_is_in_use_is_not() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("aileron.toml"), CONFIG).unwrap();
    let socket = dir.path().join("push.sock");
    let mut first = Process::start(command(dir.path()));
    first.said(&["listening on", "push.sock for pushes"]).await;
    let mut second = Process::start(command(dir.path()));
    assert_eq!(second.exit_code().await, Some(1));
    second.said(&["cannot listen on unix:", "in use"]).await;
    assert_eq!(curl(&socket, "/live", &[]).await, said(200, "live\n"));

    first.kill();
    assert!(socket.exists());
    let mut third = Process::start(command(dir.path()));
    third.said(&["listening on", "push.sock for pushes"]).await;
    assert_eq!(curl(&socket, "/live", &[]).await, said(200, "live\n"));
    third.signal("TERM");
    assert_eq!(third.exit_code().await, Some(0));
    assert!(!socket.exists(), "who ends in order leaves nothing");
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("aileron.toml"), CONFIG).unwrap();
    std::fs::write(dir.path().join("push.sock"), "precious").unwrap();
    let mut process = Process::start(command(dir.path()));
    assert_eq!(process.exit_code().await, Some(1));
    process.said(&["cannot listen on unix:", "not a socket"]).await;
    let left = std::fs::read_to_string(dir.path().join("push.sock")).unwrap();
    assert_eq!(left, "precious");
}
