//! What is agreed on with a client besides the protocol itself (RFC 6455 section 9.1): compression (RFC 7692 section 7.1), or
//! nothing.

use std::mem;

use super::Window;

/// The extension that a connection has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// How messages to the client are compressed.
    pub window: Window,
    /// The value of the header Sec-WebSocket-Extensions of the answer.
    pub response: &'static str,
}

/// Takes the first offer of permessage-deflate that can be met, from the values of the headers Sec-WebSocket-Extensions.
///
/// Neither side keeps its context, whatever was offered: a context is 300 KiB a connection.
pub fn negotiate<'a>(offers: impl IntoIterator<Item = &'a str>) -> Option<Agreed> {
    offers
        .into_iter()
        .flat_map(|list| split(list, ','))
        .find_map(accept)
}

/// The answer to one offer. None: it is declined.
fn accept(offer: &str) -> Option<Agreed> {
    let mut parts = split(offer, ';');
    if parts.next()?.trim_matches(is_space) != "permessage-deflate" {
        return None;
    }
    let (mut known, mut server_bits) = ([false; 4], None);
    for part in parts {
        let (name, value) = parameter(part)?;
        let value = value.as_deref();
        let seen = match (name, value) {
            ("server_no_context_takeover", None) => 0,
            ("client_no_context_takeover", None) => 1,
            ("server_max_window_bits", Some(value)) => {
                server_bits = Some(window_bits(value)?);
                2
            }
            // A client that says what it can do; the inflater can read whatever it chooses.
            ("client_max_window_bits", value) => {
                value.map_or(Some(15), window_bits)?;
                3
            }
            _ => return None,
        };
        if mem::replace(known.get_mut(seen)?, true) {
            return None;
        }
    }
    // What was asked for must be answered, with the same window or a smaller one (RFC 7692 section 7.1.2.1).
    let (window, response) = match server_bits {
        None => (
            Window::Full,
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        ),
        Some(15) => (
            Window::Full,
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=15",
        ),
        // zlib has no window of 8 bits.
        Some(8) => return None,
        Some(_) => (
            Window::Small,
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9",
        ),
    };
    Some(Agreed { window, response })
}

/// RFC 7692 section 7.1.2: a number from 8 to 15, without leading zeros.
fn window_bits(value: &str) -> Option<u8> {
    let bits: u8 = value.parse().ok()?;
    ((8..=15).contains(&bits) && value == bits.to_string()).then_some(bits)
}

/// Name and value. None: it is malformed.
fn parameter(part: &str) -> Option<(&str, Option<String>)> {
    let Some((name, value)) = part.split_once('=') else {
        return Some((part.trim_matches(is_space), None));
    };
    let value = value.trim_matches(is_space);
    let value = match value.strip_prefix('"') {
        None => value.to_owned(),
        Some(quoted) => unquote(quoted.strip_suffix('"')?)?,
    };
    Some((name.trim_matches(is_space), Some(value)))
}

/// What stands between quotes. None: there is a quote in it.
fn unquote(quoted: &str) -> Option<String> {
    let mut value = String::new();
    let mut rest = quoted.chars();
    while let Some(next) = rest.next() {
        value.push(match next {
            '\\' => rest.next()?,
            '"' => return None,
            other => other,
        });
    }
    Some(value)
}

/// Parts of a list, whose separator counts outside of quotes only.
fn split(list: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    list.split(move |next| {
        if is_escaped {
            is_escaped = false;
        } else if next == '"' {
            is_quoted = !is_quoted;
        } else if next == '\\' {
            is_escaped = is_quoted;
        }
        next == separator && !is_quoted
    })
}

