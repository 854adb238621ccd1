use std::path::Path;
use std::sync::Arc;

use rcgen::{CertifiedKey, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{ends, fact, handshake, handshakes, head_of};
use crate::support::{Client, Gateway, Process, QUICK, command, guest, put};

const TLS: &str = "[tls]\ncertificate = \"chain.pem\"\nkey = \"key.pem\"\n";

/// A certificate for localhost that signs itself.
fn certificate() -> CertifiedKey<KeyPair> {
    rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}

fn write(dir: &Path, certificate: &CertifiedKey<KeyPair>) {
    put(&dir.join("chain.pem"), certificate.cert.pem().as_bytes());
    put(
        &dir.join("key.pem"),
        certificate.signing_key.serialize_pem().as_bytes(),
    );
}

/// Serves this certificate to clients, its pages in plain text on a listener of their own.
async fn gateway(certificate: &CertifiedKey<KeyPair>, config: &str) -> Gateway {
    let dir = TempDir::new().unwrap();
    write(dir.path(), certificate);
    let plugins = dir.path().join("plugins");
    std::fs::create_dir(&plugins).unwrap();
    std::fs::write(plugins.join("10-misbehave.wasm"), guest("misbehave")).unwrap();
    let push = "[push]\nlisten = \"127.0.0.1:0\"\n";
    let config = format!("listen = \"127.0.0.1:0\"\n{config}\n{push}{TLS}{QUICK}");
    Gateway::start_in(dir, &config).await
}

/// A TLS connection of a client that trusts this certificate alone.
async fn encrypted(
    gateway: &Gateway,
    trusted: &CertificateDer<'static>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let socket = TcpStream::connect(gateway.clients).await.unwrap();
    let name = "localhost".try_into().unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, socket).await
}

async fn connect(gateway: &Gateway, certificate: &CertifiedKey<KeyPair>) -> Client {
    let socket = encrypted(gateway, certificate.cert.der()).await.unwrap();
    let id = socket.get_ref().0.local_addr().unwrap().to_string();
    Client::over(socket, id, "wss://localhost/ws").await.unwrap()
}

