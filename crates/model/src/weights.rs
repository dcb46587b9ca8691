//! Weights by their GGUF names, from whatever file they are in and however it cuts them.

use crate::{Arch, Error, Packing, Result, Spec, keys, packed};
use std::cell::RefCell;
use std::collections::HashSet;
use std::ops::Range;
use trine_tensor::format::{F32, I2_S, U8};
use trine_tensor::{File, FileFormat, Format, View};

/// The tensors of a file under its own names; it notes which were asked for.
pub struct Source<'a> {
    file: &'a File,
    packing: Packing,
    taken: RefCell<HashSet<String>>,
    /// What was unpacked last, which is asked for again when it is several parts.
    unpacked: RefCell<Option<View>>,
}

/// Prefixes that some folders of an architecture have and others have not.
const PREFIXES: [&str; 5] = ["model.", "transformer.", "bert.", "language_model.", "model.language_model."];

/// What the names of parts begin with that are not for text, with or without `model.` before it.
const OTHER_PARTS: [&str; 2] = ["vision_tower.", "multi_modal_projector."];

/// Tables that follow from the keys, which early releases of transformers stored.
const TABLES: [&str; 6] = [
    ".rotary_emb.inv_freq",
    ".attn.bias",
    ".attn.masked_bias",
    ".attention.bias",
    ".attention.masked_bias",
    "embeddings.position_ids",
];

/// Whether a tensor of a file is one of its model's weights: not a table that follows from the keys, nor in a model of several parts what is
/// not for text.
pub fn is_weight(file: &File, name: &str) -> bool {
    let part = name.strip_prefix("model.").unwrap_or(name);
    let other = || keys::has_other_parts(file) && OTHER_PARTS.iter().any(|other| part.starts_with(other));
    !(name.starts_with("rope_f") || TABLES.iter().any(|end| name.ends_with(end)) || other())
}

/// The name of a tensor in this file, when it is there with or without a usual prefix.
pub(crate) fn find(file: &File, name: &str) -> Option<String> {
    let shorter = || std::iter::once(name).chain(PREFIXES.iter().filter_map(|prefix| name.strip_prefix(prefix)));
    let longer = shorter().flat_map(|name| PREFIXES.iter().map(move |prefix| format!("{prefix}{name}")));
    shorter().map(str::to_owned).chain(longer).find(|name| file.contains(name))
}

/// Whether a folder has another matrix for the head than for the embedding. Models that were trained with one for both may be saved as two.
///
/// # Errors
/// When the file does not have what it says.
pub(crate) fn has_own_head(file: &File) -> Result<bool> {
    let [head, embedding] =
        ["lm_head.weight", "model.embed_tokens.weight"].map(|name| find(file, name).map(|name| file.view(&name)));
    match (head, embedding) {
        (Some(head), Some(embedding)) => {
            let (head, embedding) = (head?, embedding?);
            Ok(head.format != embedding.format || head.bytes[..] != embedding.bytes[..])
        }
        _ => Ok(false),
    }
}