fn is_space(c: char) -> bool {
    c == ' ' || c == '\t'
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    fn answer(offers: &[&str]) -> Option<(Window, String)> {
        let agreed = negotiate(offers.iter().copied())?;
        let rest = agreed.response.strip_prefix(FULL).expect("always");
        Some((agreed.window, rest.to_owned()))
    }

    #[test]
    fn offers_that_are_met() {
        let nine = "; server_max_window_bits=9";
        let offers: [(&[&str], Window, &str); 16] = [
            (&["permessage-deflate"], Window::Full, ""),
            // Chromium, Firefox and Safari.
            (&["permessage-deflate; client_max_window_bits"], Window::Full, ""),
            (
                &["permessage-deflate;client_max_window_bits=8 ;\tserver_no_context_takeover"],
                Window::Full,
                "",
            ),
            (
                &["permessage-deflate; client_no_context_takeover"],
                Window::Full,
                "",
            ),
            (
                &["permessage-deflate; server_max_window_bits=15"],
                Window::Full,
                "; server_max_window_bits=15",
            ),
            (
                &["permessage-deflate; server_max_window_bits=14"],
                Window::Small,
                nine,
            ),
            (
                &["permessage-deflate; server_max_window_bits = 9"],
                Window::Small,
                nine,
            ),
            (
                &["permessage-deflate; server_max_window_bits=\"10\""],
                Window::Small,
                nine,
            ),
            (
                &["permessage-deflate; server_max_window_bits=\"1\\0\""],
                Window::Small,
                nine,
            ),
            // The next one, where the first is declined.
            (
                &["permessage-deflate; server_max_window_bits=8, permessage-deflate"],
                Window::Full,
                "",
            ),
            (
                &["permessage-deflate; foo; server_max_window_bits=9,permessage-deflate"],
                Window::Full,
                "",
            ),
            // The first one that can be met.
            (
                &["permessage-deflate; server_max_window_bits=10, permessage-deflate"],
                Window::Small,
                nine,
            ),
            (&["permessage-bzip2", "permessage-deflate"], Window::Full, ""),
            (
                &["mux; max-channels=4; flow-control, permessage-deflate"],
                Window::Full,
                "",
            ),
            // Separators between quotes are none.
            (
                &["foo; x=\"a,permessage-deflate; y\\\", z\", permessage-deflate"],
                Window::Full,
                "",
            ),
            (&[", ,permessage-deflate,"], Window::Full, ""),
        ];
        for (offer, window, rest) in offers {
            assert_eq!(answer(offer), Some((window, rest.to_owned())), "{offer:?}");
        }
    }

    #[test]
    fn offers_that_are_declined() {
        let parameters = [
            "",
            " ",
            "foo",
            "server_max_window_bits",
            "server_max_window_bits=",
            "server_max_window_bits=7",
            "server_max_window_bits=8",
            "server_max_window_bits=16",
            "server_max_window_bits=09",
            "server_max_window_bits=+9",
            "server_max_window_bits=9 9",
            "server_max_window_bits=265",
            "server_max_window_bits=9; server_max_window_bits=9",
            "server_max_window_bits=\"9",
            "server_max_window_bits=\"9\\\"",
            "server_max_window_bits=\"9\"\"",
            "server_max_window_bits=\"",
            "server_max_window_bits=9=9",
            "client_max_window_bits=",
            "client_max_window_bits=7",
            "client_max_window_bits=x",
            "client_max_window_bits; client_max_window_bits=9",
            "server_no_context_takeover=1",
            "server_no_context_takeover=\"\"",
            "server_no_context_takeover; server_no_context_takeover",
            "client_no_context_takeover=true",
            "client_no_context_takeover; client_no_context_takeover",
            "Server_no_context_takeover",
            "client_no_context_takeover;",
        ];
        for parameter in parameters {
            assert_eq!(
                answer(&[&format!("permessage-deflate; {parameter}")]),
                None,
                "{parameter}"
            );
        }
        for offer in [
            "",
            "x-webkit-deflate-frame",
            "permessage-deflat",
            "\"permessage-deflate\"",
        ] {
            assert_eq!(answer(&[offer]), None, "{offer}");
        }
        assert_eq!(answer(&[]), None);
    }
}
