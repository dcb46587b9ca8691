//! `trine bench startup`: how long a model takes to answer from nothing.

use crate::exit::{Exit, UsageError};
use crate::interrupt;
use crate::measure;
use crate::report::ReportArgs;
use crate::{table, units};
use anyhow::{Context, Result, anyhow};
use clap::{Args, value_parser};
use serde_json::{Value, json};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use trine::EMBEDDED;
use trine_lab::bench::{Spread, median_interval};
use trine_tensor::{File, OpenOptions};

/// What is measured of each start: its key in the report, and a title.
const MEASURES: [(&str, &str); 5] = [
    ("load_seconds", "load"),
    ("first_token_seconds", "first token"),
    ("minor_faults", "minor faults"),
    ("process_seconds", "process"),
    ("peak_memory_bytes", "peak memory"),
];

/// What is measured of another program.
const PEER: [&str; 2] = ["process_seconds", "peak_memory_bytes"];

/// Measure how long a model takes to load, and until its first token
///
/// Starts `trine run` again and again: cold, after the system was asked to forget the file, and warm. The first token is counted from the start of
/// loading, the process from its start to its end.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine bench startup model.gguf\n  \
    trine bench startup model.gguf --repetitions 11 --output md\n  \
    trine bench startup a.gguf --against 'llama-completion -m a.gguf -n 1 -p Hi'")]
pub struct Startup {
    /// Model: a GGUF or safetensors file, or its folder [default: built-in]
    model: Option<PathBuf>,
    /// Number of starts of each kind
    #[arg(short, long, visible_alias = "iterations", value_name = "N", default_value_t = 6)]
    #[arg(value_parser = value_parser!(u32).range(1..=1000))]
    repetitions: u32,
    /// Prompt
    #[arg(long, value_name = "TEXT", default_value = "Once upon a time")]
    prompt: String,
    /// Start another program in turn, by a command that loads the same file, writes one token and ends
    ///
    /// Its time from start to end and its peak memory are measured. A shell runs it.
    #[arg(long, value_name = "COMMAND")]
    against: Option<String>,
    #[command(flatten)]
    report: ReportArgs,
}

impl Startup {
    pub fn run(self) -> Result<Exit> {
        let stop = interrupt::flag()?;
        let model = self.model.clone().map_or_else(|| crate::load::unnamed("", false), Ok)?;
        let files = match model == Path::new(EMBEDDED) {
            true => Vec::new(),
            false => trine::open_file(&model, &OpenOptions::default()).map(|file: File| file.files().to_vec())?,
        };
        let programs: Vec<Option<&str>> = std::iter::once(None).chain(self.against.as_deref().map(Some)).collect();
        let start = |program: Option<&str>| program.map_or_else(|| self.start(&model), peer);
        let can_forget = !files.is_empty() && files.iter().all(|file| forget(file));
        // One start that does not count shows that the model answers.
        programs.iter().try_for_each(|&program| start(program).map(drop))?;
        let mut starts = vec![[Vec::new(), Vec::new()]; programs.len()];
        for _ in 0..self.repetitions {
            for (&program, [cold, warm]) in programs.iter().zip(&mut starts) {
                if stop.load(Relaxed) {
                    return Err(trine_lab::bench::Error::Cancelled.into());
                }
                if can_forget && files.iter().all(|file| forget(file)) {
                    cold.push(start(program)?);
                }
                warm.push(start(program)?);
            }
        }
        let mut rows = vec![["program", "start", "measure", "median", "95 %", "CV"].map(str::to_owned)];
        let mut results = Vec::new();
        let kinds = programs.iter().zip(&starts).flat_map(|(program, [cold, warm])| {
            let name = program.map_or("trine", |_| "peer");
            [(name, "cold", cold), (name, "warm", warm)]
        });
        let has_cold = starts.iter().all(|[cold, _]| !cold.is_empty());
        // Nothing was measured: the legend says why.
        let kinds = kinds.filter(|(_, name, _)| has_cold || *name == "warm");
        for (program, name, starts) in kinds {
            for (key, title) in MEASURES {
                if program == "peer" && PEER.iter().all(|known| *known != key) {
                    continue;
                }
                let values: Option<Vec<f64>> = starts.iter().map(|start| start[key].as_f64()).collect();
                let values = values.unwrap_or_default();
                let (found, spread) = (median_interval(&values), Spread::of(&values));
                // One start does not vary.
                let varies = spread.filter(|_| values.len() > 1).and_then(|spread| spread.cv);
                let shown = |value: f64| match key {
                    "peak_memory_bytes" => units::bytes(value as u64),
                    "minor_faults" => units::count(value as u64),
                    _ => format!("{:.1} ms", 1e3 * value),
                };
                rows.push([
                    program.to_owned(),
                    name.to_owned(),
                    title.to_owned(),
                    found.map_or("unknown".to_owned(), |found| shown(found.median)),
                    found.map_or(String::new(), |found| {
                        let interval = format!("{} to {}", shown(found.low), shown(found.high));
                        units::sure(interval, found.confidence)
                    }),
                    varies.map_or("-".to_owned(), |cv| format!("{:.1} %", 100.0 * cv)),
                ]);
                results.push(json!({
                    "program": program, "start": name, "measure": key, "median": found.map(|found| found.median), "low": found.map(|found| found.low),
                    "high": found.map(|found| found.high), "confidence": found.map(|found| found.confidence), "spread": spread,
                }));
            }
        }
        let report = json!({
            "trine": env!("CARGO_PKG_VERSION"), "machine": measure::machine(), "model": model, "against": self.against, "results": results,
        });
        let mut legend = "95 %: interval of the median, with how sure it is where the starts are too few for that;\n\
            first token: from the start of loading; process: from its start to its end;\n\
            minor faults: between loading and the first token, pages of memory that the system had to find, without its disk"
            .to_owned();
        if !has_cold {
            legend += match files.is_empty() {
                true => "\nno cold starts: the model is part of the program",
                false => "\nno cold starts: the system does not forget the file",
            };
        }
        self.report.print(&report, &rows, 3, &legend)?;
        Ok(Exit::Done)
    }

