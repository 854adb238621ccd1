//! A plugin is replaced while 64 connections are at full load: what its clients notice, and that nothing is lost.

use std::time::Duration;

use super::echo::{answering, plugin};
use crate::gateway::support::put;
use crate::load::{Exchange, percentile};
use crate::report::{Contender, Row, Target, Unit};

const CONNECTIONS: usize = 64;
const SWAPS: usize = 9;
/// Between two swaps. Its last second is the steady state.
const PAUSE: Duration = Duration::from_secs(3);

pub async fn rows() -> Vec<Row> {
    let gateway = answering().await;
    let plugin = plugin();
    let file = gateway.plugin_file("echo");
    let exchange = Exchange::text(gateway.clients, "/ws", &"x".repeat(64));
    let mut sockets = exchange.connect_all(CONNECTIONS);
    let mut swapped = Vec::new();
    let measured = exchange.run(&mut sockets, PAUSE * (SWAPS as u32 + 1), |now| {
        if now > PAUSE * (swapped.len() as u32 + 1) && swapped.len() < SWAPS {
            put(&file, &another(&plugin, swapped.len()));
            swapped.push(now);
        }
    });
    let second = Duration::from_secs(1);
    let p99 = |from: Duration| {
        let of_second = |(at, _): &&(Duration, Duration)| (from..from + second).contains(at);
        let took = measured.answers.iter().filter(of_second).map(|(_, took)| *took);
        percentile(took, 0.99).as_secs_f64() * 1e6
    };
    let loaded = gateway
        .metric("aileron_plugin_reloads_total{result=\"loaded\"}")
        .await;
    // One of them was the start.
    assert_eq!(loaded, (SWAPS + 1) as f64, "not all swaps were taken up");
    vec![Row {
        what: "p99 of an answer in the second of a plugin's swap, 64 connections",
        unit: Unit::Microseconds,
        contenders: vec![
            Contender {
                name: "in the second of a swap",
                rounds: swapped.iter().map(|at| p99(*at)).collect(),
            },
            Contender {
                name: "in the second before",
                rounds: swapped.iter().map(|at| p99(*at - second)).collect(),
            },
        ],
        targets: vec![Target::Multiple {
            of: "in the second before",
            ratio: 1.3,
        }],
    }]
}

/// The same plugin with other bytes: a custom section at its end, which nobody reads (WebAssembly core, appendix).
fn another(plugin: &[u8], n: usize) -> Vec<u8> {
    const CUSTOM: u8 = 0;
    let name = format!("swap {n}");
    let length = u8::try_from(name.len()).unwrap();
    [plugin, &[CUSTOM, length + 1, length], name.as_bytes()].concat()
}
