//! Which pages may connect. The input's lines are the origin that a browser names, the host that it connects to, and the
//! origins of a list. Nobody is let in who has only a part of what is allowed.

#![no_main]
#![allow(dead_code, reason = "a target uses a part of what it includes")]

use libfuzzer_sys::fuzz_target;

#[path = "../../../host/config"]
mod config {
    #[path = "types/origins.rs"]
    pub mod origins;

    /// A list as the configuration checks it.
    pub fn listed(origins: &[&str]) -> Option<origins::Origins> {
        let list = serde_json::json!(origins);
        let raw: origins::RawOrigins = serde_json::from_value(list).ok()?;
        raw.check().ok()
    }
}

use config::origins::Origins;

fuzz_target!(|input: &str| {
    let mut lines = input.split('\n');
    let (Some(origin), Some(host)) = (lines.next(), lines.next()) else {
        return;
    };
    assert!(Origins::Any.allows(origin, host, false));
    let (origin_lower, host_lower) = (origin.to_lowercase(), host.to_lowercase());
    if Origins::SameHost.allows(origin, host, false) {
        // What is left of both without their ports is the same.
        let (_, of_page) = origin_lower.split_once("://").expect("an origin has a scheme");
        assert_eq!(name(of_page), name(&host_lower));
    }
    if Origins::SameHost.allows(origin, host, true) {
        assert!(Origins::SameHost.allows(origin, host, false) && !origin_lower.starts_with("http:"));
    }
    if Origins::SameHost.allows(origin, host, true) {
        assert!(Origins::SameHost.allows(origin, host, false) && !origin_lower.starts_with("http:"));
    }
    let list: Vec<_> = lines.collect();
    let Some(Origins::Listed(allowed)) = config::listed(&list) else {
        return;
    };
    let fits = |allowed: &String| {
        let allowed = allowed.to_lowercase();
        match allowed.split_once("://*.") {
            Some((scheme, domain)) => {
                let host = origin_lower.strip_prefix(&format!("{scheme}://"));
                host.and_then(|host| host.strip_suffix(&format!(".{domain}")))
                    .is_some_and(|below| !below.is_empty())
            }
            None => allowed == origin_lower,
        }
    };
    if Origins::Listed(allowed.clone()).allows(origin, host, false) {
        assert!(allowed.iter().any(fits), "{origin:?} by {allowed:?}");
    }
});

/// A host without its port.
fn name(host: &str) -> &str {
    let digits = host.trim_end_matches(|character: char| character.is_ascii_digit());
    match digits.strip_suffix(':') {
        Some(name) if !name.is_empty() => name,
        _ => host,
    }
}
