//! What plugins may have of the host, by mistake or by what clients send them: handles, keys, lines of the log, files.

use std::fs::File;

use super::MIB;
use crate::support::{Gateway, QUICK, guest};

async fn gateway(settings: &str) -> Gateway {
    let plugins = [("misbehave", &*guest("misbehave"))];
    Gateway::with_plugins(&plugins, &format!("{QUICK}{settings}")).await
}

#[tokio::test]
async fn buckets_that_a_plugin_never_drops_and_long_names_come_to_an_end() {
    let gateway = gateway("").await;
    let mut client = gateway.connect().await;
    let hoarded = client.ask("hoard:100000").await;
    assert!(hoarded.contains("1000 handles are open"), "{hoarded}");
    // The next call is of another instance.
    assert_eq!(client.ask("open:1024").await, "opened");
    let long = client.ask("open:1000000").await;
    assert!(long.contains("a name of 1000000 bytes is too long"), "{long}");
}

/// Empty keys cost memory, too, and a list of all keys gives each of them once.
#[tokio::test]
async fn keys_count_with_what_it_costs_to_keep_them() {
    let gateway = gateway("keyvalue-limit = \"4MiB\"\ntime-limit = \"5s\"\n").await;
    let before = gateway.own_memory();
    let mut client = gateway.connect().await;
    let filled = client.ask("fill").await;
    let keys = (4 * MIB - 1024 - "filled".len()) / (128 + 7);
    assert_eq!(filled, format!("set {keys}, listed {keys}, each once: true"));
    let more = gateway.own_memory().saturating_sub(before);
    println!("{keys} empty keys: {more} bytes resident more, with the plugin's own");
    assert!(more < 12 * MIB, "{more}");
}

#[tokio::test]
async fn a_bucket_without_keys_is_gone() {
    let gateway = gateway("keyvalue-limit = \"10KiB\"\ntime-limit = \"5s\"\n").await;
    let mut client = gateway.connect().await;
    assert_eq!(client.ask("buckets:10000").await, "all of them");
}

/// As `wit/types.wit` says.
#[tokio::test]
async fn what_a_plugin_has_written_before_it_traps_stays() {
    let gateway = gateway("").await;
    let mut client = gateway.connect().await;
    client.send("count-and-trap:key").await;
    assert_eq!(client.ask("count:key").await, "2");
}

#[tokio::test]
async fn what_a_plugin_logs_is_one_line_of_bounded_length() {
    let mut gateway = gateway("").await;
    let mut client = gateway.connect().await;
    let words = format!("words\nERROR forged\r\u{1b}[2J{}", "x".repeat(100_000));
    assert_eq!(client.ask(&format!("log:{words}")).await, "spoken");
    let line = gateway.logged(&["logged words"]).await;
    assert!(line.contains("words\\nERROR forged\\r\\u{1b}[2Jxxx"), "{line}");
    assert!(line.len() < 2000, "{} bytes", line.len());
}

#[tokio::test]
async fn a_long_refusal_is_cut() {
    let mut gateway = gateway(&format!(
        "[plugins.config.misbehave]\nrefuse = \"{}\"\n",
        "no, ".repeat(250_000)
    ))
    .await;
    let line = gateway.logged(&["plugin file refused", "no, no, "]).await;
    assert!(line.len() < 2000, "{} bytes", line.len());
    let plugin = gateway.plugin("misbehave").await.unwrap();
    assert!(plugin.to_string().len() < 4000);
}

#[tokio::test]
async fn an_interest_that_is_too_long_is_refused() {
    let facts = "header.x,".repeat(10_000);
    let mut gateway = gateway(&format!("[plugins.config.misbehave]\nfacts = \"{facts}\"\n")).await;
    gateway
        .logged(&["plugin file refused", "its interest is wrong", "80000 bytes"])
        .await;
}

/// It has a gigabyte on paper, and no block on the disk.
#[tokio::test]
async fn a_file_that_is_longer_than_any_plugin_is_refused_unread() {
    let mut gateway = gateway("").await;
    let before = gateway.memory();
    let file = File::create(gateway.plugins().join("long.part")).unwrap();
    file.set_len(1 << 30).unwrap();
    std::fs::rename(gateway.plugins().join("long.part"), gateway.plugin_file("long")).unwrap();
    gateway
        .logged(&[
            "ERROR",
            "plugin file refused",
            "long.wasm",
            "1073741824 bytes",
            "128 MiB",
        ])
        .await;
    let more = gateway.memory().saturating_sub(before);
    assert!(more < 32 * MIB, "{more}");
    assert_eq!(gateway.plugin("misbehave").await.unwrap()["state"], "serving");
}

/// Each message that PHP does not answer is worth a line, until there are thousands in a second.
#[tokio::test]
async fn an_outage_under_load_does_not_fill_the_log() {
    const MESSAGES: usize = 5000;
    let upstream = "[upstream]\nurl = \"http://127.0.0.1:1/\"\nretries = 0\nbreaker-failures = 1\nbreaker-pause = \"1h\"\n";
    let mut gateway = Gateway::start(&format!("in-flight = 16\n{upstream}")).await;
    let mut client = gateway.connect().await;
    for _ in 0..MESSAGES {
        client.send("x").await;
    }
    client.is_quiet().await;
    let logged = gateway.count_logged(&["no answer"]);
    println!("{logged} lines for {MESSAGES} messages");
    assert!((500..MESSAGES).contains(&logged), "{logged}");
    gateway
        .logged(&["WARN", "plugin=\"default\"", "more than 500 lines a second"])
        .await;
}