impl<'a> Source<'a> {
    pub fn new(file: &'a File, packing: Packing) -> Source<'a> {
        Source { file, packing, taken: RefCell::default(), unpacked: RefCell::default() }
    }

    /// How linear layers are packed.
    pub fn packing(&self) -> Packing {
        self.packing
    }

    /// Whether this tensor is a weight.
    pub fn is_weight(&self, name: &str) -> bool {
        is_weight(self.file, name)
    }

    /// Whether there is a tensor of this very name.
    pub fn has(&self, name: &str) -> bool {
        self.file.contains(name)
    }

    fn name(&self, name: &str) -> Option<String> {
        find(self.file, name).or_else(|| {
            matches!(self.packing, Packing::Gptq { .. } | Packing::Awq { .. }).then_some(())?;
            let packed = find(self.file, &format!("{}.qweight", name.strip_suffix(".weight")?))?;
            Some(format!("{}.weight", packed.strip_suffix(".qweight")?))
        })
    }

    /// Whether there is such a tensor.
    pub fn contains(&self, name: &str) -> bool {
        self.name(name).is_some()
    }

    /// A tensor, unpacked when another quantiser packed it.
    ///
    /// # Errors
    /// When it is not there, or badly packed.
    pub fn view(&self, name: &str) -> Result<View> {
        let name = self.name(name).unwrap_or_else(|| name.to_owned());
        if let Some(view) = self.unpacked.borrow().as_ref().filter(|view| view.name == name) {
            return Ok(view.clone());
        }
        let layer = name.strip_suffix(".weight").filter(|_| !self.file.contains(&name));
        let view = match (self.packing, layer) {
            (Packing::Gptq { bits, group, less_one }, Some(layer)) => {
                packed::gptq(self, layer, bits, group, less_one)?.view()?
            }
            (Packing::Awq { group }, Some(layer)) => packed::awq(self, layer, group)?.view()?,
            (Packing::Fp8 { block }, _) => match self.stored(&name)? {
                view if packed::is_fp8(&view) => packed::fp8(self, view, block)?.view()?,
                view => return Ok(view),
            },
            _ => return self.stored(&name),
        };
        *self.unpacked.borrow_mut() = Some(view.clone());
        Ok(view)
    }

    /// A tensor as it is in the file.
    ///
    /// # Errors
    /// When it is not there.
    pub fn stored(&self, name: &str) -> Result<View> {
        let view = self.file.view(name)?;
        self.taken.borrow_mut().insert(view.name.clone());
        Ok(view)
    }
}

/// What is asked for: a part of a layer, such as `attn_q`, and `weight` or `bias`.
pub type Part<'a> = (&'a str, &'a str);

/// How a part of a layer is found in a Hugging Face folder that has it in another shape; `None` when it is not in another.
pub type Recipe = fn(&Source, layer: &str, part: Part) -> Result<Option<View>>;

/// The tensors of a model under GGUF names. Nothing is copied, except for what Hugging Face packs or cuts otherwise.
pub struct Weights<'a> {
    source: Source<'a>,
    spec: &'a Spec,
}

