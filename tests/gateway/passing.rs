//! What the passing of time does: timers and schedules, pings, idleness, age. Intervals are short here; what is waited for
//! is what they bring about.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Fpm, Frame, Gateway, QUICK, guest, put, version, with_version};

async fn with_events(config: &str) -> Gateway {
    Gateway::with_plugins(&[("events", &guest("events"))], &format!("{config}{QUICK}")).await
}

#[tokio::test]
async fn a_timer_runs_out_once_for_its_connection_and_its_plugin() {
    let gateway = with_events("").await;
    // Another plugin with the same hook and no such timer.
    put(&gateway.plugin_file("00-other"), &guest("events"));
    gateway.serves("00-other", &guest("events")).await;
    std::fs::remove_file(gateway.plugin_file("00-other")).unwrap();
    gateway.forgets("00-other").await;

    let mut client = gateway.connect_to("/ws?next;set:user=ann").await;
    let mut other = gateway.connect().await;
    client
        .send("timer:tea=60;timer:never=60;timer:late=200;cancel:never;timer:tea=120")
        .await;
    let said = format!("tea ran out for ann, {}", version(0));
    assert_eq!(client.text().await, said);
    assert_eq!(client.text().await, said.replace("tea", "late"));
    client.is_quiet().await;
    other.is_quiet().await;
}

#[tokio::test]
async fn a_timer_is_heard_by_the_version_that_serves_when_it_runs_out_and_by_nobody_when_there_is_none() {
    let gateway = with_events("").await;
    let next = with_version(guest("events"), 2);
    // Compiled before, so that the exchange takes less time than the timer.
    put(&gateway.plugin_file("warm"), &next);
    gateway.serves("warm", &next).await;
    let mut client = gateway.connect().await;
    client.send("timer:a=2000").await;
    put(&gateway.plugin_file("events"), &next);
    gateway.serves("events", &next).await;
    assert_eq!(
        client.text().await,
        format!("a ran out for nobody, {}", version(2))
    );

    assert_eq!(client.ask("timer:b=50;reply:set").await, "set");
    std::fs::remove_file(gateway.plugin_file("events")).unwrap();
    gateway.forgets("events").await;
    put(&gateway.plugin_file("events"), &next);
    gateway.serves("events", &next).await;
    assert_eq!(client.ask("reply:on").await, "on");
}

#[tokio::test]
async fn a_timers_answer_waits_for_the_answers_of_the_frames_before_it() {
    let fpm = Fpm::start(2).await;
    let gateway = with_events(&format!("[upstream]\n{}", fpm.upstream("frames.php"))).await;
    let mut client = gateway.connect().await;
    client.send("timer:tea=50;ask:sleep:600").await;
    assert_eq!(client.text().await, "sleep:600: 200 slept 600");
    assert_eq!(
        client.text().await,
        format!("tea ran out for nobody, {}", version(0))
    );
}

/// The schedule asks the plugin, which publishes, asks PHP of the schedule's upstream, and hears the answer.
#[tokio::test]
async fn a_schedule_calls_plugins_and_php_again_and_again_without_overlap() {
    let fpm = Fpm::start(4).await;
    let config = format!(
        "[upstream]\nurl = \"http://127.0.0.1:1/\"\n[upstreams.php]\n{}\
         [[schedule]]\nname = \"sleep:300\"\nevery = \"100ms\"\nupstream = \"php\"\n",
        fpm.upstream("frames.php")
    );
    let gateway = with_events(&config).await;
    let mut client = gateway
        .connect_to("/ws?next;subscribe:ticks;subscribe:heard")
        .await;
    for _ in 0..3 {
        // Were they to overlap, two ticks would come before an answer, which takes three intervals.
        assert_eq!(client.text().await, "sleep:300");
        assert_eq!(client.text().await, "sleep:300: 200 slept 300");
    }
    gateway
        .shows_metric(
            "three runs",
            "aileron_schedules_total{name=\"sleep:300\",result=\"done\"}",
            |n| n >= 3.0,
        )
        .await;
}

#[tokio::test]
async fn a_schedule_that_no_plugin_takes_says_what_would_help() {
    let mut gateway = Gateway::start("[[schedule]]\nname = \"tick\"\nevery = \"100ms\"\n").await;
    gateway
        .logged(&[
            "WARN",
            "no plugin takes this schedule",
            "built-in = \"application\"",
        ])
        .await;
}

const HANDSHAKE: &[u8] =
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A peer that is there and says nothing, not even pong, as behind a network that swallows everything.
#[tokio::test]
async fn a_peer_that_does_not_answer_pings_is_given_up_and_one_that_does_stays() {
    let mut gateway = with_events("ping-interval = \"200ms\"\npong-timeout = \"300ms\"\n").await;
    let mut watcher = gateway
        .connect_to("/ws?next;subscribe:closings;reply:watching")
        .await;
    assert_eq!(watcher.text().await, "watching");
    let mut dead = TcpStream::connect(gateway.clients).await.unwrap();
    dead.write_all(HANDSHAKE).await.unwrap();
    let id = dead.local_addr().unwrap();
    // Reading answers pings, so the watcher lives, for several intervals.
    let closed = watcher.text().await;
    assert_eq!(closed, format!("{id} 1006 no pong within 300ms (pong-timeout)"));
    gateway
        .logged(&["connection lost", "no pong", &id.to_string()])
        .await;
    let mut rest = Vec::new();
    dead.read_to_end(&mut rest).await.unwrap();
    let pings = rest.windows(2).filter(|pair| *pair == [0x89, 0]).count();
    assert_eq!(pings, 1, "an unanswered ping is the last one");
    assert_eq!(watcher.ask("reply:here").await, "here");
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_one_that_is_sent_to_is_not() {
    let gateway = with_events("idle-timeout = \"600ms\"\nping-interval = \"100ms\"\n").await;
    let mut idle = gateway.connect().await;
    let mut busy = gateway.connect().await;
    let mut ends = Box::pin(idle.next());
    let closed = loop {
        // Each exchange keeps this one from being idle; it is the other that ends.
        tokio::select! {
            frame = &mut ends => break frame,
            answer = busy.ask("reply:busy") => assert_eq!(answer, "busy"),
        }
    };
    assert_eq!(closed, Frame::Close(1001, "idle for 600ms".to_owned()));
    assert_eq!(busy.ask("reply:busy").await, "busy");
}

#[tokio::test]
async fn a_connection_is_closed_when_it_is_as_old_as_it_may_be() {
    let gateway = Gateway::start("max-age = \"500ms\"\n").await;
    let mut client = gateway.connect().await;
    let reason = "older than 500ms; connect again".to_owned();
    assert_eq!(client.next().await, Frame::Close(1001, reason));
}
