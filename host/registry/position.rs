//! Where a client is in what a topic has delivered.

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

#[cfg(test)]
mod tests {
    use super::*;

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