impl<'a> Weights<'a> {
    /// The weights of `file`, whose specification is `spec`.
    pub fn new(file: &'a File, spec: &'a Spec) -> Weights<'a> {
        Weights { source: Source::new(file, spec.packing), spec }
    }

    /// Whether they are in a GGUF file.
    pub(crate) fn gguf(&self) -> bool {
        matches!(self.source.file.format(), FileFormat::Gguf { .. })
    }

    /// The name in the file of a tensor with this GGUF name; of a list, that of the first.
    fn name(&self, gguf: &str) -> Option<String> {
        if !self.gguf() {
            return self.spec.arch.hub_name(gguf);
        }
        let other = self.spec.arch.aliases.iter().find_map(|(name, other)| {
            let (layer, rest) = gguf.strip_prefix("blk.")?.split_once('.')?;
            (rest.split_once('.')?.0 == *name).then(|| format!("blk.{layer}.{}", rest.replacen(name, other, 1)))
        });
        Some(other.unwrap_or_else(|| gguf.to_owned()))
    }

    /// Whether there is such a tensor, whole or as a part of another.
    pub fn contains(&self, gguf: &str) -> bool {
        let there = |name: &str| self.name(name).is_some_and(|name| self.source.contains(&name.replace("[]", "0")));
        there(gguf)
            || self.fused(gguf).is_some_and(|(whole, _)| there(&whole))
            || self.recipe(gguf).is_ok_and(|view| view.is_some())
    }

    /// Where a part is inside another tensor, by whose name and in which rows.
    fn fused(&self, gguf: &str) -> Option<(String, Range<usize>)> {
        let Spec { n_heads, n_kv_heads, head_dim, intermediate_size, .. } = *self.spec;
        let (q, kv) = (n_heads * head_dim, n_kv_heads * head_dim);
        let (rest, suffix) = gguf.rsplit_once('.')?;
        let (blk, part) = rest.rsplit_once('.')?;
        let (whole, rows) = match part {
            "attn_q" => ("attn_qkv", 0..q),
            "attn_k" => ("attn_qkv", q..q + kv),
            "attn_v" => ("attn_qkv", q + kv..q + 2 * kv),
            "ffn_gate" => ("ffn_up", 0..intermediate_size),
            _ => return None,
        };
        Some((format!("{blk}.{whole}.{suffix}"), rows))
    }

    /// What the architecture itself knows to find.
    fn recipe(&self, gguf: &str) -> Result<Option<View>> {
        let parts = || {
            let (layer, rest) = gguf.strip_prefix("blk.")?.split_once('.')?;
            Some((layer, rest.rsplit_once('.')?))
        };
        match (self.spec.arch.recipe, parts()) {
            (Some(recipe), Some((layer, part))) if !self.gguf() => recipe(&self.source, layer, part),
            _ => Ok(None),
        }
    }

    fn view(&self, gguf: &str) -> Result<View> {
        let name = self.name(gguf).unwrap_or_else(|| gguf.to_owned());
        if name.contains("[]") && self.source.contains(&name.replace("[]", "0")) {
            let count = self.spec.experts.as_ref().map_or(0, |experts| experts.n_experts);
            let views = (0..count).map(|expert| self.source.view(&name.replace("[]", &expert.to_string())));
            return stack(&name, &alike(views.collect::<Result<Vec<View>>>()?)?);
        }
        if !self.source.contains(&name)
            && let Some(view) = self.recipe(gguf)?
        {
            return Ok(view);
        }
        let view = self.source.view(&name)?;
        let Spec { arch, n_heads, n_kv_heads, head_dim, .. } = *self.spec;
        let Arch { hub_transposed, hub_by_head, .. } = *arch;
        if self.gguf() {
            return Ok(view);
        }
        let view = if hub_transposed
            && view.shape.len() == 2
            && gguf.starts_with("blk.")
            && self.source.file.contains(&view.name)
        {
            transpose(&view)?
        } else {
            view
        };
        if hub_by_head && gguf.contains("attn_qkv") {
            return by_head(&view, n_heads, n_heads / n_kv_heads, head_dim);
        }
        Ok(view)
    }

    /// Whether the output head is a matrix of its own. GGUF files have it then; Hugging Face's configuration says so, or else the file.
    pub fn has_head(&self) -> bool {
        let tied = keys::config(self.source.file).and_then(|config| config.get("tie_word_embeddings")?.as_bool());
        match (self.gguf(), tied) {
            (false, Some(tied)) => !tied || self.spec.own_head,
            (false, None) if self.spec.arch.scaled_embedding => self.spec.own_head,
            _ => self.contains("output.weight"),
        }
    }

    /// Makes sure that every tensor was asked for, but those that are made from the keys anyway, those of parts that only training uses, and
    /// a head that the model does not use, or that without `head` nobody asked for.
    ///
    /// # Errors
    /// When one was not.
    pub fn check_all_taken(&self, head: bool) -> Result<()> {
        let taken = self.source.taken.borrow();
        // Layers that foretell further tokens, for training.
        let further =
            keys::config(self.source.file).is_some_and(|config| config.get("num_nextn_predict_layers").is_some());
        let further = further.then(|| format!("model.layers.{}.", self.spec.n_layers));
        let harmless = |name: &str| {
            !is_weight(self.source.file, name)
                || !head && matches!(name, "output.weight" | "output.bias" | "lm_head.bias")
                || name == "lm_head.weight"
                || name.ends_with(".lm_head.weight")
                || further.as_ref().is_some_and(|further| name.starts_with(further))
                || matches!(name, "dense_2.weight" | "dense_3.weight")
                || self.spec.arch.encoder
                    && ["pooler.", "cls.", "head.", "decoder."].iter().any(|part| name.contains(part))
        };
        match self.source.file.names().find(|name| !taken.contains(*name) && !harmless(name)) {
            Some(name) => {
                let (arch, layers) = (self.spec.arch.gguf[0], self.spec.n_layers);
                Err(Error::Unused { tensor: name.to_owned(), arch, layers })
            }
            None => Ok(()),
        }
    }

    /// A vector or matrix of this shape.
    ///
    /// # Errors
    /// When it is not there or has another shape.
    pub fn get(&self, gguf: &str, shape: &[usize]) -> Result<View> {
        let whole = || self.name(gguf).is_some_and(|name| self.source.contains(&name));
        let fused = self.fused(gguf).filter(|(other, _)| !whole() && self.contains(other));
        let view = match fused {
            Some((other, range)) => {
                let other = self.view(&other)?;
                // Gate above up, or no gate at all.
                if gguf.contains(".ffn_gate.") && other.shape[0] != 2 * range.len() {
                    return self.view(gguf);
                }
                let Spec { n_heads, n_kv_heads, head_dim, .. } = *self.spec;
                let all = (n_heads + 2 * n_kv_heads) * head_dim;
                if gguf.contains(".attn_") && other.shape.first() != Some(&all) {
                    let expected = std::iter::once(all).chain(shape[1..].iter().copied()).collect();
                    return Err(Error::Shape { tensor: other.name, expected, found: other.shape });
                }
                rows(&other, range)?
            }
            None => self.view(gguf)?,
        };
        // Gate above up, in one matrix or vector.
        let twice: Vec<usize> = std::iter::once(2 * shape[0]).chain(shape[1..].iter().copied()).collect();
        let view = match gguf.contains(".ffn_up.") && shape.len() <= 2 && view.shape == twice {
            true => rows(&view, shape[0]..2 * shape[0])?,
            false => view,
        };
        if view.shape != shape {
            return Err(Error::Shape { tensor: view.name, expected: shape.to_vec(), found: view.shape });
        }
        Ok(view)
    }

    /// The gain of a norm.
    ///
    /// # Errors
    /// As [`Weights::get`].
    pub fn gain(&self, gguf: &str, shape: &[usize]) -> Result<View> {
        let view = self.get(gguf, shape)?;
        let more = self.spec.arch.hub_gain;
        if self.gguf() || more == 0.0 {
            return Ok(view);
        }
        let gains: Vec<f32> = view.decode().iter().map(|gain| gain + more).collect();
        Ok(View::new(view.name, &F32, view.shape, F32.encode(&gains))?)
    }

    /// The rows of a matrix whose number only the file knows.
    ///
    /// # Errors
    /// When it is not there.
    pub fn rows(&self, gguf: &str) -> Result<usize> {
        Ok(self.view(gguf)?.rows())
    }

    /// A matrix of one row, which may be written as a vector.
    ///
    /// # Errors
    /// As [`Weights::get`].
    pub fn row(&self, gguf: &str, cols: usize) -> Result<View> {
        let view = self.view(gguf)?;
        match view.shape[..] {
            [found] if found == cols => Ok(view.with(vec![1, cols], view.bytes.clone())?),
            _ => self.get(gguf, &[1, cols]),
        }
    }

    /// The matrix of a linear layer, `[rows, cols]`, unpacked when it is packed.
    ///
    /// # Errors
    /// As [`Weights::get`], and when packed weights are not ternary.
    pub fn linear(&self, gguf: &str, rows: usize, cols: usize) -> Result<View> {
        match self.spec.packing {
            Packing::Online => {
                let view = self.get(gguf, &[rows, cols])?;
                ternary(&view.name, rows, cols, round_by_mean(&view.name, view.decode())?)
            }
            Packing::Times | Packing::Over if self.view(gguf)?.format == &U8 => {
                let name = self.view(gguf)?.name;
                let packed = self.get(gguf, &[rows / 4, cols])?;
                if !rows.is_multiple_of(4) {
                    return Err(Error::Shape {
                        tensor: name,
                        expected: vec![rows.next_multiple_of(4), cols],
                        found: vec![rows, cols],
                    });
                }
                let scale = self.get(&format!("{gguf}_scale"), &[1])?.decode()[0];
                if !(scale.is_finite() && scale > 0.0) {
                    let expected = "a finite scale above zero";
                    return Err(Error::BadWeight { tensor: format!("{name}_scale"), expected, found: scale });
                }
                let scale = if self.spec.packing == Packing::Over { 1.0 / scale } else { scale };
                ternary(&name, rows, cols, unpack(&packed, scale)?)
            }
            _ => self.get(gguf, &[rows, cols]),
        }
    }
}

