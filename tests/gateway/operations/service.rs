//! What a service manager sees and gives: word of readiness, reloads and the end, and sockets that it has opened.

use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use tempfile::TempDir;

use crate::support::{Gateway, command};

#[tokio::test]
async fn the_service_manager_is_told_when_it_is_ready_reloads_and_ends() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    std::fs::write(dir.path().join("aileron.toml"), "listen = \"127.0.0.1:0\"\n").unwrap();
    let mut command = command(dir.path());
    command.env("NOTIFY_SOCKET", &path);
    let mut gateway = Gateway::start_by(command, dir).await;
    let heard = || {
        let mut bytes = [0; 200];
        let n = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..n].to_vec()).unwrap()
    };
    assert_eq!(heard(), "READY=1\n");
    gateway.process.signal("HUP");
    assert!(heard().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(heard(), "READY=1\n");
    gateway.process.signal("TERM");
    assert!(heard().starts_with("STOPPING=1\n"));
    assert_eq!(gateway.process.exit_code().await, Some(0));
}

/// perl, which every Debian has, stands for systemd: it opens a socket as descriptor 3 and becomes the gateway.
const HAND_OVER: &str = r#"
    use IO::Socket::INET; use POSIX;
    $^F = 10;
    my $socket = IO::Socket::INET->new(Listen => 128, LocalAddr => '127.0.0.1:' . shift) or die;
    POSIX::dup2(fileno($socket), 3);
    $ENV{LISTEN_FDS} = 1; $ENV{LISTEN_PID} = $$;
    exec @ARGV;
"#;

#[tokio::test]
async fn a_socket_that_was_opened_before_is_taken_over() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("aileron.toml"), "listen = \"127.0.0.1:1\"\n").unwrap();
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let gateway = command(dir.path());
    let mut perl = Command::new("perl");
    perl.arg("-e")
        .arg(HAND_OVER)
        .arg(free.to_string())
        .arg(gateway.get_program());
    perl.current_dir(dir.path());
    for (name, value) in gateway.get_envs() {
        if let Some(value) = value {
            perl.env(name, value);
        }
    }
    let gateway = Gateway::start_by(perl, dir).await;
    assert_eq!(
        gateway.clients.port(),
        free,
        "and not the one of the configuration"
    );
    gateway.connect().await.close().await;
}

/// The same with two sockets, the second of which is for pushes.
const HAND_OVER_TWO: &str = r#"
    use IO::Socket::INET; use IO::Socket::UNIX; use POSIX;
    $^F = 10;
    my $clients = IO::Socket::INET->new(Listen => 128, LocalAddr => '127.0.0.1:0') or die;
    my $pushes = IO::Socket::UNIX->new(Listen => 128, Local => shift) or die;
    POSIX::dup2(fileno($clients), 8); POSIX::dup2(fileno($pushes), 9);
    POSIX::dup2(8, 3); POSIX::dup2(9, 4);
    $ENV{LISTEN_FDS} = 2; $ENV{LISTEN_PID} = $$;
    exec @ARGV;
"#;

#[tokio::test]
async fn a_unix_socket_is_taken_over_for_pushes_and_its_file_is_left_to_its_owner() {
    let dir = TempDir::new().unwrap();
    let config = "listen = \"127.0.0.1:1\"\n[push]\nlisten = \"unix:elsewhere.sock\"\n";
    std::fs::write(dir.path().join("aileron.toml"), config).unwrap();
    let socket = dir.path().join("push.sock");
    let gateway = command(dir.path());
    let mut perl = Command::new("perl");
    perl.args(["-e", HAND_OVER_TWO])
        .arg(&socket)
        .arg(gateway.get_program());
    perl.current_dir(dir.path());
    perl.envs(
        gateway
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let mut gateway = Gateway::start_by(perl, dir).await;
    let mut client = gateway.connect().await;
    let form = format!("client_id={}&message=pushed", client.id);
    assert_eq!(gateway.push(&form).await.status, 200);
    assert_eq!(client.text().await, "pushed");
    client.close().await;
    gateway.process.signal("TERM");
    assert_eq!(gateway.process.exit_code().await, Some(0));
    assert!(socket.exists());
}
