use crate::exit::{Exit, UsageError};
use crate::load::LoadArgs;
use crate::near;
use crate::table::{columns, visible};
use crate::{interrupt, progress};
use anyhow::Result;
use clap::{Args, value_parser};
use indicatif::ProgressBar;
use serde_json::{Map, Value, json};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use trine_lab::tasks::{self, Task, TaskOptions, TaskResult, aggregate, paired};

const BAR: &str = "{msg} {bar:30} {pos}/{len} {eta}";

/// Measure how often a model answers questions correctly
///
/// Asks as lm-evaluation-harness does, without examples before the question, and gets the same numbers: the answer of a model is the
/// choice with the highest log-likelihood (acc), or with the highest log-likelihood per character (acc_norm); a text that goes on is
/// right if its tokens are the most likely ones. Intervals are standard errors. A text longer than the context loses its beginning.
///
/// A task is a file of JSON lines, of one of these forms:
///   {"query": "...", "choices": ["...", "..."], "gold": 0}
///   {"context_options": ["...", "..."], "continuation": "...", "gold": 0}
///   {"context": "...", "continuation": "..."}
///
/// With --against, a second model answers the same questions; p is the probability of so large a difference if both were equally good
/// (McNemar's exact test).
#[derive(Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:\n  \
    trine eval tasks model.gguf --data tasks --tasks copa,piqa\n  \
    trine eval tasks model.gguf --tasks my/questions.jsonl --limit 100 --json\n  \
    trine eval tasks q4.gguf --against f16.gguf --data tasks --tasks arc_easy"
)]
pub struct EvalTasks {
    /// Model
    model: PathBuf,
    /// Names of tasks in --data, or files that end with .jsonl [default: all in --data]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    tasks: Vec<String>,
    /// Folder in which tasks are, at any depth, as NAME.jsonl
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Maximum number of examples of each task, the first ones
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Compare with this model
    #[arg(long, value_name = "MODEL")]
    against: Option<PathBuf>,
    /// Also continue texts greedily to the end of the line, and count those that are exactly right (exact_match)
    #[arg(long)]
    generate: bool,
    /// Put no BOS before texts, as lm-evaluation-harness does unless add_bos_token is set
    #[arg(long)]
    no_bos: bool,
    /// Print one line of JSON; unknown values are null
    #[arg(long)]
    json: bool,
    /// Print no progress and no warnings
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    load: LoadArgs,
}

impl EvalTasks {
    pub fn run(self) -> Result<Exit> {
        let stop = interrupt::flag()?;
        let limit = self.limit.map_or(usize::MAX, |limit| limit as usize);
        let tasks = self.files()?.iter().map(|path| Task::read(path, limit)).collect::<Result<Vec<_>, _>>()?;
        if self.generate && !tasks.iter().any(Task::continues) {
            let message = "--generate: no task has texts to continue, only questions with choices".to_owned();
            return Err(UsageError { message, hint: "omit it, or add a task of `context` and `continuation`" }.into());
        }
        let first = self.measure(&self.load, &self.model, &tasks, &stop)?;
        // Only the other model is quantized as it is loaded.
        let stored = self.load.as_stored();
        let second = self.against.as_ref().map(|model| self.measure(&stored, model, &tasks, &stop)).transpose()?;
        let mut out = io::stdout().lock();
        if self.json {
            let results = |results: &[TaskResult]| -> Result<Value> {
                let each = tasks
                    .iter()
                    .zip(results)
                    .map(|(task, result)| Ok((task.name.clone(), serde_json::to_value(result)?)));
                Ok(Value::Object(each.collect::<Result<Map<_, _>>>()?))
            };
            let mut report = json!({
                "model": self.model, "limit": self.limit, "results": results(&first)?,
                "aggregate": aggregate(first.iter()),
            });
            if let Some(second) = &second {
                report["against"] = json!({
                    "model": self.against, "results": results(second)?, "aggregate": aggregate(second.iter()),
                });
                let pairs = tasks.iter().zip(first.iter().zip(second));
                let pairs = pairs.map(|(task, (a, b))| Ok((task.name.clone(), serde_json::to_value(paired(a, b))?)));
                report["paired"] = Value::Object(pairs.collect::<Result<Map<_, _>>>()?);
            }
            writeln!(out, "{report}")?;
        } else {
            self.print(&tasks, &first, second.as_deref(), &mut out)?;
        }
        Ok(Exit::Done)
    }

