//! PHP never handles half a message: a request that the gateway gives up while it is sent arrives whole, or not at all.

use tokio::net::TcpListener;

use super::guarded::Guarded;
use crate::support::{Frame, Gateway, Nginx};

const SENT: &str = "aileron_upstream_unfinished_total{upstream=\"default\",result=\"sent\"}";
const CUT: &str = "aileron_upstream_unfinished_total{upstream=\"default\",result=\"cut\"}";
/// More than the kernel takes of a connection that nobody has accepted.
const LONG: usize = 900_048;
/// For more than the kernel takes of a connection whose other side does not read.
const LIMITS: &str = "max-message = \"8MiB\"\n[plugins]\ntime-limit = \"5s\"\nmemory-limit = \"256MiB\"\n";

#[tokio::test]
async fn what_waits_for_a_busy_child_when_the_time_is_over_arrives_whole() {
    for keep in [0, 2] {
        let php = Guarded::start(1).await;
        let config = format!("[upstream]\nkeep = {keep}\ntimeout = \"5s\"\n{}", php.upstream());
        let mut gateway = Gateway::start(&config).await;
        let mut holds = gateway.connect().await;
        holds.send("hold").await;
        php.has_noted("hold").await;
        let mut client = gateway.connect().await;
        let long = "x".repeat(LONG);
        client.send(&long).await;
        gateway.logged(&["no answer: timeout", &client.id]).await;
        php.let_go();
        gateway.measures(SENT, 1.0).await;
        assert_eq!(client.ask("after").await, "after");
        let lengths: Vec<_> = php.notes().iter().map(String::len).collect();
        assert_eq!(lengths, ["hold".len(), LONG, "after".len()], "keep {keep}");
    }
}

/// An application that takes nothing is not waited for forever.
#[tokio::test]
async fn what_nobody_takes_is_cut_off_counted_and_logged() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = format!(
        "{LIMITS}[upstream]\nurl = \"fastcgi://{address}\"\nscript = \"/a.php\"\ntimeout = \"500ms\"\n"
    );
    let mut gateway = Gateway::start(&config).await;
    let mut client = gateway.connect().await;
    client.send(&"x".repeat(8 << 20)).await;
    gateway.logged(&["no answer: timeout", &client.id]).await;
    gateway
        .logged(&["WARN", "is cut off", "took a part", "(timeout)"])
        .await;
    gateway.measures(CUT, 1.0).await;
}

/// nginx takes in the whole body before it asks PHP.
#[tokio::test]
async fn what_is_cut_off_on_its_way_to_nginx_never_reaches_php() {
    let php = Guarded::start(1).await;
    let nginx = Nginx::start(&php.fpm).await;
    let config = format!(
        "{LIMITS}[upstream]\ntimeout = \"5s\"\n{}",
        php.upstream_through(&nginx)
    );
    let mut gateway = Gateway::start(&config).await;
    let mut client = gateway.connect().await;
    assert_eq!(client.ask("before").await, "before");
    nginx.signal_all("STOP");
    client.send(&"x".repeat(8 << 20)).await;
    gateway.logged(&["no answer: timeout", &client.id]).await;
    nginx.signal_all("CONT");
    assert_eq!(client.ask("after").await, "after");
    assert_eq!(php.notes(), ["before", "after"]);
}

/// While PHP is busy, the rest of requests that nobody waits for holds no more than half of what may be held.
#[tokio::test]
async fn what_is_left_of_requests_that_nobody_waits_for_is_bounded() {
    let php = Guarded::start(1).await;
    let config = format!(
        "max-inbound = \"16MiB\"\n[upstream]\ntimeout = \"3s\"\n{}",
        php.upstream()
    );
    let mut gateway = Gateway::start(&config).await;
    let mut holds = gateway.connect().await;
    holds.send("hold").await;
    php.has_noted("hold").await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = gateway.connect().await;
        client.send_binary(&vec![0xff; 1_000_000]).await;
        clients.push(client);
    }
    gateway.logged(&["WARN", "is cut off", "(max-inbound)"]).await;
    gateway.shows_metric("some cut", CUT, |n| n >= 1.0).await;
    php.let_go();
    for client in &mut clients {
        client.send("after").await;
        // Those whose turn came late are answered after all.
        while let Frame::Binary(answer) = client.next().await {
            assert_eq!(answer.len(), 1_000_000);
        }
        client.is_quiet().await;
    }
}
