//! Who has gone: plugins hear of each end once, with its code; and what they forward then reaches PHP, however long PHP is
//! down.

mod turns;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::Value;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::support::{Bare, Client, Fpm, Frame, Gateway, QUICK, eventually, guest};
use crate::upstreams::guarded::Guarded;

#[tokio::test]
async fn a_plugin_hears_how_each_connection_ended() {
    let gateway = Gateway::with_plugins(&[("events", &guest("events"))], QUICK).await;
    let mut watcher = gateway
        .connect_to("/ws?next;subscribe:closings;reply:watching")
        .await;
    assert_eq!(watcher.text().await, "watching");
    let heard = async |watcher: &mut Client, id: &str, rest: &str| {
        assert_eq!(watcher.text().await, format!("{id} {rest}"));
    };

    let client = gateway.connect_to("/ws?next;set:user=ann").await;
    let id = client.id.clone();
    let frame = CloseFrame {
        code: 4000.into(),
        reason: "bye".into(),
    };
    client.close_with(Some(frame)).await;
    heard(&mut watcher, &id, "4000 bye user=ann").await;

    let client = gateway.connect().await;
    let id = client.id.clone();
    client.close().await;
    heard(&mut watcher, &id, "1005").await;

    let mut client = gateway.connect().await;
    let id = client.id.clone();
    client.send(&format!("close:{id}=4001")).await;
    assert_eq!(client.next().await, Frame::Close(4001, "as asked".to_owned()));
    drop(client);
    heard(&mut watcher, &id, "4001 as asked").await;

    let client = gateway.connect().await;
    let id = client.id.clone();
    client.cut();
    let lost = watcher.text().await;
    assert!(lost.starts_with(&format!("{id} 1006 ")), "{lost}");

    let mut client = gateway.connect().await;
    let id = client.id.clone();
    client.send_binary(&vec![0; 1024 * 1024 + 1]).await;
    let violation = watcher.text().await;
    assert!(violation.starts_with(&format!("{id} 1009 ")), "{violation}");
}

/// What PHP was asked, by its notes.
fn notes(path: &Path, kind: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // The last line may be there in part.
    let (whole, _) = text.rsplit_once('\n').unwrap_or_default();
    let notes = whole
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    notes.filter(|note| note["form"]["type"] == kind).collect()
}

/// PHP-FPM with the application of the tests, and the file that it notes each request in.
async fn application(children: usize) -> (Fpm, PathBuf) {
    let dir = tempfile::tempdir().unwrap().keep();
    let notes = dir.join("notes");
    let fpm = Fpm::start_with(children, &format!("env[NOTES] = {}", notes.display())).await;
    (fpm, notes)
}

const CLIENTS: usize = 500;

#[tokio::test]
async fn no_close_event_is_lost_or_doubled_while_php_is_down_for_ten_seconds() {
    let (mut fpm, file) = application(8).await;
    let config = format!(
        "[upstream]\n{}[plugins]\nbuilt-in = \"application\"\n",
        fpm.upstream("application.php")
    );
    let gateway = Gateway::start(&config).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(gateway.connect().await);
    }
    let mut expected: Vec<_> = clients.iter().map(|client| client.id.clone()).collect();
    expected.sort();
    assert_eq!(notes(&file, "open").len(), CLIENTS);

    fpm.stop().await;
    let down = Instant::now();
    for (n, client) in clients.into_iter().enumerate() {
        if n % 2 == 0 {
            client.cut()
        } else {
            client.close().await
        }
    }
    gateway.measures("aileron_connections", 0.0).await;
    gateway
        .shows_metric(
            "a try that failed",
            "aileron_close_events_total{result=\"retried\"}",
            |n| n > 0.0,
        )
        .await;
    // Ten seconds are what is to be lived through, and not a guess.
    tokio::time::sleep_until((down + Duration::from_secs(10)).into()).await;
    assert_eq!(notes(&file, "close").len(), 0);
    fpm.restart().await;
    let back = Instant::now();

    eventually("every close event at PHP", || {
        (notes(&file, "close").len() >= CLIENTS).then_some(())
    })
    .await;
    println!(
        "{CLIENTS} close events delivered {:?} after PHP-FPM was back",
        back.elapsed()
    );
    gateway
        .measures("aileron_close_events_total{result=\"delivered\"}", CLIENTS as f64)
        .await;
    let notes = notes(&file, "close");
    let mut ids: Vec<_> = notes
        .iter()
        .map(|note| note["form"]["client_id"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    assert_eq!(ids, expected, "each once");
    let keys: BTreeMap<_, _> = notes.iter().map(|note| (note["key"].to_string(), ())).collect();
    assert_eq!(keys.len(), CLIENTS, "each with a key of its own");
    assert_eq!(
        gateway
            .metric("aileron_close_events_total{result=\"lost\"}")
            .await,
        0.0
    );
    assert_eq!(gateway.metric("aileron_close_events_waiting").await, 0.0);
}

#[tokio::test]
async fn a_close_event_that_php_fails_at_is_sent_again_with_the_same_key() {
    let dir = tempfile::tempdir().unwrap();
    let tries = dir.path().join("tries");
    let fpm = Fpm::start_with(2, &format!("env[TRIES] = {}", tries.display())).await;
    let config = format!(
        "[upstream]\n{}[plugins]\nbuilt-in = \"application\"\n[plugins.config.application]\nopen = false\n",
        fpm.upstream("failing.php")
    );
    let gateway = Gateway::start(&config).await;
    gateway.connect().await.close().await;
    let keys = eventually("three tries", || {
        let text = std::fs::read_to_string(&tries).ok()?;
        let keys: Vec<_> = text.lines().map(str::to_owned).collect();
        (keys.len() == 3).then_some(keys)
    })
    .await;
    assert!(
        keys[0].starts_with("close-") && keys.iter().all(|key| *key == keys[0]),
        "{keys:?}"
    );
    gateway
        .measures("aileron_close_events_total{result=\"delivered\"}", 1.0)
        .await;
    assert_eq!(
        gateway
            .metric("aileron_close_events_total{result=\"retried\"}")
            .await,
        2.0
    );
}

#[tokio::test]
async fn close_events_beyond_the_bound_and_the_time_are_lost_and_said_so() {
    let mut fpm = Fpm::start(2).await;
    let config = format!(
        "[upstream]\nretries = 0\n{}[plugins]\nbuilt-in = \"application\"\n[plugins.config.application]\nopen = false\n\
         [closings]\nmax-waiting = 1\nretry-for = \"1s\"\n",
        fpm.upstream("application.php")
    );
    let mut gateway = Gateway::start(&config).await;
    let clients = [
        gateway.connect().await,
        gateway.connect().await,
        gateway.connect().await,
    ];
    fpm.stop().await;
    for client in clients {
        client.close().await;
    }
    gateway
        .logged(&["ERROR", "a close event is lost", "max-waiting"])
        .await;
    gateway
        .logged(&["ERROR", "a close event is lost", "retry-for"])
        .await;
    gateway
        .measures("aileron_close_events_total{result=\"lost\"}", 3.0)
        .await;
    gateway.measures("aileron_close_events_waiting", 0.0).await;
}

/// The shutdown closes everyone; PHP hears of all of them before the gateway is gone.
#[tokio::test]
async fn a_shutdown_tells_php_of_everyone_before_it_ends() {
    let (fpm, file) = application(4).await;
    let config = format!(
        "[upstream]\n{}[plugins]\nbuilt-in = \"application\"\n",
        fpm.upstream("application.php")
    );
    let mut gateway = Gateway::start(&config).await;
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(gateway.connect().await);
    }
    gateway.process.signal("TERM");
    for client in &mut clients {
        assert!(matches!(client.next().await, Frame::Close(1001, _)));
    }
    drop(clients);
    assert_eq!(gateway.process.exit_code().await, Some(0));
    let closed = notes(&file, "close");
    assert_eq!(closed.len(), 50);
    assert!(
        closed.iter().all(|note| note["form"]["code"] == "1001"),
        "{closed:?}"
    );
}

