//! Text of a model on stdout.

use anyhow::Result;
use console::{Term, measure_text_width};
use std::fmt::Write as _;
use std::io::{IsTerminal, Stdout, Write, stdout};

/// Prints text as it comes. On a terminal, lines are broken between words, and control characters are shown, not sent.
pub struct Printer {
    out: Stdout,
    wrap: Option<Wrap>,
    /// Whether the last line is not ended.
    open: bool,
}

impl Printer {
    pub fn new() -> Printer {
        // A terminal without a cursor that moves cannot take a word back.
        let capable = stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|name| name != "dumb");
        Printer { out: stdout(), wrap: capable.then(Wrap::default), open: true }
    }

    /// Prints a piece without buffering.
    pub fn print(&mut self, piece: &str) -> Result<()> {
        let Some(last) = piece.chars().last() else { return Ok(()) };
        self.open = last != '\n';
        let mut out = self.out.lock();
        match &mut self.wrap {
            None => out.write_all(piece.as_bytes())?,
            Some(wrap) => {
                let width = Term::stdout().size_checked().map_or(80, |(_, columns)| usize::from(columns));
                out.write_all(wrap.push(piece, width).as_bytes())?;
            }
        }
        Ok(out.flush()?)
    }

    /// Ends the last line.
    pub fn end_line(&mut self) -> Result<()> {
        if self.open { self.print("\n") } else { Ok(()) }
    }
}

/// Where the cursor is, and the word before it, which moves to the next line if it becomes too long for this one.
#[derive(Default)]
struct Wrap {
    column: usize,
    word: String,
    word_width: usize,
}

impl Wrap {
    /// What to send to a terminal with so many columns. The last one stays free: what is written there leaves the cursor between two lines.
    fn push(&mut self, piece: &str, columns: usize) -> String {
        let (width, mut out) = (columns.saturating_sub(1).max(1), String::with_capacity(piece.len()));
        for c in piece.chars() {
            match c {
                '\n' => self.break_line(&mut out),
                '\r' => {}
                ' ' | '\t' => {
                    let spaces = if c == ' ' { 1 } else { 8 - self.column % 8 };
                    if self.column + spaces > width {
                        self.break_line(&mut out);
                    } else {
                        (0..spaces).for_each(|_| out.push(' '));
                        self.column += spaces;
                        self.end_word();
                    }
                }
                c if c.is_control() => c.escape_default().for_each(|c| self.glyph(c, width, &mut out)),
                c => self.glyph(c, width, &mut out),
            }
        }
        out
    }

    fn glyph(&mut self, c: char, width: usize, out: &mut String) {
        let columns = if c.is_ascii() { 1 } else { measure_text_width(c.encode_utf8(&mut [0; 4])) };
        if self.column + columns > width {
            let (word, word_width) = (std::mem::take(&mut self.word), std::mem::take(&mut self.word_width));
            // A word that fills the line is broken where it is.
            let moves = 0 < word_width && word_width < self.column;
            if moves {
                let _ = write!(out, "\x1b[{word_width}D\x1b[K");
            }
            self.break_line(out);
            if moves {
                out.push_str(&word);
                (self.column, self.word, self.word_width) = (word_width, word, word_width);
            }
        }
        out.push(c);
        self.column += columns;
        self.word.push(c);
        self.word_width += columns;
        // Scripts of wide characters have no spaces: a line may end after each.
        if columns > 1 {
            self.end_word();
        }
    }

    fn break_line(&mut self, out: &mut String) {
        out.push('\n');
        self.column = 0;
        self.end_word();
    }

    fn end_word(&mut self) {
        self.word.clear();
        self.word_width = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a terminal shows: it knows `\n`, moving left and erasing to the end of the line.
    fn screen(sent: &str) -> Vec<String> {
        let (mut lines, mut rest) = (vec![String::new()], sent);
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                '\n' => lines.push(String::new()),
                '\x1b' => {
                    let (back, after) = rest[1..].split_once("D\x1b[K").unwrap();
                    let line = lines.last_mut().unwrap();
                    for _ in 0..back.parse().unwrap() {
                        line.pop();
                    }
                    rest = after;
                }
                c => lines.last_mut().unwrap().push(c),
            }
        }
        lines
    }

    #[test]
    fn lines_are_broken_between_words_however_the_text_is_cut() {
        for (text, columns, expected) in [
            ("one two three", 10, &["one two ", "three"][..]),
            ("one two three", 14, &["one two three"]),
            ("one two three", 6, &["one ", "two ", "three"]),
            ("abcdefghij kl", 5, &["abcd", "efgh", "ij ", "kl"]),
            ("a abcdefghij", 5, &["a ", "abcd", "efgh", "ij"]),
            ("one\n\ntwo  x", 6, &["one", "", "two  ", "x"]),
            ("abcd efg", 5, &["abcd", "efg"]),
            ("a\tb\r\n\x1b[2Jc", 20, &["a       b", "\\u{1b}[2Jc"]),
            ("小さな村に水車", 9, &["小さな村", "に水車"]),
            ("näiveté été", 9, &["näiveté ", "été"]),
            ("abc", 0, &["a", "b", "c"]),
        ] {
            let chars: Vec<char> = text.chars().collect();
            for size in 1..=chars.len() {
                let mut wrap = Wrap::default();
                let pieces = chars.chunks(size).map(|piece| piece.iter().collect::<String>());
                let sent: String = pieces.map(|piece| wrap.push(&piece, columns)).collect();
                assert_eq!(screen(&sent), expected, "{text:?} in pieces of {size}");
            }
        }
    }
}
