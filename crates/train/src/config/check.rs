//! Checks of the values of a configuration, alone and together.

use super::{Config, DistillConfig, ModelConfig, WeightQuantization};
use crate::{Error, Result};
use std::fmt::Display;
use std::ops::RangeBounds;
use trine_model::Sizes;
use trine_tensor::FORMATS;
use trine_tensor::format::{self, BF16, F16, F32, Format};

/// The largest size of a model or a batch. Products of three fit an integer.
const MAX_SIZE: usize = 1 << 20;
/// The largest number of layers or heads, and of elements of a head, as in files.
const MAX_COUNT: usize = 1 << 16;
const MAX_THREADS: usize = 1024;

impl Config {
    /// Checks that all values are in their ranges and fit each other, without reading any file.
    ///
    /// # Errors
    /// [`Error::Config`] for the first that does not.
    pub fn check(&self) -> Result<()> {
        self.check_model()?;
        self.check_data()?;
        self.check_train()?;
        self.check_rates()?;
        if let Some(distill) = &self.distill {
            distill.check()?;
        }
        self.check_output()
    }

    fn check_model(&self) -> Result<()> {
        let model = &self.model;
        if model.from.is_none() {
            expect(model.tokenizer.is_some(), "model.tokenizer", "a tokenizer, or a model in `model.from`", "neither")?;
            model.check_sizes()?;
        }
        if let Some(context) = model.context_length {
            within("model.context_length", context, self.train.sequence..=MAX_SIZE, "`train.sequence` to 1048576")?;
        }
        Ok(())
    }

    fn check_data(&self) -> Result<()> {
        let data = &self.data;
        expect(!data.files.is_empty(), "data.files", "at least one file", "an empty list")?;
        expect(!data.separator.is_empty(), "data.separator", "a text", "an empty text")?;
        expect(!data.field.is_empty(), "data.field", "the name of a field", "an empty one")?;
        within("data.validation", data.validation, 0.0..=0.5, "0 to 0.5")
    }

    fn check_train(&self) -> Result<()> {
        let train = &self.train;
        within("train.steps", train.steps, 1..=1 << 40, "1 or more, and at most 2^40")?;
        within("train.batch", train.batch, 1..=MAX_SIZE, "1 to 1048576")?;
        if let Some(micro_batch) = train.micro_batch {
            within("train.micro_batch", micro_batch, 1..=train.batch, "1 to `train.batch`")?;
        }
        within("train.sequence", train.sequence, 2..=MAX_SIZE, "2 to 1048576")?;
        within("train.clip_grad_norm", train.clip_grad_norm, 0.0..=f64::MAX, "0 (none) or more")?;
        let scale = &train.loss_scale;
        within("train.loss_scale.initial", scale.initial, f64::MIN_POSITIVE..=f64::MAX, "more than 0")?;
        within("train.loss_scale.growth", scale.growth, 1.0..=f64::MAX, "1 or more")?;
        within("train.loss_scale.growth_interval", scale.growth_interval, 1.., "1 or more")?;
        within("train.loss_scale.backoff", scale.backoff, f64::MIN_POSITIVE..=1.0, "more than 0, and at most 1")?;
        if let Some(threads) = train.threads {
            within("train.threads", threads, 1..=MAX_THREADS, "1 to 1024")?;
        }
        let warmup = self.schedule.warmup.unwrap_or(0);
        within("schedule.warmup", warmup, ..=train.steps, "at most `train.steps`")?;
        within("quantization.warm_in", self.quantization.warm_in, ..=train.steps, "at most `train.steps`")
    }

    fn check_rates(&self) -> Result<()> {
        let (optimizer, schedule) = (&self.optimizer, &self.schedule);
        let positive = f64::MIN_POSITIVE..=f64::MAX;
        within("optimizer.learning_rate", optimizer.learning_rate, positive.clone(), "more than 0")?;
        within("optimizer.beta1", optimizer.beta1, 0.0..1.0, "0 or more, and less than 1")?;
        within("optimizer.beta2", optimizer.beta2, 0.0..1.0, "0 or more, and less than 1")?;
        within("optimizer.eps", optimizer.eps, positive, "more than 0")?;
        within("optimizer.weight_decay", optimizer.weight_decay, 0.0..=f64::MAX, "0 or more")?;
        within("schedule.end", schedule.end, 0.0..=1.0, "0 to 1")?;
        within("schedule.decay", schedule.decay, 0.0..=1.0, "0 to 1")
    }