/// Some rows of a matrix, or numbers of a vector: a part of the same bytes, unless the format keeps something for the whole tensor.
pub fn rows(view: &View, range: Range<usize>) -> Result<View> {
    let vector = view.shape.len() == 1;
    let (cols, there) = if vector { (1, view.cols()) } else { (view.cols(), view.rows()) };
    let shape = if vector { vec![range.len()] } else { vec![range.len(), cols] };
    if range.end > there || vector && view.format.block != 1 {
        let expected = if vector { vec![range.end] } else { vec![range.end, cols] };
        return Err(Error::Shape { tensor: view.name.clone(), expected, found: view.shape.clone() });
    }
    let bytes = (view.bytes.len() - view.format.tail) / there;
    let part = view.bytes.slice(range.start * bytes..range.end * bytes);
    let part = if view.format.tail == 0 { part } else { [&part[..], view.tail()].concat().into() };
    Ok(view.with(shape, part)?)
}

/// Tensors of one format: of floats, where the smallest exact ones of several unpacked matrices are not the same.
fn alike(views: Vec<View>) -> Result<Vec<View>> {
    if views.iter().all(|view| view.format == views[0].format) {
        return Ok(views);
    }
    let floats = |view: View| Ok(View::new(&view.name, &F32, view.shape.clone(), F32.encode(&view.decode()))?);
    views.into_iter().map(floats).collect()
}

