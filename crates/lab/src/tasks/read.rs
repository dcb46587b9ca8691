use super::Error;
use serde_json::{Map, Value};
use std::path::Path;
use trine_tensor::read_small;

/// Larger than any file of a task, in bytes.
const MOST: u64 = 256 << 20;
/// Choices of a question.
const CHOICES: usize = 256;

/// A question, or a text that goes on.
#[derive(Clone, Debug, PartialEq)]
pub enum Example {
    /// Contexts with their continuations, of which `gold` is right, and the characters of each choice, unless the choices are contexts.
    Choice {
        pairs: Vec<[String; 2]>,
        lengths: Option<Vec<usize>>,
        gold: usize,
    },
    Continuation {
        context: String,
        continuation: String,
    },
}

/// A file of examples.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// The name of the file, without its ending.
    pub name: String,
    pub examples: Vec<Example>,
}

impl Task {
    /// Whether it has texts that go on, and not questions with choices alone.
    pub fn continues(&self) -> bool {
        self.examples.iter().any(|example| matches!(example, Example::Continuation { .. }))
    }

    /// Reads the first `limit` examples of a file.
    ///
    /// # Errors
    /// When the file cannot be read, a line is no example, or there is none.
    pub fn read(path: &Path, limit: usize) -> Result<Task, Error> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = read_small(path, MOST)?;
        let mut examples = Vec::new();
        for (i, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
            if examples.len() == limit {
                break;
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            let wrong = |(expected, found): (String, String)| {
                let path = path.display().to_string();
                Error::Line { path, line: i + 1, expected, found }
            };
            let object = serde_json::from_slice::<Map<String, Value>>(line);
            let object = object.map_err(|error| wrong(("an object".to_owned(), error.to_string())))?;
            examples.push(example(&object).map_err(wrong)?);
        }
        match examples.is_empty() {
            true => Err(Error::Empty { path: path.display().to_string() }),
            false => Ok(Task { name, examples }),
        }
    }
}

/// What was expected, and what was found.
type Wrong = (String, String);

fn example(object: &Map<String, Value>) -> Result<Example, Wrong> {
    if object.contains_key("choices") {
        let (query, choices) = (text(object, "query")?, texts(object, "choices")?);
        let lengths = choices.iter().map(|choice| choice.chars().count()).collect();
        let gold = gold(object, choices.len())?;
        let pairs = choices.into_iter().map(|choice| [query.clone(), format!(" {choice}")]).collect();
        return Ok(Example::Choice { pairs, lengths: Some(lengths), gold });
    }
    let continuation = format!(" {}", text(object, "continuation")?);
    if object.contains_key("context_options") {
        let contexts = texts(object, "context_options")?;
        let gold = gold(object, contexts.len())?;
        let pairs = contexts.into_iter().map(|context| [context, continuation.clone()]).collect();
        return Ok(Example::Choice { pairs, lengths: None, gold });
    }
    Ok(Example::Continuation { context: text(object, "context")?, continuation })
}

fn found(object: &Map<String, Value>, key: &str) -> String {
    object.get(key).map_or_else(|| "none".to_owned(), |value| value.to_string().chars().take(60).collect())
}

fn text(object: &Map<String, Value>, key: &str) -> Result<String, Wrong> {
    let text = object.get(key).and_then(Value::as_str);
    text.map(str::to_owned).ok_or_else(|| (format!("a text in `{key}`"), found(object, key)))
}

fn texts(object: &Map<String, Value>, key: &str) -> Result<Vec<String>, Wrong> {
    let list = object.get(key).and_then(Value::as_array).filter(|list| (2..=CHOICES).contains(&list.len()));
    let texts = list.and_then(|list| list.iter().map(|text| text.as_str().filter(|text| !text.is_empty())).collect());
    let texts: Option<Vec<&str>> = texts;
    let texts = texts.map(|texts| texts.into_iter().map(str::to_owned).collect());
    texts.ok_or_else(|| (format!("2 to {CHOICES} texts in `{key}`"), found(object, key)))
}

fn gold(object: &Map<String, Value>, choices: usize) -> Result<usize, Wrong> {
    let gold = object.get("gold").and_then(Value::as_u64).filter(|&gold| gold < choices as u64);
    let wrong = || (format!("the number of the right choice, 0 to {}, in `gold`", choices - 1), found(object, "gold"));
    gold.map(|gold| gold as usize).ok_or_else(wrong)
}
