use crate::exit::{Exit, UsageError};
use crate::table::{self, columns};
use anyhow::{Context, Result, anyhow};
use base64::Engine;
use clap::{Args, Subcommand, value_parser};
use serde_json::json;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use trine_server::keys::{Key, KeyError, KeyFile, hash};

/// Make, list and revoke keys for `trine serve --keys`
///
/// The file has the hashes of keys and what each may take: a key is printed once, when it is made. A server reads it again on SIGHUP.
#[derive(Args)]
pub struct KeyCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    New(New),
    List(List),
    Revoke(Revoke),
}

/// Make a key, and print it
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine key new ann --keys keys.toml\n  \
    trine key new bob --keys keys.toml --max-concurrency 4")]
struct New {
    /// Whose key it is: a name for logs and limits
    name: String,
    /// Requests per minute at most [default: no limit]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    requests_per_minute: Option<u32>,
    /// Tokens per minute at most, of prompts and answers [default: no limit]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    tokens_per_minute: Option<u32>,
    /// Requests at once at most [default: no limit]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    max_concurrency: Option<u32>,
    /// Let it open /admin and /debug, too
    #[arg(long)]
    admin: bool,
    #[command(flatten)]
    file: FileArgs,
}

/// List the keys, by their names
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine key list --keys keys.toml")]
struct List {
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    file: FileArgs,
}

/// Revoke a key
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine key revoke ann --keys keys.toml")]
struct Revoke {
    /// Whose key it is
    name: String,
    #[command(flatten)]
    file: FileArgs,
}

#[derive(Args)]
struct FileArgs {
    /// The file of keys [default: trine/keys.toml in the user's configuration folder]
    #[arg(long, value_name = "FILE", env = "TRINE_KEYS")]
    keys: Option<PathBuf>,
}

impl FileArgs {
    fn path(&self) -> Result<PathBuf> {
        match &self.keys {
            Some(path) => Ok(path.clone()),
            None => {
                let folder = dirs::config_dir()
                    .context("expected a configuration folder of the user, found none: --keys names a file")?;
                Ok(folder.join("trine/keys.toml"))
            }
        }
    }

    /// The keys; none where there is no file.
    fn read(&self) -> Result<(PathBuf, KeyFile)> {
        let path = self.path()?;
        match KeyFile::read(&path) {
            Err(KeyError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok((path, KeyFile::default())),
            read => Ok((path, read?)),
        }
    }
}

impl KeyCommand {
    pub fn run(self) -> Result<Exit> {
        match self.action {
            Action::New(new) => new.run(),
            Action::List(list) => list.run(),
            Action::Revoke(revoke) => revoke.run(),
        }
    }
}

/// What is wrong with the name of a new key, if anything.
fn wrong_name(name: &str) -> Option<String> {
    /// Letters of a name at most.
    const MOST: usize = 64;
    let known = |c: char| c.is_alphanumeric() || " ._-@+".contains(c);
    let length = name.chars().count();
    match name.chars().find(|&c| !known(c)) {
        _ if name.is_empty() => Some("expected a name, found an empty one".to_owned()),
        _ if length > MOST => Some(format!("expected a name of at most {MOST} letters, found {length}")),
        Some(c) => Some(format!("expected a name of letters, digits, spaces and ._-@+, found {c:?} in {name:?}")),
        None if !name.contains(char::is_alphanumeric) => {
            Some(format!("expected a name with a letter or digit, found {name:?}"))
        }
        None => None,
    }
}

impl New {
    fn run(self) -> Result<Exit> {
        let (path, mut file) = self.file.read()?;
        let name = self.name.trim().to_owned();
        if let Some(message) = wrong_name(&name) {
            return Err(UsageError { message, hint: "it stands in logs, where it tells whose request one is" }.into());
        }
        if file.key.iter().any(|key| key.name == name) {
            let message = format!("{}: there is a key called `{}`", path.display(), table::visible(&name));
            return Err(UsageError { message, hint: "`trine key revoke` removes it" }.into());
        }
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| anyhow!("no random numbers: {error}"))?;
        let key = format!("sk-{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes));
        file.key.push(Key {
            name,
            sha256: hash(&key),
            requests_per_minute: self.requests_per_minute,
            tokens_per_minute: self.tokens_per_minute,
            max_concurrency: self.max_concurrency,
            admin: self.admin,
        });
        file.write(&path)?;
        writeln!(std::io::stdout(), "{key}")?;
        note!("note: its hash is in {}: the key itself is printed here alone", path.display());
        Ok(Exit::Done)
    }
}

impl List {
    fn run(self) -> Result<Exit> {
        let (_, file) = self.file.read()?;
        let mut out = std::io::stdout();
        if self.json {
            let key = |key: &Key| {
                json!({
                    "name": key.name, "requests_per_minute": key.requests_per_minute,
                    "tokens_per_minute": key.tokens_per_minute, "max_concurrency": key.max_concurrency, "admin": key.admin,
                })
            };
            writeln!(out, "{}", json!(file.key.iter().map(key).collect::<Vec<_>>()))?;
            return Ok(Exit::Done);
        }
        let limit = |limit: Option<u32>| limit.map_or_else(|| "-".to_owned(), |limit| limit.to_string());
        let mut rows = vec![["name", "requests/min", "tokens/min", "at once", "admin"].map(str::to_owned)];
        rows.extend(file.key.iter().map(|key| {
            let admin = if key.admin { "yes" } else { "no" }.to_owned();
            let [requests, tokens, at_once] =
                [key.requests_per_minute, key.tokens_per_minute, key.max_concurrency].map(limit);
            [table::visible(&key.name), requests, tokens, at_once, admin]
        }));
        writeln!(out, "{}", columns(&rows, 1))?;
        Ok(Exit::Done)
    }
}

impl Revoke {
    fn run(self) -> Result<Exit> {
        let (path, mut file) = self.file.read()?;
        let before = file.key.len();
        file.key.retain(|key| key.name != self.name);
        if file.key.len() == before {
            let message = format!("{}: no key is called `{}`", path.display(), table::visible(&self.name));
            return Err(UsageError { message, hint: "`trine key list` lists them" }.into());
        }
        file.write(&path)?;
        note!("note: a server that runs goes on to know it until SIGHUP");
        Ok(Exit::Done)
    }
}
