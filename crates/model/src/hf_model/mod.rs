//! Any model that can be opened, as a Hugging Face folder has it.

mod config;
mod int8;
mod sentences;

use crate::slice::{floats, rows_of_groups, transpose};
use crate::{Error, GgufModel, Result};
use config::{Source, is_bit_linear, model_types};
use sentences::DENSE;
pub use sentences::ModuleFile;
use serde_json::{Map, Value};
use trine_tensor::format::{BF16, F16, F32, I8, U8};
use trine_tensor::{Format, TensorInfo, View};

/// A model as a Hugging Face folder has it: `config.json`, and tensors by their names there.
pub struct HfModel<'a> {
    model: &'a GgufModel<'a>,
    configs: Vec<Map<String, Value>>,
    tensors: Vec<TensorInfo>,
    parts: Vec<Part>,
    /// Whether linear layers round their inputs as BitNet's: in GGUF, those of all models with ternary weights do.
    bit_linear: bool,
}

/// What a tensor is made of: indices of tensors of the [`GgufModel`].
#[derive(Clone, Debug)]
enum Part {
    Whole(usize),
    /// One of the first dimension, an expert or a head.
    Nth(usize, usize),
    /// The rows of two matrices of each expert, one after another.
    GateUp(usize, usize),
    /// Those of two matrices or vectors of each expert in turn.
    Alternating(usize, usize),
    /// With rows and columns exchanged.
    Transposed(Box<Part>),
    /// The up-projections of compressed keys and values.
    Mla(usize, usize),
    /// Trits, four to a byte, and their scale.
    Packed(usize),
    Scale(usize),
    /// Integers of 8 bits, and the scales of their rows.
    Int8(usize),
    RowScales(usize),
}

