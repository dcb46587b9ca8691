//! Text from standard input and files.

use crate::exit::UsageError;
use anyhow::{Context, Result, anyhow};
use clap::Args;
use clap::builder::{PathBufValueParser, TypedValueParser};
use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::Path;
use trine_api::batch::MAX_LINE;
use trine_train::data::{DocumentFormat, Documents};

/// What separates documents, unless given.
const SEPARATOR: &str = "<|endoftext|>";

/// What separates documents.
#[derive(Args)]
pub struct SeparatorArg {
    /// Separator between the documents of a text file; empty for one document [default: <|endoftext|>]
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    separator: Option<String>,
}

impl SeparatorArg {
    /// How a file holds documents.
    ///
    /// # Errors
    /// When a separator is given, and the file has lines of JSON.
    pub fn format(&self, path: &Path) -> Result<DocumentFormat> {
        let format = DocumentFormat::of(path, self.separator.as_deref().unwrap_or(SEPARATOR), "text");
        if let DocumentFormat::Jsonl(_) = format {
            self.refuse(&format!("{} has a document in each line", path.display()))?;
        }
        Ok(format)
    }

    /// Refuses a separator where nothing is to be separated.
    pub fn refuse(&self, reason: &str) -> Result<(), UsageError> {
        match &self.separator {
            None => Ok(()),
            Some(_) => Err(UsageError { message: format!("--separator: {reason}"), hint: "omit it" }),
        }
    }

    /// Warns when documents that were read have no separator, although one is given.
    pub fn check(&self, documents: &Documents, path: &Path, quiet: bool) {
        let given = self.separator.as_deref().filter(|text| !text.is_empty() && !documents.is_separated());
        if let (Some(text), false) = (given, quiet) {
            note!("warning: the separator {text:?} is not in {}, which is one document", path.display());
        }
    }

    /// All documents of a file, or of standard input for `-`.
    pub fn documents(&self, path: &Path, quiet: bool) -> Result<Vec<String>> {
        let mut documents = documents(path, self.format(path)?)?;
        let all = documents.by_ref().collect::<Result<_, _>>()?;
        self.check(&documents, path, quiet);
        Ok(all)
    }
}

/// Parses the name of a file, which is read; that may not be empty.
pub fn file<T: Clone + Send + Sync + 'static>(
    read: fn(&Path) -> Result<T, String>,
) -> impl TypedValueParser<Value = T> {
    PathBufValueParser::new().try_map(move |path| read(&path))
}

/// The documents of a file, or of standard input for `-`.
pub fn documents(path: &Path, format: DocumentFormat) -> Result<Documents> {
    if path == Path::new("-") {
        return Ok(Documents::read(std::io::stdin(), Path::new("standard input"), format));
    }
    let file = File::open(path).with_context(|| path.display().to_string())?;
    Ok(Documents::read(file, path, format))
}

/// The lines of a text without their ends. A longer one than a batch may have is an error.
pub fn lines(mut input: impl BufRead) -> impl Iterator<Item = io::Result<String>> {
    let mut read = move || {
        let mut bytes = Vec::new();
        if input.by_ref().take(MAX_LINE + 1).read_until(b'\n', &mut bytes)? as u64 > MAX_LINE {
            return Err(io::Error::other(format!("expected at most {MAX_LINE} bytes, found more")));
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            io::Error::other(format!("expected UTF-8, found an invalid byte at position {at}"))
        })?;
        let text = text.strip_suffix('\n').map_or(&*text, |text| text.strip_suffix('\r').unwrap_or(text));
        Ok(Some(text.to_owned()))
    };
    std::iter::from_fn(move || read().transpose())
}

/// Standard input, without its last newline, which `echo` and editors add, and without a byte order mark, which other editors put first.
pub fn text() -> Result<String> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes).with_context(|| "standard input".to_owned())?;
    let mut text = String::from_utf8(bytes).map_err(|error| {
        anyhow!(
            "standard input: expected UTF-8, found an invalid byte at position {}",
            error.utf8_error().valid_up_to()
        )
    })?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}
