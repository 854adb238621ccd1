//! Where a client is in what a topic has delivered.

/// The parameter of the handshake's query by which a client says what it was called: `resume-as=CLIENT`.
const RESUME_AS: &str = "resume-as";

/// A place in what a topic has ever delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Names one life of the topic: offsets of different epochs have nothing to do with each other.
    pub epoch: String,
    /// The number of the last message that was seen. The first is 1.
    pub offset: u64,
}

impl Position {
    /// Reads `TOPIC:EPOCH:OFFSET`. A topic may have colons itself. None if it is nothing of the kind.
    pub(super) fn of_topic(text: &str) -> Option<(String, Self)> {
        let mut parts = text.rsplitn(3, ':');
        let offset = parts.next()?.parse().ok()?;
        let epoch = parts.next()?.to_owned();
        Some((parts.next()?.to_owned(), Self { epoch, offset }))
    }
}

/// What a client was called before, as its query says: sixteen hexadecimal digits.
pub(super) fn client(query: &str) -> Option<u64> {
    if !query.contains(RESUME_AS) {
        return None;
    }
    let mut parameters = form_urlencoded::parse(query.as_bytes());
    let (_, value) = parameters.find(|(name, _)| name == RESUME_AS)?;
    let is_name = value.len() == 16 && value.bytes().all(|digit| digit.is_ascii_hexdigit());
    u64::from_str_radix(&value, 16).ok().filter(|_| is_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_named_by_its_query() {
        let name = |value| client(&format!("resume=t:e:5&resume-as={value}&resume-as=no"));
        assert_eq!(name("00ffffffffffffff"), Some(u64::MAX >> 8));
        for bad in ["", "1", "+0ffffffffffffff", "00fffffffffffffff"] {
            assert_eq!(name(bad), None, "{bad}");
        }
        assert_eq!(client("a=b&resume=t:e:5"), None);
    }

    #[test]
    fn positions_are_read_from_the_end() {
        let read = |text| Position::of_topic(text).map(|(topic, at)| (topic, at.epoch, at.offset));
        let expected = ("a:b".to_owned(), "1f-2".to_owned(), 7);
        assert_eq!(read("a:b:1f-2:7"), Some(expected));
        for bad in ["", "7", "e:7", "t:e:", "t:e:-1", "t:e:99999999999999999999"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
