//! What is known of a connection: its handshake, and the attributes that were set since.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use super::ConnectionId;

const COOKIE: &str = "cookie";

/// What is known of a connection. Kept for each open connection, so it is kept small.
#[derive(Debug)]
pub struct Connection {
    /// The connection's name.
    pub id: ConnectionId,
    /// Of the socket, or as a trusted proxy says by the PROXY protocol.
    pub remote_address: SocketAddr,
    /// Of the client: the same, unless a trusted proxy names another in `X-Forwarded-For`.
    pub client_address: IpAddr,
    /// When the handshake came.
    pub opened: SystemTime,
    /// Path of the handshake's request.
    pub path: Box<str>,
    /// Its query, without the `?`.
    pub query: Box<str>,
    /// Its headers: a line each, `name: value`, names in lower case.
    pub headers: Box<str>,
    /// The one that was agreed on; set before the connection opens.
    pub subprotocol: OnceLock<Box<str>>,
    /// In place of the handshake's `cookie`, if the answer to it has set some; set before the connection opens.
    pub cookies: OnceLock<Box<str>>,
    /// Names its client to topics with a history, for as long as it resumes by that name; set when it is registered. Nobody
    /// else can guess it.
    pub client: OnceLock<u64>,
    /// By name, sorted. Empty it costs no allocation.
    attributes: Mutex<Vec<(Box<str>, Box<str>)>>,
}

/// What a client's address counts as where turns or places go by address: whoever has one address of IPv6 usually has its whole
/// /64 network.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

/// A connection's attributes are over the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttributesFull;

impl Connection {
    /// A connection that begins now, without attributes.
    pub fn new(id: ConnectionId, remote_address: SocketAddr, path: &str, query: &str, headers: &str) -> Self {
        Self {
            id,
            remote_address,
            client_address: remote_address.ip(),
            opened: SystemTime::now(),
            path: path.into(),
            query: query.into(),
            headers: headers.into(),
            subprotocol: OnceLock::new(),
            cookies: OnceLock::new(),
            client: OnceLock::new(),
            attributes: Mutex::default(),
        }
    }

    /// Bytes of the handshake that are kept.
    pub fn size(&self) -> usize {
        let cookies = self.cookies.get().map_or(0, |cookies| cookies.len());
        self.id.len() + self.path.len() + self.query.len() + self.headers.len() + cookies
    }

    /// The first header of a name, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        if name == COOKIE
            && let Some(cookies) = self.cookies.get()
        {
            return Some(cookies);
        }
        self.headers
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The `Host` of the handshake: the name that the client has asked for, with the port if it gave one. A proxy passes it
    /// on, or sets it; what comes as `X-Forwarded-Host` may be the client's own words, which a proxy lets through.
    pub fn host(&self) -> Option<&str> {
        self.header("host").filter(|host| !host.is_empty())
    }

    /// Whether the client's own connection is encrypted, here or at a trusted proxy.
    pub fn is_encrypted(&self) -> bool {
        let scheme = self.header("x-forwarded-proto").unwrap_or_default();
        let scheme = scheme.split(',').next().unwrap_or_default().trim();
        scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("wss")
    }