impl<'a> HfModel<'a> {
    /// Names the tensors of `model` as folders do. Matrices in `format`, or as they are where they are floats and there is none: others become
    /// bfloat16. BitNet's are packed. With [`I8`], linear layers are integers with a scale for each row, as compressed-tensors stores W8A8,
    /// and other matrices as without a format.
    ///
    /// # Errors
    /// When transformers has no such model, or one whose linear layers are not to become integers: BitNet's, and those of experts.
    pub fn of(model: &'a GgufModel<'a>, format: Option<&'static Format>) -> Result<HfModel<'a>> {
        let spec = model.spec();
        let inexpressible = |what: String| Error::bad("general.architecture", "one that a folder can hold", what);
        let types = model_types(model);
        if types.is_empty() {
            return Err(inexpressible(spec.arch.name().to_owned()));
        }
        let ternary = model.tensors().iter().any(|info| info.format.ternary);
        let bit_linear = spec.bit_linear || ternary;
        let w8a8 = format == Some(&I8);
        let refused = if bit_linear {
            Some("ternary weights")
        } else if spec.experts.is_some() || spec.mla.is_some() || spec.arch.hf_transposed {
            Some("experts, latent attention or transposed matrices")
        } else {
            None
        };
        if let (true, Some(found)) = (w8a8, refused) {
            return Err(Error::bad("format", "linear layers of floats, each a matrix, for W8A8", found));
        }
        let mut hf = HfModel { model, configs: Vec::new(), tensors: Vec::new(), parts: Vec::new(), bit_linear };
        let mut rotations = Vec::new();
        for (i, info) in model.tensors().iter().enumerate() {
            if info.name.starts_with("rope_f") {
                rotations.push(model.read(i)?);
            } else if !DENSE.contains(&&*info.name) {
                hf.add(i, info, format)
                    .ok_or_else(|| inexpressible(format!("{}, with {}", spec.arch.name(), info.name)))?;
            }
        }
        let names: Vec<String> = hf.tensors.iter().map(|info| info.name.clone()).collect();
        let source =
            Source { spec, metadata: model.metadata(), names: &names, rotations: &rotations, bit_linear, w8a8 };
        let float = |info: &&TensorInfo| {
            info.shape.len() > 1 && ![&U8, &I8].contains(&info.format) && !info.name.ends_with("_scale")
        };
        let dtype = match hf.tensors.iter().find(float).map(|info| info.format) {
            Some(format) if format == &F16 => "float16",
            Some(format) if format == &BF16 => "bfloat16",
            _ => "float32",
        };
        for model_type in types {
            hf.configs.push(source.config(model_type, dtype)?);
        }
        Ok(hf)
    }

    /// Adds what a tensor becomes; `None` if that is not known.
    fn add(&mut self, i: usize, info: &TensorInfo, format: Option<&'static Format>) -> Option<()> {
        let (spec, arch) = (self.model.spec(), self.model.spec().arch);
        let usual = arch.usual_name(&info.name);
        let bit_linear = self.bit_linear;
        let float = |found: &'static Format| match format {
            // transformers multiplies BitNet's embeddings, norms and scales as they are stored: they must have one format.
            _ if bit_linear => format.unwrap_or(&F32),
            _ if info.shape.len() < 2 => &F32,
            Some(format) if format != &I8 => format,
            _ if [&F32, &F16, &BF16].contains(&found) => found,
            _ => &BF16,
        };
        let mut push = |name: String, format, shape: Vec<usize>, part| {
            self.tensors.push(TensorInfo { name, format, shape });
            self.parts.push(part);
        };
        let place = |part: &str| {
            let layer = usual.strip_prefix("blk.")?.split_once('.')?.0;
            self.model.tensors().iter().position(|info| info.name == format!("blk.{layer}.{part}"))
        };
        let part = usual.strip_prefix("blk.").and_then(|rest| rest.split_once('.')).map_or("", |(_, part)| part);
        let mut rules = arch.hf_rules.iter().filter(|rule| !rule.from.ends_with("_blocks"));
        if let Some(rule) = rules.find(|rule| rule.part == part) {
            let layer = usual.strip_prefix("blk.")?.split_once('.')?.0;
            let from = rule.from.replace("{}", layer);
            if let Some((before, after)) = from.split_once(".norms.0.") {
                for head in 0..info.shape[0] {
                    let name = format!("{before}.norms.{head}.{after}");
                    push(name, &F32, info.shape[1..].to_vec(), Part::Nth(i, head));
                }
            } else if part == "ffn_gate_exps.weight" && from.ends_with("input_linear.weight") {
                let shape = vec![info.shape[0], 2 * info.shape[1], info.shape[2]];
                push(from, float(info.format), shape, Part::GateUp(i, place("ffn_up_exps.weight")?));
            } else if part == "ffn_gate_exps.weight" && from.ends_with("gate_up_proj") {
                let rows = Part::Alternating(i, place("ffn_up_exps.weight")?);
                let shape = vec![info.shape[0], info.shape[2], 2 * info.shape[1]];
                push(from, float(info.format), shape, Part::Transposed(Box::new(rows)));
            } else if part == "ffn_gate_exps.bias" {
                let shape = vec![info.shape[0], 2 * info.shape[1]];
                push(from, float(info.format), shape, Part::Alternating(i, place("ffn_up_exps.bias")?));
            } else if part == "ffn_down_exps.weight" {
                let shape = vec![info.shape[0], info.shape[2], info.shape[1]];
                push(from, float(info.format), shape, Part::Transposed(Box::new(Part::Whole(i))));
            } else if part == "ffn_down_exps.bias" {
                push(from, float(info.format), info.shape.clone(), Part::Whole(i));
            } else if !part.starts_with("ffn_up_exps.") {
                return None;
            }
            return Some(());
        }
        match (part, arch.hf_name(&usual)) {
            ("attn_k_b.weight", _) => {
                let name = arch.hf_name(&usual.replace("attn_k_b", "attn_kv_b"))?;
                let mla = spec.mla?;
                let rows = spec.n_heads * (mla.qk_nope_head_dim + mla.v_head_dim);
                push(name, float(info.format), vec![rows, mla.kv_lora_rank], Part::Mla(i, place("attn_v_b.weight")?));
            }
            ("attn_v_b.weight", _) => {}
            (_, Some(name)) if self.bit_linear && is_bit_linear(&usual) && info.shape[0].is_multiple_of(4) => {
                push(name.clone(), &U8, vec![info.shape[0] / 4, info.shape[1]], Part::Packed(i));
                push(format!("{name}_scale"), float(&F32), vec![1], Part::Scale(i));
            }
            (_, Some(name)) if format == Some(&I8) && int8::is_linear(&usual) && info.shape.len() == 2 => {
                push(name.clone(), &I8, info.shape.clone(), Part::Int8(i));
                push(format!("{name}_scale"), &F16, vec![info.shape[0], 1], Part::RowScales(i));
            }
            (_, Some(name)) if name.contains("[]") => {
                for expert in 0..info.shape[0] {
                    let name = name.replace("[]", &expert.to_string());
                    push(name, float(info.format), info.shape[1..].to_vec(), Part::Nth(i, expert));
                }
            }
            (_, Some(name)) => {
                let mut shape = info.shape.clone();
                if arch.hf_transposed && usual.starts_with("blk.") && shape.len() == 2 {
                    shape.swap(0, 1);
                }
                push(name, float(info.format), shape, Part::Whole(i));
            }
            (_, None) => return None,
        }
        Some(())
    }

