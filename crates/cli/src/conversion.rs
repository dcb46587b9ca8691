//! Model files that are written anew as GGUF: what `convert` and `quantize` share.

use crate::exit::{Exit, UsageError};
use crate::load::LayoutArgs;
use crate::machine::size;
use crate::profile::{ProfileArgs, Profiling, Work, conversion_summary};
use crate::recipe::RecipeArgs;
use crate::search::SearchArgs;
use crate::{effects, interrupt, output, progress, table, units};
use anyhow::Result;
use bytesize::ByteSize;
use clap::Args;
use serde_json::json;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use trine_backend::CacheType;
use trine_lab::bench::TEXT;
use trine_lab::divergence::{Chunks, Divergence, DivergenceOptions};
use trine_lab::quantize::guard::{Damage, damage, predict};
use trine_lab::quantize::search::{Cost, Found};
use trine_lab::quantize::{
    Choice, ConversionProfile, Error, Plan, PlannedTensor, Recipe, Target, check_folder, check_output, plan, write,
    write_folder,
};
use trine_lab::receipt::{Provenance, SigningKey};
use trine_model::{DeviceOptions, GgufModel, HfModel, Language};
use trine_tensor::format::{BF16, F16, F32, I8, Q1_0};
use trine_tensor::{File, TensorInfo, gguf, llama2c};

/// What is read and written.
#[derive(Args)]
pub struct Conversion {
    /// Input: a GGUF file, a folder with safetensors and config.json, or a .bin file of llama2.c, which needs --tokenizer
    input: PathBuf,
    /// Output: a GGUF file
    output: PathBuf,
    /// Tokenizer of the output [default: that of the input]
    ///
    /// A tokenizer.json, a tokenizer.model, a GGUF file, or a folder with one of them.
    #[arg(long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
    /// Write several files of about this size, OUTPUT-00001-of-00003.gguf and so on
    #[arg(long, value_name = "SIZE", value_parser = shard_size)]
    pub shard_size: Option<ByteSize>,
    #[command(flatten)]
    layouts: LayoutArgs,
    /// Print what each tensor becomes, and write nothing
    #[arg(long, conflicts_with = "profile")]
    dry_run: bool,
    /// Replace an existing file, once the new one is complete
    #[arg(long)]
    force: bool,
    /// Write no receipt, by which `trine verify` finds out whether the file is what it says
    #[arg(long)]
    no_receipt: bool,
    /// Sign the receipt with this ed25519 key, as `ssh-keygen -t ed25519 -N ''` makes it
    #[arg(long, value_name = "KEYFILE", conflicts_with = "no_receipt")]
    sign: Option<PathBuf>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    profile: ProfileArgs,
}

/// A size of which a file can be.
fn shard_size(text: &str) -> Result<ByteSize, &'static str> {
    size(text).and_then(|size| if size.as_u64() > 0 { Ok(size) } else { Err("expected a size above 0, such as 2GB") })
}

/// Tensors that a warning names.
const NAMED: usize = 5;

impl Conversion {
    /// Whether the output is a GGUF file by its name.
    pub fn is_gguf(&self) -> bool {
        self.output.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
    }

    /// Adds .gguf to the name of the output, unless it ends so.
    pub fn name_gguf(&mut self) {
        if !self.is_gguf() {
            self.output.as_mut_os_string().push(".gguf");
        }
    }

    fn open(&self) -> Result<File> {
        let file = match self.input.extension().is_some_and(|extension| extension == "bin") {
            true => llama2c::open(&self.input),
            false => self.layouts.open(&self.input),
        }?;
        self.layouts.check_used(&[&file])?;
        file.warnings().iter().for_each(|warning| note!("warning: {}", table::visible(warning)));
        Ok(file)
    }

