//! What the script did not write is no answer: the client never sees it, the log says what to do, and a close event is sent
//! again.

use tempfile::TempDir;

use crate::application;
use crate::support::{Fpm, Gateway, Nginx, eventually};

#[tokio::test]
async fn pages_of_nginx_are_no_answers() {
    let fpm = Fpm::start(1).await;
    let dir = TempDir::new().unwrap();
    std::fs::create_dir(dir.path().join("folder")).unwrap();
    std::fs::write(dir.path().join("page.html"), "<p>hello").unwrap();
    let nginx = Nginx::start_with_root(&fpm, dir.path()).await;
    for (path, words) in [
        ("folder", "status 301: it redirects to `http://"),
        ("folder/", "status 403"),
        (
            "page.html",
            "status 405: `url` must name a path that it hands on to PHP",
        ),
        ("nothing", "status 404"),
        ("nothing.php", "found no script"),
    ] {
        let mut gateway = Gateway::start(&format!("[upstream]\n{}", nginx.upstream(path))).await;
        let mut client = gateway.connect().await;
        client.send("hello").await;
        gateway
            .logged(&["no answer: bad-answer: ", words, &client.id])
            .await;
        client.is_quiet().await;
    }
}

#[tokio::test]
async fn a_body_that_nginx_refuses_is_told_with_its_cure() {
    let fpm = Fpm::start(1).await;
    let mut nginx = Nginx::start(&fpm).await;
    nginx
        .change("client_max_body_size 64m", "client_max_body_size 1k")
        .await;
    let mut gateway = Gateway::start(&format!("[upstream]\n{}", nginx.upstream("frames.php"))).await;
    let mut client = gateway.connect().await;
    client.send(&"x".repeat(2000)).await;
    gateway
        .logged(&["no answer: bad-answer", "413", "client_max_body_size", &client.id])
        .await;
    assert_eq!(client.ask("short").await, "short");
}

#[tokio::test]
async fn an_error_that_php_shows_is_no_answer() {
    for html in ["on", "off"] {
        let pool = format!("php_admin_flag[html_errors] = {html}\nphp_admin_flag[display_errors] = on");
        let fpm = Fpm::start_with(1, &pool).await;
        let dir = TempDir::new().unwrap();
        let script = dir.path().join("fails.php");
        std::fs::write(&script, "<?php echo 'half'; no_such_function();").unwrap();
        let mut gateway =
            Gateway::start(&format!("[upstream]\n{}", fpm.upstream(script.to_str().unwrap()))).await;
        let mut client = gateway.connect().await;
        client.send("hello").await;
        gateway
            .logged(&[
                "no answer: bad-answer: PHP shows an error",
                "no_such_function",
                &client.id,
            ])
            .await;
        client.is_quiet().await;
    }
}

/// A deployment moves the script for a moment: who has gone meanwhile is told of when it is back.
#[tokio::test]
async fn a_close_event_is_sent_again_when_there_was_no_script() {
    let dir = TempDir::new().unwrap();
    let (script, notes) = (dir.path().join("a.php"), dir.path().join("notes"));
    let text = "<?php if ($_POST['type'] === 'close') { file_put_contents(__DIR__ . '/notes', $_POST['client_id']); }";
    std::fs::write(&script, text).unwrap();
    let fpm = Fpm::start(1).await;
    let config = format!(
        "[upstream]\n{}[plugins]\nbuilt-in = \"application\"\n",
        fpm.upstream(script.to_str().unwrap())
    );
    let gateway = Gateway::start(&config).await;
    let client = gateway.connect().await;
    let id = client.id.clone();
    let away = dir.path().join("away.php");
    std::fs::rename(&script, &away).unwrap();
    client.close().await;
    gateway
        .shows_metric("a retry", "aileron_close_events_total{result=\"retried\"}", |n| {
            n >= 1.0
        })
        .await;
    std::fs::rename(&away, &script).unwrap();
    eventually("the close event", || {
        std::fs::read_to_string(&notes).ok().filter(|noted| *noted == id)
    })
    .await;
}

