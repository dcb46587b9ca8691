//! The configuration of a training run: the tables of `config.toml`.

mod check;
mod resume;

use crate::optimizer::Optimizer;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use trine_tensor::Format;
use trine_tensor::format::{BF16, F16, F32};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub model: ModelConfig,
    pub data: DataConfig,
    pub train: TrainConfig,
    #[serde(default)]
    pub quantization: QuantizationConfig,
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    #[serde(default)]
    pub schedule: ScheduleConfig,
    /// Distillation from a teacher, if there is one.
    pub distill: Option<DistillConfig>,
    pub output: OutputConfig,
}

/// `[model]`: a model to continue with in `from`, or the sizes of a new one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// A model file to continue training. The sizes below are not used then.
    pub from: Option<PathBuf>,
    /// A GGUF file with a tokenizer (any model, or the output of `trine tokenizer train`), or a `tokenizer.json`. By default, that of `from`.
    pub tokenizer: Option<PathBuf>,
    /// The GGUF name of an architecture.
    pub architecture: String,
    pub n_layers: usize,
    pub hidden_size: usize,
    pub n_heads: usize,
    /// Key and value heads, `n_heads` by default.
    pub n_kv_heads: Option<usize>,
    /// `hidden_size / n_heads` by default.
    pub head_dim: Option<usize>,
    pub intermediate_size: usize,
    /// In tokens, `train.sequence` by default.
    pub context_length: Option<usize>,
    /// Whether the embedding is the output head as well.
    pub tied: bool,
    pub rope_base: f32,
    /// Added to the mean square in norms.
    pub eps: f32,
}

impl Default for ModelConfig {
    fn default() -> Self {
        ModelConfig {
            from: None,
            tokenizer: None,
            architecture: "bitnet".into(),
            n_layers: 6,
            hidden_size: 256,
            n_heads: 8,
            n_kv_heads: None,
            head_dim: None,
            intermediate_size: 768,
            context_length: None,
            tied: true,
            rope_base: 10000.0,
            eps: 1e-5,
        }
    }
}

/// `[data]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Text files with documents between separators, and JSONL files (`.jsonl`) with a document in each line.
    pub files: Vec<PathBuf>,
    /// Stands between the documents of text files.
    #[serde(default = "DataConfig::separator")]
    pub separator: String,
    /// The field of a JSONL line that holds the text.
    #[serde(default = "DataConfig::field")]
    pub field: String,
    /// The share of documents held out for validation, 0 to 0.5. Which ones depends on their text alone.
    #[serde(default = "DataConfig::validation")]
    pub validation: f64,
    /// The folder for tokenized documents, `cache` in the output folder by default.
    pub cache: Option<PathBuf>,
}

impl DataConfig {
    fn separator() -> String {
        "<|endoftext|>".into()
    }
    fn field() -> String {
        "text".into()
    }
    fn validation() -> f64 {
        0.01
    }
}

/// `[train]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Steps in all, those that are skipped included.
    pub steps: u64,
    /// Sequences per step.
    pub batch: usize,
    /// Sequences per forward pass, `batch` by default. With fewer, gradients accumulate over several passes.
    pub micro_batch: Option<usize>,
    /// Tokens per sequence, into which documents are packed.
    pub sequence: usize,
    /// Seeds the initial weights and the order of documents.
    pub seed: u64,
    pub precision: Precision,
    /// Activation checkpointing: recompute layers in the backward pass. It takes less memory and gives the same gradients.
    pub grad_checkpoint: bool,
    /// The largest norm of all gradients together; 0 does not clip.
    pub clip_grad_norm: f64,
    pub loss_scale: LossScale,
    /// One per physical core by default.
    pub threads: Option<usize>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        TrainConfig {
            steps: 1000,
            batch: 16,
            micro_batch: None,
            sequence: 256,
            seed: 0,
            precision: Precision::F32,
            grad_checkpoint: false,
            clip_grad_norm: 1.0,
            loss_scale: LossScale::default(),
            threads: None,
        }
    }
}

/// The precision of matrix products in the backward pass and in layers that are not quantized. Master weights, their gradients and optimizer
/// states are always float32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    #[default]
    F32,
    /// Factors are rounded to bfloat16, and to zero below 2^-56.
    Bf16,
    /// Factors are rounded to float16; the loss is scaled so that gradients do not vanish.
    F16,
}

impl Precision {
    /// The format of weights that are not quantized.
    pub fn format(self) -> &'static Format {
        match self {
            Precision::F32 => &F32,
            Precision::Bf16 => &BF16,
            Precision::F16 => &F16,
        }
    }
}

