//! What clients send and get: every byte, all sizes, the order, and what breaks the protocol.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::support::{Fpm, Frame, Gateway, Nginx};

async fn gateway(fpm: &Fpm) -> Gateway {
    Gateway::start(&format!("[upstream]\n{}", fpm.upstream("frames.php"))).await
}

#[tokio::test]
async fn a_frame_is_a_form_with_three_fields_in_their_order() {
    let fpm = Fpm::start(2).await;
    let gateway = gateway(&fpm).await;
    let mut client = gateway.connect().await;
    let fields = "[\"type\",\"message\",\"client_id\"] application/x-www-form-urlencoded server";
    assert_eq!(client.ask("fields").await, fields);
    let id = client.id.replace(':', "%3A");
    assert_eq!(
        client.ask("raw").await,
        format!("type=server&message=raw&client_id={id}")
    );
}

#[tokio::test]
async fn what_is_special_to_a_form_reaches_php_unchanged() {
    let fpm = Fpm::start(2).await;
    let gateway = gateway(&fpm).await;
    let mut client = gateway.connect().await;
    for text in [
        "a&b=c",
        "1+1 = 2",
        "100%",
        "%41",
        "🪽 翼",
        "line\nfeed\ttab\0nul",
        "\"quotes'",
        " ",
    ] {
        assert_eq!(client.ask(text).await, text);
    }
}

#[tokio::test]
async fn every_byte_comes_back_in_a_binary_frame_by_fastcgi_and_through_nginx() {
    let fpm = Fpm::start(2).await;
    let nginx = Nginx::start(&fpm).await;
    let bytes: Vec<u8> = (0..=255).collect();
    for upstream in [fpm.upstream("frames.php"), nginx.upstream("frames.php")] {
        let gateway = Gateway::start(&format!("[upstream]\n{upstream}")).await;
        let mut client = gateway.connect().await;
        client.send_binary(&bytes).await;
        assert_eq!(client.next().await, Frame::Binary(bytes.clone()));
        // An answer that happens to be text is binary all the same.
        client.send_binary(b"text").await;
        assert_eq!(client.next().await, Frame::Binary(b"text".to_vec()));
    }
}

#[tokio::test]
async fn a_message_of_a_mebibyte_goes_there_and_back_by_fastcgi_and_through_nginx() {
    let fpm = Fpm::start(2).await;
    let nginx = Nginx::start(&fpm).await;
    let text: String = "aileron &+% ".chars().cycle().take(1024 * 1024).collect();
    let bytes: Vec<u8> = (0..=255).cycle().take(1024 * 1024).collect();
    for upstream in [fpm.upstream("frames.php"), nginx.upstream("frames.php")] {
        let gateway = Gateway::start(&format!("[upstream]\n{upstream}")).await;
        let mut client = gateway.connect().await;
        assert!(client.ask(&text).await == text, "the text came back changed");
        client.send_binary(&bytes).await;
        assert!(
            client.next().await == Frame::Binary(bytes.clone()),
            "the bytes came back changed"
        );
    }
}

#[tokio::test]
async fn a_message_over_the_limit_closes_with_1009_and_disturbs_nobody() {
    let fpm = Fpm::start(2).await;
    let mut gateway = gateway(&fpm).await;
    let mut other = gateway.connect().await;
    let mut client = gateway.connect().await;
    client.send_binary(&vec![0; 1024 * 1024 + 1]).await;
    assert_eq!(
        client.next().await,
        Frame::Close(1009, "the message is over 1048576 bytes".to_owned())
    );
    assert_eq!(other.ask("still here").await, "still here");
    gateway.logged(&["violation", "code=1009", &client.id]).await;
}

#[tokio::test]
async fn an_empty_answer_is_an_empty_frame() {
    let fpm = Fpm::start(2).await;
    let gateway = gateway(&fpm).await;
    let mut client = gateway.connect().await;
    assert_eq!(client.ask("empty").await, "");
}

#[tokio::test]
async fn a_text_answer_that_is_not_utf8_is_mended_and_logged() {
    let fpm = Fpm::start(2).await;
    let mut gateway = gateway(&fpm).await;
    let mut client = gateway.connect().await;
    assert_eq!(client.ask("odd").await, "odd \u{fffd} byte");
    gateway.logged(&["WARN", "UTF-8", &client.id]).await;
    client.send_binary(b"odd").await;
    assert_eq!(client.next().await, Frame::Binary(b"odd \xff byte".to_vec()));
}

