//! Stop strings in a stream of text.

/// Bytes of an ordinary long token: room to begin with.
const TOKEN: usize = 64;

/// Holds text back as long as it may become a stop string.
///
/// The stop string that is complete first counts, the longest of several that end at once: so the answer does not depend on where tokens
/// begin. Each byte moves every stop string's automaton (Knuth, Morris, Pratt 1977).
#[derive(Debug)]
pub(crate) struct Stops {
    stops: Vec<Stop>,
    /// Text that is ready, then text that is held back.
    text: String,
    /// Where the latter begins.
    ready_len: usize,
}

#[derive(Debug)]
struct Stop {
    bytes: Vec<u8>,
    /// For each length of a beginning of `bytes`, that of its longest proper suffix that is a beginning too.
    borders: Vec<usize>,
    /// Bytes of the stop string at the end of the text so far.
    matched: usize,
}

impl Stop {
    fn new(text: &str) -> Stop {
        let mut stop = Stop { bytes: text.as_bytes().to_vec(), borders: vec![0, 0], matched: 0 };
        for i in 1..stop.bytes.len() {
            let border = stop.step(stop.borders[i], stop.bytes[i]);
            stop.borders.push(border);
        }
        stop
    }

    /// Bytes matched after one more byte; `matched` is less than all.
    fn step(&self, mut matched: usize, byte: u8) -> usize {
        while matched > 0 && self.bytes[matched] != byte {
            matched = self.borders[matched];
        }
        matched + usize::from(self.bytes[matched] == byte)
    }
}

impl Stops {
    /// The strings, none of them empty.
    pub fn new(stops: &[String]) -> Stops {
        let longest = stops.iter().map(String::len).max().unwrap_or(0);
        let text = String::with_capacity(longest + TOKEN);
        Stops { stops: stops.iter().map(|text| Stop::new(text)).collect(), text, ready_len: 0 }
    }

    /// Text that is certain to be part of the answer and was not taken yet.
    pub fn ready(&self) -> &str {
        &self.text[..self.ready_len]
    }

    /// Forgets [`Stops::ready`].
    pub fn take(&mut self) {
        self.text.drain(..self.ready_len);
        self.ready_len = 0;
    }

    /// Adds text; whether a stop string ends the answer, so that nothing may follow. One that is complete in text that does not `end` it is
    /// a part of the answer.
    pub fn push(&mut self, more: &str, ends: bool) -> bool {
        let start = self.text.len();
        self.text.push_str(more);
        for (i, byte) in more.bytes().enumerate() {
            let mut found = None;
            for stop in &mut self.stops {
                stop.matched = stop.step(stop.matched, byte);
                if stop.matched == stop.bytes.len() {
                    found = found.max(Some(stop.matched).filter(|_| ends));
                    stop.matched = stop.borders[stop.matched];
                }
            }
            if let Some(len) = found {
                self.text.truncate(start + i + 1 - len);
                self.ready_len = self.text.len();
                return true;
            }
        }
        let held = self.stops.iter().map(|stop| stop.matched).max().unwrap_or(0);
        self.ready_len = self.text.len() - held;
        false
    }

    /// Nothing follows: what was held back is ready.
    pub fn flush(&mut self) {
        self.ready_len = self.text.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is given for pieces, and whether a stop string ended it.
    fn run(stops: &[String], pieces: &[&str]) -> (String, bool) {
        let mut out = String::new();
        let mut streamed = Stops::new(stops);
        for piece in pieces {
            let stopped = streamed.push(piece, true);
            out.push_str(streamed.ready());
            streamed.take();
            if stopped {
                return (out, true);
            }
        }
        streamed.flush();
        (out + streamed.ready(), false)
    }

    /// The definition: the first end of any stop string, and there the longest.
    fn expected(stops: &[String], text: &str) -> (String, bool) {
        let ends = |end: usize| stops.iter().filter(move |stop| text.as_bytes()[..end].ends_with(stop.as_bytes()));
        let found = (1..=text.len()).find_map(|end| ends(end).map(|stop| end - stop.len()).min());
        (text[..found.unwrap_or(text.len())].to_owned(), found.is_some())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn any_split_gives_the_text_before_the_first_stop(
            stops in prop::collection::vec("[abé€😀]{1,5}", 0..4),
            pieces in prop::collection::vec("[abé€😀]{0,4}", 0..12),
        ) {
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            prop_assert_eq!(run(&stops, &pieces), expected(&stops, &pieces.concat()));
        }
    }

    #[test]
    fn text_is_held_no_longer_than_needed() {
        let cases: &[(&[&str], &[&str], &[&str])] = &[
            (&["###"], &["a#", "#b", "##", "#c"], &["a", "##b", "", ""]),
            (&["aab"], &["aa", "a", "a", "b!"], &["", "a", "a", ""]),
            (&["\n\nUser:", "\n\n"], &["x\n", "\nUser:"], &["x", ""]),
            (&["€uro"], &["5 €", "u", "x"], &["5 ", "", "€ux"]),
            (&["b", "abc"], &["za", "b"], &["z", "a"]),
        ];
        for (stops, pieces, given) in cases {
            let stops: Vec<String> = stops.iter().map(|stop| stop.to_string()).collect();
            let mut streamed = Stops::new(&stops);
            for (piece, given) in pieces.iter().zip(*given) {
                streamed.push(piece, true);
                assert_eq!(streamed.ready(), *given, "{stops:?} {pieces:?}");
                streamed.take();
            }
        }
    }
}
