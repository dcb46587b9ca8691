use crate::exit::{Exit, UsageError};
use crate::hub;
use anyhow::Result;
use clap::Args;
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};
use trine_model::{GgufModel, Language};
use trine_tensor::gguf::{Edited, edit, raw_metadata};
use trine_tensor::receipt::RECEIPT;
use trine_tensor::{File, Metadata, Value};

/// Change keys of a GGUF file
///
/// Tensors stay as they are. If the new header has the size of the old one, the bytes that differ are written in place; else a new
/// file replaces the old one when it is complete. A running program that has the file open must be stopped before.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine edit model.gguf --set general.name='My model'\n  \
    trine edit model.gguf --chat-template template.jinja --remove general.url")]
pub struct Edit {
    /// A GGUF file
    model: PathBuf,
    /// Set a key; the value has the type that the key has, or else is an integer, a number, true, false or text by how it is written
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Remove a key
    #[arg(long, value_name = "KEY")]
    remove: Vec<String>,
    /// Replace the chat template by the text of a file
    #[arg(long, value_name = "PATH")]
    chat_template: Option<PathBuf>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

const TEMPLATE: &str = "tokenizer.chat_template";
const EXAMPLE: &str = "for example --set general.name=model";

/// The value that a text means for a key that has this one.
fn parse(key: &str, text: &str, old: Option<&Value>) -> Result<Value, UsageError> {
    fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
        text.parse().ok()
    }
    let value = match old {
        Some(Value::U8(_)) => number(text).map(Value::U8),
        Some(Value::I8(_)) => number(text).map(Value::I8),
        Some(Value::U16(_)) => number(text).map(Value::U16),
        Some(Value::I16(_)) => number(text).map(Value::I16),
        Some(Value::U32(_)) => number(text).map(Value::U32),
        Some(Value::I32(_)) => number(text).map(Value::I32),
        Some(Value::U64(_)) => number(text).map(Value::U64),
        Some(Value::I64(_)) => number(text).map(Value::I64),
        Some(Value::F32(_)) => number(text).map(Value::F32),
        Some(Value::F64(_)) => number(text).map(Value::F64),
        Some(Value::Bool(_)) => number(text).map(Value::Bool),
        Some(Value::String(_) | Value::Bytes(_)) => Some(Value::String(text.to_owned())),
        Some(Value::Array(_)) => None,
        None => {
            let value = number(text).map(Value::U32).or_else(|| number(text).map(Value::I32));
            let value = value.or_else(|| number(text).map(Value::F32)).or_else(|| number(text).map(Value::Bool));
            Some(value.unwrap_or_else(|| Value::String(text.to_owned())))
        }
    };
    value.ok_or_else(|| UsageError {
        message: format!("--set {key}: expected a value of the type that the key has, found `{text}`"),
        hint: "trine info prints the keys",
    })
}

/// Checks that what was a model is one with these keys, and that it has a tokenizer if it had one.
fn check(path: &Path, metadata: &Metadata) -> Result<()> {
    let file = File::open(path)?;
    if Language::of_metadata(file.metadata()).is_ok() {
        Language::of_metadata(metadata).map_err(|error| error.at(path))?;
    }
    if GgufModel::open(&file, None).is_ok() {
        GgufModel::open(&file.with_metadata(metadata.clone()), None)?;
    }
    Ok(())
}

/// Refuses a key that says which part of a model its file is.
fn check_key(option: &str, key: &str) -> Result<(), UsageError> {
    if !key.starts_with("split.") {
        return Ok(());
    }
    let message = format!("{option} {key}: expected a key of the model, found one of the parts of its file");
    Err(UsageError { message, hint: "`trine split` and `trine merge` write these" })
}

/// Refuses a template, which is given by `what`, that does not compile.
fn check_template(what: &str, template: &str) -> Result<(), UsageError> {
    match trine_text::Template::new(template, "", "") {
        Ok(_) => Ok(()),
        Err(error) => Err(UsageError { message: format!("{what}: {error}"), hint: "expected a template in Jinja" }),
    }
}

