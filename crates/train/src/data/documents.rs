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

/// What parts the documents of a file. White space around a document that is parted from others is not part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parting {
    /// This text stands between them. A file without it is one document, as it is; so is any when it is empty.
    Separator(String),
    /// Each line is a JSON object with a document in this field. Empty lines are left out.
    Jsonl(String),
}

impl Parting {
    /// That of a file: JSONL where its name ends with `.jsonl`, a separator elsewhere.
    pub fn of(path: &Path, separator: &str, field: &str) -> Parting {
        match path.extension().is_some_and(|extension| extension == "jsonl") {
            true => Parting::Jsonl(field.to_owned()),
            false => Parting::Separator(separator.to_owned()),
        }
    }
}

/// The documents of texts: in order, one in memory at a time, and without those of white space alone. Texts without any document are an error.
pub struct Documents {
    files: VecDeque<(PathBuf, Parting)>,
    size: u64,
    /// Bytes of the files before the open one.
    before: u64,
    open: Option<Open>,
    parted: bool,
    /// Whether there was a document.
    found: bool,
}

/// The file that is read.
struct Open {
    path: PathBuf,
    pieces: Pieces,
    /// Of a JSONL file.
    field: Option<String>,
    /// So far.
    lines: u64,
}

impl Documents {
    /// Those of files. Makes sure that there are such files, and reads nothing yet.
    ///
    /// # Errors
    /// When there is no file, or one cannot be read.
    pub fn open(files: &[PathBuf], separator: &str, field: &str) -> Result<Documents> {
        if files.is_empty() {
            let (key, expected) = ("data.files".to_owned(), "at least one file".to_owned());
            return Err(Error::Config { key, expected, found: "none".to_owned() });
        }
        let mut size = 0;
        for path in files {
            let metadata = File::open(path).and_then(|file| file.metadata()).map_err(Error::io(path))?;
            if !metadata.is_file() {
                return Err(Error::io(path)(io::Error::other("expected a file, found something else")));
            }
            size += metadata.len();
        }
        let files = files.iter().map(|path| (path.clone(), Parting::of(path, separator, field))).collect();
        Ok(Documents { files, size, before: 0, open: None, parted: false, found: false })
    }

    /// Those of one text that comes from anywhere, which errors call `name`; its size is taken for 0.
    pub fn read(input: impl Read + Send + 'static, name: &Path, parting: Parting) -> Documents {
        let open = Some(Open::new(name.to_owned(), Box::new(input), parting));
        Documents { files: VecDeque::new(), size: 0, before: 0, open, parted: false, found: false }
    }

    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of the files up to the end of the last document.
    pub fn position(&self) -> u64 {
        self.before + self.open.as_ref().map_or(0, |open| open.pieces.position())
    }

    /// Whether the last document was parted from others, so that it is whole. Otherwise it is all of its file, which may begin and end anywhere.
    pub fn is_parted(&self) -> bool {
        self.parted
    }

    /// The next document, which may be empty.
    fn document(&mut self) -> Result<Option<String>> {
        loop {
            let open = match &mut self.open {
                Some(open) => open,
                none => {
                    let Some((path, parting)) = self.files.pop_front() else { return Ok(None) };
                    let file = File::open(&path).map_err(Error::io(&path))?;
                    none.insert(Open::new(path, Box::new(file), parting))
                }
            };
            if let Some(text) = open.next()? {
                self.parted = open.is_parted();
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

impl Open {
    fn new(path: PathBuf, input: Box<dyn Read + Send>, parting: Parting) -> Open {
        let (separator, field) = match parting {
            Parting::Separator(separator) => (separator, None),
            Parting::Jsonl(field) => ("\n".to_owned(), Some(field)),
        };
        Open { path, pieces: Pieces::new(input, &separator), field, lines: 0 }
    }

    /// Whether documents so far were parted from others.
    fn is_parted(&self) -> bool {
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
            let expected = format!("a document of at most {MAX_DOCUMENT} bytes and a separator behind it");
            return Err(wrong(format!("byte {start}"), &expected, "a longer one".to_owned()));
        }
        let text = str::from_utf8(bytes).map_err(|error| {
            let at = start + error.valid_up_to() as u64;
            wrong(format!("byte {at}"), "UTF-8", format!("the byte 0x{:02x}", bytes[error.valid_up_to()]))
        })?;
        // A byte order mark is no text.
        let text = text.strip_prefix('\u{feff}').filter(|_| start == 0).unwrap_or(text);
        let Some(field) = &self.field else {
            return Ok(Some(if self.pieces.cut { text.trim() } else { text }.to_owned()));
        };
        self.lines += 1;
        if text.trim().is_empty() {
            return Ok(Some(String::new()));
        }
        let place = format!("line {}", self.lines);
        let wrong = |found| wrong(place, &format!("an object with text in its field `{field}`"), found);
        match serde_json::from_str(text) {
            Ok(Value::Object(object)) => match object.get(field) {
                Some(Value::String(text)) => Ok(Some(text.trim().to_owned())),
                Some(other) => Err(wrong(format!("{} there", kind(other)))),
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

/// A text, cut where a separator stands.
struct Pieces {
    input: Box<dyn Read + Send>,
    separator: Finder<'static>,
    /// The piece that is looked for, and what was read behind it.
    buffer: Vec<u8>,
    /// Where `buffer` begins in the text.
    offset: u64,
    /// Where the next piece begins in `buffer`.
    start: usize,
    /// Where in `buffer` the search for its end goes on.
    searched: usize,
    /// Whether a separator was found.
    cut: bool,
    ended: bool,
}

impl Pieces {
    fn new(input: Box<dyn Read + Send>, separator: &str) -> Pieces {
        let separator = Finder::new(separator).into_owned();
        Pieces { input, separator, buffer: Vec::new(), offset: 0, start: 0, searched: 0, cut: false, ended: false }
    }

    /// Bytes of the text up to the next piece.
    fn position(&self) -> u64 {
        self.offset + self.start as u64
    }

    /// Where a piece begins in the text.
    fn offset(&self, piece: &Range<usize>) -> u64 {
        self.offset + piece.start as u64
    }

    /// The next piece, as a range of `buffer`. Of one that is too long, only the beginning.
    fn next(&mut self) -> io::Result<Option<Range<usize>>> {
        let length = self.separator.needle().len();
        loop {
            let start = self.start;
            // An empty one stands nowhere.
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
