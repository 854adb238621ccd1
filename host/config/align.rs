//! A configuration that replaces another one while connections are open. Connections refer to routes and upstreams by their
//! indices, so those must not change: what stays keeps its index, and what is new is appended.

use super::{Config, Route, Upstream};

impl Config {
    /// This configuration with the indices of an older one. An upstream that is gone stays as it was, for the connections
    /// whose route uses it; a route that is gone stays, but closed.
    pub fn taking_over(mut self, old: &Self) -> Self {
        let (upstreams, indices) = merge(
            &old.upstreams,
            self.upstreams,
            |a: &Upstream, b| a.name == b.name,
            Upstream::clone,
        );
        self.upstreams = upstreams;
        let moved = |index: usize| indices.get(index).copied().unwrap_or(0);
        for route in &mut self.routes {
            route.upstream = moved(route.upstream);
        }
        for schedule in &mut self.schedules {
            schedule.upstream = moved(schedule.upstream);
        }
        let close = |route: &Route| Route {
            is_open: false,
            ..route.clone()
        };
        (self.routes, _) = merge(&old.routes, self.routes, |a: &Route, b| a.path == b.path, close);
        self
    }
}

impl Config {
    /// The keys that have changed but take effect only at a start.
    pub fn restart_keys(&self, old: &Self) -> Vec<&'static str> {
        let (new, before) = (&self.plugins, &old.plugins);
        [
            ("listen", self.listen != old.listen),
            ("[tls]", self.tls != old.tls),
            ("[push] listen", self.push.listen != old.push.listen),
            ("[plugins] built-in", new.built_in != before.built_in),
            ("[plugins] dir", new.dir != before.dir),
            ("[plugins] cache", new.cache != before.cache),
            ("[plugins] settle", new.settle != before.settle),
            ("[plugins] poll", new.poll != before.poll),
            ("[plugins] time-limit", new.time_limit != before.time_limit),
            ("[plugins] memory-limit", new.memory_limit != before.memory_limit),
            (
                "[plugins] keyvalue-limit",
                new.keyvalue_limit != before.keyvalue_limit,
            ),
            ("[log] filter", self.log.filter != old.log.filter),
            ("[log] format", self.log.format != old.log.format),
        ]
        .into_iter()
        .filter_map(|(key, has_changed)| has_changed.then_some(key))
        .collect()
    }
}

/// The new items at the indices of the old ones that are the same; `keep` makes the substitute for an old one that is gone.
/// Also gives the indices of the new items.
fn merge<T>(
    old: &[T],
    new: Vec<T>,
    is_same: impl Fn(&T, &T) -> bool,
    keep: impl Fn(&T) -> T,
) -> (Vec<T>, Vec<usize>) {
    let mut merged: Vec<T> = old.iter().map(keep).collect();
    let mut indices = Vec::with_capacity(new.len());
    for item in new {
        let index = merged.iter().position(|other| is_same(other, &item));
        indices.push(index.unwrap_or(merged.len()));
        match index.and_then(|index| merged.get_mut(index)) {
            Some(same) => *same = item,
            None => merged.push(item),
        }
    }
    (merged, indices)
}

#[cfg(test)]
mod tests {
    use super::super::{Overrides, error::Source};
    use super::*;

    fn config(text: &str) -> Config {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("aileron.toml");
        std::fs::write(&file, text).unwrap();
        Config::parse(&Source::read(&file).unwrap(), Overrides::default()).unwrap()
    }

    fn upstream(name: &str, port: u16) -> String {
        format!("[upstreams.{name}]\nurl = \"http://127.0.0.1:{port}/\"\n")
    }

    #[test]
    fn what_stays_keeps_its_index_and_what_is_gone_leaves_its_index_unused() {
        let route =
            |path: &str, upstream: &str| format!("[[route]]\npath = \"{path}\"\nupstream = \"{upstream}\"\n");
        let old = config(&(upstream("b", 1) + &upstream("c", 2) + &route("/b", "b") + &route("/c", "c")));
        let new = config(&(upstream("a", 3) + &upstream("c", 4) + &route("/c", "a") + &route("/d", "c")));
        let merged = new.taking_over(&old);

        let names: Vec<_> = merged
            .upstreams
            .iter()
            .map(|upstream| upstream.name.as_str())
            .collect();
        assert_eq!(names, ["default", "b", "c", "a"]);
        let urls: Vec<_> = merged
            .upstreams
            .iter()
            .map(|upstream| upstream.url.to_string())
            .collect();
        assert_eq!(
            urls[1..],
            [
                "http://127.0.0.1:1/",
                "http://127.0.0.1:4/",
                "http://127.0.0.1:3/"
            ]
        );
        let routes: Vec<_> = merged
            .routes
            .iter()
            .map(|route| (route.path.to_string(), names[route.upstream], route.is_open))
            .collect();
        let expected = [
            ("/ws", "default", true),
            ("/b", "b", false),
            ("/c", "a", true),
            ("/d", "c", true),
        ];
        assert_eq!(
            routes,
            expected.map(|(path, name, open)| (path.to_owned(), name, open))
        );
    }

    #[test]
    fn a_route_that_comes_back_is_open_again() {
        let with = config("[[route]]\npath = \"/b\"\n");
        let without = config("").taking_over(&with);
        assert!(!without.routes[1].is_open);
        let again = config("[[route]]\npath = \"/b\"\n").taking_over(&without);
        assert_eq!(again.routes, with.routes);
    }
}