/// The name of the first part of a split model, if this is another.
fn first_part(path: &Path, metadata: &Metadata) -> Option<String> {
    let no = metadata.u32("split.no").ok()?.filter(|&no| no > 0)?;
    let name = path.file_name()?.to_str()?;
    Some(name.replace(&format!("-{:05}-of-", u64::from(no) + 1), "-00001-of-"))
}

impl Edit {
    /// Refuses keys that are changed twice.
    fn check_keys(&self) -> Result<(), UsageError> {
        let set = self.set.iter().map(|set| set.split_once('=').map_or(&**set, |(key, _)| key));
        let template = self.chat_template.as_ref().map(|_| TEMPLATE);
        let mut keys: Vec<&str> = set.chain(self.remove.iter().map(String::as_str)).chain(template).collect();
        keys.sort_unstable();
        match keys.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => {
                let message = format!("expected one change of each key, found two of `{}`", pair[0]);
                Err(UsageError { message, hint: "omit one of both" })
            }
            None => Ok(()),
        }
    }

    pub fn run(self) -> Result<Exit> {
        self.check_keys()?;
        hub::check_not_cached(&self.model)?;
        if self.model.is_dir() {
            let message = format!("{}: expected a GGUF file, found a folder", self.model.display());
            return Err(UsageError {
                message,
                hint: "name the file in it; the keys of a folder are those of its config.json",
            }
            .into());
        }
        let old = raw_metadata(&self.model)?;
        if let Some(first) = first_part(&self.model, &old) {
            let message =
                format!("{}: expected the part that has the keys of the model, {first}", self.model.display());
            return Err(UsageError { message, hint: "the other parts have only tensors" }.into());
        }
        let mut metadata = old.clone();
        for set in &self.set {
            let (key, text) = set.split_once('=').ok_or_else(|| UsageError {
                message: format!("--set: expected KEY=VALUE, found `{set}`"),
                hint: EXAMPLE,
            })?;
            check_key("--set", key)?;
            let value = parse(key, text, old.get(key))?;
            if key.strip_prefix(TEMPLATE).is_some_and(|name| name.is_empty() || name.starts_with('.')) {
                check_template(&format!("--set {key}"), text)?;
            }
            metadata.insert(key, value);
        }
        if let Some(path) = &self.chat_template {
            let template = crate::load::template(path).map_err(|message| UsageError { message, hint: EXAMPLE })?;
            check_template(&format!("--chat-template {}", path.display()), &template)?;
            metadata.insert(TEMPLATE, template);
        }
        for key in &self.remove {
            check_key("--remove", key)?;
            if metadata.remove(key).is_none() {
                let message = format!("--remove: expected a key of the file, found `{key}`");
                return Err(UsageError { message, hint: "trine info prints the keys" }.into());
            }
        }
        let changed: Vec<&str> = {
            let all = metadata.iter().map(|(key, _)| key);
            let removed = old.iter().map(|(key, _)| key).filter(|key| metadata.get(key).is_none());
            all.filter(|key| metadata.get(key) != old.get(key)).chain(removed).collect()
        };
        if changed.is_empty() {
            let message = "expected a change, found none".to_owned();
            return Err(UsageError { message, hint: EXAMPLE }.into());
        }
        check(&self.model, &metadata)?;
        let edited = edit(&self.model, &metadata)?;
        if old.iter().any(|(key, _)| key.starts_with(RECEIPT)) {
            note!("note: the receipt is that of the file as it was: `trine verify` names what is changed");
        }
        let how = match edited {
            Edited::Same => "unchanged",
            Edited::InPlace => "header changed in place",
            Edited::Rewritten => "written anew",
        };
        let mut out = std::io::stdout().lock();
        match self.json {
            true => writeln!(out, "{}", json!({ "model": self.model, "changed": changed, "how": how }))?,
            false => writeln!(out, "{}: {}, {how}", self.model.display(), changed.join(", "))?,
        }
        Ok(Exit::Done)
    }
}
