//! How clients part. What one has said before its close frame is handled, and only then does PHP hear that it has gone; and
//! the close frame is seen, even if its client reads nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use futures_util::future::join_all;
use tokio::io::AsyncWriteExt;

use super::{CONNECTIONS, publish_until};
use crate::slow::gateway;
use crate::support::{Bare, Fpm, Gateway, Nginx, eventually, masked, masked_close};
use crate::upstreams::guarded::Guarded;

const TEXT: u8 = 0x81;

/// A gateway that tells PHP of each end.
async fn telling(config: &str, upstream: &str) -> Gateway {
    let plugin = "[plugins]\nbuilt-in = \"application\"\n[plugins.config.application]\nopen = false\n";
    Gateway::start(&format!(
        "{config}\n[upstream]\ntimeout = \"60s\"\n{upstream}{plugin}"
    ))
    .await
}

fn upstream(fpm: &Fpm) -> String {
    fpm.upstream("parting.php")
}

/// What PHP has noted of each client, in order.
fn by_client(php: &Guarded) -> BTreeMap<String, Vec<String>> {
    let mut clients = BTreeMap::<_, Vec<_>>::new();
    for note in php.notes() {
        let (client, what) = note.split_once(' ').unwrap();
        clients
            .entry(client.to_owned())
            .or_default()
            .push(what.to_owned());
    }
    clients
}

/// Waits until PHP has heard of so many ends.
async fn hears_closes(php: &Guarded, n: usize) {
    let is_close = |note: &&String| note.contains(" close ");
    eventually(&format!("{n} close events at PHP"), || {
        (php.notes().iter().filter(is_close).count() >= n).then_some(())
    })
    .await;
}

const TIMES: usize = 40;

/// A text and a close frame in one packet, again and again. What begins a message and then sees the close frame, or the end,
/// must not give the message up; and the close event must not overtake it, which takes PHP a while.
async fn forty_say_something_and_go(php: &Guarded, address: SocketAddr) {
    let partings = (0..TIMES).map(async |n| {
        let mut client = Bare::connect(address, "/ws").await;
        let text = masked(TEXT, format!("slow {n}").as_bytes());
        let both = [text, masked_close(1000, "")].concat();
        client.socket.write_all(&both).await.unwrap();
        assert_eq!(client.close().await, (1000, String::new()));
    });
    join_all(partings).await;
    hears_closes(php, TIMES).await;
    let clients = by_client(php);
    let mut said = Vec::new();
    for notes in clients.values() {
        let [begin, end, close] = &notes[..] else {
            panic!("{notes:?}");
        };
        let what = begin.strip_prefix("begin slow ").unwrap();
        assert_eq!(
            (end.as_str(), close.as_str()),
            (&*format!("end slow {what}"), "close 1000")
        );
        said.push(what.parse::<usize>().unwrap());
    }
    said.sort_unstable();
    assert_eq!(said, (0..TIMES).collect::<Vec<_>>(), "each once");
}

#[tokio::test]
async fn a_message_right_before_the_close_frame_is_handled_by_fastcgi() {
    let php = Guarded::start(8).await;
    let gateway = telling("", &upstream(&php.fpm)).await;
    forty_say_something_and_go(&php, gateway.clients).await;
}

#[tokio::test]
async fn a_message_right_before_the_close_frame_is_handled_by_php_behind_nginx() {
    let php = Guarded::start(8).await;
    let nginx = Nginx::start(&php.fpm).await;
    let gateway = telling("", &nginx.upstream("parting.php")).await;
    forty_say_something_and_go(&php, gateway.clients).await;
}

#[tokio::test]
async fn a_message_right_before_the_close_frame_is_handled_when_it_comes_through_nginx() {
    let php = Guarded::start(8).await;
    let gateway = telling("", &upstream(&php.fpm)).await;
    let nginx = Nginx::in_front_of(gateway.clients, "127.0.0.1").await;
    forty_say_something_and_go(&php, nginx.address().parse().unwrap()).await;
}

/// The order does not hang on who is quicker: PHP takes as long as the test wants.
#[tokio::test]
async fn php_hears_of_a_close_when_it_is_done_with_the_message_before_it() {
    let php = Guarded::start(8).await;
    let gateway = telling("", &upstream(&php.fpm)).await;
    let mut client = Bare::connect(gateway.clients, "/ws").await;
    let id = client.id();
    client.send(TEXT, b"hold").await;
    php.has_noted(&format!("{id} begin hold")).await;
    client.socket.write_all(&masked_close(4000, "bye")).await.unwrap();
    assert_eq!(client.close().await, (4000, "bye".to_owned()));
    gateway.measures(CONNECTIONS, 0.0).await;
    // One that goes later and that nothing is done for is told of at once: so the other is held back, and not slow.
    let other = gateway.connect().await;
    let other_id = other.id.clone();
    other.close().await;
    php.has_noted(&format!("{other_id} close 1005")).await;
    assert_eq!(by_client(&php)[&id], ["begin hold"]);
    php.let_go();
    hears_closes(&php, 2).await;
    assert_eq!(by_client(&php)[&id], ["begin hold", "end hold", "close 4000"]);
}