    /// Writes a folder.
    pub fn run_folder(self, recipe: &Recipe, args: &RecipeArgs) -> Result<Exit> {
        let format = match recipe.target {
            None => None,
            Some(Target::Format(format)) if [&F32, &F16, &BF16, &I8].contains(&format) => Some(format),
            Some(target) => {
                let found = target.name().to_lowercase();
                let message = format!("--format: expected f32, f16, bf16 or w8a8 in a folder, found {found}");
                return Err(UsageError { message, hint: "an output that ends with .gguf is a GGUF file" }.into());
            }
        };
        let own =
            [("--no-receipt", self.no_receipt), ("--sign", self.sign.is_some()), ("--force", self.force)].into_iter();
        if let Some((flag, _)) = args.within_files().into_iter().chain(own).find(|(_, given)| *given) {
            let message = format!(
                "{flag}: not for a folder, which has one format for all matrices, no receipt, and replaces nothing"
            );
            return Err(UsageError { message, hint: "an output that ends with .gguf is a GGUF file" }.into());
        }
        let (stop, profile) = (interrupt::flag()?, self.profile()?);
        let file = self.open()?;
        let model = GgufModel::open(&file, self.tokenizer.as_deref()).map_err(Error::from)?;
        let hf = HfModel::of(&model, format).map_err(Error::from)?;
        let bytes = hf.tensors().iter().map(|info| info.size()).sum::<Result<u64, _>>()?;
        // Fused matrices, and scales beside packed weights, make other numbers of them.
        let (now, then) = (hf.tensors().len(), model.tensors().len());
        let of = if now == then { String::new() } else { format!(" for {} of the file", units::count(then as u64)) };
        let count = format!("{}{of}", units::plural(now as u64, "tensor"));
        if self.dry_run {
            check_folder(&self.output)?;
        }
        let mut out = std::io::stdout().lock();
        if self.dry_run && self.json {
            let tensor = |info: &TensorInfo| json!({ "name": info.name, "shape": info.shape, "to": info.format.name });
            let tensors: Vec<_> = hf.tensors().iter().map(tensor).collect();
            writeln!(out, "{}", json!({ "tensors": tensors, "bytes_after": bytes }))?;
            return Ok(Exit::Done);
        }
        if self.dry_run {
            for info in hf.tensors() {
                let shape: Vec<String> = info.shape.iter().map(usize::to_string).collect();
                writeln!(out, "{}  {}  {}", table::visible(&info.name), shape.join(" x "), info.format)?;
            }
            writeln!(out, "{count}, {}", units::bytes(bytes))?;
            return Ok(Exit::Done);
        }
        let bar = progress::bytes("writing", bytes);
        let shard_size = self.shard_size.map_or(5_000_000_000, |size| size.as_u64());
        let mut progress = |done| {
            bar.set_position(done);
            if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let (file, mut tensors) = profile.unzip();
        let written = write_folder(&model, &hf, &self.output, shard_size, tensors.as_mut(), &mut progress);
        bar.finish_and_clear();
        written?;
        finish_profile(file, tensors)?;
        let report = json!({ "output": self.output, "tensors": hf.tensors().len(), "bytes_after": bytes });
        match self.json {
            true => writeln!(out, "{report}")?,
            false => writeln!(out, "{}: {count}, {}", self.output.display(), units::bytes(bytes))?,
        }
        Ok(Exit::Done)
    }

    /// Writes a GGUF file. `imatrix` is the file of the recipe's importance matrix.
    pub fn run(self, mut recipe: Recipe, imatrix: Option<&Path>, search: Option<&SearchArgs>) -> Result<Exit> {
        if let Some(Target::Format(format)) = recipe.target
            && format == &I8
        {
            let message =
                "--format w8a8: expected a folder as the output of trine convert, found a GGUF file".to_owned();
            return Err(UsageError { message, hint: "q8_0 is GGUF's format of 8-bit integers" }.into());
        }
        let sign = self.sign.as_deref().map(SigningKey::read).transpose()?;
        if self.shard_size.is_none() {
            self.check_new(std::slice::from_ref(&self.output))?;
        }
        let (stop, profile) = (interrupt::flag()?, self.profile()?);
        let file = self.open()?;
        let model = GgufModel::open(&file, self.tokenizer.as_deref()).map_err(Error::from)?;
        let found = match search {
            Some(search) => search.search(&model, &mut recipe, &self.output, &stop)?,
            None => None,
        };
        let mut plan = plan(&model, &recipe)?;
        effects::check(&recipe, &plan)?;
        plan.shard_size = self.shard_size.map(|size| size.as_u64());
        plan.replace = self.force;
        plan.warnings.iter().for_each(|warning| note!("warning: {}", table::visible(warning)));
        if let [first, ..] = plan.without_importance()[..] {
            let count = units::plural(plan.without_importance().len() as u64, "tensor");
            note!(
                "warning: {count} with few bits and no importance matrix, such as {first}: --imatrix makes them usable"
            );
        }
        if let names @ [_, ..] = &plan.unmeasured()[..] {
            let more = names.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let names = names[..names.len().min(NAMED)].join(", ");
            note!("warning: the importance matrix has no entry for {names}{more}: all their columns count alike");
        }
        let infos: Vec<TensorInfo> = plan.tensors.iter().map(|tensor| tensor.info.clone()).collect();
        let paths = gguf::shard_paths(&self.output, &infos, plan.shard_size.unwrap_or(u64::MAX))?;
        self.check_new(&paths)?;
        let old = self.other_shards(paths.len())?;
        check_output(&file, &self.output)?;
        self.check_damage(&model, &plan, &stop)?;
        if self.dry_run {
            self.print_plan(&plan, &paths)?;
            return Ok(Exit::Done);
        }
        let bar = progress::bytes("writing", plan.bytes_before());
        let tokenizer = self.tokenizer.as_deref();
        let provenance = Provenance { recipe: &recipe, imatrix, tokenizer, sign: sign.as_ref() };
        let provenance = (!self.no_receipt).then_some(&provenance);
        let mut progress = |done| {
            bar.set_position(done);
            if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let (trace, mut tensors) = profile.unzip();
        let written = write(&model, &plan, &self.output, provenance, tensors.as_mut(), &mut progress);
        bar.finish_and_clear();
        // Another program may have written one meanwhile.
        if written.is_err() {
            self.check_new(&paths)?;
        }
        self.print_report(&plan, &recipe, found.as_ref(), &written?)?;
        finish_profile(trace, tensors)?;
        if let [first, rest @ ..] = &old[..] {
            let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            let first = table::visible(&first.display().to_string());
            note!("warning: {first}{more}: of an earlier split into another number of files, and still there");
        }
        Ok(Exit::Done)
    }

    /// The profile that is asked for, and what it will know about tensors.
    fn profile(&self) -> Result<Option<(Profiling, ConversionProfile)>> {
        let profile = self.profile.open(Work::Conversion, &self.input)?;
        Ok(profile.map(|profile| {
            let tensors = ConversionProfile::new(profile.recorder.clone());
            (profile, tensors)
        }))
    }

    /// Refuses to replace files without `--force`.
    fn check_new(&self, paths: &[PathBuf]) -> Result<(), UsageError> {
        paths.iter().try_for_each(|path| output::check_new(path, self.force, "--force replaces it"))
    }

    /// Files of an earlier split under this name into another number of files, which are not replaced. Refuses them without `--force`.
    fn other_shards(&self, count: usize) -> Result<Vec<PathBuf>> {
        if self.shard_size.is_none() {
            return Ok(Vec::new());
        }
        let others = gguf::other_shards(&self.output, count)?;
        match &others[..] {
            [first, ..] if !self.force => {
                let message = format!(
                    "{}: expected no files of another split of this name into {count}, found one",
                    first.display()
                );
                let hint = "remove them, or choose another name; --force writes the new files beside them";
                Err(UsageError { message, hint }.into())
            }
            _ => Ok(others),
        }
    }

    /// Refuses to give a model a format of so few bits that it destroys the weights, and says what that would do to it. `--really` allows it,
    /// and is refused where nothing is destroyed.
    fn check_damage(&self, model: &GgufModel, plan: &Plan, stop: &AtomicBool) -> Result<()> {
        if !plan.tensors.iter().any(PlannedTensor::may_be_destroyed) {
            return Ok(());
        }
        let bar = progress::bytes("checking", plan.bytes_before());
        let damage = damage(model, plan, &mut |done| {
            bar.set_position(done);
            if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        bar.finish_and_clear();
        let damage = damage?;
        let worst = match damage.iter().min_by(|a, b| a.cosine.total_cmp(&b.cosine)) {
            None if plan.ternarize => {
                let message = effects::NOT_REALLY.to_owned();
                return Err(UsageError { message, hint: effects::OMIT_REALLY }.into());
            }
            Some(worst) if !plan.ternarize => worst,
            _ => return Ok(()),
        };
        let mean = damage.iter().map(|damage| damage.cosine).sum::<f64>() / damage.len() as f64;
        let count = plan.tensors.iter().filter(|tensor| tensor.may_be_destroyed()).count();
        let one_bit = worst.format == &Q1_0;
        let (are_not, kind) = if one_bit {
            ("have more than one bit", "weights of one bit")
        } else {
            ("are not ternary", "ternary weights")
        };
        let mut message = format!(
            "{}: {} of {count} matrices {are_not}: between them and the nearest {kind} the cosine is {mean:.3}, at worst {:.3} ({})",
            self.input.display(),
            damage.len(),
            worst.cosine,
            table::visible(&worst.tensor),
        );
        if let Ok(after) = self.predicted(model, &damage) {
            message.push_str(&format!(
                "; on a short text, perplexity would be {:.1} instead of {:.1}, and the most likely token the same after {:.1} % of all",
                after.perplexity,
                after.perplexity_reference,
                100.0 * after.top1,
            ));
        }
        let hint = match one_bit {
            true => {
                "choose a format of more bits, such as --format q4_0; or write this one with --really, to look at it"
            }
            false => "train a ternary model, see trine train --help; or write this one with --really, to look at it",
        };
        Err(UsageError { message, hint }.into())
    }

    /// What the damage does to predictions.
    fn predicted(&self, model: &GgufModel, damage: &[Damage]) -> Result<Divergence> {
        let tokenizer = Language::of_metadata(model.metadata())?.tokenizer;
        let chunks = Chunks::new(&tokenizer, &[TEXT], 64.min(model.spec().context_length), 5)?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let options = DivergenceOptions { batch: 512, threads, cache_type: CacheType::F32 };
        Ok(predict(model, damage, &DeviceOptions::default(), &chunks, &options)?)
    }

    fn print_plan(&self, plan: &Plan, paths: &[PathBuf]) -> Result<()> {
        let mut out = std::io::stdout().lock();
        let (before, after) = (plan.bytes_before(), plan.bytes_after());
        if self.json {
            let tensor = |tensor: &PlannedTensor| {
                let PlannedTensor { info, from, bytes_after, .. } = tensor;
                json!({
                    "name": info.name, "shape": info.shape, "from": from.name, "to": info.format.name, "bytes": bytes_after,
                })
            };
            let tensors: Vec<_> = plan.tensors.iter().map(tensor).collect();
            writeln!(
                out,
                "{}",
                json!({ "files": paths, "tensors": tensors, "bytes_before": before, "bytes_after": after })
            )?;
            return Ok(());
        }
        let header = ["tensor", "shape", "from", "to", "bytes"].map(str::to_owned);
        let row = |PlannedTensor { info, from, bytes_after, .. }: &PlannedTensor| {
            let shape: Vec<String> = info.shape.iter().map(usize::to_string).collect();
            let name = table::visible(&info.name);
            [name, shape.join(" x "), from.name.to_owned(), info.format.name.to_owned(), units::count(*bytes_after)]
        };
        let rows: Vec<[String; 5]> = std::iter::once(header).chain(plan.tensors.iter().map(row)).collect();
        writeln!(out, "{}", table::columns(&rows, 4))?;
        let count = units::plural(plan.tensors.len() as u64, "tensor");
        writeln!(out, "{count}, {} -> {}", units::bytes(before), units::bytes(after))?;
        if paths.len() > 1 {
            paths.iter().try_for_each(|path| writeln!(out, "{}", path.display()))?;
        }
        Ok(())
    }

    fn print_report(&self, plan: &Plan, recipe: &Recipe, found: Option<&Found>, files: &[PathBuf]) -> Result<()> {
        let report = plan.report();
        let mut out = std::io::stdout().lock();
        if self.json {
            let report = json!({
                "output": files[0], "files": files, "format": recipe.target.map(|target| target.name()),
                "rewritten": report.rewritten,
                "kept": report.kept, "replaced": report.replaced, "unfit": report.unfit, "formats": report.formats,
                "bytes_before": report.bytes_before, "bytes_after": report.bytes_after,
                "bits_per_weight": plan.bits_per_weight(),
                "choices": found.map(|found| &found.choices),
                "predicted_kl": found.map(|found| found.predicted_kl),
                "measured_kl": found.map(|found| found.measured_kl),
            });
            writeln!(out, "{report}")?;
            return Ok(());
        }
        let (before, after) = (units::bytes(report.bytes_before), units::bytes(report.bytes_after));
        let formats: Vec<String> =
            report.formats.iter().map(|(format, count)| format!("{count} in {format}")).collect();
        writeln!(
            out,
            "{}{}: {}, {}; {} unchanged; tensors {before} -> {after}, {:.2} bits per weight",
            files[0].display(),
            if files.len() > 1 { format!(" and {} more", files.len() - 1) } else { String::new() },
            units::plural(plan.tensors.len() as u64, "tensor"),
            formats.join(", "),
            report.kept + report.unfit.len(),
            plan.bits_per_weight(),
        )?;
        if let Some(found) = found {
            let header = ["group", "format", "KL alone"].map(str::to_owned);
            let row = |cost: &Cost| [cost.group.clone(), cost.format.clone(), format!("{:.6}", cost.kl)];
            let rows: Vec<[String; 3]> = std::iter::once(header).chain(found.choices.iter().map(row)).collect();
            writeln!(out, "{}", table::columns(&rows, 2))?;
            writeln!(out, "mean KL {:.6} nats per token, predicted {:.6}", found.measured_kl, found.predicted_kl)?;
        }
        let exceptions = [(Choice::Replaced, "in a format with shorter blocks"), (Choice::Unfit, "unchanged")];
        for (choice, what) in exceptions {
            let tensors: Vec<&PlannedTensor> = plan.tensors.iter().filter(|tensor| tensor.choice == choice).collect();
            if let [first, rest @ ..] = &tensors[..] {
                let count = units::plural(tensors.len() as u64, "tensor");
                let more = if rest.is_empty() { "" } else { ", ..." };
                let block = first.wanted.block;
                let rows = match rest.iter().all(|tensor| tensor.wanted.block == block) {
                    true => format!("rows are not multiples of {block} weights"),
                    false => "rows are not whole blocks of the formats asked for".to_owned(),
                };
                note!("warning: {count} {what}: {rows} ({}{more})", first.info.name);
            }
        }
        Ok(())
    }
}

/// Prints the summary of a profile, and writes the trace.
fn finish_profile(profile: Option<Profiling>, tensors: Option<ConversionProfile>) -> Result<()> {
    match profile.zip(tensors) {
        None => Ok(()),
        Some((profile, tensors)) => profile.write(false, |report| conversion_summary(report, tensors.tensors())),
    }
}
