use crate::config::{self, TUNED};
use crate::exit::{Exit, UsageError};
use crate::load::LayoutArgs;
use crate::machine::DeviceArgs;
use crate::output::{self, OutputFile};
use crate::table::columns;
use crate::{interrupt, measure, progress, units};
use anyhow::{Context, Result};
use clap::{Args, value_parser};
use serde_json::json;
use std::fmt::Write as _;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use trine_backend::{CacheType, KV_FORMATS, Topology};
use trine_lab::bench::FOREIGN;
use trine_lab::tune::{Doubt, Trial, TuneOptions, TuneReport, tune};
use trine_model::DeviceOptions;

/// Find the fastest options of this machine for a model
///
/// Measures answers and prompts with more and fewer threads, with weights repacked and in huge pages, and with longer and shorter
/// forward passes, and writes what is fastest to a file that `run`, `serve`, `batch`, `generate-data`, `bench` and `info` read for
/// this model, and say so: --tuning off ignores it. None of it changes an answer.
///
/// Nothing else should run meanwhile. Where others take more than 10 % of the CPUs, which Linux tells, it is measured again, up to three
/// times; if they still do, no file is written. Nor does a file that is there make way for less than all options. The exit status is 6
/// then. An option whose speeds vary too much to tell the best value is left out.
///
/// Two options are measured and not written. The star of --parallel is at the fewest sequences that have nine tenths of the highest
/// speed together; each needs a cache of its own. Types of the cache, which are measured after 2,048 tokens, change answers.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine tune model.gguf\n  \
    trine tune model.gguf --seconds 20 --json\n  \
    trine tune model.gguf -o tuning.toml    for --tuning tuning.toml")]
