//! Whose turn it is at PHP, by kind and by address: what one address can do without end, handshakes for example, holds up
//! nobody else, and not even its own open clients.

use futures_util::future::join_all;
use tokio::net::TcpStream;

use super::guarded::Guarded;
use super::queue::{WAITING, refusals};
use crate::support::{Bare, Client, Gateway};

/// Where the flood comes from.
const FLOOD: [u8; 4] = [127, 0, 0, 2];
const HOLDER: [u8; 4] = [127, 0, 0, 3];

/// A gateway that asks PHP for one thing at a time.
async fn start(php: &Guarded, settings: &str) -> Gateway {
    let config = format!(
        "[plugins]\nbuilt-in = \"application\"\n[upstream]\nmax-requests = 1\n{settings}max-wait = \"60s\"\n\
         timeout = \"60s\"\n{}",
        php.upstream()
    );
    Gateway::start(&config).await
}

/// An open client, which PHP has greeted.
async fn open(gateway: &Gateway, source: [u8; 4], name: &str) -> Client {
    let mut client = Client::connect_from(source, gateway.clients, &format!("/ws?{name}")).await;
    assert_eq!(client.text().await, format!("open {name}"));
    client
}

/// A client whose request holds the only place.
async fn holder(gateway: &Gateway, php: &Guarded) -> Client {
    let mut holder = open(gateway, HOLDER, "holder").await;
    holder.send("hold").await;
    php.has_noted("hold").await;
    holder
}

/// Handshakes that wait for PHP.
async fn flood(gateway: &Gateway, handshakes: usize) -> Vec<TcpStream> {
    join_all((0..handshakes).map(|_| Bare::ask_from(FLOOD, gateway.clients, "/ws?flood"))).await
}

#[tokio::test]
async fn handshakes_of_one_address_hold_up_neither_open_clients_nor_the_handshakes_of_others() {
    const HANDSHAKES: usize = 600;
    let php = Guarded::start(2).await;
    let gateway = start(&php, "").await;
    let mut of_flood = open(&gateway, FLOOD, "beside").await;
    let mut other = open(&gateway, [127, 0, 0, 1], "other").await;
    let mut holder = holder(&gateway, &php).await;
    let before = php.notes().len();
    let handshakes = flood(&gateway, HANDSHAKES).await;
    gateway.measures(WAITING, HANDSHAKES as f64).await;
    of_flood.send("of the same address").await;
    gateway.measures(WAITING, HANDSHAKES as f64 + 1.0).await;
    other.send("of another address").await;
    gateway.measures(WAITING, HANDSHAKES as f64 + 2.0).await;
    let late = Bare::ask_from([127, 0, 0, 1], gateway.clients, "/ws?late").await;
    gateway.measures(WAITING, HANDSHAKES as f64 + 3.0).await;

    php.let_go();
    assert_eq!(holder.text().await, "hold");
    assert_eq!(of_flood.text().await, "of the same address");
    assert_eq!(other.text().await, "of another address");
    php.has_noted("open late").await;
    assert_eq!(
        php.notes()[before..][..4],
        [
            "open flood",
            "of the same address",
            "open late",
            "of another address"
        ]
    );
    drop((handshakes, late));
}

#[tokio::test]
async fn when_no_more_may_wait_the_address_with_the_most_handshakes_makes_room() {
    const ROOM: usize = 100;
    let php = Guarded::start(2).await;
    let gateway = start(&php, "max-waiting = 100\n").await;
    let mut of_flood = open(&gateway, FLOOD, "beside").await;
    let mut other = open(&gateway, [127, 0, 0, 1], "other").await;
    let goes = open(&gateway, [127, 0, 0, 1], "goes").await;
    let mut holder = holder(&gateway, &php).await;
    let handshakes = flood(&gateway, ROOM + 50).await;
    gateway.measures(&refusals("max-waiting"), 50.0).await;
    of_flood.send("of the same address").await;
    gateway.measures(&refusals("max-waiting"), 51.0).await;
    other.send("of another address").await;
    gateway.measures(&refusals("max-waiting"), 52.0).await;
    let late = Bare::ask_from([127, 0, 0, 1], gateway.clients, "/ws?late").await;
    gateway.measures(&refusals("max-waiting"), 53.0).await;
    assert_eq!(gateway.metric(WAITING).await, ROOM as f64);
    // A close event is never refused: it waits beside them.
    goes.close().await;
    gateway.measures(WAITING, ROOM as f64 + 1.0).await;
    assert_eq!(gateway.metric(&refusals("max-waiting")).await, 53.0);

    php.let_go();
    assert_eq!(holder.text().await, "hold");
    assert_eq!(of_flood.text().await, "of the same address");
    assert_eq!(other.text().await, "of another address");
    for note in ["open late", "close 1005"] {
        php.has_noted(note).await;
    }
    drop((handshakes, late));
}
