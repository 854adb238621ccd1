//! What operators do: start it, check it, look at it, stop it.

/// SIGHUP and changed files.
mod change;
/// `aileron check`.
mod check;
/// What it says, and nobody reads.
mod log;
/// `/metrics` and `/plugins`.
mod pages;
/// systemd.
mod service;
/// What a signal does.
mod stop;

use std::net::{SocketAddr, TcpListener};

use tempfile::TempDir;

use crate::support::{Answer, Fpm, Gateway, Process, answer, command, repository};

/// A good plugin, which is at hand in every tree: the built-in one.
fn good_plugin() -> Vec<u8> {
    std::fs::read(repository("plugins/default/default.wasm")).unwrap()
}

#[tokio::test]
async fn it_is_live_and_ready_as_soon_as_it_listens() {
    let gateway = Gateway::start("").await;
    for (path, body) in [("/live", "live\n"), ("/ready", "ready\n")] {
        let expected = Answer {
            status: 200,
            body: body.to_owned(),
        };
        assert_eq!(gateway.get(path).await, expected);
    }
}

/// In an empty directory, without any argument.
#[tokio::test]
async fn without_configuration_it_listens_on_port_8080_of_loopback() {
    if let Err(error) = TcpListener::bind("127.0.0.1:8080") {
        eprintln!("SKIPPED: 127.0.0.1:8080 is taken ({error}), so the default cannot be observed");
        return;
    }
    let dir = TempDir::new().unwrap();
    let command = command(dir.path());
    let gateway = Gateway::start_by(command, dir).await;
    let default: SocketAddr = "127.0.0.1:8080".parse().unwrap();
    assert_eq!((gateway.clients, gateway.push), (default, default));
    gateway.connect().await.is_quiet().await;
    assert_eq!(
        gateway.count_logged(&["upstream", "http://localhost/websocket.php", "10s"]),
        1
    );
}

#[tokio::test]
async fn flags_alone_are_enough() {
    let fpm = Fpm::start(1).await;
    let dir = TempDir::new().unwrap();
    let plugins = dir.path().join("plugins");
    std::fs::create_dir(&plugins).unwrap();
    std::fs::write(plugins.join("10-first.wasm"), good_plugin()).unwrap();
    let mut command = command(dir.path());
    command
        .args(["--listen", "127.0.0.1:0", "--plugins", "plugins"])
        .arg(format!("--upstream=fastcgi+unix://{}", fpm.listen()))
        .arg("--script")
        .arg(repository("tests/php/frames.php"));
    let gateway = Gateway::start_by(command, dir).await;
    assert_eq!(gateway.connect().await.ask("hello").await, "hello");
    let names: Vec<_> = gateway
        .chain()
        .await
        .iter()
        .map(|plugin| plugin["name"].clone())
        .collect();
    assert_eq!(names, ["10-first", "default"]);
}

#[tokio::test]
async fn flags_win_over_the_file() {
    let fpm = Fpm::start(1).await;
    let dir = TempDir::new().unwrap();
    let file =
        "listen = \"127.0.0.1:1\"\n[upstream]\nurl = \"http://127.0.0.1:1/\"\n[plugins]\ndir = \"nowhere\"\n";
    std::fs::write(dir.path().join("other.toml"), file).unwrap();
    let mut command = command(dir.path());
    command
        .args([
            "--config",
            "other.toml",
            "--listen",
            "127.0.0.1:0",
            "--plugins",
            ".",
        ])
        .arg(format!("--upstream=fastcgi+unix://{}", fpm.listen()))
        .arg("--script")
        .arg(repository("tests/php/frames.php"));
    let gateway = Gateway::start_by(command, dir).await;
    assert_eq!(gateway.connect().await.ask("hello").await, "hello");
}

#[tokio::test]
async fn a_port_in_use_ends_the_start_and_says_so() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = TempDir::new().unwrap();
    let mut command = command(dir.path());
    command.args(["--listen", &address]);
    let mut process = Process::start(command);
    assert_eq!(process.exit_code().await, Some(1));
    let line = process.said(&["cannot listen on"]).await;
    assert!(
        line.contains(&address) && line.contains("Address already in use") && line.contains("--listen"),
        "{line}"
    );
}

/// Even at the level that shows everything.
#[tokio::test]
async fn secrets_are_never_logged() {
    let fpm = Fpm::start(1).await;
    let config = format!(
        "[push]\ntoken = \"hush-token\"\n[upstream]\n{}\
         [upstreams.guarded]\nurl = \"http://user:hush-password@127.0.0.1:1/\"\n\
         [[route]]\npath = \"/guarded\"\nupstream = \"guarded\"\n\
         [plugins.config.other]\nkey = \"hush-setting\"\n[log]\nfilter = \"trace\"\n",
        fpm.upstream("frames.php")
    );
    let mut gateway = Gateway::start(&config).await;
    let mut client = gateway.connect().await;
    assert_eq!(client.ask("hello").await, "hello");
    let path = format!("/send?client_id={}&message=pushed", client.id);
    for (credential, status) in [("Bearer hush-token", 200), ("Bearer hush-token-and-more", 401)] {
        let request = gateway.request(reqwest::Method::POST, &path);
        let answer = answer(request.header("authorization", credential)).await;
        assert_eq!(answer.status, status);
    }
    assert_eq!(client.text().await, "pushed");
    let mut guarded = gateway.connect_to("/guarded").await;
    guarded.send("hello").await;
    gateway.logged(&["no answer", "127.0.0.1:1", &guarded.id]).await;
    gateway.process.signal("TERM");
    gateway.logged(&["shutting down"]).await;
    let leaks: Vec<_> = gateway
        .process
        .lines()
        .into_iter()
        .filter(|line| line.contains("hush-"))
        .collect();
    assert_eq!(leaks, [""; 0]);
}
