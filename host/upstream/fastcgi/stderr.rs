//! The error text of a request (FastCGI 1.0 section 5.3): lines for the log, cut and counted so that a script cannot
//! flood it.

/// How much of a line is logged, in bytes.
const MAX_LINE: usize = 1024;
/// How many lines of one request are logged.
const MAX_LINES: usize = 32;

const PREFIX: &str = "PHP message: ";
/// PHP puts this between its messages instead of a line break.
const SEPARATOR: &str = "; PHP message: ";

/// Collects the text of one request. The lines are logged when it is dropped, so also for a request that failed or was
/// abandoned, where they are needed most.
pub(super) struct Stderr<F: FnMut(&str)> {
    tell: F,
    text: Vec<u8>,
    is_cut: bool,
}

impl<F: FnMut(&str)> Stderr<F> {
    pub(super) fn new(tell: F) -> Self {
        Self {
            tell,
            text: Vec::new(),
            is_cut: false,
        }
    }

    /// Whether these words are in it.
    pub(super) fn says(&self, words: &str) -> bool {
        self.text
            .windows(words.len())
            .any(|window| window == words.as_bytes())
    }

    /// Adds what has arrived, as far as there is room.
    pub(super) fn push(&mut self, piece: &[u8]) {
        let room = MAX_LINES * MAX_LINE - self.text.len();
        self.is_cut |= piece.len() > room;
        self.text.extend(piece.iter().take(room));
    }
}

impl<F: FnMut(&str)> Drop for Stderr<F> {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.text);
        let mut lines = text
            .lines()
            .flat_map(|line| line.split(SEPARATOR))
            .map(|line| line.strip_prefix(PREFIX).unwrap_or(line).trim())
            .filter(|line| !line.is_empty());
        for line in lines.by_ref().take(MAX_LINES) {
            let end = line.floor_char_boundary(MAX_LINE);
            (self.tell)(line.get(..end).unwrap_or(line));
        }
        if self.is_cut || lines.next().is_some() {
            (self.tell)("more, which is left out here");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let mut told = Vec::new();
        let mut stderr = Stderr::new(|line| told.push(line.to_owned()));
        for piece in pieces {
            stderr.push(piece);
        }
        drop(stderr);
        told
    }

    #[test]
    fn messages_are_told_one_by_one_however_they_arrive() {
        let table: [(&[&[u8]], &[&str]); 6] = [
            (&[], &[]),
            (&[b"a\nb\r\n"], &["a", "b"]),
            (&[b"a", b"b\nc"], &["ab", "c"]),
            (&[b"\n\n \na"], &["a"]),
            (&[b"\xff\n"], &["\u{fffd}"]),
            (
                &[b"PHP message: a; b; PH", b"P message: c\nd; PHP message: "],
                &["a; b", "c", "d"],
            ),
        ];
        for (pieces, expected) in table {
            assert_eq!(lines(pieces), expected, "{pieces:?}");
        }
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let long = "é".repeat(600).into_bytes();
        assert_eq!(
            lines(&[b"x", &long, &long, b"\nnext"]),
            [format!("x{}", "é".repeat(511)).as_str(), "next"]
        );
    }

    #[test]
    fn a_flood_is_left_out() {
        for flood in [b"x\n".repeat(33), b"y".repeat(MAX_LINE * MAX_LINES + 1)] {
            let told = lines(&[&flood, &flood]);
            assert!(told.len() <= 33);
            assert_eq!(
                told.last().map(String::as_str),
                Some("more, which is left out here")
            );
        }
        assert_eq!(lines(&[&b"x\n".repeat(32)]), ["x"; 32]);
    }
}