    /// What `config.json` may be: for each class of transformers that has such models, one.
    pub fn configs(&self) -> &[Map<String, Value>] {
        &self.configs
    }

    /// The files by which sentence-transformers makes embeddings with the model; none if it is not for embeddings.
    ///
    /// # Errors
    /// When a key has another type, or a matrix cannot be read.
    pub fn modules(&self) -> Result<Vec<ModuleFile>> {
        sentences::modules(self.model)
    }

    /// The tensors of the folder.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Reads a tensor by its index in [`HfModel::tensors`]. Its format may be another than the one there.
    ///
    /// # Errors
    /// When it cannot be read.
    ///
    /// # Panics
    /// When there is no such tensor.
    pub fn read(&self, i: usize) -> Result<View> {
        let info = &self.tensors[i];
        let mut view = self.part(&self.parts[i], info)?;
        view.name.clone_from(&info.name);
        view.shape.clone_from(&info.shape);
        Ok(view)
    }

    /// What `info` is made of.
    fn part(&self, part: &Part, info: &TensorInfo) -> Result<View> {
        Ok(match *part {
            Part::Whole(i) => self.whole(i)?,
            Part::Nth(i, n) => {
                let view = self.model.read(i)?;
                let size = (view.bytes.len() - view.format.tail) / view.shape[0];
                let bytes = view.bytes.slice(n * size..(n + 1) * size);
                view.with(info.shape.clone(), bytes)?
            }
            Part::GateUp(gate, up) => {
                let (gate, up) = (self.model.read(gate)?, self.model.read(up)?);
                let (gate, up) = if gate.format == up.format { (gate, up) } else { (floats(&gate)?, floats(&up)?) };
                let size = gate.bytes.len() / gate.shape[0];
                let each = gate.bytes.chunks_exact(size).zip(up.bytes.chunks_exact(size));
                let bytes: Vec<u8> = each.flat_map(|(gate, up)| [gate, up].concat()).collect();
                gate.with(info.shape.clone(), bytes)?
            }
            Part::Alternating(gate, up) => {
                let [gate, up] = [plain(self.model.read(gate)?)?, plain(self.model.read(up)?)?];
                let (gate, up) = if gate.format == up.format { (gate, up) } else { (floats(&gate)?, floats(&up)?) };
                let mut shape = gate.shape.clone();
                shape[1] *= 2;
                let size = gate.bytes.len() / (gate.shape[0] * gate.shape[1]);
                let each = gate.bytes.chunks_exact(size).zip(up.bytes.chunks_exact(size));
                let bytes: Vec<u8> = each.flat_map(|(gate, up)| [gate, up].concat()).collect();
                gate.with(shape, bytes)?
            }
            Part::Transposed(ref part) => transpose(&plain(self.part(part, info)?)?)?,
            Part::Mla(k, v) => {
                let (k, v) = (plain(self.model.read(k)?)?, plain(self.model.read(v)?)?);
                let k = transpose(&k)?;
                let (k, v) = if k.format == v.format { (k, v) } else { (floats(&k)?, floats(&v)?) };
                let heads = k.shape[0];
                let [k_size, v_size] = [&k, &v].map(|view| view.bytes.len() / heads);
                let each = k.bytes.chunks_exact(k_size).zip(v.bytes.chunks_exact(v_size));
                let bytes: Vec<u8> = each.flat_map(|(k, v)| [k, v].concat()).collect();
                k.with(info.shape.clone(), bytes)?
            }
            Part::Int8(i) => int8::codes(&self.whole(i)?)?,
            Part::RowScales(i) => int8::scales(&self.whole(i)?)?,
            Part::Packed(i) => packed(&self.model.in_halves(self.model.read(i)?)?)?,
            Part::Scale(i) => {
                let view = self.model.read(i)?;
                let scale = view.decode().iter().fold(0f32, |most, weight| most.max(weight.abs()));
                View::new(view.name, &F32, vec![1], F32.encode(&[scale]))?
            }
        })
    }

