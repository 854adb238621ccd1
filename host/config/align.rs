//! A configuration that replaces another one while connections are open. Connections refer to routes and upstreams by their
//! indices, so those must not change: what stays keeps its index, and what is new is appended. What only a start can change
//! stays as it is, so that the result says what is in force, and is judged by that.

use super::{Config, ConfigProblem, Route, Upstream};

impl Config {
    /// This configuration in place of the one in force, and the keys whose change has to wait for a restart. Fails if it
    /// would open to strangers what is closed to them.
    pub fn replacing(mut self, old: &Self) -> Result<(Self, Vec<&'static str>), ConfigProblem> {
        let waiting = self.keep_what_needs_a_restart(old);
        if old.push.access.takes_credential() && !self.push.access.takes_credential() {
            let problem = "it takes no credential for pushes any more, neither `token` nor `signature-key`; if that is \
                           meant and the file is complete, restart the gateway";
            return Err(ConfigProblem::Invalid(problem.to_owned()));
        }
        if let Some(exposure) = self.exposure() {
            return Err(ConfigProblem::Invalid(exposure.to_string()));
        }
        Ok((self.with_indices_of(old), waiting))
    }

    /// An upstream that is gone stays as it was, for the connections whose route uses it; a route that is gone stays, but
    /// closed.
    fn with_indices_of(mut self, old: &Self) -> Self {
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
    /// Takes these from the one in force. Gives the keys that would have changed.
    fn keep_what_needs_a_restart(&mut self, old: &Self) -> Vec<&'static str> {
        let mut waiting = Vec::new();
        let keys = &mut waiting;
        keep(keys, "listen", &mut self.listen, &old.listen);
        keep(keys, "[tls]", &mut self.tls, &old.tls);
        keep(keys, "[push] listen", &mut self.push.listen, &old.push.listen);
        let (new, before) = (&mut self.plugins, &old.plugins);
        keep(keys, "[plugins] built-in", &mut new.built_in, &before.built_in);
        keep(keys, "[plugins] dir", &mut new.dir, &before.dir);
        keep(keys, "[plugins] cache", &mut new.cache, &before.cache);
        keep(keys, "[plugins] settle", &mut new.settle, &before.settle);
        keep(keys, "[plugins] poll", &mut new.poll, &before.poll);
        keep(keys, "[log] filter", &mut self.log.filter, &old.log.filter);
        keep(keys, "[log] format", &mut self.log.format, &old.log.format);
        waiting
    }
}

fn keep<T: Clone + PartialEq>(keys: &mut Vec<&'static str>, key: &'static str, new: &mut T, old: &T) {
    if new != old {
        keys.push(key);
        new.clone_from(old);
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
        let (merged, _) = new.replacing(&old).unwrap();

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
        let (without, _) = config("").replacing(&with).unwrap();
        assert!(!without.routes[1].is_open);
        let (again, _) = config("[[route]]\npath = \"/b\"\n").replacing(&without).unwrap();
        assert_eq!(again.routes, with.routes);
    }

    #[test]
    fn what_is_open_decides_whether_a_change_is_safe_and_not_the_words_of_the_file() {
        const TOKEN: &str = "[push]\ntoken = \"t\"\n";
        let open = "listen = \"0.0.0.0:1\"\n";
        let of_its_own = "[push]\nlisten = \"127.0.0.1:2\"\n";
        for (before, after) in [
            (format!("{open}{TOKEN}"), String::new()),
            (format!("{open}{TOKEN}"), of_its_own.to_owned()),
            (TOKEN.to_owned(), String::new()),
            (String::new(), format!("proxy-protocol = true\n{of_its_own}")),
        ] {
            let refused = config(&after).replacing(&config(&before));
            assert!(refused.is_err(), "{before} replaced by {after}");
        }
        let (changed, waiting) = config(open_with_token()).replacing(&config("")).unwrap();
        assert_eq!(waiting, ["listen"]);
        assert_eq!(changed.listen, config("").listen, "what is in force");
        let (_, waiting) = config(open_with_token()).replacing(&changed).unwrap();
        assert_eq!(waiting, ["listen"], "it still waits");
    }

    fn open_with_token() -> &'static str {
        "listen = \"0.0.0.0:1\"\n[push]\ntoken = \"t\"\n"
    }
}
