//! What is sent again, and what is not: the line is whether a byte of it went out.

use futures_util::future::join_all;

use super::guarded::Guarded;
use super::{CLIENTS, ask_all, send_all};
use crate::support::{Client, Gateway, Nginx};

const RETRIES: &str = "aileron_upstream_retries_total{upstream=\"default\"}";
/// As many as it takes on a machine that is busy with other things.
const PATIENT: &str = "retries = 100\ntimeout = \"60s\"\nmax-wait = \"60s\"\n";

async fn connect_all(gateway: &Gateway) -> Vec<Client> {
    join_all((0..CLIENTS).map(|_| gateway.connect())).await
}

async fn answered_all(clients: &mut [Client], text: &str) {
    for client in clients {
        assert_eq!(client.text().await, text);
    }
}

#[tokio::test]
async fn a_restart_of_php_fpm_loses_no_frame() {
    for keep in [0, 2] {
        let mut php = Guarded::start(4).await;
        let config = format!("[upstream]\nkeep = {keep}\n{PATIENT}{}", php.upstream());
        let gateway = Gateway::start(&config).await;
        let mut clients = connect_all(&gateway).await;
        ask_all(&mut clients, "before").await;
        php.fpm.stop().await;
        send_all(&mut clients, "meanwhile").await;
        gateway.shows_metric("several tries", RETRIES, |n| n >= 5.0).await;
        php.fpm.restart_in_use().await;
        answered_all(&mut clients, "meanwhile").await;
        assert_eq!(php.count("meanwhile"), CLIENTS);
        assert_eq!(gateway.count_logged(&["no answer"]), 0);
    }
}

#[tokio::test]
async fn a_restart_of_nginx_loses_no_frame() {
    let php = Guarded::start(4).await;
    let mut nginx = Nginx::start(&php.fpm).await;
    let config = format!("[upstream]\n{PATIENT}{}", php.upstream_through(&nginx));
    let gateway = Gateway::start(&config).await;
    let mut clients = connect_all(&gateway).await;
    ask_all(&mut clients, "before").await;
    nginx.stop().await;
    send_all(&mut clients, "meanwhile").await;
    gateway.shows_metric("several tries", RETRIES, |n| n >= 5.0).await;
    nginx.restart().await;
    answered_all(&mut clients, "meanwhile").await;
    assert_eq!(php.count("meanwhile"), CLIENTS);
}

/// PHP-FPM dies while it works: it may have done half of it, so nobody but the application may repeat it.
#[tokio::test]
async fn nothing_that_was_sent_is_sent_again() {
    for keep in [0, 1] {
        let mut php = Guarded::start(2).await;
        let config = format!("[upstream]\nkeep = {keep}\n{PATIENT}{}", php.upstream());
        let mut gateway = Gateway::start(&config).await;
        let mut client = gateway.connect().await;
        client.send("hold").await;
        php.has_noted("hold").await;
        php.fpm.kill();
        gateway.logged(&["no answer: unreachable", &client.id]).await;
        php.fpm.restart().await;
        assert_eq!(client.ask("after").await, "after");
        assert_eq!(php.notes(), ["hold", "after"]);
        assert_eq!(gateway.metric(RETRIES).await, 0.0);
    }
}

#[tokio::test]
async fn nothing_that_was_sent_through_nginx_is_sent_again() {
    let php = Guarded::start(2).await;
    let mut nginx = Nginx::start(&php.fpm).await;
    let config = format!("[upstream]\n{PATIENT}{}", php.upstream_through(&nginx));
    let mut gateway = Gateway::start(&config).await;
    let mut client = gateway.connect().await;
    client.send("hold").await;
    php.has_noted("hold").await;
    nginx.stop().await;
    gateway
        .logged(&[
            "no answer: unreachable: the exchange with",
            "broke off",
            &client.id,
        ])
        .await;
    php.let_go();
    nginx.restart().await;
    assert_eq!(client.ask("after").await, "after");
    assert_eq!(php.notes(), ["hold", "after"]);
    assert_eq!(gateway.metric(RETRIES).await, 0.0);
}

#[tokio::test]
async fn retries_end_where_they_are_set_to() {
    let mut php = Guarded::start(2).await;
    php.fpm.stop().await;
    for retries in [0, 1] {
        let config = format!("[upstream]\nretries = {retries}\n{}", php.upstream());
        let mut gateway = Gateway::start(&config).await;
        let mut client = gateway.connect().await;
        client.send("in vain").await;
        gateway
            .logged(&["no answer: unreachable: cannot connect", &client.id])
            .await;
        assert_eq!(gateway.metric(RETRIES).await, f64::from(retries));
    }
}
