//! Compression of messages (RFC 7692), as a client meets it that does it by hand: it is agreed on only if it is wanted, the
//! same bytes arrive with it and without, and what is small on the wire may not be huge in memory.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use super::MIB;
use crate::slow::{gateway, publish};
use crate::support::{Bare, Fpm, Gateway};

const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
const AGREED: &str = "sec-websocket-extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n";

// First bytes of frames (RFC 6455 section 5.2); RSV1 says that the message is compressed.
const TEXT: u8 = 0x81;
const DEFLATED_TEXT: u8 = 0xc1;
const DEFLATED_BINARY: u8 = 0xc2;

/// What a sender leaves out (RFC 7692 section 7.2.1).
const LEFT_OUT: &[u8] = &[0, 0, 0xff, 0xff];

async fn connect(gateway: &Gateway, path: &str, offer: &str) -> (Bare, String) {
    let (client, head) = Bare::connect_with(gateway.clients, path, offer, b"").await;
    (client, head.to_lowercase())
}

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 1024);
    let mut deflate = Compress::new(Compression::best(), false);
    deflate
        .compress_vec(bytes, &mut out, FlushCompress::Sync)
        .unwrap();
    assert_eq!(deflate.total_in(), bytes.len() as u64);
    out.strip_suffix(LEFT_OUT).unwrap().to_vec()
}

fn inflated(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 * MIB);
    let whole = [bytes, LEFT_OUT].concat();
    let mut inflate = Decompress::new(false);
    inflate
        .decompress_vec(&whole, &mut out, FlushDecompress::Sync)
        .unwrap();
    assert_eq!(inflate.total_in(), whole.len() as u64);
    out
}

#[tokio::test]
async fn a_publication_is_compressed_for_those_who_have_agreed_and_the_same_for_all() {
    let gateway = gateway("compression = true").await;
    let mut compressed = Vec::new();
    for bits in ["", "; client_max_window_bits"] {
        let offer = OFFER.replace("\r\n", &format!("{bits}\r\n"));
        let (client, head) = connect(&gateway, "/ws?next;subscribe:news", &offer).await;
        assert!(head.contains(AGREED), "{head}");
        compressed.push(client);
    }
    let (mut plain, head) = connect(&gateway, "/ws?next;subscribe:news", "").await;
    assert!(!head.contains("sec-websocket-extensions"), "{head}");
    let large: String = (0..20_000).map(|n| format!("number {n}, ")).collect();
    for round in 0..3 {
        let large = format!("{round}: {large}");
        assert_eq!(publish(&gateway, "news", &large).await["recipients"], 3);
        for client in &mut compressed {
            let (first, payload) = client.frame().await;
            assert_eq!(first, DEFLATED_TEXT);
            assert!(payload.len() < large.len() / 2, "{} bytes", payload.len());
            assert!(inflated(&payload) == large.as_bytes());
        }
        let (first, payload) = plain.frame().await;
        assert!((first, &*payload) == (TEXT, large.as_bytes()));
        // It would not be worth it.
        publish(&gateway, "news", "small").await;
        for client in compressed.iter_mut().chain([&mut plain]) {
            assert_eq!(client.frame().await, (TEXT, "small".into()));
        }
    }
}

#[tokio::test]
async fn a_compressed_message_reaches_php_as_it_was_and_so_does_its_answer() {
    let fpm = Fpm::start(2).await;
    let config = format!("compression = true\n[upstream]\n{}", fpm.upstream("frames.php"));
    let gateway = Gateway::start(&config).await;
    let (mut client, _) = connect(&gateway, "/ws", OFFER).await;
    let length = format!("length:{}", "x".repeat(100_000));
    client.send(DEFLATED_TEXT, &deflated(length.as_bytes())).await;
    assert_eq!(client.frame().await, (TEXT, "100000".into()));
    // As it was, in a frame and in fragments, of which the first alone says that it is compressed.
    let echo = "aileron &+% 翼 ".repeat(5000);
    let compressed = deflated(echo.as_bytes());
    let (front, back) = compressed.split_at(compressed.len() / 2);
    client.send(DEFLATED_TEXT, &compressed).await;
    client.send(DEFLATED_TEXT & 0x7f, front).await;
    client.send(0x80, back).await;
    for _ in 0..2 {
        let (first, payload) = client.frame().await;
        assert_eq!(first, DEFLATED_TEXT);
        assert!(inflated(&payload) == echo.as_bytes());
    }
    // Who has agreed need not compress.
    client.send(TEXT, b"hex:abc").await;
    assert_eq!(client.frame().await, (TEXT, "616263".into()));
}

/// What inflates first and looks at the size then takes all of the memory that the client wants it to.
#[tokio::test]
async fn a_bomb_closes_its_connection_and_costs_no_memory() {
    const SIZE: usize = 256 * MIB;
    let gateway = gateway("compression = true\nping-interval = 0").await;
    let mut neighbour = gateway.connect().await;
    assert_eq!(neighbour.ask("reply:here").await, "here");
    let small = deflated(&vec![0; 4 * MIB]);
    let large = deflated(&vec![0; SIZE]);
    println!("bombs of {} and {} bytes", small.len(), large.len());
    assert!(small.len() < 8192, "{} bytes", small.len());
    let before = gateway.memory();
    let mut most = before;
    for bomb in [&small, &large] {
        for _ in 0..10 {
            let (mut client, _) = connect(&gateway, "/ws", OFFER).await;
            client.send(DEFLATED_BINARY, bomb).await;
            let close = client.close().await;
            assert_eq!(close, (1009, "the message is over 1048576 bytes".to_owned()));
            most = most.max(gateway.memory());
            assert_eq!(neighbour.ask("reply:still here").await, "still here");
        }
    }
    let more = most - before;
    println!("bombs that would be {SIZE} bytes: {more} bytes resident more");
    assert!(more < 16 * MIB, "{more} bytes");
}

#[tokio::test]
async fn nothing_is_agreed_on_unless_it_is_wanted() {
    for config in ["", "compression = false"] {
        let gateway = gateway(config).await;
        let (mut client, head) = connect(&gateway, "/ws?next;subscribe:news", OFFER).await;
        assert!(!head.contains("sec-websocket-extensions"), "{head}");
        let large = "x".repeat(100_000);
        publish(&gateway, "news", &large).await;
        let (first, payload) = client.frame().await;
        assert!((first, &*payload) == (TEXT, large.as_bytes()));
        // What was not agreed on breaks the protocol (RFC 6455 section 5.2).
        client.send(DEFLATED_TEXT, &deflated(b"reply:no")).await;
        assert_eq!(client.close().await.0, 1002);
    }
}
