//! Texts in files: documents between separators, or one in each line of JSONL.

use crate::Error;

/// The documents of a file, in order; none is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Documents {
    /// Their texts.
    pub texts: Vec<String>,
    /// Whether the file says where each ends: it has a separator, or is JSONL. Otherwise it is one text, which may begin and end anywhere.
    pub parted: bool,
}

impl Documents {
    /// The documents of a text file called `name`: what stands between separators, less white space around it. A text without the separator
    /// is one document, as it is; so is any with an empty separator.
    ///
    /// # Errors
    /// When it is not UTF-8, or empty.
    pub fn of_text(bytes: Vec<u8>, name: &str, separator: &str) -> Result<Documents, Error> {
        let text = String::from_utf8(bytes).map_err(|error| not_utf8(name, error.utf8_error()))?;
        let parted = !separator.is_empty() && text.contains(separator);
        let texts = match parted {
            false => vec![text],
            true => text.split(separator).map(|text| text.trim().to_owned()).collect(),
        };
        Documents { texts, parted }.not_empty(name)
    }

    /// The documents of a JSONL file called `name`: the string `field` of each line's object, as it is. Empty lines are left out.
    ///
    /// # Errors
    /// When a line has no such thing, and when there are none.
    pub fn of_jsonl(bytes: &[u8], name: &str, field: &str) -> Result<Documents, Error> {
        let text = str::from_utf8(bytes).map_err(|error| not_utf8(name, error))?;
        let mut texts = Vec::new();
        for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let bad = |found: String| Error::Line {
                path: name.to_owned(),
                line: i + 1,
                expected: format!("a JSON object with a string `{field}`"),
                found,
            };
            let object: serde_json::Value = serde_json::from_str(line).map_err(|error| bad(error.to_string()))?;
            let value = object.get(field).ok_or_else(|| bad("none".to_owned()))?;
            let text = value.as_str().ok_or_else(|| bad(format!("`{field}` of another type")))?;
            texts.push(text.to_owned());
        }
        Documents { texts, parted: true }.not_empty(name)
    }

    fn not_empty(mut self, name: &str) -> Result<Documents, Error> {
        self.texts.retain(|text| !text.is_empty());
        if self.texts.is_empty() { Err(Error::NoText { path: name.to_owned() }) } else { Ok(self) }
    }
}

fn not_utf8(name: &str, error: std::str::Utf8Error) -> Error {
    Error::NotUtf8 { path: name.to_owned(), at: error.valid_up_to() }
}
