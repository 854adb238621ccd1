//! `/metrics` and `/plugins`: what they show right after traffic that is known.

use std::collections::BTreeMap;

use serde_json::Value;

use super::good_plugin;
use crate::support::{Fpm, Gateway};

/// The samples of a page in the text format of OpenMetrics, each by its name with labels. Anything that the format does
/// not allow is a panic.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let mut types = BTreeMap::new();
    let mut samples = BTreeMap::new();
    let body = page.strip_suffix("# EOF\n").expect("the page ends with its end");
    for line in body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (kind, name, text) = (words.next(), words.next().unwrap(), words.next().unwrap());
            match kind {
                Some("TYPE") => assert_eq!(types.insert(name.to_owned(), text), None, "{name} twice"),
                Some("HELP") => assert!(text.ends_with('.') && text.len() > 5, "{line}"),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        let bare = name.split('{').next().unwrap();
        let family = types.iter().find_map(|(family, kind)| {
            let suffix = bare.strip_prefix(family.as_str())?;
            let allowed: &[&str] = match *kind {
                "gauge" => &[""],
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_count", "_sum"],
                other => panic!("{other}"),
            };
            allowed.contains(&suffix).then_some(family)
        });
        assert!(family.is_some(), "{name} is of no family");
        assert!(bare.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
        if let Some(labels) = name.strip_prefix(bare).filter(|labels| !labels.is_empty()) {
            let labels = labels.strip_prefix('{').unwrap().strip_suffix('}').unwrap();
            for label in labels.split("\",") {
                let (key, value) = label.split_once("=\"").unwrap();
                assert!(!key.is_empty() && !value.is_empty(), "{name}");
            }
        }
        assert_eq!(
            samples.insert(name.to_owned(), value.parse().unwrap()),
            None,
            "{name} twice"
        );
    }
    samples
}

async fn metrics(gateway: &Gateway) -> BTreeMap<String, f64> {
    samples(&gateway.get("/metrics").await.body)
}

#[tokio::test]
async fn metrics_count_what_has_happened() {
    let fpm = Fpm::start(2).await;
    let config = format!(
        "[upstream]\ntimeout = \"300ms\"\n{}[plugins]\ndir = \"plugins\"\nsettle = \"1ms\"\n",
        fpm.upstream("frames.php")
    );
    let mut gateway = Gateway::start(&config).await;
    let response = gateway
        .request(reqwest::Method::GET, "/metrics")
        .send()
        .await
        .unwrap();
    assert_eq!(
        response.headers()["content-type"],
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );

    let mut client = gateway.connect().await;
    gateway.connect().await.close().await;
    for text in ["one", "two", "three"] {
        client.ask(text).await;
    }
    client.send("sleep:2000").await;
    gateway.logged(&["timeout", &client.id]).await;
    gateway
        .push(&format!("client_id={}&message=pushed", client.id))
        .await;
    client.text().await;
    gateway.push("client_id=nobody&message=lost").await;
    std::fs::write(gateway.plugins().join("broken.wasm"), "no wasm").unwrap();
    gateway.logged(&["broken", "refused"]).await;
    std::fs::write(gateway.plugins().join("good.wasm"), good_plugin()).unwrap();
    while gateway.chain().await.len() < 3 {
        tokio::task::yield_now().await;
    }

    let seen = metrics(&gateway).await;
    let expected = [
        ("connections", 1.0),
        ("connections_accepted_total", 2.0),
        ("frames_total{direction=\"in\"}", 4.0),
        ("frames_total{direction=\"out\"}", 4.0),
        ("frames_congested_total", 0.0),
        ("pushes_total", 2.0),
        ("plugin_generations", 2.0),
        // Four frames, their four ends, two pushes.
        ("plugin_calls_total{plugin=\"default\"}", 10.0),
        ("plugin_call_seconds_count{plugin=\"default\"}", 10.0),
        ("plugin_call_seconds_bucket{le=\"+Inf\",plugin=\"default\"}", 10.0),
        ("plugin_reloads_total{result=\"loaded\"}", 1.0),
        ("plugin_reloads_total{result=\"refused\"}", 1.0),
        ("upstream_requests_total{upstream=\"default\"}", 4.0),
        ("upstream_request_seconds_count{upstream=\"default\"}", 4.0),
        (
            "upstream_failures_total{upstream=\"default\",kind=\"timeout\"}",
            1.0,
        ),
    ];
    for (name, value) in expected {
        let name = format!("aileron_{name}");
        assert_eq!(seen.get(&name), Some(&value), "{name} in {seen:#?}");
    }
    assert!(seen["aileron_plugin_instances"] >= 2.0);
    assert!(seen["aileron_plugin_compile_seconds_count"] >= 2.0);
    assert!(seen["aileron_upstream_request_seconds_sum{upstream=\"default\"}"] >= 0.3);

    // A family is announced before it has a sample, so that dashboards find it.
    let page = gateway.get("/metrics").await.body;
    assert!(
        page.contains("# TYPE aileron_plugin_failures counter\n"),
        "{page}"
    );
}

#[tokio::test]
async fn plugins_are_listed_with_all_that_is_known_of_them() {
    let fpm = Fpm::start(1).await;
    let config = format!(
        "[upstream]\n{}[plugins]\ndir = \"plugins\"\n",
        fpm.upstream("frames.php")
    );
    let dir = tempfile::TempDir::new().unwrap();
    let plugins = dir.path().join("plugins");
    std::fs::create_dir(&plugins).unwrap();
    std::fs::write(plugins.join("10-good.wasm"), good_plugin()).unwrap();
    std::fs::write(plugins.join("20-broken.wasm"), "no wasm").unwrap();
    let gateway = Gateway::start_in(dir, &config).await;
    gateway.connect().await.ask("hello").await;

    let chain = gateway.chain().await;
    let [good, broken, default] = chain.as_slice() else {
        panic!("{chain:#?}");
    };
    for (plugin, name, state, calls) in [
        (good, "10-good", "serving", 2),
        (broken, "20-broken", "refused", 0),
        (default, "default", "serving", 0),
    ] {
        assert_eq!(plugin["name"], name);
        assert_eq!(plugin["state"], state, "{plugin:#}");
        assert_eq!(plugin["calls"], calls, "{plugin:#}");
        assert_eq!(plugin["traps"], 0);
        assert_eq!(plugin["slow"], false);
    }
    for serving in [good, default] {
        assert_eq!(serving["hash"].as_str().unwrap().len(), 64, "SHA-256 in hex");
        assert!(
            serving["interface"].as_str().unwrap().starts_with("0."),
            "{serving:#}"
        );
        assert!(serving["instances"].as_u64().unwrap() >= 1);
        assert!(serving["memory"].as_u64().unwrap() >= 65_536, "{serving:#}");
        assert_eq!(serving["last-error"], Value::Null);
    }
    assert!(good["file"].as_str().unwrap().ends_with("plugins/10-good.wasm"));
    assert_eq!(default["file"], Value::Null);
    assert_eq!(broken["hash"], Value::Null);
    assert_eq!(broken["instances"], 0);
    assert!(!broken["last-error"].as_str().unwrap().is_empty());
}
