//! The article's two exchanges: a client asks PHP, and PHP pushes to a client while it handles a request.

use crate::support::{Answer, Fpm, Gateway, Nginx, free_port};

/// Both exchanges with an upstream. `PUSH` tells PHP where the gateway's `/send` is.
async fn both_exchanges(gateway: &Gateway, application: &str) {
    let mut client = gateway.connect().await;
    assert_eq!(client.ask("name").await, format!("aileron to {}", client.id));
    assert_eq!(client.ask("").await, format!("default to {}", client.id));

    let form = format!(
        "message=hello_world_from_curl&client_id={}&type=client",
        client.id
    );
    let url = format!("http://{application}/article.php");
    let pushed = tokio::process::Command::new("curl")
        .args(["-s", "-d", &form, &url])
        .output()
        .await
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&pushed.stdout), "Message sent");
    assert_eq!(client.text().await, "hello_world_from_curl");
}

#[tokio::test]
async fn through_nginx_to_php_fpm_and_back() {
    let port = free_port();
    let fpm = Fpm::start_with(2, &format!("env[PUSH] = http://127.0.0.1:{port}/send")).await;
    let nginx = Nginx::start(&fpm).await;
    let config = format!(
        "listen = \"127.0.0.1:{port}\"\n[upstream]\n{}",
        nginx.upstream("article.php")
    );
    let gateway = Gateway::start(&config).await;
    both_exchanges(&gateway, &nginx.address()).await;
}

#[tokio::test]
async fn straight_to_php_fpm_by_fastcgi() {
    let port = free_port();
    let fpm = Fpm::start_with(2, &format!("env[PUSH] = http://127.0.0.1:{port}/send")).await;
    // Only the push comes through nginx: something must run the script for curl.
    let nginx = Nginx::start(&fpm).await;
    let config = format!(
        "listen = \"127.0.0.1:{port}\"\n[upstream]\n{}",
        fpm.upstream("article.php")
    );
    let gateway = Gateway::start(&config).await;
    both_exchanges(&gateway, &nginx.address()).await;
}

/// A frame makes PHP push to its own sender: the push must not wait for the frame's answer.
#[tokio::test]
async fn php_pushes_to_a_client_while_it_handles_the_clients_frame() {
    let port = free_port();
    let fpm = Fpm::start_with(2, &format!("env[PUSH] = http://127.0.0.1:{port}/send")).await;
    let config = format!(
        "listen = \"127.0.0.1:{port}\"\n[upstream]\n{}",
        fpm.upstream("pushing.php")
    );
    let gateway = Gateway::start(&config).await;
    let mut client = gateway.connect().await;
    client.send("50% & more=1 +\n🪽").await;
    assert_eq!(client.text().await, "pushed: 50% & more=1 +\n🪽");
    assert_eq!(client.text().await, "answered after: Message sent");
}

#[tokio::test]
async fn a_client_that_is_not_there_is_not_found() {
    let gateway = Gateway::start("").await;
    let answer = gateway.push("message=x&client_id=127.0.0.1:1&type=client").await;
    assert_eq!(
        answer,
        Answer {
            status: 404,
            body: "Client not found\n".to_owned()
        }
    );
}