    /// What `trine run` says of one start.
    fn start(&self, model: &Path) -> Result<Value> {
        let program = std::env::current_exe().context("the path of this program")?;
        let mut command = Command::new(program);
        command.arg("run").arg(model).arg(&self.prompt);
        command.args(["--raw", "--json", "--quiet", "--temperature", "0", "--max-tokens", "1"]);
        let start = Instant::now();
        let output = command.output().context("cannot start trine run")?;
        let seconds = start.elapsed().as_secs_f64();
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr).trim().trim_start_matches("error: ").to_owned();
            return Err(UsageError { message, hint: "`trine run` must answer with the model" }.into());
        }
        let answer: Value = serde_json::from_slice(&output.stdout)?;
        let timings = &answer["timings"];
        let known = |key: &str| timings[key].as_f64().ok_or_else(|| anyhow!("trine run tells no {key}"));
        Ok(json!({
            "load_seconds": known("load_seconds")?, "first_token_seconds": known("load_seconds")? + known("prompt_seconds")?,
            "process_seconds": seconds, "peak_memory_bytes": timings["peak_memory_bytes"], "minor_faults": timings["minor_faults"],
        }))
    }
}

/// How often the memory of another program is looked at.
const GLANCE: Duration = Duration::from_millis(1);

/// One start of another program.
fn peer(command: &str) -> Result<Value> {
    let start = Instant::now();
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec {command}")]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = shell.spawn().context("cannot start sh")?;
    let mut errors = child.stderr.take().expect("it is piped");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = errors.read_to_string(&mut text);
        text
    });
    let status = format!("/proc/{}/status", child.id());
    let mut peak = None;
    let ended = loop {
        let memory = std::fs::read_to_string(&status).ok().and_then(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
        });
        peak = peak.max(memory);
        match child.try_wait()? {
            Some(ended) => break ended,
            None => std::thread::sleep(GLANCE),
        }
    };
    let seconds = start.elapsed().as_secs_f64();
    if !ended.success() {
        let errors = reader.join().unwrap_or_default();
        let last = errors.lines().next_back().unwrap_or_default();
        let message = format!("--against: {ended}: {}", table::visible(last));
        return Err(UsageError { message, hint: "expected a command that writes a token and ends" }.into());
    }
    Ok(json!({ "process_seconds": seconds, "peak_memory_bytes": peak.map(|kib| kib << 10) }))
}

/// Asks the system to forget what it has of a file in memory, so that it is read from the disk again.
fn forget(path: &Path) -> bool {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        let advise = |file: std::fs::File| rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed).is_ok();
        std::fs::File::open(path).is_ok_and(advise)
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = path;
        false
    }
}
