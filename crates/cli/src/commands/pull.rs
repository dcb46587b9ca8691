use crate::exit::Exit;
use crate::table::{self, visible};
use crate::{hub, interrupt, progress, units};
use anyhow::Result;
use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use trine_hub::{Hub, Plan, PlannedFile, Progress, Pulled, Reference, Retry};

const BAR: &str = "{msg} {bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";

/// Download a model from Hugging Face or a hub of its kind
///
/// Of a repository with GGUF files, this is the one of the given format, such as Q4_K_M, or of the given name, with all its shards;
/// without one, Q4_K_M, else Q8_0, else the first, as in llama.cpp. Of a repository with safetensors, it is these with the
/// configuration, the tokenizer and the chat templates.
///
/// The model goes to the cache of Python's huggingface_hub, where both find it: `trine run OWNER/REPO` needs no network. What is
/// interrupted is continued by the same command. Sizes and hashes are checked before a file gets its name.
///
/// HF_ENDPOINT names another hub, HF_TOKEN the token for models that are not public, or HF_TOKEN_PATH its file, and HF_HUB_CACHE or
/// HF_HOME the folder. The token is sent to the hub alone. HTTPS_PROXY and SSL_CERT_FILE are kept, as is HF_HUB_OFFLINE.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine pull Qwen/Qwen3-0.6B-GGUF              Q4_K_M, or what is there\n  \
    trine pull Qwen/Qwen3-0.6B-GGUF:Q8_0         another format\n  \
    trine pull Qwen/Qwen3-0.6B                   safetensors\n  \
    trine pull Qwen/Qwen3-0.6B --dry-run         what it would download\n  \
    trine run Qwen/Qwen3-0.6B-GGUF               run it")]
pub struct Pull {
    /// Model: OWNER/REPO, and after a colon the name of a format or file
    #[arg(value_name = "MODEL")]
    reference: String,
    /// Branch, tag or commit
    #[arg(long, value_name = "NAME", default_value = "main")]
    revision: String,
    /// Ranges and files that are downloaded at once
    #[arg(long, value_name = "N", default_value_t = 4, hide_short_help = true, value_parser = clap::value_parser!(u8).range(1..=32))]
    connections: u8,
    /// Print what would be downloaded
    #[arg(long)]
    dry_run: bool,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
    /// Print no progress and no notes
    #[arg(short, long)]
    quiet: bool,
}

impl Pull {
    pub fn run(self) -> Result<Exit> {
        let reference: Reference = self.reference.parse()?;
        let mut options = hub::options()?;
        options.connections = self.connections.into();
        let is_open = options.endpoint.starts_with("http://")
            && !options.endpoint.contains("//127.0.0.1")
            && !options.endpoint.contains("//localhost");
        if is_open && options.token.is_some() && !self.quiet {
            note!("warning: {}: the token is sent without encryption", visible(&options.endpoint));
        }
        let stop = interrupt::flag()?;
        let hub = Hub::new(&options)?;
        let waits = progress::spinner(&format!("asking for {reference}"), self.quiet);
        let asked = Progress::default();
        let plan =
            attended(&hub, &stop, || self.say_retry(&waits, &asked), || hub.plan(&reference, &self.revision, &asked));
        waits.finish_and_clear();
        let plan = plan?;
        if self.dry_run {
            self.print_plan(&plan)?;
            return Ok(Exit::Done);
        }
        let bar =
            if self.quiet || plan.missing() == 0 { ProgressBar::hidden() } else { progress::bar(BAR, plan.size()) };
        bar.set_message("downloading");
        bar.set_position(plan.size() - plan.missing());
        bar.reset_eta();
        let counts = Progress::default();
        let show = || {
            self.say_retry(&bar, &counts);
            show(&bar, &counts, &plan);
        };
        let pulled = attended(&hub, &stop, show, || hub.pull(&plan, &counts));
        bar.finish_and_clear();
        let pulled = pulled?;
        self.print_report(&plan, &pulled)?;
        Ok(Exit::Done)
    }

    /// Says that a request failed and is repeated.
    fn say_retry(&self, bar: &ProgressBar, counts: &Progress) {
        if let Some(Retry { problem, wait, attempt, most }) = counts.take_retry().filter(|_| !self.quiet) {
            let (problem, wait) = (visible(&problem), wait.as_secs_f64().ceil());
            bar.suspend(|| note!("warning: {problem}; trying again in {wait} s ({attempt} of {most})"));
        }
    }

    fn print_plan(&self, plan: &Plan) -> Result<()> {
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", json_of(plan))?;
            return Ok(());
        }
        let row = |file: &PlannedFile| {
            let state = match file.present {
                present if present == file.size => "present".to_owned(),
                0 => "missing".to_owned(),
                present => format!("{} present", units::bytes(present)),
            };
            [visible(&file.path), units::bytes(file.size), state]
        };
        let rows: Vec<[String; 3]> = plan.files.iter().map(row).collect();
        writeln!(out, "{}", table::columns(&rows, 1))?;
        writeln!(
            out,
            "{}, {}, {} to download",
            units::plural(rows.len() as u64, "file"),
            units::bytes(plan.size()),
            units::bytes(plan.missing())
        )?;
        Ok(())
    }

    fn print_report(&self, plan: &Plan, pulled: &Pulled) -> Result<()> {
        let mut out = std::io::stdout().lock();
        if self.json {
            let mut report = json_of(plan);
            report["received"] = pulled.received.into();
            writeln!(out, "{report}")?;
            return Ok(());
        }
        writeln!(out, "{}", visible(&pulled.path.display().to_string()))?;
        if !self.quiet {
            let (files, size) = (units::plural(plan.files.len() as u64, "file"), units::bytes(plan.size()));
            let unchecked = plan.files.iter().filter(|file| !file.has_hash).count() as u64;
            let is_model = pulled.path.is_dir() || pulled.path.extension().is_some_and(|end| end == "gguf");
            let runs = if is_model { format!("; `trine run {}` runs it", plan.reference) } else { String::new() };
            note!("note: {files}, {size}, {} downloaded{runs}", units::bytes(pulled.received));
            if unchecked > 0 {
                note!(
                    "warning: the hub names no hash of {}: only the size was checked",
                    units::plural(unchecked, "file")
                );
            }
        }
        Ok(())
    }
}

fn json_of(plan: &Plan) -> serde_json::Value {
    let file =
        |file: &PlannedFile| json!({"path": file.path, "size": file.size, "etag": file.etag, "present": file.present});
    json!({
        "repo": plan.reference.repo.as_str(), "revision": plan.revision, "commit": plan.commit, "path": plan.path,
        "bytes": plan.size(), "missing": plan.missing(), "files": plan.files.iter().map(file).collect::<Vec<_>>(),
    })
}

fn show(bar: &ProgressBar, counts: &Progress, plan: &Plan) {
    let (checked, to_check) = counts.checked();
    if counts.total() > 0 && counts.done() == counts.total() {
        bar.set_message("checking");
        bar.set_length(to_check);
        bar.set_position(checked);
    } else if counts.total() > 0 {
        // Files that were there before are not counted.
        bar.set_position(counts.done() + plan.size().saturating_sub(counts.total()));
    }
}

/// Runs work on a hub, which Ctrl-C ends, with a look at its progress now and then.
fn attended<T>(hub: &Hub, stop: &AtomicBool, look: impl Fn() + Send, work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let done = &done;
        scope.spawn(move || {
            while !done.load(Relaxed) {
                if stop.load(Relaxed) {
                    hub.stop();
                }
                look();
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let result = work();
        done.store(true, Relaxed);
        result
    })
}