/// Several tensors of one shape as one, behind one another.
pub fn stack(name: &str, views: &[View]) -> Result<View> {
    let Some(first) = views.first() else {
        return Err(Error::Shape { tensor: name.to_owned(), expected: vec![1], found: vec![0] });
    };
    for view in views {
        if view.shape != first.shape || view.format != first.format || view.format.tail > 0 {
            let (expected, found) = (first.shape.clone(), view.shape.clone());
            return Err(Error::Shape { tensor: view.name.clone(), expected, found });
        }
    }
    let shape = std::iter::once(views.len()).chain(first.shape.iter().copied()).collect();
    let bytes: Vec<u8> = views.iter().flat_map(|view| view.bytes.iter().copied()).collect();
    Ok(View::new(first.name.clone(), first.format, shape, bytes)?)
}

/// Rows and columns exchanged in the last two dimensions, of numbers that each have bytes of their own.
pub fn transpose(view: &View) -> Result<View> {
    let n = view.shape.len();
    if n < 2 || view.format.block != 1 {
        return Err(Error::Shape { tensor: view.name.clone(), expected: vec![0, 0], found: view.shape.clone() });
    }
    let (rows, cols, size) = (view.shape[n - 2], view.shape[n - 1], view.format.bytes);
    let mut bytes = Vec::with_capacity(view.bytes.len());
    for matrix in view.bytes.chunks_exact(rows * cols * size) {
        for col in 0..cols {
            for row in 0..rows {
                bytes.extend_from_slice(&matrix[(row * cols + col) * size..][..size]);
            }
        }
    }
    let mut shape = view.shape.clone();
    shape.swap(n - 2, n - 1);
    Ok(View::new(view.name.clone(), view.format, shape, bytes)?)
}

/// Every other row of each matrix, or number of each row of a matrix, from `first` on.
pub fn every_other(view: &View, first: usize) -> Result<View> {
    let n = view.shape.len();
    let axis = if n > 2 { n - 2 } else { n - 1 };
    let mut shape = view.shape.clone();
    let bad = || Error::Shape { tensor: view.name.clone(), expected: vec![2], found: view.shape.clone() };
    if n < 2 || !shape[axis].is_multiple_of(2) || n == 2 && view.format.block != 1 || view.format.tail > 0 {
        return Err(bad());
    }
    shape[axis] /= 2;
    let size = if n > 2 { view.bytes.len() / view.rows() } else { view.format.bytes };
    let bytes: Vec<u8> = view.bytes.chunks_exact(size).skip(first).step_by(2).flatten().copied().collect();
    Ok(View::new(view.name.clone(), view.format, shape, bytes)?)
}

