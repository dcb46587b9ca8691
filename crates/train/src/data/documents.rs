use crate::{Error, Result};
use memchr::memmem::Finder;
use serde_json::Value;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Bytes that are read at once.
const CHUNK: u64 = 1 << 20;
/// Larger than any document; a file that lacks its separator is taken for one.
const MAX_DOCUMENT: usize = 256 << 20;

/// The documents of text files, which a separator parts, and of JSONL files (`.jsonl`), where a field of each line holds one: in order, one
/// in memory at a time, without the line ends around them, and without the empty ones.
pub struct Documents {
    files: VecDeque<PathBuf>,
    separator: String,
    field: String,
    size: u64,
    /// Bytes of the files before the open one.
    before: u64,
    open: Option<Open>,
}

/// The file that is read.
struct Open {
    path: PathBuf,
    pieces: Pieces,
    /// Of a JSONL file: lines so far.
    lines: Option<u64>,
}

impl Documents {
    /// Makes sure that there are such files, and reads nothing yet.
    ///
    /// # Errors
    /// When there is no file, one cannot be read, or the separator is empty.
    pub fn open(files: &[PathBuf], separator: &str, field: &str) -> Result<Documents> {
        let config = |key: &str, expected: &str, found: &str| Error::Config {
            key: key.to_owned(),
            expected: expected.to_owned(),
            found: found.to_owned(),
        };
        if files.is_empty() {
            return Err(config("data.files", "at least one file", "none"));
        }
        if separator.is_empty() {
            return Err(config("data.separator", "text that stands between documents", "none"));
        }
        let mut size = 0;
        for path in files {
            let metadata = File::open(path).and_then(|file| file.metadata()).map_err(io_at(path))?;
            if !metadata.is_file() {
                return Err(io_at(path)(io::Error::other("expected a file, found something else")));
            }
            size += metadata.len();
        }
        let (separator, field) = (separator.to_owned(), field.to_owned());
        Ok(Documents { files: files.iter().cloned().collect(), separator, field, size, before: 0, open: None })
    }

    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of the files up to the end of the last document.
    pub fn position(&self) -> u64 {
        self.before + self.open.as_ref().map_or(0, |open| open.pieces.position())
    }

    /// The next document, which may be empty.
    fn document(&mut self) -> Result<Option<String>> {
        loop {
            let open = match &mut self.open {
                Some(open) => open,
                none => {
                    let Some(path) = self.files.pop_front() else { return Ok(None) };
                    let jsonl = path.extension().is_some_and(|extension| extension == "jsonl");
                    let separator = if jsonl { "\n" } else { &self.separator };
                    let pieces = Pieces::open(&path, separator).map_err(io_at(&path))?;
                    none.insert(Open { path, pieces, lines: jsonl.then_some(0) })
                }
            };
            if let Some(text) = open.next(&self.field)? {
                return Ok(Some(text));
            }
            self.before += open.pieces.position();
            self.open = None;
        }
    }
}

impl Iterator for Documents {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Result<String>> {
        loop {
            match self.document().transpose()? {
                Ok(text) if text.trim_matches(is_line_end).is_empty() => {}
                Ok(text) if text.starts_with(is_line_end) || text.ends_with(is_line_end) => {
                    return Some(Ok(text.trim_matches(is_line_end).to_owned()));
                }
                other => return Some(other),
            }
        }
    }
}

fn is_line_end(c: char) -> bool {
    matches!(c, '\n' | '\r')
}

pub(super) fn io_at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { path: path.to_owned(), source }
}

impl Open {
    fn next(&mut self, field: &str) -> Result<Option<String>> {
        let Open { path, pieces, lines } = self;
        let wrong = |place: String, expected: &str, found: String| Error::Document {
            path: path.clone(),
            place,
            expected: expected.to_owned(),
            found,
        };
        let Some(piece) = pieces.next().map_err(io_at(path))? else { return Ok(None) };
        let start = pieces.offset(&piece);
        let bytes = &pieces.buffer[piece];
        if bytes.len() > MAX_DOCUMENT {
            let expected = format!("a document of at most {MAX_DOCUMENT} bytes and a separator behind it");
            return Err(wrong(format!("byte {start}"), &expected, "a longer one".to_owned()));
        }
        let text = str::from_utf8(bytes).map_err(|error| {
            let at = start + error.valid_up_to() as u64;
            wrong(format!("byte {at}"), "UTF-8", format!("the byte 0x{:02x}", bytes[error.valid_up_to()]))
        })?;
        let Some(lines) = lines else { return Ok(Some(text.to_owned())) };
        *lines += 1;
        if text.trim().is_empty() {
            return Ok(Some(String::new()));
        }
        let wrong =
            |found| wrong(format!("line {lines}"), &format!("an object with text in its field `{field}`"), found);
        match serde_json::from_str(text) {
            Ok(Value::Object(mut object)) => match object.remove(field) {
                Some(Value::String(text)) => Ok(Some(text)),
                Some(other) => Err(wrong(format!("{} there", kind(&other)))),
                None => Err(wrong("none of this name".to_owned())),
            },
            Ok(other) => Err(wrong(kind(&other).to_owned())),
            Err(error) => Err(wrong(format!("no JSON: {error}"))),
        }
    }
}

/// What an error says was found.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A file, cut where a separator stands.
struct Pieces {
    file: File,
    separator: Finder<'static>,
    /// The piece that is looked for, and what was read behind it.
    buffer: Vec<u8>,
    /// Where `buffer` begins in the file.
    offset: u64,
    /// Where the next piece begins in `buffer`.
    start: usize,
    /// Where in `buffer` the search for its end goes on.
    searched: usize,
    ended: bool,
}

impl Pieces {
    fn open(path: &Path, separator: &str) -> io::Result<Pieces> {
        let separator = Finder::new(separator).into_owned();
        let file = File::open(path)?;
        Ok(Pieces { file, separator, buffer: Vec::new(), offset: 0, start: 0, searched: 0, ended: false })
    }

    /// Bytes of the file up to the next piece.
    fn position(&self) -> u64 {
        self.offset + self.start as u64
    }

    /// Where a piece begins in the file.
    fn offset(&self, piece: &Range<usize>) -> u64 {
        self.offset + piece.start as u64
    }

    /// The next piece, as a range of `buffer`. Of one that is too long, only the beginning.
    fn next(&mut self) -> io::Result<Option<Range<usize>>> {
        let length = self.separator.needle().len();
        loop {
            let start = self.start;
            if let Some(at) = self.separator.find(&self.buffer[self.searched..]) {
                let end = self.searched + at;
                (self.start, self.searched) = (end + length, end + length);
                return Ok(Some(start..end));
            }
            let end = self.buffer.len();
            if self.ended || end - start > MAX_DOCUMENT {
                (self.start, self.searched) = (end, end);
                return Ok((start < end).then_some(start..end));
            }
            self.searched = start.max((end + 1).saturating_sub(length)) - start;
            self.buffer.drain(..start);
            (self.offset, self.start) = (self.offset + start as u64, 0);
            self.ended = (&self.file).take(CHUNK).read_to_end(&mut self.buffer)? == 0;
        }
    }
}
