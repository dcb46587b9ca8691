//! One vector for a text: the states of its tokens pooled, passed through the modules that follow, and normalized.

use crate::runner::{Runner, ScoreInput, ScoreOptions, Scored, Want, score};
use crate::sentence_transformers::{self, Folder, TextSettings};
use crate::{Error, Result, Spec};
use std::ops::ControlFlow;
use std::path::Path;
use trine_backend::CacheType;
use trine_tensor::{File, FileFormat, View};

/// What becomes of the states of a text's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    Mean,
    /// Their sum, divided by the root of their number.
    MeanSqrtLen,
    First,
    Last,
}

/// What follows pooling, as the file has it.
pub(crate) enum Module {
    /// A linear layer, `[rows, columns]`.
    Dense(Box<DenseModule>),
    /// Makes the length 1.
    Normalize,
}

pub(crate) struct DenseModule {
    pub weight: View,
    pub bias: Option<View>,
    pub activation: Activation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    Identity,
    Tanh,
}

/// Makes an embedding of a text's hidden states, a unit-length vector: pooling, and linear layers if the model has some. The model itself
/// runs in a [`Runner`], which need not have an output head.
pub struct PoolingHead {
    pooling: Pooling,
    texts: TextSettings,
    warnings: Vec<String>,
    layers: Vec<Layer>,
    width: usize,
}

enum Layer {
    Dense { weights: Vec<f32>, bias: Option<Vec<f32>>, activation: Activation },
    Normalize,
}

impl PoolingHead {
    /// What the model of `file` makes embeddings with: by the keys of GGUF, or by the files that sentence-transformers puts beside safetensors;
    /// without either, encoders take the mean of the hidden states and decoders the last.
    ///
    /// # Errors
    /// When a file or key says what is not supported, or a dense layer does not fit.
    pub fn of(spec: &Spec, file: &File) -> Result<PoolingHead> {
        let usual = if spec.arch.encoder { Pooling::Mean } else { Pooling::Last };
        let Folder { pooling, modules, truncate, texts, mut warnings } =
            read(file).map_err(|error| error.at(file.path()))?;
        let (mut layers, mut width) = (Vec::new(), spec.hidden_size);
        for module in modules {
            let Module::Dense(dense) = module else {
                layers.push(Layer::Normalize);
                continue;
            };
            let DenseModule { weight, bias, activation } = *dense;
            let rows = weight.rows();
            let shape = |view: &View, expected: Vec<usize>| match view.shape == expected {
                true => Ok(()),
                false => {
                    let (tensor, found) = (view.name.clone(), view.shape.clone());
                    Err(Error::Shape { tensor, expected, found }.at(file.path()))
                }
            };
            shape(&weight, vec![rows, width])?;
            bias.as_ref().map_or(Ok(()), |bias| shape(bias, vec![rows]))?;
            width = rows;
            layers.push(Layer::Dense { weights: weight.decode(), bias: bias.map(|bias| bias.decode()), activation });
        }
        if pooling.is_none() {
            let place =
                if matches!(file.format(), FileFormat::Gguf { .. }) { "the key pooling_type" } else { "modules.json" };
            let taken = if usual == Pooling::Mean { "mean" } else { "last" };
            warnings.push(format!(
                "expected {place} to name the pooling, found nothing: took the {taken} of a text's hidden states"
            ));
        }
        let width = truncate.map_or(width, |truncate| truncate.min(width));
        Ok(PoolingHead { pooling: pooling.unwrap_or(usual), texts, warnings, layers, width })
    }

    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// What becomes of a text before its tokens meet the model.
    pub fn texts(&self) -> &TextSettings {
        &self.texts
    }

