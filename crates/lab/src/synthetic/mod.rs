//! Models of a real shape with random weights: what a speed is measured on when nobody wants to download.
//!
//! A file opens in every program that reads its architecture and formats: it has all keys, tensors of plausible sizes, and a small
//! language of its own. The same shape, mixture and seed give the same bytes.

mod shapes;

use fastrand::Rng;
pub use shapes::{SHAPES, Shape, shape};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;
use trine_backend::Role;
use trine_model::TensorShape;
use trine_tensor::format::{F32, Layout, Q6_K, by_name};
use trine_tensor::{Format, Metadata, Strings, TensorInfo, gguf};

/// Changes whenever the same request gives other bytes.
pub const REVISION: u32 = 2;

/// Which tensor gets which format, as llama.cpp's quantizer has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mixture {
    /// The format of most matrices.
    body: &'static Format,
    /// Half of the values and down projections are in Q6_K: `Q4_K_M`, `Q5_K_M`.
    medium: bool,
    /// The format of the head, and of the embedding where they are one.
    head: &'static Format,
}

impl Mixture {
    /// The mixture of this name: a format, or `q4_k_m` and `q5_k_m`. The head is Q6_K where the body has fewer bits, and so is the
    /// embedding of ternary models.
    pub fn named(name: &str) -> Option<Mixture> {
        let name = name.to_ascii_uppercase();
        let stem = name.strip_suffix("_M").filter(|stem| stem.ends_with("_K"));
        let body = by_name(stem.unwrap_or(&name)).filter(|format| is_weights(format))?;
        let head = if body.bits_per_weight() < Q6_K.bits_per_weight() { &Q6_K } else { body };
        Some(Mixture { body, medium: stem.is_some(), head })
    }

    /// The same with another head.
    pub fn with_head(self, name: &str) -> Option<Mixture> {
        Some(Mixture { head: by_name(name).filter(|format| is_weights(format))?, ..self })
    }

    /// What [`Mixture::named`] takes, for messages.
    pub fn names() -> String {
        let plain =
            trine_tensor::FORMATS.iter().filter(|format| is_weights(format)).map(|format| format.name.to_owned());
        let medium = ["Q4_K_M", "Q5_K_M"].into_iter().filter(|name| Mixture::named(name).is_some()).map(str::to_owned);
        plain.chain(medium).collect::<Vec<_>>().join(", ").to_lowercase()
    }

    /// Its name, as [`Mixture::named`] takes it, and the head's where it is not the usual one.
    pub fn name(&self) -> String {
        let name = format!("{}{}", self.body.name, if self.medium { "_M" } else { "" }).to_lowercase();
        match Mixture::named(&name) {
            Some(usual) if usual.head == self.head => name,
            _ => format!("{name}-{}", self.head.name.to_lowercase()),
        }
    }
}

/// Whether weights of models come in it: integers and double precision do not.
fn is_weights(format: &Format) -> bool {
    // Blocks are dealt at random, without what rows or matrices have besides.
    let plain = matches!(format.layout, Layout::Rows);
    plain && format.stores_models() && (format.block > 1 || ["F32", "F16", "BF16"].contains(&format.name))
}

/// Whether llama.cpp gives this layer's values and down projection more bits in a medium mixture.
fn more_bits(layer: usize, layers: usize) -> bool {
    let eighth = layers / 8;
    layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
}

impl Shape {
    /// The mixture in which such a model is mostly used.
    pub fn usual_mixture(&self) -> &'static str {
        if self.sizes.arch.sub_norms { "i2_s" } else { "q4_k_m" }
    }

    /// Weights of such a model.
    pub fn parameters(&self) -> u64 {
        let count = |entry: &TensorInfo| entry.shape.iter().product::<usize>() as u64;
        self.tensors(Mixture { body: &F32, medium: false, head: &F32 }).iter().map(count).sum()
    }

    /// Bytes of its weights in a mixture.
    ///
    /// # Errors
    /// When a format does not fit the shape's rows.
    pub fn bytes(&self, mixture: Mixture) -> Result<u64, trine_tensor::Error> {
        self.tensors(mixture).iter().map(TensorInfo::size).sum()
    }

    fn tensors(&self, mixture: Mixture) -> Vec<TensorInfo> {
        let Mixture { body, medium, head } = mixture;
        let format = |TensorShape { name, role, shape }: TensorShape| {
            let layer = name.strip_prefix("blk.").and_then(|rest| rest.split('.').next()?.parse().ok());
            let more = ["attn_v.", "ffn_down."].iter().any(|part| name.contains(part));
            let format = match role {
                Role::Norm | Role::Bias => &F32,
                Role::Head => head,
                Role::Embedding if self.sizes.tied || body.ternary => head,
                _ if medium && more && layer.is_some_and(|layer| more_bits(layer, self.sizes.n_layers)) => &Q6_K,
                _ => body,
            };
            TensorInfo { name, format, shape }
        };
        self.sizes.tensors().into_iter().map(format).collect()
    }

    fn metadata(&self, mixture: Mixture) -> Metadata {
        let mut metadata = self.sizes.metadata();
        metadata.insert("general.name", format!("synthetic {}", self.name));
        if let Some(number) = mixture.body.file_type() {
            metadata.insert("general.file_type", number);
        }
        if let Some(window) = self.sliding_window {
            metadata.insert(format!("{}.attention.sliding_window", self.sizes.arch.name()), window);
        }
        self.language(&mut metadata);
        metadata
    }

    /// A language in SentencePiece's way: control tokens, bytes, letters, and words of one letter more than another word.
    fn language(&self, metadata: &mut Metadata) {
        const NORMAL: i32 = 1;
        const UNKNOWN: i32 = 2;
        const CONTROL: i32 = 3;
        const BYTE: i32 = 6;
        let special =
            [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)].map(|(name, kind)| (name.to_owned(), kind));
        let bytes = (0..=255u8).map(|byte| (format!("<0x{byte:02X}>"), BYTE));
        let letters = std::iter::once('\u{2581}').chain('a'..='z').map(|letter| (letter.to_string(), NORMAL));
        let words = (1..).map(|n| (word(n), NORMAL));
        let (tokens, types): (Vec<String>, Vec<i32>) =
            special.into_iter().chain(bytes).chain(letters).chain(words).take(self.sizes.vocab_size).unzip();
        let scores: Vec<f32> =
            types.iter().enumerate().map(|(i, &kind)| if kind == NORMAL { -(i as f32) } else { 0.0 }).collect();
        metadata.insert("tokenizer.ggml.model", "llama");
        metadata.insert("tokenizer.ggml.tokens", Strings::from_iter(tokens));
        metadata.insert("tokenizer.ggml.scores", scores);
        metadata.insert("tokenizer.ggml.token_type", types);
        metadata.insert("tokenizer.ggml.unknown_token_id", 0u32);
        metadata.insert("tokenizer.ggml.bos_token_id", 1u32);
        metadata.insert("tokenizer.ggml.eos_token_id", 2u32);
    }
}

