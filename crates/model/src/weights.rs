//! The weights of a model by their GGUF names, wherever the file has them.

use crate::arch::TensorRule;
use crate::config::Config;
use crate::file_tensors::{is_head, is_weight};
use crate::file_weights::{FileWeights, zeros};
use crate::quant::{BitNet, BitNetWeights, absmean, ternary, ternary_format, unpack_trits};
use crate::slice::{floats, rows, rows_of_groups, same_format, stack, transpose, ungroup_qkv};
use crate::{Error, Mla, Result, Rewrite, Sizes, Spec};
use std::cell::RefCell;
use std::ops::Range;
use trine_tensor::format::{F32, MXFP4, U8};
use trine_tensor::{File, FileFormat, Format, TensorInfo, View};

/// The tensors of a model under GGUF names. Bytes are shared with the file, except where a Hugging Face folder packs or orders them otherwise.
pub(crate) struct ModelWeights<'a> {
    source: FileWeights<'a>,
    spec: &'a Spec,
    /// Whether tensors get their GGUF names instead of those of the file.
    pub gguf_names: bool,
    /// What becomes of weights as they are loaded.
    pub rewrite: Option<Rewrite>,
    /// Whose shapes were read so far, whole where it is a part of a fused matrix, in order.
    requests: RefCell<Vec<Request>>,
}

/// A tensor as a GGUF file of the architecture has it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Request {
    /// Its GGUF name.
    pub name: String,
    pub shape: Vec<usize>,
    pub part: Part,
}

/// How a tensor is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Part {
    Plain,
    Norm,
    Linear,
    /// Several matrices that are one in the file.
    Fused,
    /// One of the two up-projections of multi-head latent attention.
    MlaUp {
        layer: usize,
        index: usize,
    },
}

/// Where the data of a tensor is. Names are those of the file.
enum Located {
    Tensor(String),
    /// `[inputs, outputs]` if it is a matrix.
    Transposed(String),
    /// Queries, keys and values, grouped by KV head.
    GroupedQkv(String),
    /// One tensor per expert, whose index replaces `[]`.
    Experts(String),
    Rule(&'static TensorRule, String),
    /// Rows of a fused tensor, which must have `all` rows; `part` is the GGUF name of what they hold.
    Rows {
        part: String,
        fused: Box<Located>,
        range: Range<usize>,
        all: usize,
    },
}

impl<'a> ModelWeights<'a> {
    /// The weights of `file`, whose specification is `spec`.
    pub fn new(file: &'a File, spec: &'a Spec) -> ModelWeights<'a> {
        let source = FileWeights::new(file, spec.quant_method.clone());
        ModelWeights { source, spec, gguf_names: false, rewrite: None, requests: RefCell::default() }
    }

