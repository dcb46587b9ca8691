//! One vector for a text: the states of its tokens pooled, projected if the model says so, and normalised.

use crate::runner::{Runner, ScoreInput, ScoreOptions, Want, score};
use crate::{Error, Result, Sizes, Spec, open_file};
use serde_json::Value;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use trine_tensor::format::F32;
use trine_tensor::{File, FileFormat, OpenOptions, View, read_small};

/// Larger than any description of a module.
const MAX_JSON: u64 = 1 << 20;

/// What becomes of the states of a text's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    Mean,
    First,
    Last,
}

/// Makes an embedding of a text's hidden states, a unit-length vector: pooling, and linear layers if the model has some. The model itself
/// runs in a [`Runner`], which need not have an output head.
pub struct PoolingHead {
    pooling: Pooling,
    assumption: Option<String>,
    dense: Vec<Dense>,
    width: usize,
}

/// A linear layer after pooling, `[rows, columns]`.
struct Dense {
    weights: Vec<f32>,
}

impl PoolingHead {
    /// What the model of `file` makes embeddings with: by the keys of GGUF, or by the files that sentence-transformers puts beside safetensors;
    /// without either, encoders take the mean of the hidden states and decoders the last.
    ///
    /// # Errors
    /// When the pooling is not one of [`Pooling`], or a dense layer does not fit.
    pub fn of(spec: &Spec, file: &File) -> Result<PoolingHead> {
        let usual = if spec.arch.encoder { Pooling::Mean } else { Pooling::Last };
        let modules = || match file.format() {
            FileFormat::Gguf { .. } => of_keys(file),
            FileFormat::Safetensors => of_folder(file),
        };
        let (pooling, views) = modules().map_err(|error| error.at(file.path()))?;
        let (mut dense, mut width) = (Vec::new(), spec.hidden_size);
        for view in views {
            if view.shape.len() != 2 || view.cols() != width {
                let expected = vec![view.rows(), width];
                return Err(Error::Shape { tensor: view.name, expected, found: view.shape }.at(file.path()));
            }
            width = view.rows();
            dense.push(Dense { weights: view.decode() });
        }
        let assumption = pooling.is_none().then(|| {
            let place =
                if matches!(file.format(), FileFormat::Gguf { .. }) { "the key pooling_type" } else { "modules.json" };
            let taken = if usual == Pooling::Mean { "mean" } else { "last" };
            format!("expected {place} to name the pooling, found nothing: took the {taken} of a text's hidden states")
        });
        Ok(PoolingHead { pooling: pooling.unwrap_or(usual), assumption, dense, width })
    }

    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// What was assumed of the pooling, and why.
    pub fn assumption(&self) -> Option<&str> {
        self.assumption.as_deref()
    }