    fn check_output(&self) -> Result<()> {
        let output = &self.output;
        expect(!output.folder.as_os_str().is_empty(), "output.folder", "a folder", "an empty name")?;
        if let Some(path) = &output.model {
            let replaceable = !path.exists() || path.is_file();
            expect(replaceable, "output.model", "the name of a file", format!("`{}`, which is none", path.display()))?;
            let (model, teacher) = (&self.model, self.distill.as_ref().map(|distill| &distill.teacher));
            let read = [model.from.as_ref(), model.tokenizer.as_ref(), teacher];
            let is_read = read.into_iter().flatten().chain(&self.data.files).any(|file| file == path);
            expect(!is_read, "output.model", "a file that the run does not read", path.display())?;
            let is_gguf = path.extension().is_none_or(|extension| extension.eq_ignore_ascii_case("gguf"));
            expect(is_gguf, "output.model", "a name that ends with .gguf", path.display())?;
        }
        within("output.keep", output.keep, 1.., "1 or more")?;
        let ternary = self.quantization.weights == WeightQuantization::Ternary;
        let inner = named("output.format", output.format.as_deref(), |format| {
            is_float(format) || ternary && format.ternary && format.matrix_layout().is_none()
        })?;
        let outer = named("output.embedding_format", output.embedding_format.as_deref(), |format| {
            is_float(format) || format.block > 1 && format.stores_models() && !format.ternary
        })?;
        let model = &self.model;
        if model.from.is_none() {
            let attention = model.n_heads * model.head_dim();
            let columns = [
                ("model.hidden_size", model.hidden_size),
                ("model.intermediate_size", model.intermediate_size),
                ("model.n_heads", attention),
            ];
            if let Some(format) = inner {
                columns.iter().try_for_each(|&(key, cols)| whole_blocks(key, cols, format))?;
            }
            if let Some(format) = outer {
                whole_blocks("model.hidden_size", model.hidden_size, format)?;
            }
        }
        Ok(())
    }
}

impl ModelConfig {
    fn head_dim(&self) -> usize {
        self.head_dim.unwrap_or(self.hidden_size / self.n_heads.max(1))
    }

    fn check_sizes(&self) -> Result<()> {
        if !Sizes::names().any(|name| name == self.architecture) {
            return Err(wrong("model.architecture", one_of(Sizes::names()), format!("`{}`", self.architecture)));
        }
        within("model.n_layers", self.n_layers, 1..=MAX_COUNT, "1 to 65536")?;
        within("model.hidden_size", self.hidden_size, 1..=MAX_SIZE, "1 to 1048576")?;
        within(
            "model.n_heads",
            self.n_heads,
            1..=self.hidden_size.min(MAX_COUNT),
            "1 to `model.hidden_size`, and at most 65536",
        )?;
        within("model.intermediate_size", self.intermediate_size, 1..=MAX_SIZE, "1 to 1048576")?;
        let kv_heads = self.n_kv_heads.unwrap_or(self.n_heads);
        let divides = kv_heads > 0 && self.n_heads.is_multiple_of(kv_heads);
        expect(divides, "model.n_kv_heads", format!("a divisor of `model.n_heads`, {}", self.n_heads), kv_heads)?;
        if self.head_dim.is_none() {
            let divides = self.hidden_size.is_multiple_of(self.n_heads);
            expect(
                divides,
                "model.n_heads",
                format!("a divisor of `model.hidden_size`, {}, or a `head_dim`", self.hidden_size),
                self.n_heads,
            )?;
        }
        let dim = self.head_dim();
        let even = (2..=MAX_COUNT).contains(&dim) && dim.is_multiple_of(2);
        expect(even, "model.head_dim", "an even number up to 65536, as rope rotates pairs", dim)?;
        within("model.rope_base", self.rope_base, f32::MIN_POSITIVE..=f32::MAX, "more than 0")?;
        within("model.eps", self.eps, f32::MIN_POSITIVE..=1.0, "more than 0, and at most 1")
    }
}

impl DistillConfig {
    fn check(&self) -> Result<()> {
        within("distill.share", self.share, 0.0..=1.0, "0 to 1")?;
        within("distill.temperature", self.temperature, 0.01..=100.0, "0.01 to 100")
    }
}

fn wrong(key: &str, expected: impl Display, found: impl Display) -> Error {
    Error::Config { key: key.to_owned(), expected: expected.to_string(), found: found.to_string() }
}

fn expect(holds: bool, key: &str, expected: impl Display, found: impl Display) -> Result<()> {
    if holds { Ok(()) } else { Err(wrong(key, expected, found)) }
}

/// Checks that a value is in a range; NaN is in none.
fn within<T: PartialOrd + Display>(key: &str, value: T, range: impl RangeBounds<T>, expected: &str) -> Result<()> {
    expect(range.contains(&value), key, expected, value)
}

/// The format with this name, if a name is given.
fn named(key: &str, name: Option<&str>, fits: impl Fn(&Format) -> bool) -> Result<Option<&'static Format>> {
    let Some(name) = name else { return Ok(None) };
    format::by_name(name).filter(|format| fits(format)).map(Some).ok_or_else(|| {
        let known = FORMATS.iter().filter(|format| fits(format)).map(|format| format.name.to_lowercase());
        wrong(key, one_of(known), format!("`{name}`"))
    })
}

fn is_float(format: &Format) -> bool {
    [&F32, &F16, &BF16].contains(&format)
}

/// Checks that rows of `cols` weights are whole blocks of a format.
fn whole_blocks(key: &str, cols: usize, format: &Format) -> Result<()> {
    let expected = || format!("rows of whole {format} blocks of {} weights", format.block);
    expect(cols.is_multiple_of(format.block), key, expected(), format!("rows of {cols}"))
}

fn one_of(names: impl Iterator<Item = impl Display>) -> String {
    format!("one of {}", names.map(|name| name.to_string()).collect::<Vec<_>>().join(", "))
}