    /// The same weights without reading one: what would have to be unpacked or copied is zeros of its shape and format.
    pub fn shapes(file: &'a File, spec: &'a Spec) -> ModelWeights<'a> {
        let mut weights = ModelWeights::new(file, spec);
        weights.source.shapes = true;
        weights
    }

    fn zeros(&self, name: &str, format: &'static Format, shape: &[usize]) -> Result<View> {
        zeros(TensorInfo { name: name.to_owned(), format, shape: shape.to_vec() })
    }

    /// Whether the file is GGUF.
    pub fn is_gguf(&self) -> bool {
        matches!(self.source.tensors.file.format(), FileFormat::Gguf { .. })
    }

    /// The name in the file of a tensor with this GGUF name, with `[]` for the index of an expert.
    fn file_name(&self, gguf: &str) -> Option<String> {
        if !self.is_gguf() {
            return self.spec.arch.hf_name(gguf);
        }
        Some(self.spec.arch.gguf_name(gguf))
    }

    /// Where a tensor is, without reading it.
    fn locate(&self, gguf: &str) -> Option<Located> {
        match self.fused(gguf) {
            Some((fused, range, all)) => {
                let fused = Box::new(self.locate_whole(&fused)?);
                Some(Located::Rows { part: gguf.to_owned(), fused, range, all })
            }
            None => self.locate_whole(gguf),
        }
    }

    /// Where a tensor is that is not a part of a fused one.
    fn locate_whole(&self, gguf: &str) -> Option<Located> {
        let arch = self.spec.arch;
        let name = self.file_name(gguf);
        if let Some(name) = name.as_ref().filter(|name| self.source.contains(name)).cloned() {
            return Some(match !self.is_gguf() {
                true if arch.hf_qkv_by_head && gguf.contains("attn_qkv") => Located::GroupedQkv(name),
                true if arch.hf_transposed && gguf.starts_with("blk.") => Located::Transposed(name),
                _ => Located::Tensor(name),
            });
        }
        if let Some(name) = name.filter(|name| name.contains("[]") && self.source.contains(&name.replace("[]", "0"))) {
            return Some(Located::Experts(name));
        }
        let (layer, part) = gguf.strip_prefix("blk.")?.split_once('.')?;
        let rules = arch.hf_rules.iter().filter(|rule| rule.part == part && !self.is_gguf());
        let mut rules = rules.map(|rule| (rule, rule.from.replace("{}", layer)));
        rules.find(|(_, from)| self.source.contains(from)).map(|(rule, from)| Located::Rule(rule, from))
    }

    /// The fused tensor that holds this one, its rows there, and all rows of that: queries, keys and values in `attn_qkv`, gate and up in
    /// `ffn_up`. `None` if the tensor is not fused.
    fn fused(&self, gguf: &str) -> Option<(String, Range<usize>, usize)> {
        let Sizes { arch, n_heads, n_kv_heads, head_dim, intermediate_size: inner, .. } = self.spec.sizes;
        let (q, kv) = (n_heads * head_dim, n_kv_heads * head_dim);
        let (rest, suffix) = gguf.rsplit_once('.')?;
        let (layer, part) = rest.rsplit_once('.')?;
        let name = |part: &str| format!("{layer}.{part}.{suffix}");
        let (own, fused, range, all) = match part {
            "attn_q" => (part, "attn_qkv", 0..q, q + 2 * kv),
            "attn_k" => (part, "attn_qkv", q..q + kv, q + 2 * kv),
            "attn_v" => (part, "attn_qkv", q + kv..q + 2 * kv, q + 2 * kv),
            "ffn_gate" => (part, "ffn_up", 0..inner, 2 * inner),
            "ffn_up" if arch.gated => ("ffn_gate", "ffn_up", inner..2 * inner, 2 * inner),
            _ => return None,
        };
        self.locate_whole(&name(own)).is_none().then(|| (name(fused), range, all))
    }

    /// Whether there is such a tensor, of its own or as a part of another.
    pub fn contains(&self, gguf: &str) -> bool {
        self.locate(gguf).is_some()
    }

    fn view(&self, gguf: &str) -> Result<View> {
        self.locate(gguf).map_or_else(|| self.missing(gguf), |located| self.read(located))
    }

    /// The error of a tensor that is nowhere.
    fn missing(&self, gguf: &str) -> Result<View> {
        self.source.view(&self.file_name(gguf).unwrap_or_else(|| gguf.to_owned()))
    }

    fn read(&self, located: Located) -> Result<View> {
        match located {
            Located::Tensor(name) => self.source.view(&name),
            Located::Transposed(name) => match self.source.view(&name)? {
                view if self.source.shapes && view.shape.len() == 2 && self.source.tensors.contains(&view.name) => {
                    self.zeros(&view.name, view.format, &[view.shape[1], view.shape[0]])
                }
                view if view.shape.len() == 2 && self.source.tensors.contains(&view.name) => transpose(&view),
                view => Ok(view),
            },
            Located::GroupedQkv(name) if self.source.shapes => self.source.view(&name),
            Located::GroupedQkv(name) => {
                let Sizes { n_heads, n_kv_heads, head_dim, .. } = self.spec.sizes;
                ungroup_qkv(&self.source.view(&name)?, n_heads, n_heads / n_kv_heads, head_dim)
            }
            Located::Experts(name) => {
                let count = self.spec.experts.as_ref().map_or(0, |experts| experts.n_experts);
                let views = (0..count).map(|expert| self.source.view(&name.replace("[]", &expert.to_string())));
                let views = views.collect::<Result<Vec<View>>>()?;
                if self.source.shapes
                    && let [one, others @ ..] = &views[..]
                {
                    let format = if others.iter().all(|view| view.format == one.format) { one.format } else { &F32 };
                    let shape: Vec<usize> = std::iter::once(count).chain(one.shape.iter().copied()).collect();
                    return self.zeros(&name, format, &shape);
                }
                stack(&name, &same_format(views)?)
            }
            Located::Rule(rule, from) => (rule.read)(&self.source, &from),
            Located::Rows { part, fused, range, all } => {
                let fused = self.read(*fused)?;
                match fused.shape.first() {
                    Some(&found) if found == all => rows(&fused, range),
                    // An up projection alone: it is the gate that is missing.
                    _ if part.contains(".ffn_gate.") => self.missing(&part),
                    _ => {
                        let expected = std::iter::once(all).chain(fused.shape.iter().skip(1).copied()).collect();
                        Err(Error::Shape { tensor: fused.name, expected, found: fused.shape })
                    }
                }
            }
        }
    }

    /// Checks that every tensor was read, except for those that are no weights, those of parts that only training uses, and a head that the
    /// model does not use, or that is not read for lack of `head`.
    ///
    /// # Errors
    /// When one was not.
    pub fn check_all_read(&self, head: bool) -> Result<()> {
        let file = self.source.tensors.file;
        let of_training = self.of_training();
        let harmless = |name: &str| {
            !is_weight(file, name)
                || !head && is_head(name)
                || name == "lm_head.weight"
                || name.ends_with(".lm_head.weight")
                || of_training(name)
                || matches!(name, "dense_2.weight" | "dense_3.weight")
                || self.spec.quant_method.ignores(name)
        };
        match self.source.tensors.unread().find(|name| !harmless(name)) {
            Some(name) => {
                let (arch, layers) = (self.spec.arch.name(), self.spec.n_layers);
                Err(Error::Unused { tensor: name.to_owned(), arch, layers })
            }
            None => Ok(()),
        }
    }

    /// Whether a tensor belongs to a part that only training uses: layers for multi-token prediction, and the heads of an encoder.
    fn of_training(&self) -> impl Fn(&str) -> bool {
        let config = Config::of(self.source.tensors.file);
        let further = config.is_some_and(|config| config.get("num_nextn_predict_layers").is_some());
        let further = further.then(|| format!("model.layers.{}.", self.spec.n_layers));
        let heads: &[&str] = if self.spec.arch.encoder { &["pooler.", "cls.", "head.", "decoder."] } else { &[] };
        move |name| {
            further.as_ref().is_some_and(|further| name.starts_with(further))
                || heads.iter().any(|part| name.contains(part))
        }
    }

    /// The tensors of parts that only training uses, which were not read.
    pub fn left_out(&self) -> Vec<String> {
        let of_training = self.of_training();
        self.source.tensors.unread().filter(|name| of_training(name)).map(str::to_owned).collect()
    }

    /// Whose shapes were read so far.
    pub fn requests(self) -> Vec<Request> {
        self.requests.into_inner()
    }

    fn request(&self, gguf: &str, shape: &[usize], part: Part) {
        if !self.source.shapes {
            return;
        }
        let mut request = Request { name: gguf.to_owned(), shape: shape.to_vec(), part };
        if let Some((fused, _, all)) = self.fused(gguf) {
            request = Request { name: fused, part: Part::Fused, ..request };
            request.shape[0] = all;
        }
        let mut requests = self.requests.borrow_mut();
        if !requests.contains(&request) {
            requests.push(request);
        }
    }

    /// Reads a tensor as it was read before.
    ///
    /// # Errors
    /// As [`ModelWeights::get`].
    pub fn again(&self, request: &Request) -> Result<View> {
        let Request { name, shape, part } = request;
        let mut view = match *part {
            Part::Plain => self.plain(name, shape)?,
            Part::Norm => self.norm_of(name, shape)?,
            Part::Linear => self.matrix(name, shape[0], shape[1])?,
            Part::Fused => self.read(self.locate_whole(name).expect("a part of it was found"))?,
            Part::MlaUp { layer, index } => {
                let mla = self.spec.mla.expect("only models with it request its parts");
                let [k_b, v_b] = self.mla_up_projections(layer, mla)?;
                if index == 0 { k_b } else { v_b }
            }
        };
        view.name.clone_from(name);
        Ok(view)
    }

    /// A tensor of this shape. The first dimensions may be left out, or be there, where they are 1, as ggml has it.
    ///
    /// # Errors
    /// When it is missing or has another shape.
    pub fn get(&self, gguf: &str, shape: &[usize]) -> Result<View> {
        self.request(gguf, shape, Part::Plain);
        self.plain(gguf, shape)
    }

    fn plain(&self, gguf: &str, shape: &[usize]) -> Result<View> {
        if self.source.shapes
            && let Some(Located::Rule(_, from)) = self.locate(gguf)
        {
            // Folders store MXFP4 as bytes, which the rule puts together. What it takes beside `from` is named like it.
            let like = from.trim_end_matches("_blocks").trim_end_matches(".norms.0.weight");
            self.source.tensors.mark_like(like);
            let format = self.source.view(&from)?.format;
            return self.zeros(gguf, if format == &U8 { &MXFP4 } else { format }, shape);
        }
        let mut view = self.view(gguf)?;
        let significant = |shape: &[usize]| shape.iter().position(|&n| n != 1).unwrap_or(shape.len());
        if view.shape[significant(&view.shape)..] != shape[significant(shape)..] {
            return Err(Error::Shape { tensor: view.name, expected: shape.to_vec(), found: view.shape });
        }
        view.shape = shape.to_vec();
        if self.gguf_names {
            view.name = gguf.to_owned();
        }
        Ok(view)
    }

    /// The weight of a norm.
    ///
    /// # Errors
    /// As [`ModelWeights::get`].
    pub fn norm(&self, gguf: &str, shape: &[usize]) -> Result<View> {
        self.request(gguf, shape, Part::Norm);
        self.norm_of(gguf, shape)
    }

    fn norm_of(&self, gguf: &str, shape: &[usize]) -> Result<View> {
        let view = self.plain(gguf, shape)?;
        let offset = self.spec.arch.hf_norm_offset;
        if self.is_gguf() || offset == 0.0 || self.source.shapes {
            return Ok(view);
        }
        let weights: Vec<f32> = view.decode().iter().map(|weight| weight + offset).collect();
        Ok(View::new(view.name, &F32, view.shape, F32.encode(&weights))?)
    }

    /// The rows of a matrix, where only the file knows their number.
    ///
    /// # Errors
    /// When it is missing.
    pub fn rows(&self, gguf: &str) -> Result<usize> {
        Ok(self.view(gguf)?.rows())
    }

    /// The matrix of a linear layer, `[rows, cols]`.
    ///
    /// # Errors
    /// As [`ModelWeights::get`], and when packed weights are not ternary.
    pub fn linear(&self, gguf: &str, rows: usize, cols: usize) -> Result<View> {
        self.request(gguf, &[rows, cols], Part::Linear);
        self.matrix(gguf, rows, cols)
    }

    fn matrix(&self, gguf: &str, rows: usize, cols: usize) -> Result<View> {
        let view = self.view(gguf)?;
        let Some(bitnet) = self.bitnet(&view.name) else { return self.plain(gguf, &[rows, cols]) };
        let packed = view.format == &U8;
        if self.source.shapes && (packed || bitnet.weights == BitNetWeights::Rounded) {
            if packed {
                self.weight_scale(gguf)?;
            }
            return self.zeros(&view.name, ternary_format(cols), &[rows, cols]);
        }
        match bitnet.weights {
            BitNetWeights::Rounded => {
                let view = self.plain(gguf, &[rows, cols])?;
                ternary(&view.name, rows, cols, absmean(&view.name, view.decode())?)
            }
            BitNetWeights::Scaled | BitNetWeights::Divided if packed => {
                let packed = self.plain(gguf, &[rows / 4, cols])?;
                let name = packed.name.clone();
                if !rows.is_multiple_of(4) {
                    let (expected, found) = (vec![rows.next_multiple_of(4), cols], vec![rows, cols]);
                    return Err(Error::Shape { tensor: name, expected, found });
                }
                let scale = self.weight_scale(gguf)?;
                let scale = if bitnet.weights == BitNetWeights::Divided { 1.0 / scale } else { scale };
                ternary(&name, rows, cols, unpack_trits(&packed, scale)?)
            }
            BitNetWeights::Scaled => {
                let view = self.plain(gguf, &[rows, cols])?;
                let scale = if self.contains(&format!("{gguf}_scale")) { self.weight_scale(gguf)? } else { 1.0 };
                if self.source.shapes && scale != 1.0 {
                    return self.zeros(&view.name, &F32, &[rows, cols]);
                }
                let weights: Vec<f32> = view.decode().iter().map(|weight| weight * scale).collect();
                if scale == 1.0 { Ok(view) } else { Ok(View::new(view.name, &F32, view.shape, F32.encode(&weights))?) }
            }
            BitNetWeights::Divided => {
                let expected = "U8, four ternary weights to a byte, as modules_to_not_convert does not name the layer";
                Err(Error::Dtype { tensor: view.name, expected, found: view.format.name })
            }
        }
    }

    /// The scale of BitNet's weights.
    fn weight_scale(&self, gguf: &str) -> Result<f32> {
        let view = self.plain(&format!("{gguf}_scale"), &[1])?;
        match view.decode()[0] {
            scale if scale.is_finite() && scale > 0.0 => Ok(scale),
            found => Err(Error::BadWeight { tensor: view.name, expected: "a finite scale above zero", found }),
        }
    }

    /// BitNet's settings, if the matrix of this name, as tensors get it, is of one of its layers.
    pub fn bitnet(&self, name: &str) -> Option<&BitNet> {
        let bitnet = self.spec.quant_method.bitnet()?;
        let own = if self.gguf_names { self.file_name(name) } else { None };
        let name = own.as_deref().unwrap_or(name);
        bitnet.converts(name.strip_suffix(".weight").unwrap_or(name)).then_some(bitnet)
    }

    /// The weights of the norm on the inputs of a BitNet layer, by the name of its matrix; 1 where the file has none.
    ///
    /// # Errors
    /// When they have another shape.
    pub fn input_norm(&self, name: &str, cols: usize) -> Result<View> {
        let norm = format!("{}.rms_norm.weight", name.strip_suffix(".weight").unwrap_or(name));
        if !self.source.tensors.contains(&norm) {
            return Ok(View::new(norm, &F32, vec![cols], F32.encode(&vec![1.0; cols]))?);
        }
        let view = self.source.tensors.view(&norm)?;
        match view.shape == [cols] {
            true => Ok(view),
            false => Err(Error::Shape { tensor: view.name, expected: vec![cols], found: view.shape }),
        }
    }

    /// The matrix of the head, which may be the embedding as well, if BitNet converts it.
    ///
    /// # Errors
    /// As [`ModelWeights::linear`].
    pub fn bitnet_head(&self, rows: usize, cols: usize) -> Result<Option<View>> {
        const HEAD: &str = "lm_head.weight";
        let (Some(bitnet), true) = (self.bitnet(HEAD), self.spec.tied) else {
            return if self.bitnet(HEAD).is_some() {
                self.linear("output.weight", rows, cols).map(Some)
            } else {
                Ok(None)
            };
        };
        let mut view = self.get("token_embd.weight", &[rows, cols])?;
        match bitnet.weights {
            BitNetWeights::Rounded if self.source.shapes => {
                self.zeros(HEAD, ternary_format(cols), &[rows, cols]).map(Some)
            }
            BitNetWeights::Rounded => ternary(HEAD, rows, cols, absmean(&view.name, view.decode())?).map(Some),
            BitNetWeights::Scaled => {
                view.name = HEAD.to_owned();
                Ok(Some(view))
            }
            BitNetWeights::Divided => {
                let expected = "lm_head in modules_to_not_convert, as the embedding is the head";
                Err(Error::bad("quantization_config.modules_to_not_convert", expected, "a list without it"))
            }
        }
    }

    /// The up-projections of compressed keys and values: `attn_k_b`, `[heads, kv_lora_rank, qk_nope_head_dim]`, and `attn_v_b`,
    /// `[heads, v_head_dim, kv_lora_rank]`. Some files have both in one matrix of `[heads * (qk_nope_head_dim + v_head_dim), kv_lora_rank]`.
    ///
    /// # Errors
    /// As [`ModelWeights::get`].
    pub fn mla_up_projections(&self, layer: usize, mla: Mla) -> Result<[View; 2]> {
        let Mla { kv_lora_rank: rank, qk_nope_head_dim: nope, v_head_dim: value, .. } = mla;
        let heads = self.spec.n_heads;
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        self.request(&name("attn_k_b"), &[heads, rank, nope], Part::MlaUp { layer, index: 0 });
        self.request(&name("attn_v_b"), &[heads, value, rank], Part::MlaUp { layer, index: 1 });
        if self.contains(&name("attn_k_b")) {
            let k_b = self.plain(&name("attn_k_b"), &[heads, rank, nope])?;
            return Ok([k_b, self.plain(&name("attn_v_b"), &[heads, value, rank])?]);
        }
        let both = self.plain(&name("attn_kv_b"), &[heads * (nope + value), rank])?;
        if self.source.shapes {
            let format = if both.format.block == 1 { both.format } else { &F32 };
            let zeros = |part: &str, shape: &[usize]| self.zeros(&name(part), format, shape);
            return Ok([zeros("attn_k_b", &[heads, rank, nope])?, zeros("attn_v_b", &[heads, value, rank])?]);
        }
        // Blocks along a row cannot be transposed.
        let both = if both.format.block == 1 { both } else { floats(&both)? };
        let k_b = rows_of_groups(&both, nope + value, 0..nope)?;
        Ok([transpose(&k_b)?, rows_of_groups(&both, nope + value, nope..nope + value)?])
    }
}
