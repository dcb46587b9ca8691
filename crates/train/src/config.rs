//! What a training run is asked to do: the tables of `config.toml`.

mod check;

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What is trained.
    pub model: Model,
    /// What it learns from.
    pub data: Data,
    /// How long, and in which portions.
    pub train: Train,
    /// What is rounded.
    #[serde(default)]
    pub quantization: Quantization,
    /// How weights change.
    #[serde(default)]
    pub optimizer: Optimizer,
    /// How the learning rate changes.
    #[serde(default)]
    pub schedule: Schedule,
    /// A model to learn from, beside the text.
    pub distill: Option<Distill>,
    /// Where results go, and how often.
    pub output: Output,
}

/// `[model]`: either `from`, or sizes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Model {
    /// A model file whose weights training goes on from; the sizes below are then its own.
    pub from: Option<PathBuf>,
    /// A tokenizer: a GGUF file (one that `trine tokenizer train` wrote, or any model), or a `tokenizer.json`. That of `from` where it is missing.
    pub tokenizer: Option<PathBuf>,
    /// One of the architectures that Trine runs, by its GGUF name.
    pub architecture: String,
    /// Layers.
    pub layers: usize,
    /// Numbers of a token between layers.
    pub width: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; as many as `heads` where missing.
    pub kv_heads: Option<usize>,
    /// Numbers of a head; `width / heads` where missing.
    pub head_dim: Option<usize>,
    /// Width of the feed-forward layer.
    pub feed_forward: usize,
    /// Longest text, in tokens; `train.sequence` where missing.
    pub context: Option<usize>,
    /// Whether the embedding is the output head, too.
    pub tied: bool,
    /// Base of the rotary positions.
    pub rope_base: f32,
    /// Added to the mean square in norms.
    pub eps: f32,
}

impl Default for Model {
    fn default() -> Self {
        Model {
            from: None,
            tokenizer: None,
            architecture: "bitnet".into(),
            layers: 6,
            width: 256,
            heads: 8,
            kv_heads: None,
            head_dim: None,
            feed_forward: 768,
            context: None,
            tied: true,
            rope_base: 10000.0,
            eps: 1e-5,
        }
    }
}

/// `[data]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Text files, whose documents a separator parts, and JSONL files (`.jsonl`), a document in each line.
    pub files: Vec<PathBuf>,
    /// What stands between documents of text files.
    #[serde(default = "Data::separator")]
    pub separator: String,
    /// The field of a JSONL line that holds the text.
    #[serde(default = "Data::field")]
    pub field: String,
    /// Share of the documents that is kept for validation. Which ones depends on their text alone.
    #[serde(default = "Data::validation")]
    pub validation: f64,
    /// Where tokens are kept for the next time; beside the outputs where missing.
    pub cache: Option<PathBuf>,
}

impl Data {
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
pub struct Train {
    /// Steps of the optimiser.
    pub steps: u64,
    /// Sequences of a step.
    pub batch: usize,
    /// Sequences that run at once; the gradients of a step are added up over several such portions. `batch` where missing.
    pub micro_batch: Option<usize>,
    /// Tokens of a sequence, into which documents are packed.
    pub sequence: usize,
    /// The seed of weights and of the order of documents.
    pub seed: u64,
    /// What matrix products of the backward pass, and of float layers, are computed in.
    pub precision: Precision,
    /// Forget what is inside a layer and compute it again on the way back: less memory, the same gradients.
    pub grad_checkpoint: bool,
    /// Largest norm of all gradients together; 0 for none.
    pub clip_grad_norm: f64,
    /// What gradients are multiplied by on their way, in f16.
    pub loss_scale: LossScale,
    /// Threads; one for each core where missing.
    pub threads: Option<usize>,
}

impl Default for Train {
    fn default() -> Self {
        Train {
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

/// What products are computed in. Master weights, gradients of weights and the optimiser's states are always float32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// float32.
    #[default]
    F32,
    /// Factors rounded to bfloat16.
    Bf16,
    /// Factors rounded to half precision; gradients are scaled so that they do not vanish.
    F16,
}

/// A dynamic scale of the loss (arXiv:1710.03740).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossScale {
    /// At first.
    pub initial: f64,
    /// What it is multiplied by after `growth_interval` steps without an overflow; 1 for a static scale.
    pub growth: f64,
    /// Steps.
    pub growth_interval: u64,
    /// What it is multiplied by after an overflow.
    pub backoff: f64,
}

impl Default for LossScale {
    fn default() -> Self {
        LossScale { initial: 65536.0, growth: 2.0, growth_interval: 2000, backoff: 0.5 }
    }
}

/// `[quantization]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quantization {
    /// What the matrices inside layers are rounded to while they are trained. Embedding, head and norms stay float.
    pub weights: Weights,
    /// Steps over which rounding sets in, from none to all.
    pub warm_in: u64,
}

/// What matrices inside layers are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weights {
    /// `{-1, 0, 1}` times the mean absolute weight; their inputs are rounded to 8 bits (arXiv:2402.17764).
    #[default]
    Ternary,
    /// As they are.
    None,
}

