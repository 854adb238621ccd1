//! The two example plugins of `plugins/`, together in one chain in front of PHP, as their READMEs say.

use serde_json::{Value, json};

use crate::support::{Fpm, Gateway, QUICK, repository};

/// A gateway with both plugins; also a path that `answer` echoes.
async fn gateway(fpm: &Fpm) -> Gateway {
    let read = |name: &str| {
        let path = repository("plugins/target/plugins").join(format!("{name}.wasm"));
        std::fs::read(&path).unwrap_or_else(|_| panic!("{} is built by plugins/build", path.display()))
    };
    let (answer, envelope) = (read("answer"), read("envelope"));
    let plugins: [(&str, &[u8]); 2] = [("10-answer", &answer), ("20-envelope", &envelope)];
    let config = format!(
        "{QUICK}[upstream]\n{}[[route]]\npath = \"/echo\"\n",
        fpm.upstream("frames.php")
    );
    Gateway::with_plugins(&plugins, &config).await
}

#[tokio::test]
async fn a_ping_is_answered_without_php_and_the_echo_path_echoes() {
    let fpm = Fpm::start(1).await;
    let gateway = gateway(&fpm).await;
    let mut client = gateway.connect().await;
    let pong: Value = serde_json::from_str(&client.ask(r#"{"type":"ping","id":7}"#).await).unwrap();
    assert_eq!((&pong["type"], &pong["id"]), (&json!("pong"), &json!(7)));
    let year_2026 = 1_767_225_600_000_u64;
    assert!(pong["time"].as_u64().unwrap() > year_2026, "{pong}");
    assert_eq!(
        gateway
            .metric("aileron_upstream_requests_total{upstream=\"default\"}")
            .await,
        0.0
    );

    let mut echo = gateway.connect_to("/echo").await;
    assert_eq!(echo.ask("said").await, "said");
}

#[tokio::test]
async fn an_envelope_goes_to_php_as_a_form_and_its_answer_finds_its_question() {
    let fpm = Fpm::start(1).await;
    let gateway = gateway(&fpm).await;
    let mut client = gateway.connect().await;
    let envelope = json!({"id": "a1", "action": "say", "data": "50% & more"});
    let answer: Value = serde_json::from_str(&client.ask(&envelope.to_string()).await).unwrap();
    assert_eq!(answer, json!({"id": "a1", "status": 200, "data": "50% & more"}));
    // The form has the action as a field of its own.
    let envelope = json!({"id": 2, "action": "say", "data": "fields"});
    let answer: Value = serde_json::from_str(&client.ask(&envelope.to_string()).await).unwrap();
    assert!(answer["data"].to_string().contains("action"), "{answer}");
}

#[tokio::test]
async fn what_no_example_knows_goes_to_php_by_the_built_in_plugin() {
    let fpm = Fpm::start(1).await;
    let gateway = gateway(&fpm).await;
    let mut client = gateway.connect().await;
    assert_eq!(client.ask("plain text").await, "plain text");
}
