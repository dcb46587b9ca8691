//! The file that texts go to, whole texts only.

use super::{End, Error, GeneratedText};
use crate::append::open_to_append;
use std::collections::HashSet;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use trine_engine::seed_of;

/// Which texts are kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keep {
    /// Those that a limit cut off, too.
    pub cut: bool,
    /// Of equal ones only the first.
    pub unique: bool,
}

/// What became of texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub texts: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Cut off by a limit, kept or not.
    pub cut: u64,
    /// Equal to an earlier one, kept or not; those that were dropped as cut are not compared.
    pub duplicates: u64,
}

/// Writes texts as lines of JSON, or as plain text with a separator.
pub struct TextWriter {
    path: PathBuf,
    file: File,
    separator: Option<String>,
    keep: Keep,
    /// Hashes of the texts in the file.
    seen: HashSet<u64>,
    counts: Counts,
}

impl TextWriter {
    /// A new file, one that is empty, or with `replace` any: JSONL, or plain text with a line of `separator` after each text.
    ///
    /// # Errors
    /// [`Error::Exists`], and when it cannot be made, or another run writes it.
    pub fn create(path: &Path, separator: Option<&str>, keep: Keep, replace: bool) -> Result<TextWriter, Error> {
        let io = |source| failed(path, source);
        let file = open_to_append(path).map_err(io)?;
        if file.metadata().is_ok_and(|file| file.is_file() && file.len() > 0) {
            if !replace {
                return Err(Error::Exists { path: path.display().to_string() });
            }
            file.set_len(0).map_err(io)?;
        }
        let separator = separator.map(str::to_owned);
        Ok(TextWriter { path: path.to_owned(), file, separator, keep, seen: HashSet::new(), counts: Counts::default() })
    }

    /// Goes on with a JSONL file of the same job, of which a last line that is not whole is taken away; a new file where there is none. A
    /// pipe or device has no earlier texts. The index of the next text comes with it.
    ///
    /// # Errors
    /// When it cannot be read or written, and [`Error::Line`] when it is not of such a job with this seed: it then stays as it is.
    pub fn resume(path: &Path, keep: Keep, seed: u64) -> Result<(TextWriter, u64), Error> {
        let io = |source| failed(path, source);
        let mut writer = TextWriter {
            path: path.to_owned(),
            file: open_to_append(path).map_err(io)?,
            separator: None,
            keep,
            seen: HashSet::new(),
            counts: Counts::default(),
        };
        if !writer.file.metadata().map_err(io)?.is_file() {
            return Ok((writer, 0));
        }
        let mut lines = BufReader::new(writer.file.try_clone().map_err(io)?);
        let (mut next, mut whole, mut line) = (0, 0, Vec::new());
        for number in 1.. {
            line.clear();
            lines.read_until(b'\n', &mut line).map_err(io)?;
            if !line.ends_with(b"\n") {
                break;
            }
            let bad = |found: String| Error::Line {
                path: path.display().to_string(),
                line: number,
                expected: format!("a generated text of seed {seed}, after those of the lines before"),
                found,
            };
            let text: GeneratedText = serde_json::from_slice(&line).map_err(|error| bad(error.to_string()))?;
            if text.index < next || text.seed != seed_of(seed, text.index) {
                return Err(bad(format!("index {} and seed {}", text.index, text.seed)));
            }
            next = text.index + 1;
            whole += line.len() as u64;
            writer.seen.insert(hash(&text.text));
        }
        writer.file.set_len(whole).map_err(io)?;
        Ok((writer, next))
    }

    /// Writes a text, or not.
    ///
    /// # Errors
    /// When the system fails.
    pub fn write(&mut self, text: &GeneratedText) -> Result<(), Error> {
        let cut = text.finish == End::Length;
        self.counts.cut += u64::from(cut);
        if cut && !self.keep.cut {
            return Ok(());
        }
        let new = self.seen.insert(hash(&text.text));
        self.counts.duplicates += u64::from(!new);
        if !new && self.keep.unique {
            return Ok(());
        }
        let written = match &self.separator {
            Some(separator) => Ok(format!("{}\n{separator}\n", text.text)),
            None => serde_json::to_string(text).map(|line| line + "\n"),
        };
        // In one piece, so that none but a dying system leaves half of it.
        let written = written.map_err(io::Error::from).and_then(|line| self.file.write_all(line.as_bytes()));
        written.map_err(|source| failed(&self.path, source))?;
        self.counts.texts += 1;
        self.counts.tokens += text.tokens as u64;
        Ok(())
    }

    /// The file that texts are written to.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// What became of the texts so far, less those that a resumed file had.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::Io { path: path.display().to_string(), source }
}
