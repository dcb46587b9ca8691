//! Reads documents from text and JSONL files.

use crate::{Error, Result};
use memchr::memmem::Finder;
use serde_json::Value;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Bytes per read.
const CHUNK: u64 = 1 << 20;
/// The maximum bytes of a document. A file that lacks its separator would be one.
const MAX_DOCUMENT: usize = 256 << 20;

/// How a file holds documents. White space around separated documents is trimmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DocumentFormat {
    /// This text stands between documents. A file without it is one document, untrimmed; so is every file if the separator is empty.
    Separator(String),
    /// Each line is a JSON object with a document in this field. Empty lines are skipped.
    Jsonl(String),
}

impl DocumentFormat {
    /// JSONL for names that end with `.jsonl`, separated text otherwise.
    pub fn of(path: &Path, separator: &str, field: &str) -> DocumentFormat {
        match path.extension().is_some_and(|extension| extension == "jsonl") {
            true => DocumentFormat::Jsonl(field.to_owned()),
            false => DocumentFormat::Separator(separator.to_owned()),
        }
    }
}

/// An iterator over documents in order, one in memory at a time, that skips those of white space alone. It is an error if there is no document.
pub struct Documents {
    files: VecDeque<(PathBuf, DocumentFormat)>,
    size: u64,
    /// Bytes of the files before the current one.
    before: u64,
    open: Option<OpenFile>,
    separated: bool,
    /// Whether there was a document.
    found: bool,
}

struct OpenFile {
    path: PathBuf,
    pieces: Splitter,
    /// The field of a JSONL file.
    field: Option<String>,
    lines: u64,
}

impl Documents {
    /// The documents of files. All files are opened once, and read later.
    ///
    /// # Errors
    /// When `files` is empty, or one cannot be opened or is not a regular file.
    pub fn open(files: &[PathBuf], separator: &str, field: &str) -> Result<Documents> {
        if files.is_empty() {
            let (key, expected) = ("data.files".to_owned(), "at least one file".to_owned());
            return Err(Error::Config { key, expected, found: "none".to_owned() });
        }
        let mut size = 0;
        for path in files {
            // Opening a pipe would block until something is written to it.
            let metadata = path.metadata().map_err(Error::io(path))?;
            if !metadata.is_file() {
                return Err(Error::io(path)(io::Error::other("expected a regular file, found something else")));
            }
            File::open(path).map_err(Error::io(path))?;
            size += metadata.len();
        }
        let files = files.iter().map(|path| (path.clone(), DocumentFormat::of(path, separator, field))).collect();
        Ok(Documents { files, size, before: 0, open: None, separated: false, found: false })
    }

    /// The documents of a stream, which errors call `name`. Its size counts as 0.
    pub fn read(input: impl Read + Send + 'static, name: &Path, format: DocumentFormat) -> Documents {
        let open = Some(OpenFile::new(name.to_owned(), Box::new(input), format));
        Documents { files: VecDeque::new(), size: 0, before: 0, open, separated: false, found: false }
    }

    /// Bytes of all files together.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes read of all files, up to the end of the last document.
    pub fn position(&self) -> u64 {
        self.before + self.open.as_ref().map_or(0, |open| open.pieces.position())
    }

    /// Whether the last document was separated from others. Otherwise it is a whole file.
    pub fn is_separated(&self) -> bool {
        self.separated
    }

    /// The next document, which may be empty.
    fn document(&mut self) -> Result<Option<String>> {
        loop {
            let open = match &mut self.open {
                Some(open) => open,
                none => {
                    let Some((path, format)) = self.files.pop_front() else { return Ok(None) };
                    let file = File::open(&path).map_err(Error::io(&path))?;
                    none.insert(OpenFile::new(path, Box::new(file), format))
                }
            };
            if let Some(text) = open.next()? {
                self.separated = open.is_separated();
                return Ok(Some(text));
            }
            if self.files.is_empty() && !self.found {
                self.found = true;
                return Err(Error::NoText { path: open.path.clone() });
            }
            self.before += open.pieces.position();
            self.open = None;
        }
    }
}

impl Iterator for Documents {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Result<String>> {
        let document = loop {
            match self.document().transpose()? {
                Ok(text) if text.trim().is_empty() => {}
                document => break document,
            }
        };
        self.found = true;
        Some(document)
    }
}

