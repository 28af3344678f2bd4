//! Text from tokens as they come: whole characters only, and nothing that may turn out to be a stop string.

/// What a token adds to the text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Piece {
    /// Text that can be sent; may be empty while something is held back.
    pub text: String,
    /// The stop string that has been met, by its place among those of the stream; nothing comes behind it.
    pub stop: Option<usize>,
}

/// Joins the bytes of tokens to text and watches for stop strings.
#[derive(Debug, Clone, Default)]
pub struct TextStream {
    stops: Vec<String>,
    /// Whether the stop string that is met stays in the text.
    includes_stop: bool,
    /// The beginning of a character whose end has not come.
    partial: Vec<u8>,
    /// Text that may be the beginning of a stop string.
    held: String,
}

impl TextStream {
    /// A stream that ends at any of `stops`; empty stop strings mean nothing. The one that is met is left out of the
    /// text unless it `includes_stop`.
    pub fn new(stops: Vec<String>, includes_stop: bool) -> Self {
        Self {
            stops,
            includes_stop,
            ..Self::default()
        }
    }

    /// The stop strings.
    pub fn stops(&self) -> &[String] {
        &self.stops
    }

    /// Takes a token's bytes and watches for stop strings.
    pub fn push(&mut self, bytes: &[u8]) -> Piece {
        self.partial.extend_from_slice(bytes);
        self.take_characters();
        if let Some((start, stop)) = self.first_stop() {
            let mut text = std::mem::take(&mut self.held);
            let kept = if self.includes_stop {
                self.stops[stop].len()
            } else {
                0
            };
            text.truncate(start + kept);
            self.partial.clear();
            return Piece {
                text,
                stop: Some(stop),
            };
        }
        let keep = self.possible_stop_length();
        let rest = self.held.split_off(self.held.len() - keep);
        Piece {
            text: std::mem::replace(&mut self.held, rest),
            stop: None,
        }
    }

    /// Takes a token's bytes that are no part of any stop string.
    pub fn push_unwatched(&mut self, bytes: &[u8]) -> String {
        self.partial.extend_from_slice(bytes);
        self.take_characters();
        std::mem::take(&mut self.held)
    }

    /// Ends the stream and returns what was held back; half a character becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        let mut text = std::mem::take(&mut self.held);
        if !self.partial.is_empty() {
            text.push_str(&String::from_utf8_lossy(&self.partial));
            self.partial.clear();
        }
        text
    }

    /// Moves whole characters from `partial` to `held`; bytes that can never become one turn into U+FFFD.
    fn take_characters(&mut self) {
        loop {
            match std::str::from_utf8(&self.partial) {
                Ok(text) => {
                    self.held.push_str(text);
                    self.partial.clear();
                    return;
                }
                Err(error) => {
                    let valid = self
                        .partial
                        .drain(..error.valid_up_to())
                        .collect::<Vec<_>>();
                    self.held.push_str(&String::from_utf8_lossy(&valid));
                    let Some(invalid) = error.error_len() else {
                        return;
                    };
                    self.partial.drain(..invalid);
                    self.held.push(char::REPLACEMENT_CHARACTER);
                }
            }
        }
    }

    /// Where the first stop string starts, and which it is; the longest of those that start there.
    fn first_stop(&self) -> Option<(usize, usize)> {
        let found = self
            .stops
            .iter()
            .enumerate()
            .filter(|(_, stop)| !stop.is_empty());
        found
            .filter_map(|(index, stop)| Some((self.held.find(stop.as_str())?, index)))
            .min_by_key(|(start, index)| (*start, usize::MAX - self.stops[*index].len()))
    }

    /// Length of the longest end of the held text that is the beginning of a stop string.
    fn possible_stop_length(&self) -> usize {
        let longest = |stop: &String| {
            let starts = stop.char_indices().map(|(index, _)| index).skip(1);
            starts
                .filter(|&length| self.held.ends_with(&stop[..length]))
                .last()
                .unwrap_or(0)
        };
        self.stops.iter().map(longest).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::TextStream;

    #[track_caller]
    fn check(stops: &[&str], tokens: &[&[u8]], expected: &[&str], stopped: bool) {
        let stops = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut stream = TextStream::new(stops, false);
        let mut pieces = Vec::new();
        for token in tokens {
            let piece = stream.push(token);
            pieces.push(piece.text);
            if piece.stop.is_some() {
                assert!(stopped, "stopped at {pieces:?}");
                assert_eq!(pieces, expected);
                return;
            }
        }
        pieces.push(stream.finish());
        assert!(!stopped, "did not stop: {pieces:?}");
        assert_eq!(pieces, expected);
    }

    #[test]
    fn characters_are_sent_whole() {
        check(&[], &[b"a", "ü".as_bytes()], &["a", "ü", ""], false);
        check(
            &[],
            &[&[0xf0, 0x9f], &[0x99], &[0x82, b'!']],
            &["", "", "🙂!", ""],
            false,
        );
        check(&[], &[&[0xff, b'a']], &["\u{fffd}a", ""], false);
        check(&[], &[&[0xf0, 0x9f]], &["", "\u{fffd}"], false);
    }

    #[test]
    fn text_ends_before_the_first_stop_string() {
        check(&["END"], &[b"say EN", b"D now"], &["say ", ""], true);
        check(
            &["END"],
            &[b"say EN", b"TER"],
            &["say ", "ENTER", ""],
            false,
        );
        check(&["b", "a"], &[b"xab"], &["x"], true);
        check(
            &["\n\n"],
            &[b"one\n", b"two\n", b"\n"],
            &["one", "\ntwo", ""],
            true,
        );
        check(
            &["é!"],
            &["caf".as_bytes(), "é".as_bytes(), b"!"],
            &["caf", "", ""],
            true,
        );
        check(&[""], &[b"x"], &["x", ""], false);
    }

    #[test]
    fn a_stop_string_may_stay_in_the_text() {
        let mut stream = TextStream::new(vec!["!".to_owned(), "!!".to_owned()], true);
        assert_eq!(stream.push_unwatched(b"a!"), "a!");
        let piece = stream.push(b"b!!c");
        assert_eq!((piece.text.as_str(), piece.stop), ("b!!", Some(1)));
    }
}
