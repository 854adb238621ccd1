//! Whose close event is next: neither those who go a thousand times nor an upstream that hangs hold up those of others.

use futures_util::future::join_all;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::{application, notes};
use crate::support::{Bare, Client, Gateway, eventually, masked_close};
use crate::upstreams::guarded::Guarded;

const QUIET: &str = "[plugins]\nbuilt-in = \"application\"\n[plugins.config.application]\nopen = false\n";

#[tokio::test]
async fn who_goes_again_and_again_delays_only_the_own_close_events() {
    const TIMES: usize = 400;
    let (fpm, file) = application(4).await;
    let config = format!(
        "[upstream]\n{}{QUIET}[closings]\nrate = 20\n",
        fpm.upstream("application.php")
    );
    let gateway = Gateway::start(&config).await;
    let connect = async |address: &str| {
        let header = format!("X-Forwarded-For: {address}\r\n");
        Bare::connect_with(gateway.clients, "/ws", &header, b"").await.0
    };
    // All of these are of one network.
    let strangers = (0..TIMES).map(|n| async move { connect(&format!("2001:db8::{n:x}")).await });
    drop(join_all(strangers).await);
    let mut honest = connect("192.0.2.1").await;
    let before = eventually("the first of them told", || {
        Some(notes(&file, "close").len()).filter(|n| *n > 0)
    })
    .await;
    honest.socket.write_all(&masked_close(4001, "bye")).await.unwrap();
    let place = eventually("the honest one told", || {
        let notes = notes(&file, "close");
        notes.iter().position(|note| note["form"]["code"] == "4001")
    })
    .await;
    println!("told after {before}, as number {place} of {TIMES}");
    assert!(place < before + 40, "{place}");
}

#[tokio::test]
async fn an_upstream_that_hangs_does_not_hold_up_the_close_events_of_another() {
    const HANGING: usize = 20;
    let (fpm, file) = application(4).await;
    let hangs = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = format!(
        "[upstream]\nurl = \"http://{}/\"\ntimeout = \"120s\"\n[upstreams.php]\n{}\
         [[route]]\npath = \"/other\"\nupstream = \"php\"\n{QUIET}",
        hangs.local_addr().unwrap(),
        fpm.upstream("application.php")
    );
    let gateway = Gateway::start(&config).await;
    drop(join_all((0..HANGING).map(|_| Bare::connect(gateway.clients, "/ws"))).await);
    // The requests are under way, as many as may be.
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(hangs.accept().await.unwrap());
    }
    drop(Bare::connect(gateway.clients, "/other").await);
    eventually("the close event of the other upstream", || {
        (notes(&file, "close").len() == 1).then_some(())
    })
    .await;
    let waiting = gateway.metric("aileron_close_events_waiting").await;
    assert_eq!(waiting, (HANGING - 4) as f64);
}

/// PHP hears of each of them twice, one thing at a time; when somebody else goes, 3,200 close events and 600 handshakes wait.
#[tokio::test]
async fn thousands_who_come_and_go_from_one_address_do_not_delay_the_close_event_of_another() {
    const GOING: usize = 3200;
    const COMING: usize = 600;
    const FLOOD: [u8; 4] = [127, 0, 0, 2];
    let php = Guarded::start(2).await;
    let config = format!(
        "[plugins]\nbuilt-in = \"application\"\n[closings]\nrate = 10000\n\
         [upstream]\nmax-requests = 1\nmax-wait = \"60s\"\ntimeout = \"60s\"\n{}",
        php.upstream()
    );
    let gateway = Gateway::start(&config).await;
    let mut honest = Bare::connect(gateway.clients, "/ws?honest").await;
    let mut going = Vec::new();
    while going.len() < GOING {
        let some = (0..200).map(|_| Bare::connect_from(FLOOD, gateway.clients, "/ws?goes"));
        going.extend(join_all(some).await);
    }
    let mut holder = Client::connect_from([127, 0, 0, 3], gateway.clients, "/ws?holder").await;
    holder.send("hold").await;
    php.has_noted("hold").await;
    let before = php.notes().len();
    let coming = (0..COMING).map(|_| Bare::ask_from(FLOOD, gateway.clients, "/ws?comes"));
    let coming = join_all(coming).await;
    let waiting = "aileron_upstream_waiting{upstream=\"default\"}";
    gateway.measures(waiting, COMING as f64).await;
    drop(going);
    let close_events = "aileron_close_events_waiting";
    gateway.measures(close_events, GOING as f64 - 4.0).await;
    gateway.measures(waiting, COMING as f64 + 4.0).await;
    honest.socket.write_all(&masked_close(4001, "bye")).await.unwrap();
    gateway.measures(close_events, GOING as f64 - 3.0).await;

    php.let_go();
    let place = eventually("the honest one told", || {
        php.notes()[before..].iter().position(|note| note == "close 4001")
    })
    .await;
    println!("told as number {place} of {}", GOING + COMING);
    assert!(place < 40, "{place}");
    drop(coming);
}