/// `[optimizer]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Optimizer {
    /// Which.
    pub name: OptimizerName,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the latter.
    pub eps: f64,
    /// Of matrices; norms, biases and the embedding have none.
    pub weight_decay: f64,
}

impl Default for Optimizer {
    fn default() -> Self {
        Optimizer {
            name: OptimizerName::AdamW,
            learning_rate: 1.5e-3,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
        }
    }
}

/// Optimisers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerName {
    /// arXiv:1711.05101.
    AdamW,
    /// Orthogonalised momentum for the matrices inside layers, AdamW for the rest (arXiv:2502.16982).
    Muon,
}

impl OptimizerName {
    /// Numbers that it keeps for each weight, `inner` or not.
    pub(crate) fn moments(self, inner: bool) -> usize {
        if inner && self == OptimizerName::Muon { 1 } else { 2 }
    }
}

/// `[schedule]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// Its shape after the warm-up.
    pub shape: Shape,
    /// Steps over which the rate grows from 0; a tenth of all, but at most 100, where missing.
    pub warmup: Option<u64>,
    /// The lowest rate at the end, as a share of the highest.
    pub end: f64,
    /// `wsd`: share of the steps over which the rate falls at the end.
    pub decay: f64,
}

impl Default for Schedule {
    fn default() -> Self {
        Schedule { shape: Shape::Cosine, warmup: None, end: 0.0, decay: 0.2 }
    }
}

/// Shapes of a learning rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Stays.
    Constant,
    /// Falls in a straight line.
    Linear,
    /// Falls as half a cosine.
    Cosine,
    /// Stays, then falls in a straight line (warm-up, stable, decay: arXiv:2404.06395).
    Wsd,
    /// BitNet's: linear from the highest, with a drop to two thirds of the line halfway, where weight decay ends (The Era of 1-bit LLMs: training tips).
    TwoStage,
}

/// `[distill]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distill {
    /// The teacher's model file.
    pub teacher: PathBuf,
    /// Share of its divergence in the loss; the rest is the text's cross-entropy.
    #[serde(default = "Distill::share")]
    pub share: f64,
    /// Both distributions are flattened by it.
    #[serde(default = "Distill::temperature")]
    pub temperature: f64,
}

impl Distill {
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
pub struct Output {
    /// For checkpoints, the log and the plot.
    pub folder: PathBuf,
    /// The model at the end; `model.gguf` in the folder where missing.
    pub model: Option<PathBuf>,
    /// What the matrices inside layers are written as: `tq2_0`, `tq1_0` or `i2_s` for ternary ones, `f32`, `f16` or `bf16` else.
    pub format: Option<String>,
    /// What embedding and head are written as.
    pub embedding_format: Option<String>,
    /// `general.name` of the model.
    pub name: Option<String>,
    /// Steps between validations; 0 for none but the last.
    #[serde(default = "Output::often")]
    pub validate_every: u64,
    /// Steps between checkpoints; 0 for none but the last.
    #[serde(default = "Output::often")]
    pub checkpoint_every: u64,
    /// How many of the last checkpoints stay, beside the best.
    #[serde(default = "Output::keep")]
    pub keep: usize,
    /// Steps between sample texts; 0 for none.
    #[serde(default = "Output::seldom")]
    pub sample_every: u64,
    /// What sample texts begin with.
    #[serde(default)]
    pub sample_prompts: Vec<String>,
}

impl Output {
    fn often() -> u64 {
        200
    }
    fn seldom() -> u64 {
        500
    }
    fn keep() -> usize {
        2
    }
}
