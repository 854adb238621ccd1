//! Cookies as a browser would keep them for the requests that follow (RFC 6265), as far as one path is concerned.

/// The `cookie` of requests to a path after an answer has set cookies by these `set-cookie` values. Empty if none is left.
pub fn after<'a>(cookie: &str, set: impl Iterator<Item = &'a str>, path: &str) -> String {
    let mut cookies: Vec<&str> = cookie
        .split(';')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
        .collect();
    for value in set {
        let (pair, attributes) = value.split_once(';').unwrap_or((value, ""));
        let pair = pair.trim();
        let Some((name, _)) = pair.split_once('=').filter(|(name, _)| !name.trim().is_empty()) else {
            continue;
        };
        let attribute = |wanted: &str| {
            // The last of a name counts (section 5.3).
            let mut fields = attributes.rsplit(';').filter_map(|field| field.split_once('='));
            fields.find_map(|(name, value)| name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim()))
        };
        let is_for_path = attribute("path").is_none_or(|of| !of.starts_with('/') || matches(path, of));
        if !is_for_path {
            continue;
        }
        cookies.retain(|other| other.split('=').next().map(str::trim) != Some(name.trim()));
        // PHP, too, sends `Max-Age=0` to remove a cookie.
        let is_removed = attribute("max-age").is_some_and(|age| age.parse::<i64>().is_ok_and(|age| age <= 0));
        if !is_removed {
            cookies.push(pair);
        }
    }
    cookies.join("; ")
}

/// Section 5.1.4.
fn matches(path: &str, of: &str) -> bool {
    path.strip_prefix(of)
        .is_some_and(|rest| rest.is_empty() || of.ends_with('/') || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_added_replaced_and_removed() {
        for (cookie, set, expected) in [
            ("", &["a=1; Path=/; HttpOnly"][..], "a=1"),
            ("a=1; b=2", &["a=3"], "b=2; a=3"),
            (
                "a=1; b=2",
                &["a=x; expires=Thu, 01 Jan 1970 00:00:01 GMT; Max-Age=0"],
                "b=2",
            ),
            ("a=1", &["a=2; max-age=60", "b==", "=c", "d"], "a=2; b=="),
            (
                "a=1",
                &["a=2; path=/admin", "b=2; path=/w", "c=3; PATH=/ws", "d=4; path=x"],
                "a=1; c=3; d=4",
            ),
            (";; a=1 ;", &[], "a=1"),
        ] {
            assert_eq!(
                after(cookie, set.iter().copied(), "/ws"),
                expected,
                "{cookie} {set:?}"
            );
        }
        assert!(matches("/ws/a", "/ws") && matches("/ws/a", "/ws/") && !matches("/wsa", "/ws"));
    }
}