    /// A fact of the connection, by the names that `wit/types.wit` lists.
    pub fn fact(&self, name: &str) -> Option<Cow<'_, str>> {
        match name {
            "path" => Some(Cow::Borrowed(&*self.path)),
            "query" => Some(Cow::Borrowed(&*self.query)),
            "remote-address" => Some(Cow::Owned(self.remote_address.to_string())),
            "client-address" => Some(Cow::Owned(self.client_address.to_string())),
            "subprotocol" => self.subprotocol.get().map(|name| Cow::Borrowed(&**name)),
            "attributes" => self.attributes_as_query().map(Cow::Owned),
            _ => match name.strip_prefix("attribute.") {
                Some(name) => self.attribute(name).map(Cow::Owned),
                None => self.header(name.strip_prefix("header.")?).map(Cow::Borrowed),
            },
        }
    }

    /// The facts of these names that the connection has, in their order. Goes through the headers once: plugins hear the
    /// same facts with each frame.
    pub fn facts<'a>(&'a self, names: &'a [String]) -> Vec<(&'a str, Cow<'a, str>)> {
        const HEADER: &str = "header.";
        let of_another_kind = |name: &String| (!name.starts_with(HEADER)).then(|| self.fact(name));
        let mut values: Vec<_> = names.iter().map(|name| of_another_kind(name).flatten()).collect();
        let set = self.cookies.get().map(|cookies| (COOKIE, &**cookies));
        let headers = self.headers.lines().filter_map(|line| line.split_once(": "));
        // The first of a name counts.
        for (header, value) in set.into_iter().chain(headers) {
            for (name, known) in names.iter().zip(&mut values) {
                let is_it =
                    name.len() == HEADER.len() + header.len() && name.strip_prefix(HEADER) == Some(header);
                if is_it && known.is_none() {
                    *known = Some(Cow::Borrowed(value));
                }
            }
        }
        let names = names.iter().map(String::as_str);
        names
            .zip(values)
            .filter_map(|(name, value)| Some((name, value?)))
            .collect()
    }

    /// Whether a name is one that connections may have: what `fact` knows.
    pub fn knows_fact(name: &str) -> bool {
        matches!(
            name,
            "path" | "query" | "remote-address" | "client-address" | "subprotocol" | "attributes"
        ) || name.starts_with("header.")
            || name.starts_with("attribute.")
    }

    /// The value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<String> {
        let attributes = self.lock();
        let place = find(&attributes, name).ok()?;
        attributes.get(place).map(|(_, value)| value.to_string())
    }

    /// All attributes, sorted by name.
    pub fn attributes(&self) -> Vec<(String, String)> {
        let owned = |(name, value): &(Box<str>, Box<str>)| (name.to_string(), value.to_string());
        self.lock().iter().map(owned).collect()
    }

    /// Sets or removes an attribute. `limit` is for all names and values together, in bytes.
    pub fn set_attribute(&self, name: &str, value: Option<&str>, limit: usize) -> Result<(), AttributesFull> {
        let mut attributes = self.lock();
        let place = find(&attributes, name);
        let Some(value) = value else {
            if let Ok(place) = place {
                attributes.remove(place);
            }
            return Ok(());
        };
        let others = attributes.iter().filter(|(other, _)| **other != *name);
        let size: usize = others.map(|(name, value)| name.len() + value.len()).sum();
        if size + name.len() + value.len() > limit {
            return Err(AttributesFull);
        }
        match place {
            Ok(place) => {
                if let Some((_, old)) = attributes.get_mut(place) {
                    *old = value.into();
                }
            }
            Err(place) => attributes.insert(place, (name.into(), value.into())),
        }
        Ok(())
    }

    fn attributes_as_query(&self) -> Option<String> {
        let attributes = self.lock();
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(attributes.iter());
        Some(query.finish()).filter(|query| !query.is_empty())
    }

    /// Nothing below leaves the list half changed, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, Vec<(Box<str>, Box<str>)>> {
        self.attributes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn find(attributes: &[(Box<str>, Box<str>)], name: &str) -> Result<usize, usize> {
    attributes.binary_search_by(|(other, _)| (**other).cmp(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        let headers = "host: x\ncookie: s=1; t=2\ncookie: u";
        Connection::new("1".into(), ([127, 0, 0, 1], 5).into(), "/ws", "a=b", headers)
    }

    #[test]
    fn facts_come_by_name() {
        let connection = connection();
        let facts = [
            ("path", Some("/ws")),
            ("query", Some("a=b")),
            ("remote-address", Some("127.0.0.1:5")),
            ("client-address", Some("127.0.0.1")),
            ("subprotocol", None),
            ("header.cookie", Some("s=1; t=2")),
            ("header.hos", None),
            ("attribute.user", None),
            ("attributes", None),
            ("color", None),
        ];
        for (name, value) in facts {
            assert_eq!(connection.fact(name).as_deref(), value, "{name}");
        }
        let names = facts.map(|(name, _)| name.to_owned());
        let together = connection.facts(&names);
        let together: Vec<_> = together
            .iter()
            .map(|(name, value)| (*name, Some(&**value)))
            .collect();
        let known: Vec<_> = facts.into_iter().filter(|(_, value)| value.is_some()).collect();
        assert_eq!(together, known);
    }

    #[test]
    fn cookies_that_were_set_take_the_place_of_those_of_the_handshake() {
        let connection = connection();
        connection.cookies.set("s=2".into()).unwrap();
        assert_eq!(connection.fact("header.cookie").as_deref(), Some("s=2"));
        let names = ["header.cookie".to_owned()];
        assert_eq!(connection.facts(&names), [("header.cookie", "s=2".into())]);
    }

    #[test]
    fn attributes_are_facts_until_they_are_removed() {
        let connection = connection();
        for (name, value) in [("user", "ann"), ("room", "a&b"), ("user", "bob")] {
            assert_eq!(connection.set_attribute(name, Some(value), 100), Ok(()));
        }
        assert_eq!(connection.fact("attribute.user").as_deref(), Some("bob"));
        assert_eq!(
            connection.fact("attributes").as_deref(),
            Some("room=a%26b&user=bob")
        );
        assert_eq!(connection.set_attribute("user", None, 100), Ok(()));
        assert_eq!(connection.set_attribute("nothing", None, 100), Ok(()));
        assert_eq!(connection.attributes(), [("room".to_owned(), "a&b".to_owned())]);
    }

    #[test]
    fn attributes_have_a_limit_that_a_replaced_value_does_not_count_for() {
        let connection = connection();
        assert_eq!(connection.set_attribute("a", Some("123456789"), 10), Ok(()));
        assert_eq!(connection.set_attribute("b", Some(""), 10), Err(AttributesFull));
        assert_eq!(connection.set_attribute("a", Some("987654321"), 10), Ok(()));
    }
}