    /// A tensor of the model in the order that a folder has it.
    fn whole(&self, i: usize) -> Result<View> {
        let (arch, view) = (self.model.spec().arch, self.model.read(i)?);
        if arch.hf_transposed && view.name.starts_with("blk.") && view.shape.len() == 2 {
            transpose(&plain(view)?)
        } else if arch.hf_qkv_by_head && view.name.contains("attn_qkv") {
            self.group_qkv(&view)
        } else if arch.hf_norm_offset != 0.0 && view.name.ends_with("_norm.weight") {
            let weights: Vec<f32> = view.decode().iter().map(|weight| weight - arch.hf_norm_offset).collect();
            Ok(View::new(view.name, &F32, view.shape, F32.encode(&weights))?)
        } else {
            self.model.in_halves(view)
        }
    }

    /// Queries, keys and values of each KV head together.
    fn group_qkv(&self, view: &View) -> Result<View> {
        let spec = self.model.spec();
        let (heads, group) = (spec.n_kv_heads, spec.n_heads / spec.n_kv_heads);
        let matrix = View::new(
            &*view.name,
            view.format,
            vec![view.bytes.len() / view.format.bytes * view.format.block / row(view), row(view)],
            view.bytes.clone(),
        )?;
        let [q, kv] = [spec.n_heads * spec.head_dim, heads * spec.head_dim];
        let part = |range| rows_of_groups(&matrix, q + 2 * kv, range);
        let (q, k, v) = (part(0..q)?, part(q..q + kv)?, part(q + kv..q + 2 * kv)?);
        let size = k.bytes.len() / heads;
        let bytes: Vec<u8> = (0..heads)
            .flat_map(|head| {
                let q = &q.bytes[head * group * size..(head + 1) * group * size];
                [q, &k.bytes[head * size..][..size], &v.bytes[head * size..][..size]].concat()
            })
            .collect();
        Ok(view.with(view.shape.clone(), bytes)?)
    }
}

/// Weights in a row; those of a vector are rows of their own.
fn row(view: &View) -> usize {
    if view.shape.len() == 1 { 1 } else { view.cols() }
}

/// A tensor whose elements can be moved: not of blocks.
fn plain(view: View) -> Result<View> {
    if view.format.block == 1 { Ok(view) } else { floats(&view) }
}

/// Four rows of trits in a byte: a row of each quarter, as transformers packs BitNet's.
fn packed(view: &View) -> Result<View> {
    let weights = view.decode();
    let scale = weights.iter().fold(0f32, |most, weight| most.max(weight.abs()));
    let quarter = weights.len() / 4;
    let code = |weight: f32| {
        if weight == 0.0 {
            1u8
        } else if weight > 0.0 {
            2
        } else {
            0
        }
    };
    if let Some(&found) = weights.iter().find(|weight| **weight != 0.0 && weight.abs() != scale) {
        return Err(Error::BadWeight { tensor: view.name.clone(), expected: "ternary weights of one scale", found });
    }
    let bytes: Vec<u8> =
        (0..quarter).map(|i| (0..4).fold(0, |byte, j| byte | code(weights[j * quarter + i]) << (2 * j))).collect();
    Ok(View::new(&*view.name, &U8, vec![view.rows() / 4, view.cols()], bytes)?)
}
