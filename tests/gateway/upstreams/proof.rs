//! PHP can tell the gateway from everybody else, by the very lines of the README.

use reqwest::{Client as Http, RequestBuilder};
use tempfile::TempDir;

use crate::support::{Answer, Fpm, Gateway, Nginx, answer, repository};

const FORM: &str = "type=server&message=proof&attributes[user]=root";

/// A script that begins with the lines of the README in which this text stands, and then says how it was asked.
struct Script {
    fpm: Fpm,
    nginx: Nginx,
    dir: TempDir,
}

impl Script {
    async fn start(text: &str, pool: &str) -> Self {
        let readme = std::fs::read_to_string(repository("README.md")).unwrap();
        let mut blocks = readme
            .split("```php\n")
            .skip(1)
            .map(|rest| rest.split("```").next().unwrap());
        let lines = blocks.find(|block| block.contains(text)).unwrap();
        let dir = TempDir::new().unwrap();
        let rest =
            "echo $_POST['message'] === 'proof' ? $_SERVER['HTTP_AILERON_SIGNATURE'] : $_POST['message'];";
        std::fs::write(dir.path().join("checked.php"), format!("<?php\n{lines}\n{rest}")).unwrap();
        let fpm = Fpm::start_with(2, pool).await;
        let nginx = Nginx::start_with_root(&fpm, dir.path()).await;
        Self { fpm, nginx, dir }
    }

    fn by_fastcgi(&self) -> String {
        self.fpm
            .upstream(self.dir.path().join("checked.php").to_str().unwrap())
    }

    fn by_http(&self) -> String {
        self.nginx.upstream("checked.php")
    }

    /// A form from someone who reaches the web server.
    fn stranger(&self, form: &'static str) -> RequestBuilder {
        let url = format!("http://{}/checked.php", self.nginx.address());
        let http = Http::builder().no_proxy().build().unwrap();
        http.post(url)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form)
    }
}

fn refused(answer: &Answer) -> bool {
    *answer
        == Answer {
            status: 403,
            body: String::new(),
        }
}

#[tokio::test]
async fn a_signature_tells_php_who_asks_by_http_and_by_fastcgi() {
    let script = Script::start("HTTP_AILERON_SIGNATURE", "env[AILERON_SECRET] = good").await;
    for upstream in [script.by_http(), script.by_fastcgi()] {
        let config = format!(
            "[upstream]\nsecret = [\"good\", \"bad\"]\n{upstream}[upstreams.other]\nsecret = \"bad\"\n{upstream}\
             [[route]]\npath = \"/other\"\nupstream = \"other\"\n"
        );
        let mut gateway = Gateway::start(&config).await;
        let mut client = gateway.connect().await;
        for message in ["hello", "", &"é".repeat(100_000)] {
            assert_eq!(client.ask(message).await, message);
        }
        let mut other = gateway.connect_to("/other").await;
        assert_eq!(other.ask("hello").await, "");
        gateway.logged(&["answered with status 403", &other.id]).await;

        let proof = client.ask("proof").await;
        assert!(proof.starts_with("t=") && proof.len() > 64, "{proof}");
        assert!(refused(&answer(script.stranger(FORM)).await));
        for name in ["aileron-signature", "aileron_signature"] {
            let code = proof.split_once(',').unwrap().1;
            for forged in [&proof, "", "t=0,v1=", &format!("t=9999999999,{code}")] {
                let answer = answer(script.stranger(FORM).header(name, forged)).await;
                assert!(refused(&answer), "{name}: {forged}");
            }
        }
    }
}

#[tokio::test]
async fn a_variable_tells_php_who_asks_by_fastcgi() {
    let script = Script::start("AILERON_REQUEST", "").await;
    let gateway = Gateway::start(&format!("[upstream]\n{}", script.by_fastcgi())).await;
    assert_eq!(gateway.connect().await.ask("hello").await, "hello");
    assert!(refused(&answer(script.stranger(FORM)).await));
    for name in ["aileron-request", "aileron_request", "http-aileron-request"] {
        assert!(
            refused(&answer(script.stranger(FORM).header(name, "1")).await),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_secret_changes_without_a_restart() {
    let script = Script::start("HTTP_AILERON_SIGNATURE", "env[AILERON_SECRET] = new").await;
    let config = |secret: &str| format!("[upstream]\nsecret = \"{secret}\"\n{}", script.by_fastcgi());
    let mut gateway = Gateway::start(&config("old")).await;
    let mut client = gateway.connect().await;
    assert_eq!(client.ask("hello").await, "");
    let changed = format!("listen = \"127.0.0.1:0\"\n{}", config("new"));
    std::fs::write(gateway.file("aileron.toml"), changed).unwrap();
    gateway.process.signal("HUP");
    let line = gateway.logged(&["configuration taken over"]).await;
    assert!(!line.contains("restart"), "{line}");
    assert_eq!(client.ask("hello").await, "hello");
    assert_eq!(gateway.count_logged(&["old"]) + gateway.count_logged(&["new"]), 0);
}
