use crate::exit::Exit;
use crate::load::LayoutArgs;
use crate::{interrupt, progress, table, units};
use anyhow::Result;
use clap::Args;
use serde_json::json;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use trine_lab::diff::{Diff, Distance, KeyDiff, TensorDiff, diff};
use trine_lab::quantize::Error;
use trine_model::GgufModel;

/// Compare two models
///
/// Compares keys, tokenizer and chat template, and the numbers of each tensor. One of the two may be a folder and the other a GGUF
/// file. The exit status is 5 if the models differ, and 0 if only their files do: in the formats of equal weights, and in keys that
/// describe a file, such as general.name, general.file_type and trine.train.steps. These are printed, too.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine diff model-f16.gguf model-q4_k.gguf\n  \
    trine diff Qwen3-0.6B/ qwen3.gguf --json")]
pub struct DiffCommand {
    /// A GGUF file, or a folder with safetensors and config.json
    first: PathBuf,
    /// Another one
    second: PathBuf,
    #[command(flatten)]
    layouts: LayoutArgs,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

impl DiffCommand {
    pub fn run(self) -> Result<Exit> {
        let stop = interrupt::flag()?;
        let (first, second) = (self.layouts.open(&self.first)?, self.layouts.open(&self.second)?);
        self.layouts.check_used(&[&first, &second])?;
        let first = GgufModel::open(&first, None).map_err(Error::from)?;
        let second = GgufModel::open(&second, None).map_err(Error::from)?;
        for warning in first.warnings().iter().chain(second.warnings()) {
            note!("warning: {}", table::visible(warning));
        }
        let bar = progress::bar("comparing {bar:30} {pos}/{len} tensors {eta}", first.tensors().len() as u64);
        let found = diff(&first, &second, &mut |done| {
            bar.set_position(done as u64);
            if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        bar.finish_and_clear();
        let found = found?;
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", as_json(&found))?
        } else {
            print(&found, &mut out)?
        }
        Ok(if found.is_same() { Exit::Done } else { Exit::Findings })
    }
}

fn as_json(diff: &Diff) -> serde_json::Value {
    let keys = |keys: &[KeyDiff]| {
        let key = |key: &KeyDiff| json!({ "key": key.key, "first": key.first, "second": key.second });
        keys.iter().map(key).collect::<Vec<_>>()
    };
    let tensors = diff.tensors.iter().map(|TensorDiff { name, formats, shapes, distance }| {
        let mut tensor = json!({ "name": name, "formats": formats, "shapes": shapes });
        if let Some(Distance { max_abs, rms, relative, cosine }) = distance {
            tensor["max_abs"] = json!(max_abs);
            tensor["rms"] = json!(rms);
            tensor["relative"] = json!(relative);
            tensor["cosine"] = json!(cosine);
        }
        tensor
    });
    json!({
        "same": diff.is_same(), "keys": keys(&diff.keys), "descriptions": keys(&diff.descriptions),
        "tensors": tensors.collect::<Vec<_>>(), "only_first": diff.only_first, "only_second": diff.only_second,
    })
}

fn print(diff: &Diff, out: &mut impl Write) -> Result<()> {
    let lacks = || "none".to_owned();
    for key in diff.keys.iter().chain(&diff.descriptions) {
        let (first, second) = (key.first.clone().unwrap_or_else(lacks), key.second.clone().unwrap_or_else(lacks));
        writeln!(out, "{}: {} | {}", table::visible(&key.key), table::visible(&first), table::visible(&second))?;
    }
    for (names, which) in [(&diff.only_first, "first"), (&diff.only_second, "second")] {
        names.iter().try_for_each(|name| writeln!(out, "{}: only in the {which}", table::visible(name)))?;
    }
    let header = ["tensor", "formats", "max abs", "rms", "relative", "cosine"].map(str::to_owned);
    let differ = |tensor: &&TensorDiff| tensor.distance.is_none_or(|distance| distance.max_abs != 0.0);
    let row = |TensorDiff { name, formats, shapes, distance }: &TensorDiff| {
        let formats = if formats[0] == formats[1] { formats[0].to_owned() } else { formats.join(" | ") };
        let name = table::visible(name);
        match distance {
            Some(Distance { max_abs, rms, relative, cosine }) => [
                name,
                formats,
                format!("{max_abs:.3e}"),
                format!("{rms:.3e}"),
                format!("{relative:.5}"),
                format!("{cosine:.6}"),
            ],
            None => [
                name,
                formats,
                format!("{:?} | {:?}", shapes[0], shapes[1]),
                String::new(),
                String::new(),
                String::new(),
            ],
        }
    };
    let rows: Vec<[String; 6]> = std::iter::once(header).chain(diff.tensors.iter().filter(differ).map(row)).collect();
    if rows.len() > 1 {
        writeln!(out, "{}", table::columns(&rows, 2))?;
    }
    let same = diff.tensors.len() - (rows.len() - 1);
    let lone = diff.only_first.len() + diff.only_second.len();
    let counts =
        [(diff.keys.len(), "key", ""), (diff.tensors.len() - same, "tensor", ""), (lone, "tensor", " of one alone")];
    let counted = counts.into_iter().filter(|(n, ..)| *n > 0);
    let differ: Vec<String> =
        counted.map(|(n, what, which)| format!("{}{which}", units::plural(n as u64, what))).collect();
    let words = match diff.is_same() {
        true => "the same model".to_owned(),
        false => format!("the models differ in {}", differ.join(", ")),
    };
    let described = match diff.descriptions.len() {
        0 => String::new(),
        1 => "; a key that describes the files differs".to_owned(),
        n => format!("; {n} keys that describe the files differ"),
    };
    writeln!(out, "{words}: {same} of {} tensors equal{described}", diff.tensors.len())?;
    Ok(())
}