/// The word of number `n`, from 1, in bijective base 26.
fn word(mut n: usize) -> String {
    let mut letters = Vec::new();
    while n > 0 {
        letters.push((b'a' + ((n - 1) % 26) as u8) as char);
        n = (n - 1) / 26;
    }
    std::iter::once('\u{2581}').chain(letters.into_iter().rev()).collect()
}

/// Weights of which blocks are made before they are dealt out.
const POOL: usize = 1 << 16;
/// Bytes that are written at once.
const PART: usize = 1 << 20;

/// Why a synthetic model cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `progress` broke off.
    #[error("cancelled")]
    Cancelled,
    /// The file cannot be written, or a format does not fit the shape's rows.
    #[error(transparent)]
    File(#[from] trine_tensor::Error),
}

/// Writes a model. Its weights keep the size of activations about what it was, so that logits are finite. `progress` gets the bytes
/// that are written of how many, and may break off.
///
/// # Errors
/// When a format does not fit the shape's rows, the file cannot be written, or `progress` breaks off; then an old file stays as it was.
pub fn write(
    path: &Path,
    shape: &Shape,
    mixture: Mixture,
    seed: u64,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<(), Error> {
    let entries = shape.tensors(mixture);
    let total = entries.iter().map(TensorInfo::size).sum::<Result<u64, _>>()?;
    let mut writer = gguf::create(path, &shape.metadata(mixture), entries.clone())?;
    let mut rng = Rng::with_seed(seed);
    let mut pools = HashMap::new();
    let mut done = 0;
    for entry in &entries {
        if let &[len] = &entry.shape[..] {
            let gains: Vec<f32> = (0..len).map(|_| 0.9 + 0.2 * rng.f32()).collect();
            writer.tensor(&F32.encode(&gains))?;
        } else {
            let cols = *entry.shape.last().expect("a matrix has columns");
            let pool = pools.entry((entry.format.name, cols)).or_insert_with(|| pool(entry.format, cols, &mut rng));
            let (blocks, tail) = pool.split_at(pool.len() - entry.format.tail);
            let mut left = (entry.size()? as usize) - tail.len();
            let mut broken = false;
            let parts = std::iter::from_fn(|| {
                if progress(done, total).is_break() {
                    broken = true;
                }
                if left == 0 || broken {
                    return None;
                }
                let len = left.min(PART / entry.format.bytes * entry.format.bytes);
                (left, done) = (left - len, done + len as u64);
                let mut part = Vec::with_capacity(len);
                while part.len() < len {
                    // A run of blocks from somewhere in the pool.
                    let start = rng.usize(..blocks.len() / entry.format.bytes) * entry.format.bytes;
                    let end = blocks.len().min(start + len - part.len()).min(start + RUN * entry.format.bytes);
                    part.extend_from_slice(&blocks[start..end]);
                }
                Some(part)
            });
            let written = writer.tensor_in_parts(parts.chain((!tail.is_empty()).then(|| tail.to_vec())));
            if broken {
                return Err(Error::Cancelled);
            }
            written?;
        }
    }
    Ok(writer.finish()?)
}

/// Blocks that are dealt together.
const RUN: usize = 16;

/// Blocks of random weights, and a tail: normal ones, or trits for ternary formats, that keep the size of what they are multiplied with.
fn pool(format: &Format, cols: usize, rng: &mut Rng) -> Vec<u8> {
    let deviation = 1.0 / (cols as f32).sqrt();
    let mut weight = || match format.ternary {
        true => (rng.u32(..3) as f32 - 1.0) * deviation * 1.5f32.sqrt(),
        // The sum of four even numbers in 0..1 has variance 1/3.
        false => ((0..4).map(|_| rng.f32()).sum::<f32>() - 2.0) * 3f32.sqrt() * deviation,
    };
    let weights: Vec<f32> = (0..POOL).map(|_| weight()).collect();
    format.encode(&weights)
}
