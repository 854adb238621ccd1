//! A frame to PHP and its answer back: by one client, and by many at once, which is bounded by PHP's children.

use super::{QUIET, compete, micros, turn};
use crate::gateway::support::{Fpm, Gateway, Nginx, repository};
use crate::load::{Exchange, Place};
use crate::report::{Row, Target, Unit};
use crate::servers::Server;
use crate::wire;

const CHILDREN: usize = 8;
const SCRIPT: &str = "frames.php";
const TEXT: &str = "hello";

pub async fn rows() -> Vec<Row> {
    // Connections that are kept hold children, so each has a PHP-FPM of its own.
    let (for_bare, for_direct, for_nginx) = (
        Fpm::start(CHILDREN).await,
        Fpm::start(CHILDREN).await,
        Fpm::start(CHILDREN).await,
    );
    let nginx = Nginx::start(&for_nginx).await;
    let page = format!("http://{}/{SCRIPT}", nginx.address());
    let article = Server::article(&page).await;
    let kept = format!(
        "{QUIET}[upstream]\nkeep = {CHILDREN}\n{}",
        for_direct.upstream(SCRIPT)
    );
    let direct = Gateway::start(&kept).await;
    let through = Gateway::start(&format!("{QUIET}[upstream]\n{}", nginx.upstream(SCRIPT))).await;

    let script = repository("tests/php").join(SCRIPT).display().to_string();
    let bare = Exchange {
        place: Place::Unix(for_bare.listen().to_owned()),
        hello: Vec::new(),
        request: wire::fastcgi(&script, &wire::form(TEXT)),
        answer: TEXT.into(),
        whole: wire::whole_fastcgi,
    };
    let web = Exchange {
        place: Place::Tcp(nginx.address().parse().unwrap()),
        hello: Vec::new(),
        request: wire::post(
            &format!("/{SCRIPT}"),
            "application/x-www-form-urlencoded",
            wire::form(TEXT),
        ),
        answer: TEXT.into(),
        whole: wire::whole_http,
    };
    let [article, direct, through] = [article.address, direct.clients, through.clients]
        .map(|address| Exchange::text(address, "/ws", TEXT));

    let mut rows = vec![compete(
        "frame to PHP-FPM and back, 1 connection, p50",
        Unit::Microseconds,
        [
            ("aileron, FastCGI", &direct),
            ("bare FastCGI", &bare),
            ("aileron, nginx", &through),
            ("article's gateway, nginx", &article),
            ("bare HTTP, nginx", &web),
        ]
        .map(|(name, exchange)| turn(name, |time| micros(exchange.alone(time).percentile(0.5))))
        .into(),
        vec![Target::Multiple {
            of: "bare FastCGI",
            ratio: 1.7,
        }],
    )];
    for (connections, by_fastcgi, by_nginx) in [
        (
            16,
            "frames answered by PHP, 16 connections, FastCGI",
            "frames answered by PHP through nginx, 16 connections",
        ),
        (
            64,
            "frames answered by PHP, 64 connections, FastCGI",
            "frames answered by PHP through nginx, 64 connections",
        ),
    ] {
        let mut loops = [
            ("aileron, FastCGI", &direct, connections),
            // As many as there are children: more would wait for one that is kept.
            ("bare FastCGI", &bare, CHILDREN),
            ("article's gateway, nginx", &article, connections),
            ("aileron, nginx", &through, connections),
            ("article's gateway, nginx", &article, connections),
        ]
        .map(|(name, exchange, sockets)| (name, exchange, exchange.connect_all(sockets)));
        let (fastcgi, nginx) = loops.split_at_mut(3);
        let mut race = |what, loops: &mut [(&'static str, &Exchange, _)], targets| {
            let turns = loops
                .iter_mut()
                .map(|(name, exchange, sockets): &mut (_, &Exchange, Vec<_>)| {
                    turn(name, |time| exchange.run(sockets, time, |_| {}).per_second())
                });
            rows.push(compete(what, Unit::PerSecond, turns.collect(), targets));
        };
        let target = |of, ratio| Target::Multiple { of, ratio };
        race(
            by_fastcgi,
            fastcgi,
            vec![
                target("article's gateway, nginx", 3.0),
                target("bare FastCGI", 0.65),
            ],
        );
        race(by_nginx, nginx, vec![target("article's gateway, nginx", 1.5)]);
    }
    rows
}