    /// The files of the tasks.
    fn files(&self) -> Result<Vec<PathBuf>> {
        if self.data.is_some() && !self.tasks.is_empty() && self.tasks.iter().all(|task| task.ends_with(".jsonl")) {
            let message = "--data: all tasks are files, none a name in the folder".to_owned();
            return Err(UsageError { message, hint: "omit it" }.into());
        }
        let known = match &self.data {
            Some(folder) => found(folder)?,
            None => Vec::new(),
        };
        let name = |path: &PathBuf| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if self.tasks.is_empty() && known.is_empty() {
            let message = "expected tasks, found none".to_owned();
            return Err(UsageError { message, hint: "name files by --tasks, or their folder by --data" }.into());
        }
        if self.tasks.is_empty() {
            return Ok(known);
        }
        let mut files = Vec::new();
        for task in &self.tasks {
            if task.ends_with(".jsonl") {
                files.push(PathBuf::from(task));
                continue;
            }
            let mut matches = known.iter().filter(|path| name(path) == *task);
            let Some(path) = matches.next() else {
                let names: Vec<String> = known.iter().map(name).collect();
                let nearest = near::best(task, names.iter().map(String::as_str));
                let found = match (nearest, &self.data) {
                    (Some(nearest), _) => format!("did you mean {nearest}?"),
                    (None, Some(folder)) => format!("{} has {}", folder.display(), names.join(", ")),
                    (None, None) => "--data names the folder of tasks".to_owned(),
                };
                let message = format!("--tasks: there is no task `{task}`: {found}");
                return Err(UsageError { message, hint: "or name a file that ends with .jsonl" }.into());
            };
            files.push(path.clone());
        }
        let mut names: Vec<String> = files.iter().map(name).collect();
        names.sort();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            let message = format!("--tasks: `{}` is there twice", pair[0]);
            return Err(UsageError { message, hint: "name each task once" }.into());
        }
        Ok(files)
    }

    fn measure(
        &self,
        load: &LoadArgs,
        model: &Path,
        tasks: &[Task],
        stop: &Arc<AtomicBool>,
    ) -> Result<Vec<TaskResult>> {
        let decoder = load.load(model, self.quiet, stop)?;
        if !self.quiet {
            decoder.warnings().iter().for_each(|warning| note!("warning: {}", visible(warning)));
        }
        let context = self.load.context.map_or(decoder.spec().context_length, |context| context as usize);
        let options = TaskOptions {
            batch: self.load.batch.map_or(512, |batch| batch as usize),
            cache_type: self.load.machine.cache_type,
            context: context.min(decoder.spec().context_length),
            bos: !self.no_bos,
            generate: self.generate,
        };
        let (mut runner, language) = decoder.into_parts();
        let bar = if self.quiet { ProgressBar::hidden() } else { progress::bar(BAR, 0) };
        let mut results = Vec::new();
        for task in tasks {
            bar.set_message(task.name.clone());
            let result = tasks::run(&mut *runner, &language.tokenizer, task, &options, &mut |done, all| {
                bar.set_length(all as u64);
                bar.set_position(done as u64);
                if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            if result.is_err() {
                bar.finish_and_clear();
            }
            results.push(result?);
        }
        bar.finish_and_clear();
        Ok(results)
    }

    fn print(
        &self,
        tasks: &[Task],
        first: &[TaskResult],
        second: Option<&[TaskResult]>,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let percent = |share: f64, error: Option<f64>| match error {
            Some(error) => format!("{:.2} ± {:.2}", 100.0 * share, 100.0 * error),
            None => format!("{:.2}", 100.0 * share),
        };
        let maybe = |share: Option<f64>, error| share.map_or(String::new(), |share| percent(share, error));
        let head = ["task", "acc %", "acc_norm %", "exact %", "perplexity", "chance %", "examples", "against", "p"];
        let mut rows = vec![head.map(str::to_owned)];
        for (i, (task, result)) in tasks.iter().zip(first).enumerate() {
            let other = second.map(|second| (&second[i], paired(result, &second[i])));
            rows.push([
                task.name.clone(),
                percent(result.acc, result.stderr),
                maybe(result.acc_norm, result.stderr_norm),
                maybe(result.exact_match, result.stderr_exact),
                result.perplexity.map_or(String::new(), |perplexity| format!("{perplexity:.2}")),
                format!("{:.0}", 100.0 * result.chance),
                result.examples.to_string(),
                other.map_or(String::new(), |(other, _)| percent(other.acc, other.stderr)),
                other.map_or(String::new(), |(_, paired)| format!("{:.3}", paired.p)),
            ]);
        }
        writeln!(out, "{}", columns(&rows, 1))?;
        if let Some(all) = aggregate(first.iter()).filter(|_| first.len() > 1) {
            let [acc, above] = [all.acc, all.above_chance].map(|share| 100.0 * share);
            writeln!(
                out,
                "mean of {} tasks: acc {acc:.2} %, {above:.2} % of the way from chance to all right",
                first.len()
            )?;
        }
        let truncated: usize = first.iter().map(|result| result.truncated).sum();
        if truncated > 0 && !self.quiet {
            note!("warning: {truncated} texts lost their beginning, as they are longer than the context");
        }
        Ok(())
    }
}

/// All files that end with .jsonl in a folder and those in it, sorted.
fn found(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let located = |error: io::Error| anyhow::anyhow!("{}: {error}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(located)? {
        let entry = entry.map_err(located)?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(located)?);
        if kind.is_dir() {
            files.extend(found(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "jsonl") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