/// Clients that do not answer the close frame have five seconds for it, which may be more than the grace period.
#[tokio::test]
async fn php_hears_of_clients_that_ignore_a_shutdown_however_short_the_grace_period() {
    const SILENT: usize = 50;
    let (fpm, file) = application(4).await;
    let config = format!(
        "grace = \"3s\"\n[upstream]\n{}[plugins]\nbuilt-in = \"application\"\n[plugins.config.application]\nopen = false\n",
        fpm.upstream("application.php")
    );
    let mut gateway = Gateway::start(&config).await;
    let opening = (0..SILENT).map(|_| Bare::connect(gateway.clients, "/ws"));
    let silent = join_all(opening).await;
    gateway.process.signal("TERM");
    assert_eq!(gateway.process.exit_code().await, Some(0));
    assert_eq!(notes(&file, "close").len(), SILENT);
    drop(silent);
}

/// The rate spares PHP for those who stay. At a shutdown nobody does.
#[tokio::test]
async fn a_shutdown_does_not_wait_for_the_rate_of_close_events() {
    const GOING: usize = 200;
    let (fpm, file) = application(4).await;
    let config = format!(
        "grace = \"20s\"\n[upstream]\n{}[plugins]\nbuilt-in = \"application\"\n[plugins.config.application]\nopen = false\n\
         [closings]\nrate = 2\n",
        fpm.upstream("application.php")
    );
    let mut gateway = Gateway::start(&config).await;
    let opening = (0..GOING).map(|_| gateway.connect());
    let going = join_all(opening).await;
    gateway.process.signal("TERM");
    let closing = going.into_iter().map(async |mut client| {
        assert!(matches!(client.next().await, Frame::Close(1001, _)));
        client.close().await;
    });
    join_all(closing).await;
    assert_eq!(gateway.process.exit_code().await, Some(0));
    assert_eq!(notes(&file, "close").len(), GOING);
}

/// PHP counts a client in while the gateway shuts down, and nobody else is connected for whom it would have to wait.
#[tokio::test]
async fn php_hears_of_a_client_that_it_was_letting_in_at_the_shutdown() {
    let php = Guarded::start(2).await;
    let config = format!(
        "[upstream]\n{}[plugins]\nbuilt-in = \"application\"\n",
        php.upstream()
    );
    let mut gateway = Gateway::start(&config).await;
    let connecting = tokio::spawn(Client::connect_by(
        gateway.clients,
        format!("ws://{}/ws?hold", gateway.clients),
    ));
    php.has_noted("open hold").await;
    gateway.process.signal("TERM");
    gateway.logged(&["shutting down"]).await;
    php.let_go();
    assert_eq!(gateway.process.exit_code().await, Some(0));
    assert_eq!(php.notes(), ["open hold", "close 1001"]);
    drop(connecting);
}