impl OpenFile {
    fn new(path: PathBuf, input: Box<dyn Read + Send>, format: DocumentFormat) -> OpenFile {
        let (separator, field) = match format {
            DocumentFormat::Separator(separator) => (separator, None),
            DocumentFormat::Jsonl(field) => ("\n".to_owned(), Some(field)),
        };
        OpenFile { path, pieces: Splitter::new(input, &separator), field, lines: 0 }
    }

    /// Whether documents so far were separated from others.
    fn is_separated(&self) -> bool {
        self.field.is_some() || self.pieces.cut
    }

    fn next(&mut self) -> Result<Option<String>> {
        let wrong = |place: String, expected: &str, found: String| Error::Document {
            path: self.path.clone(),
            place,
            expected: expected.to_owned(),
            found,
        };
        let Some(piece) = self.pieces.next().map_err(Error::io(&self.path))? else { return Ok(None) };
        let start = self.pieces.offset(&piece);
        let bytes = &self.pieces.buffer[piece];
        if bytes.len() > MAX_DOCUMENT {
            let expected = format!("a document of at most {MAX_DOCUMENT} bytes and a separator after it");
            return Err(wrong(format!("byte {start}"), &expected, "a longer one".to_owned()));
        }
        let text = str::from_utf8(bytes).map_err(|error| {
            let at = start + error.valid_up_to() as u64;
            wrong(format!("byte {at}"), "UTF-8", format!("the byte 0x{:02x}", bytes[error.valid_up_to()]))
        })?;
        // A byte order mark is not text.
        let text = text.strip_prefix('\u{feff}').filter(|_| start == 0).unwrap_or(text);
        let Some(field) = &self.field else {
            return Ok(Some(if self.pieces.cut { text.trim() } else { text }.to_owned()));
        };
        self.lines += 1;
        if text.trim().is_empty() {
            return Ok(Some(String::new()));
        }
        let place = format!("line {}", self.lines);
        let wrong = |found| wrong(place, &format!("an object with text in the field `{field}`"), found);
        match serde_json::from_str(text) {
            Ok(Value::Object(object)) => match object.get(field) {
                Some(Value::String(text)) => Ok(Some(text.trim().to_owned())),
                Some(other) => Err(wrong(format!("{} in it", kind(other)))),
                None => Err(wrong("an object without it".to_owned())),
            },
            Ok(other) => Err(wrong(kind(&other).to_owned())),
            Err(error) => Err(wrong(format!("invalid JSON: {error}"))),
        }
    }
}

/// The type of a value, for errors.
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

/// A text, split at separators.
struct Splitter {
    input: Box<dyn Read + Send>,
    separator: Finder<'static>,
    /// The current piece, and what was read after it.
    buffer: Vec<u8>,
    /// The offset of `buffer` in the text.
    offset: u64,
    /// The start of the next piece in `buffer`.
    start: usize,
    /// The start of the unsearched rest of `buffer`.
    searched: usize,
    /// Whether a separator was found.
    cut: bool,
    ended: bool,
}

impl Splitter {
    fn new(input: Box<dyn Read + Send>, separator: &str) -> Splitter {
        let separator = Finder::new(separator).into_owned();
        Splitter { input, separator, buffer: Vec::new(), offset: 0, start: 0, searched: 0, cut: false, ended: false }
    }

    /// The offset of the next piece in the text.
    fn position(&self) -> u64 {
        self.offset + self.start as u64
    }

    /// The offset of a piece in the text.
    fn offset(&self, piece: &Range<usize>) -> u64 {
        self.offset + piece.start as u64
    }

    /// The next piece, as a range of `buffer`. If it is too long, only its beginning.
    fn next(&mut self) -> io::Result<Option<Range<usize>>> {
        let length = self.separator.needle().len();
        loop {
            let start = self.start;
            // An empty separator is never found.
            if length > 0
                && let Some(at) = self.separator.find(&self.buffer[self.searched..])
            {
                let end = self.searched + at;
                (self.start, self.searched, self.cut) = (end + length, end + length, true);
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
            self.ended = (&mut self.input).take(CHUNK).read_to_end(&mut self.buffer)? == 0;
        }
    }
}