/// `[train.loss_scale]`: the factor of the loss in float16, so that small gradients do not vanish (arXiv:1710.03740).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossScale {
    pub kind: LossScaleKind,
    /// The first scale, and the only one of a static scale.
    pub initial: f64,
    /// A dynamic scale is multiplied by it after `growth_interval` steps without an overflow.
    pub growth: f64,
    pub growth_interval: u64,
    /// A dynamic scale is multiplied by it after an overflow.
    pub backoff: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LossScaleKind {
    /// Grows until gradients overflow. Steps that overflow are skipped.
    #[default]
    Dynamic,
    /// Never changes. Steps that overflow are skipped.
    Static,
    /// The loss is not scaled, and an overflow ends the run.
    None,
}

impl Default for LossScale {
    fn default() -> Self {
        let kind = LossScaleKind::Dynamic;
        LossScale { kind, initial: 65536.0, growth: 2.0, growth_interval: 2000, backoff: 0.5 }
    }
}

/// `[quantization]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuantizationConfig {
    /// The effective weights of matrices inside layers. Embeddings, output heads and norms stay float.
    pub weights: WeightQuantization,
    /// Updates over which the effective weights go from float to ternary.
    pub warm_in: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightQuantization {
    /// `{-1, 0, 1}` times the mean absolute weight (BitNet b1.58, arXiv:2402.17764).
    #[default]
    Ternary,
    None,
}

/// `[optimizer]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// One of [`OPTIMIZERS`](crate::optimizer::OPTIMIZERS).
    pub name: &'static Optimizer,
    /// The highest learning rate of the schedule.
    pub learning_rate: f64,
    /// Decay rate of the mean of gradients, or of their momentum.
    pub beta1: f64,
    /// Decay rate of the mean of squared gradients.
    pub beta2: f64,
    /// Added to denominators.
    pub eps: f64,
    /// Of matrices inside layers; other weights have none.
    pub weight_decay: f64,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        OptimizerConfig {
            name: Optimizer::by_name("adamw").expect("a row of the registry"),
            learning_rate: 1.5e-3,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
        }
    }
}

/// `[schedule]`: the learning rate over the updates of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleConfig {
    /// The curve after the warmup.
    pub shape: ScheduleShape,
    /// Updates over which the rate rises from 0. By default, a tenth of all, at most 100.
    pub warmup: Option<u64>,
    /// The final rate, as a share of the highest.
    pub end: f64,
    /// `wsd`: the share of updates at the end over which the rate falls.
    pub decay: f64,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        ScheduleConfig { shape: ScheduleShape::Cosine, warmup: None, end: 0.0, decay: 0.2 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleShape {
    Constant,
    Linear,
    /// Half a period of a cosine, from 1 to 0.
    Cosine,
    /// Warmup, stable, decay: constant, then linear (arXiv:2404.06395).
    Wsd,
    /// BitNet's: linear, with a drop to two thirds halfway, where weight decay ends (The Era of 1-bit LLMs: training tips).
    TwoStage,
}

/// `[distill]`: knowledge distillation (arXiv:1503.02531).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistillConfig {
    /// The teacher's model file.
    pub teacher: PathBuf,
    /// The loss is `share * KL(teacher, student) + (1 - share) * cross-entropy`.
    #[serde(default = "DistillConfig::share")]
    pub share: f64,
    /// Divides the logits of both.
    #[serde(default = "DistillConfig::temperature")]
    pub temperature: f64,
}

impl DistillConfig {
    fn share() -> f64 {
        0.5
    }
    fn temperature() -> f64 {
        1.0
    }
}

/// `[output]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputConfig {
    /// For checkpoints, the log and the plot.
    pub folder: PathBuf,
    /// The final model, `model.gguf` in the folder by default.
    pub model: Option<PathBuf>,
    /// The file format of matrices inside layers: `tq2_0`, `tq1_0` or `i2_s` if they are ternary, else `f32`, `f16` or `bf16`.
    pub format: Option<String>,
    /// The file format of embeddings and output heads.
    pub embedding_format: Option<String>,
    /// `general.name` of the model.
    pub name: Option<String>,
    /// Steps between validations; with 0, only the last step is validated.
    #[serde(default = "OutputConfig::frequent")]
    pub validate_every: u64,
    /// Steps between checkpoints; with 0, only the last step has one.
    #[serde(default = "OutputConfig::frequent")]
    pub checkpoint_every: u64,
    /// The number of latest checkpoints to keep, in addition to the best.
    #[serde(default = "OutputConfig::keep")]
    pub keep: usize,
    /// Steps between sample texts; 0 for none.
    #[serde(default = "OutputConfig::rare")]
    pub sample_every: u64,
    /// The prompts of sample texts.
    #[serde(default)]
    pub sample_prompts: Vec<String>,
}

impl OutputConfig {
    /// The path of the final model.
    pub fn model_path(&self) -> PathBuf {
        self.model.clone().unwrap_or_else(|| self.folder.join("model.gguf"))
    }

    fn frequent() -> u64 {
        200
    }
    fn rare() -> u64 {
        500
    }
    fn keep() -> usize {
        2
    }
}