#[tokio::test]
async fn a_switch_of_protocols_is_no_answer_to_open() {
    let fpm = Fpm::start(1).await;
    let nginx = Nginx::start(&fpm).await;
    for upstream in [fpm.upstream("application.php"), nginx.upstream("application.php")] {
        let config = format!("[upstream]\n{upstream}[plugins]\nbuilt-in = \"application\"\n");
        let gateway = Gateway::start(&config).await;
        let refused = application::connect(&gateway, serde_json::json!({"status": 101}), &[]).await;
        assert_eq!(refused.err().unwrap().status, 502);
    }
}

#[tokio::test]
async fn a_web_page_as_answer_to_open_lets_nobody_in() {
    let fpm = Fpm::start(1).await;
    let mut gateway = application::gateway(&fpm, "").await;
    let page = "<!DOCTYPE html><title>Home</title>";
    let wish = serde_json::json!({ "body": page });
    let refused = application::connect(&gateway, wish, &[]).await.err().unwrap();
    assert_eq!(refused.status, 502);
    assert!(!refused.body.contains("Home"), "{}", refused.body);
    gateway
        .logged(&["ERROR", "web page, which lets nobody in", "Home", "type=open"])
        .await;
    let wish = serde_json::json!({"body": page, "headers": ["Aileron-Attribute: user=ann"]});
    let mut client = application::connect(&gateway, wish, &[]).await.unwrap();
    assert_eq!(client.text().await, page);
}

/// As nginx does. PHP itself sends what `header()` is given, whatever it is.
#[tokio::test]
async fn a_line_among_the_headers_that_is_none_is_left_out_and_logged_once() {
    let fpm = Fpm::start(1).await;
    let dir = TempDir::new().unwrap();
    let script = dir.path().join("stray.php");
    std::fs::write(
        &script,
        "<?php header('oops'); header('not a name: x'); header('X-Fine: 1'); echo 'answer';",
    )
    .unwrap();
    let config = format!("[upstream]\n{}", fpm.upstream(script.to_str().unwrap()));
    let mut gateway = Gateway::start(&config).await;
    let mut client = gateway.connect().await;
    for _ in 0..5 {
        assert_eq!(client.ask("x").await, "answer");
    }
    gateway
        .logged(&["WARN", "upstream=default", "`oops` among its headers"])
        .await;
    assert_eq!(gateway.count_logged(&["among its headers"]), 1);
}

/// Blue-green deployments: `current` is a link to a release.
#[tokio::test]
async fn a_deployment_that_turns_a_link_is_seen_by_the_next_message() {
    let fpm = Fpm::start(1).await;
    let dir = TempDir::new().unwrap();
    // With a name that begins with that of the link.
    for release in ["current-one", "current-two"] {
        let public = dir.path().join(release).join("public");
        std::fs::create_dir_all(&public).unwrap();
        let text = "<?php echo $_SERVER['SCRIPT_FILENAME'], ' ', $_SERVER['DOCUMENT_ROOT'], ' ', $_SERVER['SCRIPT_NAME'];";
        std::fs::write(public.join("ws.php"), text).unwrap();
    }
    let current = dir.path().join("current");
    std::os::unix::fs::symlink("current-one", &current).unwrap();
    let config = format!(
        "[upstream]\nresolve-links = true\nroot = \"{}\"\n{}",
        current.display(),
        fpm.upstream(current.join("public/ws.php").to_str().unwrap())
    );
    let gateway = Gateway::start(&config).await;
    let mut client = gateway.connect().await;
    let root = dir.path().canonicalize().unwrap();
    for release in ["current-one", "current-two", "current-one"] {
        let fresh = dir.path().join("fresh");
        std::os::unix::fs::symlink(release, &fresh).unwrap();
        std::fs::rename(&fresh, &current).unwrap();
        let release = root.join(release);
        let script = release.join("public/ws.php");
        let expected = format!("{} {} /public/ws.php", script.display(), release.display());
        assert_eq!(client.ask("x").await, expected);
    }
}