/// The first or second half of the rows of each of several matrices.
pub fn halves_of_experts(view: &View, half: usize) -> Result<View> {
    let [experts, rows, cols] = view.shape[..] else {
        return Err(Error::Shape { tensor: view.name.clone(), expected: vec![0, 0, 0], found: view.shape.clone() });
    };
    if rows % 2 != 0 || view.format.tail > 0 {
        return Err(Error::Shape {
            tensor: view.name.clone(),
            expected: vec![experts, 2, cols],
            found: view.shape.clone(),
        });
    }
    let size = view.bytes.len() / experts / 2;
    let bytes: Vec<u8> = view.bytes.chunks_exact(size).skip(half).step_by(2).flatten().copied().collect();
    Ok(View::new(view.name.clone(), view.format, vec![experts, rows / 2, cols], bytes)?)
}

/// Rows that lie as `[kv_heads, group queries, key, value]` of heads, as all queries, all keys, all values.
fn by_head(view: &View, heads: usize, group: usize, head_dim: usize) -> Result<View> {
    let vector = view.shape.len() == 1;
    let there = if vector { view.cols() } else { view.rows() };
    if there != (heads / group) * (group + 2) * head_dim || view.format.tail > 0 || vector && view.format.block != 1 {
        let expected = vec![(heads / group) * (group + 2) * head_dim];
        return Err(Error::Shape { tensor: view.name.clone(), expected, found: view.shape.clone() });
    }
    let head = view.bytes.len() / there * head_dim;
    let of = |wanted: Range<usize>| {
        let parts = view.bytes.chunks_exact(head * (group + 2));
        parts.flat_map(move |part| &part[wanted.start * head..wanted.end * head])
    };
    let bytes: Vec<u8> = of(0..group).chain(of(group..group + 1)).chain(of(group + 1..group + 2)).copied().collect();
    Ok(View::new(view.name.clone(), view.format, view.shape.clone(), bytes)?)
}
/// Trits that are packed four in a byte: the byte at `[i, col]` holds rows `i`, `i + n`, `i + 2n`, `i + 3n` of `4n`, low bits first.
fn unpack(packed: &View, scale: f32) -> Result<Vec<f32>> {
    let mut weights = Vec::with_capacity(4 * packed.bytes.len());
    for quarter in 0..4 {
        for byte in packed.bytes.iter() {
            weights.push(match byte >> (2 * quarter) & 3 {
                0 => -scale,
                1 => 0.0,
                2 => scale,
                _ => return Err(Error::NotTernary { tensor: packed.name.clone() }),
            });
        }
    }
    Ok(weights)
}

/// The trits nearest to `w / mean|w|`, times the mean: what `autobitlinear` computes when it is online.
fn round_by_mean(name: &str, mut weights: Vec<f32>) -> Result<Vec<f32>> {
    let mean = weights.iter().map(|w| w.abs() as f64).sum::<f64>() / weights.len() as f64;
    if !mean.is_finite() {
        return Err(Error::BadWeight { tensor: name.to_owned(), expected: "finite weights", found: mean as f32 });
    }
    let scale = 1.0 / mean.max(1e-5) as f32;
    for w in &mut weights {
        *w = (*w * scale).round_ties_even().clamp(-1.0, 1.0) / scale;
    }
    Ok(weights)
}

/// The format of ternary weights: I2_S, or floats where their rows are not whole blocks of it.
pub(crate) fn ternary_format(cols: usize) -> &'static Format {
    if cols.is_multiple_of(I2_S.block) { &I2_S } else { &F32 }
}

fn ternary(name: &str, rows: usize, cols: usize, weights: Vec<f32>) -> Result<View> {
    let format = ternary_format(cols);
    Ok(View::new(name, format, vec![rows, cols], format.encode(&weights))?)
}