    /// What was assumed, and keys that are not known.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The length of an embedding.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The embeddings of texts, given by their tokens, of which the first `skipped` take no part in pooling, computed by the model that
    /// `runner` holds. A pass takes several texts, of `batch` tokens in all at most; one text that is longer has passes of its own, or a
    /// single one if the model reads texts as a whole. The bits of an embedding do not depend on it.
    ///
    /// # Errors
    /// When a text has no tokens to pool, or more than the model's context, or the cache finds no room.
    ///
    /// # Panics
    /// When a token is not below the vocabulary size.
    pub fn embed<T: AsRef<[u32]>>(
        &self,
        runner: &mut dyn Runner,
        texts: &[T],
        skipped: usize,
        batch: usize,
    ) -> Result<Vec<Vec<f32>>> {
        let hidden_size = runner.spec().hidden_size;
        let mut inputs = Vec::with_capacity(texts.len());
        for ids in texts.iter().map(T::as_ref) {
            PoolingHead::check_length(runner.spec(), ids.len(), skipped)?;
            let outputs = if self.pooling == Pooling::Last { 1 } else { ids.len() - skipped };
            inputs.push(ScoreInput { ids: ids.to_vec(), outputs });
        }
        let options = ScoreOptions { batch, cache_type: CacheType::F32, want: Want::Hidden };
        let (mut embeddings, mut states) = (Vec::with_capacity(texts.len()), Vec::new());
        score::<Error>(runner, &inputs, &options, &mut |scored, output| {
            let mut rows = output.values.as_slice();
            for Scored { input, outputs } in scored {
                let own;
                (own, rows) = rows.split_at(outputs.len() * hidden_size);
                states.extend_from_slice(own);
                if outputs.end == inputs[*input].outputs {
                    embeddings.push(self.pool(&states, hidden_size));
                    states.clear();
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(embeddings)
    }

    /// Checks that a text of so many tokens can be embedded, of which the first `skipped` take no part in pooling.
    ///
    /// # Errors
    /// When no token is left to pool, or there are more than the model's context.
    pub fn check_length(spec: &Spec, tokens: usize, skipped: usize) -> Result<()> {
        let most = spec.context_length;
        match (1..=most).contains(&tokens) && skipped < tokens {
            true => Ok(()),
            false => Err(Error::Length { tokens: tokens.saturating_sub(skipped), most }),
        }
    }

    /// Hidden states, `[tokens, hidden_size]`, or that of the last token alone where it is what counts, to a vector of length 1.
    fn pool(&self, states: &[f32], hidden_size: usize) -> Vec<f32> {
        let tokens = (states.len() / hidden_size) as f64;
        let sums =
            || (0..hidden_size).map(|i| states[i..].iter().step_by(hidden_size).map(|&x| f64::from(x)).sum::<f64>());
        let mut pooled: Vec<f64> = match self.pooling {
            Pooling::First => states[..hidden_size].iter().map(|&x| x.into()).collect(),
            Pooling::Last => states[states.len() - hidden_size..].iter().map(|&x| x.into()).collect(),
            Pooling::Mean => sums().map(|sum| sum / tokens).collect(),
            Pooling::MeanSqrtLen => sums().map(|sum| sum / tokens.sqrt()).collect(),
        };
        for layer in &self.layers {
            match layer {
                Layer::Normalize => pooled = unit(pooled),
                Layer::Dense { weights, bias, activation } => {
                    let rows = weights.chunks_exact(pooled.len());
                    pooled = rows.map(|row| row.iter().zip(&pooled).map(|(&w, x)| f64::from(w) * x).sum()).collect();
                    let bias = bias.iter().flatten();
                    pooled.iter_mut().zip(bias).for_each(|(x, &bias)| *x += f64::from(bias));
                    if *activation == Activation::Tanh {
                        pooled.iter_mut().for_each(|x| *x = libm::tanh(*x));
                    }
                }
            }
        }
        pooled.truncate(self.width);
        unit(pooled).into_iter().map(|x| x as f32).collect()
    }
}

/// The vector of length 1 in the same direction.
fn unit(mut vector: Vec<f64>) -> Vec<f64> {
    let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-12);
    vector.iter_mut().for_each(|x| *x /= length);
    vector
}

/// Whether a file says what becomes of the states of a text: it is meant for embeddings, whatever its architecture.
pub fn is_for_embeddings(file: &File) -> bool {
    read(file).is_ok_and(|found| found.pooling.is_some())
}

fn read(file: &File) -> Result<Folder> {
    let folder = if file.path().is_dir() { file.path() } else { file.path().parent().unwrap_or(Path::new("")) };
    match file.format() {
        FileFormat::Gguf { .. } => of_keys(file),
        FileFormat::Safetensors => sentence_transformers::read(folder),
    }
}

/// What GGUF says: `pooling_type`, and `dense_2` and `dense_3` behind it.
fn of_keys(file: &File) -> Result<Folder> {
    let missing = || Error::MissingKey { key: "general.architecture".into(), expected: "the name of one" };
    let key = format!("{}.pooling_type", file.metadata().str("general.architecture")?.ok_or_else(missing)?);
    let pooling = match file.metadata().u32(&key)? {
        None | Some(0) => None,
        Some(1) => Some(Pooling::Mean),
        Some(2) => Some(Pooling::First),
        Some(3) => Some(Pooling::Last),
        Some(other) => return Err(Error::bad(key, "0 (none), 1 (mean), 2 (first) or 3 (last)", other)),
    };
    let dense = ["dense_2.weight", "dense_3.weight"].into_iter().filter(|name| file.contains(name));
    let dense = dense.map(|name| {
        let module = DenseModule { weight: file.view(name)?, bias: None, activation: Activation::Identity };
        Ok(Module::Dense(Box::new(module)))
    });
    Ok(Folder { pooling, modules: dense.collect::<Result<_>>()?, ..Folder::default() })
}

/// What a folder says of pooling, as a GGUF file has it.
#[derive(Default)]
pub(crate) struct GgufPooling {
    /// Keys, without the name of the architecture in front.
    pub keys: Vec<(&'static str, u32)>,
    pub tensors: Vec<View>,
    /// What is lost.
    pub warnings: Vec<String>,
}

impl GgufPooling {
    /// Reads the files of sentence-transformers beside `file`, if there are any.
    ///
    /// # Errors
    /// When they cannot be read, or GGUF has no keys for what they say.
    pub fn of(spec: &Spec, file: &File) -> Result<GgufPooling> {
        let Folder { pooling, modules, truncate, texts, .. } = read(file)?;
        let Some(pooling) = pooling else { return Ok(GgufPooling::default()) };
        let mut found = GgufPooling::default();
        let names = [
            ("dense_2.weight", ["dense_2_feat_in", "dense_2_feat_out"]),
            ("dense_3.weight", ["dense_3_feat_in", "dense_3_feat_out"]),
        ];
        let mut names = names.into_iter();
        for module in modules {
            // The length of an embedding becomes 1 at the end, and linear layers keep proportions.
            let Module::Dense(dense) = module else { continue };
            let linear = dense.bias.is_none() && dense.activation == Activation::Identity;
            let (Some((name, sizes)), true) = (names.next(), linear) else {
                let expected = "at most two dense layers, without biases and activations, as GGUF has them";
                return Err(Error::bad("modules.json", expected, format!("another, {}", dense.weight.name)));
            };
            let weight = dense.weight;
            found.keys.push((sizes[0], weight.cols() as u32));
            found.keys.push((sizes[1], weight.rows() as u32));
            found.tensors.push(View::new(name, weight.format, weight.shape.clone(), weight.bytes.clone())?);
        }
        let number = match pooling {
            Pooling::Mean | Pooling::MeanSqrtLen => 1,
            Pooling::First => 2,
            Pooling::Last => 3,
        };
        found.keys.push(("pooling_type", number));
        let lost = [
            ("truncate_dim", truncate.is_some()),
            ("prompts", !texts.prompts.is_empty()),
            ("include_prompt", !texts.include_prompt),
            ("do_lower_case", texts.lowercase),
            ("truncation_side", texts.cut_left),
            ("max_seq_length", texts.max_tokens.is_some_and(|most| most < spec.context_length)),
        ];
        let lost: Vec<&str> = lost.into_iter().filter(|(_, lost)| *lost).map(|(key, _)| key).collect();
        if !lost.is_empty() {
            let keys = lost.join(", ");
            found.warnings.push(format!("GGUF has no keys for what sentence-transformers calls {keys}: lost"));
        }
        Ok(found)
    }
}
