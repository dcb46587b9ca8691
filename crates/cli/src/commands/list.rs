use crate::exit::Exit;
use crate::table::{columns, visible};
use crate::{hub, units};
use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};
use trine_hub::{CachedFile, CachedModel};

/// List downloaded models
///
/// They are in the cache of Hugging Face's programs, whoever downloaded them: HF_HUB_CACHE, or `hub` in HF_HOME, or
/// ~/.cache/huggingface/hub. Any command takes their names.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine list\n  \
    trine list --files\n  \
    trine list --json | jq '.[].repo'")]
pub struct List {
    /// List the files of each model
    #[arg(long)]
    files: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Digits of a commit that has no name.
const DIGITS: usize = 8;

impl List {
    pub fn run(self) -> Result<Exit> {
        let cache =
            hub::cache().context("expected a home folder of the user, found none: HF_HUB_CACHE names a folder")?;
        let models = cache.list();
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", models.iter().map(report).collect::<serde_json::Value>())?;
            return Ok(Exit::Done);
        }
        if models.is_empty() {
            note!("note: no models in {}; `trine pull OWNER/REPO` downloads one", cache.root().display());
            return Ok(Exit::Done);
        }
        let mut rows = vec![["model", "revision", "files", "size", "last used"].map(str::to_owned)];
        for model in &models {
            rows.push(row(model));
            if self.files {
                rows.extend(model.files.iter().map(file_row));
            }
        }
        writeln!(out, "{}", columns(&rows, 2))?;
        Ok(Exit::Done)
    }
}

fn row(model: &CachedModel) -> [String; 5] {
    let revision = match model.revisions.as_slice() {
        [] => model.commit.chars().take(DIGITS).collect(),
        names => names.join(", "),
    };
    let incomplete =
        if model.incomplete > 0 { format!(" + {} incomplete", units::bytes(model.incomplete)) } else { String::new() };
    let ago = |time: SystemTime| Some(format!("{} ago", units::duration(time.elapsed().ok()?.as_secs_f64())));
    let used = model.last_used.and_then(ago).unwrap_or_else(|| "-".to_owned());
    let size = format!("{}{incomplete}", units::bytes(model.size()));
    [model.repo.to_string(), visible(&revision), units::count(model.files.len() as u64), size, used]
}

fn file_row(file: &CachedFile) -> [String; 5] {
    [format!("  {}", visible(&file.path)), String::new(), String::new(), units::bytes(file.size), String::new()]
}

fn report(model: &CachedModel) -> serde_json::Value {
    let file = |file: &CachedFile| json!({"path": file.path, "size": file.size});
    let used = model.last_used.and_then(|time| Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs()));
    json!({
        "repo": model.repo.as_str(), "revisions": model.revisions, "commit": model.commit, "path": model.path, "bytes": model.size(),
        "incomplete_bytes": model.incomplete, "last_used": used, "files": model.files.iter().map(file).collect::<Vec<_>>(),
    })
}
