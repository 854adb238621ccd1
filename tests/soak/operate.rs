//! What happens to PHP and to plugins: PHP-FPM is killed or stopped and started again, and a plugin's file is replaced, now
//! and then by one that is no plugin.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::gateway::support::{Client, Fpm, PATIENCE, guest, hash, put, stamp};
use crate::load::{Load, TOLD, pause};

/// Takes PHP away for a while, again and again.
pub async fn php(load: Arc<Load>, fpm: Arc<Mutex<Fpm>>) {
    let mut fpm = fpm.lock().await;
    loop {
        for _ in 0..fastrand::u32(8..15) {
            if !load.goes_on() {
                return;
            }
            pause(900, 1100).await;
        }
        load.outages.begin();
        if fastrand::bool() {
            fpm.kill();
            load.count("kills of PHP-FPM");
        } else {
            fpm.stop().await;
            load.count("stops of PHP-FPM");
        }
        pause(200, 1500).await;
        fpm.restart_in_use().await;
        answers(&load).await;
        load.outages.end();
    }
}

/// Waits until PHP answers again by way of the gateway.
async fn answers(load: &Load) {
    loop {
        if let Ok(mut client) = Client::try_connect(load.gateway.clients, "/php", &[]).await {
            load.count(TOLD);
            let answer = timeout(Duration::from_secs(1), client.ask("there?")).await;
            client.close().await;
            if answer.is_ok() {
                return;
            }
        }
        pause(20, 50).await;
    }
}

/// Replaces the plugin `stamp`, every fifth time by what is none.
pub async fn plugins(load: Arc<Load>) {
    static VERSION: AtomicUsize = AtomicUsize::new(0);
    let file = load.gateway.plugin_file("stamp");
    let broken = broken();
    for n in 1.. {
        if n % 5 == 0 {
            let refused = load.gateway.metric(REFUSED).await;
            put(&file, &broken[n / 5 % broken.len()]);
            let seen = timeout(PATIENCE, refuses(&load, refused));
            seen.await.expect("a broken plugin is refused");
            load.count("broken plugins refused");
        } else {
            let content = stamp(VERSION.fetch_add(1, Ordering::SeqCst) + 1);
            let hash = hash(&content);
            put(&file, &content);
            let seen = timeout(PATIENCE, serves(&load, &hash));
            seen.await.expect("a plugin is replaced");
            load.count("plugins replaced");
            // The last one is good: what is at rest is compared.
            if !load.goes_on() {
                return prove(&load).await;
            }
        }
        pause(1000, 3000).await;
    }
}

/// Ends a version's probation, until which the one before is kept: two hundred calls (`probation-events`).
async fn prove(load: &Load) {
    let mut client = loop {
        if let Some(client) = load.connect("/stamp").await {
            break client;
        }
    };
    for _ in 0..250 {
        client.ask("proved?").await;
    }
    client.close().await;
}

const REFUSED: &str = "aileron_plugin_reloads_total{result=\"refused\"}";

async fn refuses(load: &Load, before: f64) {
    while load.gateway.metric(REFUSED).await <= before {
        pause(10, 20).await;
    }
}

async fn serves(load: &Load, hash: &str) {
    while load
        .gateway
        .plugin("stamp")
        .await
        .is_none_or(|plugin| plugin["hash"] != *hash)
    {
        pause(10, 20).await;
    }
}

fn broken() -> [Vec<u8>; 5] {
    let whole = stamp(99_999_999);
    [
        whole[..whole.len() / 2].to_vec(),
        b"<?php echo 'no plugin';".to_vec(),
        b"\0asm\x0d\0\x01\0".to_vec(),
        guest("misbehave"),
        Vec::new(),
    ]
}