    /// The length of an embedding.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The embedding of a text's tokens, computed by the model that `runner` holds.
    ///
    /// # Errors
    /// When there are no tokens, or more than the model's context, or the cache finds no room.
    ///
    /// # Panics
    /// When a token is not below the vocabulary size.
    pub fn embed(&self, runner: &mut dyn Runner, ids: &[u32]) -> Result<Vec<f32>> {
        let Sizes { context_length, hidden_size, .. } = runner.spec().sizes;
        if !(1..=context_length).contains(&ids.len()) {
            return Err(Error::Length { tokens: ids.len(), most: context_length });
        }
        let options = ScoreOptions { batch: ids.len(), cache_type: &F32, want: Want::Hidden };
        let outputs = if self.pooling == Pooling::Last { 1 } else { ids.len() };
        let mut values = Vec::with_capacity(outputs * hidden_size);
        let input = ScoreInput { ids: ids.to_vec(), outputs };
        score::<Error>(runner, &[input], &options, &mut |_, output| {
            values.extend_from_slice(&output.values);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(self.pool(&values, hidden_size))
    }

    /// Hidden states, `[tokens, hidden_size]`, or that of the last token alone where it is what counts, to a vector of length 1.
    fn pool(&self, states: &[f32], hidden_size: usize) -> Vec<f32> {
        let tokens = (states.len() / hidden_size) as f64;
        let mut pooled: Vec<f64> = match self.pooling {
            Pooling::First => states[..hidden_size].iter().map(|&x| x.into()).collect(),
            Pooling::Last => states[states.len() - hidden_size..].iter().map(|&x| x.into()).collect(),
            Pooling::Mean => (0..hidden_size)
                .map(|i| states[i..].iter().step_by(hidden_size).map(|&x| f64::from(x)).sum::<f64>() / tokens)
                .collect(),
        };
        for dense in &self.dense {
            let rows = dense.weights.chunks_exact(pooled.len());
            pooled = rows.map(|row| row.iter().zip(&pooled).map(|(&w, x)| f64::from(w) * x).sum()).collect();
        }
        let length = pooled.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-12);
        pooled.into_iter().map(|x| (x / length) as f32).collect()
    }
}

/// Whether a file says what becomes of the states of a text: it is meant for embeddings, whatever its architecture.
pub fn is_for_embeddings(file: &File) -> bool {
    let said = match file.format() {
        FileFormat::Gguf { .. } => of_keys(file),
        FileFormat::Safetensors => of_folder(file),
    };
    said.is_ok_and(|(pooling, _)| pooling.is_some())
}

/// What GGUF says: `pooling_type`, and `dense_2` and `dense_3` behind it.
fn of_keys(file: &File) -> Result<(Option<Pooling>, Vec<View>)> {
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
    Ok((pooling, dense.map(|name| file.view(name)).collect::<std::result::Result<_, _>>()?))
}

/// What sentence-transformers puts into a folder: `modules.json`, and a folder for each module that it names.
fn of_folder(file: &File) -> Result<(Option<Pooling>, Vec<View>)> {
    let folder = if file.path().is_dir() { file.path() } else { file.path().parent().unwrap_or(Path::new("")) };
    let json = |path: PathBuf| -> Result<Value> {
        let bytes = read_small(&path, MAX_JSON)?;
        serde_json::from_slice(&bytes).map_err(|error| Error::bad(path.display().to_string(), "JSON", error))
    };
    let (mut pooling, mut dense) = (None, Vec::new());
    if !folder.join("modules.json").is_file() {
        return Ok((pooling, dense));
    }
    let modules = json(folder.join("modules.json"))?;
    for module in modules.as_array().into_iter().flatten() {
        let [kind, path] = ["type", "path"].map(|key| module[key].as_str().unwrap_or_default());
        // A path with more than one part could reach files that are no part of the model.
        if path.contains(['/', '\\', ':']) || path.contains("..") {
            return Err(Error::bad("modules.json", "names of folders beside it", path));
        }
        let place = folder.join(path);
        match kind.rsplit('.').next().unwrap_or_default() {
            "Transformer" | "Normalize" => {}
            "Pooling" => pooling = Some(pooling_of(&json(place.join("config.json"))?)?),
            "Dense" => {
                let config = json(place.join("config.json"))?;
                let activation = config["activation_function"].as_str().unwrap_or("Identity");
                if !activation.ends_with("Identity") || config["bias"] == true {
                    return Err(Error::bad("Dense", "a projection without bias or activation", config));
                }
                dense.push(open_file(place.join("model.safetensors"), &OpenOptions::default())?.view("linear.weight")?);
            }
            other => return Err(Error::bad("modules.json", "Transformer, Pooling, Dense or Normalize", other)),
        }
    }
    Ok((pooling, dense))
}

/// The one mode that is on. (The root of the length that one divides by changes nothing: embeddings have length 1 in the end.)
fn pooling_of(config: &Value) -> Result<Pooling> {
    let modes = [
        ("pooling_mode_mean_tokens", Pooling::Mean),
        ("pooling_mode_cls_token", Pooling::First),
        ("pooling_mode_lasttoken", Pooling::Last),
    ];
    let mut on = modes.into_iter().filter(|(key, _)| config[key] == true).map(|(_, pooling)| pooling);
    match (on.next(), on.next()) {
        (Some(pooling), None) => Ok(pooling),
        (None, None) if config["pooling_mode_mean_sqrt_len_tokens"] == true => Ok(Pooling::Mean),
        _ => Err(Error::bad("pooling_mode", "one of mean, cls and lasttoken", config)),
    }
}