/// More than is read ahead, so that the close frame is not even seen before PHP has taken most of it.
#[tokio::test]
async fn all_messages_before_a_close_frame_are_handled_in_order() {
    for in_flight in [1, 2] {
        let php = Guarded::start(8).await;
        let gateway = telling(&format!("in-flight = {in_flight}"), &upstream(&php.fpm)).await;
        let mut client = Bare::connect(gateway.clients, "/ws").await;
        let id = client.id();
        let mut packet = masked(TEXT, b"hold");
        for n in 0..8 {
            let message = format!("{:20}{}", format!("slow number {n}"), "x".repeat(3000));
            packet.extend(masked(TEXT, message.as_bytes()));
        }
        packet.extend(masked_close(1001, ""));
        client.socket.write_all(&packet).await.unwrap();
        php.has_noted(&format!("{id} begin hold")).await;
        php.let_go();
        let said = client.close().await;
        assert_eq!(said, (1001, String::new()));
        hears_closes(&php, 1).await;
        let notes = &by_client(&php)[&id];
        let of = |kind: &str| -> Vec<String> {
            let notes = notes.iter().filter_map(|note| note.strip_prefix(kind));
            notes.map(|note| note.trim().to_owned()).collect()
        };
        let mut sent = vec!["hold".to_owned()];
        sent.extend((0..8).map(|n| format!("slow number {n}")));
        let (mut begun, mut ended) = (of("begin "), of("end "));
        if in_flight > 1 {
            // Neighbours are handled side by side, by different children.
            begun.sort();
            ended.sort();
        }
        assert_eq!((&begun, &ended), (&sent, &sent), "{in_flight} in flight");
        assert_eq!(
            notes.last().unwrap(),
            "close 1001",
            "{in_flight} in flight: {notes:?}"
        );
    }
}

/// IANA's registry has got 1012 to 1014 since RFC 6455; what takes them for a violation closes with 1002.
#[tokio::test]
async fn the_code_1014_is_passed_on() {
    let php = Guarded::start(2).await;
    let gateway = telling("", &upstream(&php.fpm)).await;
    let mut client = Bare::connect(gateway.clients, "/ws").await;
    let id = client.id();
    client
        .socket
        .write_all(&masked_close(1014, "bad gateway"))
        .await
        .unwrap();
    assert_eq!(client.close().await, (1014, "bad gateway".to_owned()));
    php.has_noted(&format!("{id} close 1014")).await;
}

/// What waits for the socket before it reads would meet the close frame only after the patience with slow writing, and take
/// the client for lost.
#[tokio::test]
async fn the_close_frame_of_a_client_that_reads_nothing_is_seen() {
    for policy in ["skip", "drop-oldest"] {
        let config = format!("slow-clients = \"{policy}\"\nmax-queue = \"256KiB\"\nping-interval = 0");
        let gateway = gateway(&config).await;
        let mut watcher = gateway
            .connect_to("/ws?next;subscribe:closings;reply:watching")
            .await;
        assert_eq!(watcher.text().await, "watching");
        let mut client = Bare::connect(gateway.clients, "/ws?next;subscribe:news").await;
        publish_until(&gateway, async |result| match policy {
            "skip" => result["congested"] == 1,
            _ => {
                let dropped = "aileron_slow_clients_total{result=\"dropped\"}";
                gateway.metric(dropped).await > 0.0
            }
        })
        .await;
        client
            .socket
            .write_all(&masked_close(4001, "enough"))
            .await
            .unwrap();
        assert_eq!(
            watcher.text().await,
            format!("{} 4001 enough", client.id()),
            "{policy}"
        );
        gateway.measures(CONNECTIONS, 1.0).await;
        gateway.measures("aileron_queue_bytes", 0.0).await;
    }
}

/// A program that says something and ends need not know of close frames: where PHP has room at once, it is handled, even if
/// the plugin takes longer than the client is there.
#[tokio::test]
async fn what_was_said_right_before_the_socket_was_closed_is_handled() {
    let php = Guarded::start(8).await;
    let gateway = telling("", &upstream(&php.fpm)).await;
    for n in 0..TIMES {
        let mut client = Bare::connect(gateway.clients, "/ws").await;
        let long = format!("last {n} {}", "&".repeat(500_000));
        client.send(TEXT, long.as_bytes()).await;
        drop(client);
    }
    hears_closes(&php, TIMES).await;
    for (client, notes) in by_client(&php) {
        assert_eq!(notes.len(), 3, "{client}: {notes:?}");
        assert!(
            notes[1].starts_with("end last ") && notes[2] == "close 1006",
            "{notes:?}"
        );
    }
}

/// Who has been told to go may still say much, which nobody wants to know.
#[tokio::test]
async fn what_is_sent_after_the_gateway_s_close_frame_is_not_held() {
    const CLIENTS: usize = 60;
    const LENGTH: usize = 1024 * 1024;
    let config = "grace = \"30s\"\nlisten = \"127.0.0.1:0\"\n[push]\nlisten = \"127.0.0.1:0\"\n";
    let mut gateway = Gateway::start(config).await;
    let clients = join_all((0..CLIENTS).map(|_| Bare::connect(gateway.clients, "/ws"))).await;
    let before = gateway.own_memory();
    gateway.process.signal("TERM");
    gateway.logged(&["shutting down"]).await;
    let message = masked(TEXT, &vec![b'x'; LENGTH]);
    let (most, last) = message.split_at(LENGTH);
    let told = clients.into_iter().map(async |mut client| {
        let (first, _) = client.frame().await;
        assert_eq!(first, 0x88, "it is told to go");
        client.socket.write_all(most).await.unwrap();
        client
    });
    let told = join_all(told).await;
    let inbound = gateway.metric("aileron_inbound_bytes").await;
    let grown = gateway.own_memory().saturating_sub(before);
    assert!(
        grown < 16 * 1024 * 1024,
        "{grown} bytes, {inbound} of them counted"
    );
    // All of it was read: the close frame behind it is seen.
    for mut client in told {
        let rest = [last, &masked_close(1001, "")].concat();
        client.socket.write_all(&rest).await.unwrap();
        assert_eq!(client.try_frame().await, None);
    }
    assert_eq!(gateway.process.exit_code().await, Some(0));
}