pub struct Tune {
    /// Model: a GGUF or safetensors file, or its folder
    model: PathBuf,
    /// Begin no measurement after this time
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// File to write [default: one for this model in the user's data folder]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace an existing file
    #[arg(long, requires = "output")]
    force: bool,
    /// Write the file although others took more than 10 % of the CPUs
    #[arg(long)]
    under_load: bool,
    /// Print one line of JSON; unknown values are null
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    layouts: LayoutArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

impl Tune {
    pub fn run(self) -> Result<Exit> {
        let file = self.layouts.open(&self.model)?;
        let path = match &self.output {
            Some(path) => path.clone(),
            None => config::tuning_file(&file)?,
        };
        match path.parent().filter(|_| self.output.is_none()) {
            Some(folder) => std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?,
            None => output::check_new(&path, self.force, "choose another name; --force replaces it")?,
        }
        // It is read later, which a pipe is not.
        if path.exists() && !path.is_file() {
            let message = format!("{}: expected a file, found a device, a pipe or a folder", path.display());
            return Err(UsageError { message, hint: "choose another name; --json prints what was found" }.into());
        }
        let output = OutputFile::new(&path, &self.model)?;
        let stop = interrupt::flag()?;
        let cores = Topology::read().cores.len().max(1);
        // All up to eight, then powers of two, and all.
        let mut threads: Vec<usize> = (1..=cores.min(8)).collect();
        threads.extend((4..).map(|power| 1 << power).take_while(|threads| *threads < cores));
        threads.extend((cores > 8).then_some(cores));
        let device = DeviceOptions { device: self.device.name(), ..DeviceOptions::default() };
        let options = TuneOptions {
            device,
            threads,
            chunks: vec![512, 256, 128, 1024],
            copies: measure::free_memory().is_some_and(|free| free > 2 * file.size()),
            sequences: vec![1, 2, 4, 8, 16, 32],
            cache_types: KV_FORMATS.iter().map(|format| CacheType::both(format)).collect(),
            time: Duration::from_secs(self.seconds),
            foreign: if self.under_load { f64::INFINITY } else { FOREIGN },
            stop: stop.clone(),
        };
        let bar = progress::bar("measuring {msg}", 0);
        let report = tune(&file, &options, &mut |what| {
            bar.set_message(what.to_owned());
            bar.tick();
            if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        bar.finish_and_clear();
        let report = report?;
        let text = self.toml(&report);
        let disturbed = report.unsure.iter().any(|(option, doubt)| *doubt == Doubt::Foreign && TUNED.contains(option));
        // What was measured in less time must not replace it without being told.
        let kept =
            self.output.is_none() && path.exists() && !(report.incomplete.is_empty() && report.unsure.is_empty());
        let is_written = !kept && !disturbed;
        if is_written {
            output.write(|out| out.write_all(text.as_bytes()))?;
        }
        let exit = if is_written { Exit::Done } else { Exit::CannotTell };
        let mut out = std::io::stdout().lock();
        if self.json {
            let chosen: serde_json::Map<_, _> =
                report.chosen().map(|(option, value)| (option.to_owned(), value.into())).collect();
            writeln!(out, "{}", json!({ "file": path, "written": is_written, "options": chosen, "report": report }))?;
            return Ok(exit);
        }
        writeln!(out, "{}\n{LEGEND}", columns(&rows(&report), 2))?;
        for option in &report.incomplete {
            note!(
                "note: --{option} was not measured in full, and stays as it is: the time was over; --seconds gives more"
            );
        }
        for (option, doubt) in &report.unsure {
            let why = match doubt {
                Doubt::Foreign => "others took too much of the CPUs",
                Doubt::Spread => "the speeds vary too much to tell the best",
            };
            note!("note: --{option} stays as it is: {why}");
        }
        let speeds = [("answers", report.decode), ("prompts", report.prompt)].into_iter();
        let speed = |(what, speed): (&str, Option<f64>)| Some(format!("{what} {} tokens/s", units::measured(speed?)));
        let speeds: Vec<String> = speeds.filter_map(speed).collect();
        let speeds = if speeds.is_empty() { "nothing was chosen".to_owned() } else { speeds.join(", ") };
        let file = match is_written {
            true => "written to",
            false if disturbed => "measure again on a quiet machine, or add --under-load: not written to",
            false => "there is a file already: not written to",
        };
        writeln!(out, "\n{speeds}; {file} {}", path.display())?;
        Ok(exit)
    }

    /// The file with the best options.
    fn toml(&self, report: &TuneReport) -> String {
        let how = if self.under_load { " --under-load" } else { "" };
        let model = crate::table::visible(&self.model.display().to_string());
        let mut text = format!("# Written by `trine tune{how}` for {model}\n");
        for (option, value) in report.chosen().filter(|(option, _)| TUNED.contains(option)) {
            let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
            let _ =
                if is_number { writeln!(text, "{option} = {value}") } else { writeln!(text, "{option} = {value:?}") };
        }
        text
    }
}

/// What the columns are.
const LEGEND: &str =
    "*: chosen; range: where the median may lie; others: CPU time that the host and other processes took";

/// What was measured; a star before the best.
fn rows(report: &TuneReport) -> Vec<[String; 7]> {
    let speed = |speed: Option<f64>| speed.map_or_else(String::new, units::measured);
    let range = |speed: Option<f64>, range: Option<[f64; 2]>| match range {
        Some([low, high]) => units::range(low, high),
        None => speed.map_or_else(String::new, |_| "-".to_owned()),
    };
    let row = |trial: &Trial| {
        [
            format!("--{} {}", trial.option, trial.value),
            if trial.chosen { "*" } else { "" }.to_owned(),
            speed(trial.decode),
            range(trial.decode, trial.decode_interval),
            speed(trial.prompt),
            range(trial.prompt, trial.prompt_interval),
            trial.foreign.map_or("-".to_owned(), |share| format!("{:.0} %", 100.0 * share)),
        ]
    };
    let head = ["option", "", "answers, tokens/s", "range", "prompts, tokens/s", "range", "others"].map(str::to_owned);
    std::iter::once(head).chain(report.trials.iter().map(row)).collect()
}