#[tokio::test]
async fn a_session_runs_encrypted_with_messages_of_any_size_and_pushes() {
    let certificate = certificate();
    let gateway = gateway(&certificate, "max-message = \"4MiB\"").await;
    let socket = encrypted(&gateway, certificate.cert.der()).await.unwrap();
    assert_eq!(socket.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let mut client = connect(&gateway, &certificate).await;
    assert_eq!(fact(&mut client, "remote-address").await.unwrap(), client.id);
    assert_eq!(
        fact(&mut client, "header.x-forwarded-proto").await.unwrap(),
        "https"
    );
    assert_eq!(client.ask("hello").await, "ok hello");
    let long = "long ".repeat(300_000);
    assert_eq!(client.ask(&long).await, format!("ok {long}"));
    let form = format!("client_id={}&message=pushed", client.id);
    assert_eq!(gateway.push(&form).await.status, 200);
    assert_eq!(client.text().await, "pushed");
    client.close().await;
    gateway.measures("aileron_connections", 0.0).await;
}

/// As some editors save text.
#[tokio::test]
async fn files_with_a_mark_in_front_are_read_behind_it() {
    let certificate = certificate();
    let dir = TempDir::new().unwrap();
    let key = certificate.signing_key.serialize_pem();
    for (file, text) in [("chain.pem", certificate.cert.pem()), ("key.pem", key)] {
        std::fs::write(dir.path().join(file), format!("\u{feff}{text}")).unwrap();
    }
    std::fs::create_dir(dir.path().join("plugins")).unwrap();
    let config = format!("listen = \"127.0.0.1:0\"\n[push]\nlisten = \"127.0.0.1:0\"\n{TLS}");
    let gateway = Gateway::start_in(dir, &config).await;
    connect(&gateway, &certificate).await.is_quiet().await;
}

#[tokio::test]
async fn a_new_certificate_is_taken_up_while_connections_stay_open() {
    let old = certificate();
    let mut gateway = gateway(&old, "").await;
    let mut before = connect(&gateway, &old).await;
    let new = certificate();
    write(&gateway.file(""), &new);
    gateway
        .logged(&["INFO", "the new certificate is in use", "chain.pem"])
        .await;
    let mut after = connect(&gateway, &new).await;
    assert!(
        encrypted(&gateway, old.cert.der()).await.is_err(),
        "the old one is gone"
    );
    assert_eq!(before.ask("hello").await, "ok hello");
    assert_eq!(after.ask("hello").await, "ok hello");
    gateway
        .measures("aileron_certificates_total{result=\"loaded\"}", 1.0)
        .await;
}

#[tokio::test]
async fn files_that_are_no_good_change_nothing_and_are_named() {
    let old = certificate();
    let mut gateway = gateway(&old, "").await;
    let mut before = connect(&gateway, &old).await;
    let new = certificate();
    let new_key = new.signing_key.serialize_pem();
    let mut refused = 0.0;
    for (file, content, complaint) in [
        ("chain.pem", "no certificate", "holds no certificate in PEM form"),
        ("key.pem", "no key", "holds no certificate in PEM form"),
        ("chain.pem", &*old.cert.pem(), "holds no private key in PEM form"),
        ("key.pem", &*new_key, "cannot be used with the key"),
    ] {
        put(&gateway.file(file), content.as_bytes());
        gateway
            .logged(&["ERROR", "the previous one stays in use", complaint])
            .await;
        refused += 1.0;
        gateway
            .measures("aileron_certificates_total{result=\"refused\"}", refused)
            .await;
        connect(&gateway, &old).await.is_quiet().await;
    }
    std::fs::remove_file(gateway.file("key.pem")).unwrap();
    gateway
        .logged(&["ERROR", "the previous one stays in use", "key.pem cannot be read"])
        .await;
    connect(&gateway, &old).await.is_quiet().await;
    // What fits is taken up in the end.
    write(&gateway.file(""), &new);
    gateway.logged(&["INFO", "the new certificate is in use"]).await;
    connect(&gateway, &new).await.is_quiet().await;
    before.is_quiet().await;
    let secret = new_key.lines().nth(1).unwrap();
    assert_eq!(gateway.count_logged(&[secret]), 0, "keys are not logged");
}

#[tokio::test]
async fn plain_text_and_a_handshake_that_does_not_come_are_dropped() {
    let certificate = certificate();
    let mut gateway = gateway(&certificate, "handshake-timeout = \"2s\"").await;
    let mut beside = connect(&gateway, &certificate).await;
    let mut plain = TcpStream::connect(gateway.clients).await.unwrap();
    plain.write_all(handshake("").as_bytes()).await.unwrap();
    ends(&mut plain).await;
    gateway.measures(&handshakes("tls"), 1.0).await;
    gateway
        .logged(&["WARN", "connection dropped", "no TLS with it"])
        .await;

    let mut silent = TcpStream::connect(gateway.clients).await.unwrap();
    ends(&mut silent).await;
    // Neither is one waited for that has TLS, and no request.
    let mut half = encrypted(&gateway, certificate.cert.der()).await.unwrap();
    half.write_all(b"GET /ws HTTP/1.1\r\n").await.unwrap();
    let _ = half.read_to_end(&mut Vec::new()).await;
    gateway.measures(&handshakes("timeout"), 2.0).await;
    beside.is_quiet().await;
}

/// The header of the PROXY protocol comes first, in plain text.
#[tokio::test]
async fn the_proxy_protocol_and_tls_go_together() {
    let certificate = certificate();
    let gateway = gateway(&certificate, "proxy-protocol = true").await;
    let mut roots = RootCertStore::empty();
    roots.add(certificate.cert.der().clone()).unwrap();
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut socket = TcpStream::connect(gateway.clients).await.unwrap();
    socket
        .write_all(b"PROXY TCP4 192.0.2.1 198.51.100.9 4711 443\r\n")
        .await
        .unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let socket = connector
        .connect("localhost".try_into().unwrap(), socket)
        .await
        .unwrap();
    let mut client = Client::over(socket, String::new(), "wss://localhost/ws")
        .await
        .unwrap();
    assert_eq!(
        fact(&mut client, "remote-address").await.unwrap(),
        "192.0.2.1:4711"
    );
}

#[tokio::test]
async fn pushes_by_the_same_listener_are_encrypted_too() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), &certificate());
    let gateway = Gateway::start_in(dir, TLS).await;
    let output = Command::new("curl")
        .args(["-s", "--cacert"])
        .arg(gateway.file("chain.pem"))
        .arg(format!("https://localhost:{}/live", gateway.push.port()))
        .output()
        .await
        .unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "live\n");
    let mut plain = TcpStream::connect(gateway.push).await.unwrap();
    let head = head_of(&mut plain, b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(!head.starts_with("HTTP/1.1 200"), "{head}");
}

#[tokio::test]
async fn without_its_certificate_it_does_not_start_and_a_check_says_so() {
    let dir = TempDir::new().unwrap();
    std::fs::write(
        dir.path().join("aileron.toml"),
        format!("listen = \"127.0.0.1:0\"\n{TLS}"),
    )
    .unwrap();
    let mut process = Process::start(command(dir.path()));
    assert_eq!(process.exit_code().await, Some(1));
    process.said(&["chain.pem cannot be read ([tls] names it)"]).await;

    let check = || {
        let output = command(dir.path()).arg("check").output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = check();
    assert_eq!(code, Some(1));
    assert!(said.contains("chain.pem cannot be read"), "{said}");
    write(dir.path(), &certificate());
    assert_eq!(check().0, Some(0));
}