#[tokio::test]
async fn a_failed_answer_is_logged_and_nothing_is_sent() {
    let fpm = Fpm::start(2).await;
    let mut gateway = gateway(&fpm).await;
    let mut client = gateway.connect().await;
    client.send("status:500").await;
    gateway.logged(&["500", &client.id]).await;
    assert_eq!(
        client.ask("status:422").await,
        "status 422",
        "the application's own errors are answers"
    );
}

#[tokio::test]
async fn a_late_answer_is_logged_and_the_connection_goes_on() {
    let fpm = Fpm::start(4).await;
    let config = format!("[upstream]\ntimeout = \"300ms\"\n{}", fpm.upstream("frames.php"));
    let mut gateway = Gateway::start(&config).await;
    let mut client = gateway.connect().await;
    client.send("sleep:2000").await;
    gateway.logged(&["timeout", "300ms", &client.id]).await;
    assert_eq!(client.ask("after").await, "after");
}

#[tokio::test]
async fn answers_keep_the_order_of_the_frames() {
    let fpm = Fpm::start(8).await;
    for in_flight in [1, 4] {
        let config = format!(
            "in-flight = {in_flight}\n[upstream]\n{}",
            fpm.upstream("frames.php")
        );
        let gateway = Gateway::start(&config).await;
        let mut client = gateway.connect().await;
        let frames = ["sleep:120", "sleep:10", "one", "sleep:60", "two", "three"];
        for frame in frames {
            client.send(frame).await;
        }
        for frame in frames {
            assert_eq!(
                client.text().await,
                frame.replace("sleep:", "slept "),
                "{in_flight} in flight"
            );
        }
    }
}

/// Behind a request that takes long, the connection still hears and answers.
#[tokio::test]
async fn a_ping_is_answered_while_php_is_at_work() {
    let fpm = Fpm::start(2).await;
    let gateway = gateway(&fpm).await;
    let mut client = gateway.connect().await;
    client.send("sleep:1000").await;
    client.is_quiet().await;
    assert_eq!(client.text().await, "slept 1000");
}

#[tokio::test]
async fn a_close_is_answered_while_php_is_at_work() {
    let fpm = Fpm::start(2).await;
    let mut gateway = gateway(&fpm).await;
    let mut client = gateway.connect().await;
    client.send("sleep:5000").await;
    let id = client.id.clone();
    let start = std::time::Instant::now();
    client.close().await;
    gateway.logged(&["closed by the client", &id]).await;
    assert!(start.elapsed().as_secs() < 4, "the close waited for PHP");
}

/// RFC 6455 section 5.5.1. Without an answer, a browser tells its page that the connection was lost (1006).
#[tokio::test]
async fn a_close_is_answered_with_its_own_code() {
    let gateway = Gateway::start("").await;
    let close = |code: u16, reason: &str| {
        Message::Close(Some(CloseFrame {
            code: code.into(),
            reason: reason.into(),
        }))
    };
    for (sent, answer) in [
        (close(1000, ""), Frame::Close(1000, String::new())),
        (close(4000, "bye"), Frame::Close(4000, "bye".to_owned())),
        (Message::Close(None), Frame::Close(1005, String::new())),
    ] {
        let mut client = gateway.connect().await;
        client.send_frame(sent).await;
        assert_eq!(client.next().await, answer);
        assert_eq!(client.next().await, Frame::End);
    }
}

#[tokio::test]
async fn what_is_no_websocket_gets_an_answer_that_helps() {
    let gateway = Gateway::start("").await;
    let ask = async |head: &str| {
        let mut socket = TcpStream::connect(gateway.clients).await.unwrap();
        socket
            .write_all(format!("{head}Host: x\r\nConnection: close\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = ask("GET /ws HTTP/1.1\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 426") && answer.contains("ws://"),
        "{answer}"
    );
    let answer = ask("GET /elsewhere HTTP/1.1\r\nUpgrade: websocket\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}

/// RFC 6455 section 5.1: a client masks what it sends.
#[tokio::test]
async fn a_frame_without_a_mask_closes_with_1002() {
    let gateway = Gateway::start("").await;
    let mut socket = TcpStream::connect(gateway.clients).await.unwrap();
    let handshake = "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    socket.write_all(handshake.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    // The example of RFC 6455 section 1.3.
    assert!(
        head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
        "{head}"
    );
    socket.write_all(b"\x81\x05hello").await.unwrap();
    let mut close = [0; 4];
    socket.read_exact(&mut close).await.unwrap();
    assert_eq!((close[0], u16::from_be_bytes([close[2], close[3]])), (0x88, 1002));
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).await.unwrap();
    assert_eq!(
        rest, b"protocol error: a frame without a mask",
        "the gateway ends the connection itself"
    );
}
