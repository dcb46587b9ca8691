//! Any model that can be opened, as a GGUF file has it.

use crate::as_gguf::{as_gguf, deinterleave, interleave, is_in_halves, rotated};
use crate::pooling::GgufPooling;
use crate::vocab::pad;
use crate::weights::{ModelWeights, Request};
use crate::{Language, Model, Result, Spec, hf};
use std::ops::ControlFlow;
use std::path::Path;
use trine_backend::{CpuOptions, CpuPlan, RopeLayout};
use trine_tensor::{File, FileFormat, Metadata, TensorInfo, View};

/// A model as a GGUF file has it: keys with tokenizer, chat templates and sampling defaults, and tensors under GGUF names, in the order of
/// rows that GGUF has. Tensors are read one at a time, so that only one of them need be in memory.
pub struct GgufModel<'a> {
    file: &'a File,
    spec: Spec,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    sources: Vec<Source>,
    /// Whether the folder has the elements that rope rotates in halves, and GGUF has not.
    interleave: bool,
    warnings: Vec<String>,
}

/// How many embeddings of token types there are; it belongs to the model, whatever its tokenizer.
pub(crate) const TOKEN_TYPES: &str = "tokenizer.ggml.token_type_count";

/// Where a tensor comes from.
enum Source {
    View(View),
    /// The weights of a folder are found, and perhaps unpacked, when they are read.
    Folder(Request),
}

impl<'a> GgufModel<'a> {
    /// Reads what `file` is. The tokenizer is that at `tokenizer`, as [`Language::open`] takes it, or the file's own.
    ///
    /// # Errors
    /// When it is no model that can be run, or GGUF cannot represent it.
    pub fn open(file: &'a File, tokenizer: Option<&Path>) -> Result<GgufModel<'a>> {
        let spec = Spec::of(file)?;
        let (requests, left_out) = requests(file, &spec)?;
        let folder = file.format() == FileFormat::Safetensors;
        let (mut metadata, rotations) = as_gguf(file, &spec).map_err(|error| error.at(file.path()))?;
        let mut warnings = Vec::new();
        if folder || tokenizer.is_some() {
            let language = Language::metadata(tokenizer.unwrap_or(file.path()))?;
            // What another tokenizer had is not its.
            let is_old = |key: &&str| key.starts_with("tokenizer.ggml.") && *key != TOKEN_TYPES;
            let old: Vec<String> = metadata.iter().map(|(key, _)| key).filter(is_old).map(str::to_owned).collect();
            old.iter().for_each(|key| _ = metadata.remove(key));
            language.iter().for_each(|(key, value)| _ = metadata.insert(key, value.clone()));
            Language::of_metadata(&metadata)?.check(&spec)?;
            let unused = pad(&mut metadata, spec.vocab_size)?;
            if let Some(path) = tokenizer.filter(|_| unused > 0) {
                let rows = spec.vocab_size;
                warnings.push(format!(
                    "{}: {} tokens for {rows} embeddings: the others become unused tokens, such as [PAD{}]",
                    path.display(),
                    rows - unused,
                    rows - 1,
                ));
            }
        } else if metadata.get("tokenizer.ggml.model").is_some() {
            Language::of(file)?.check(&spec)?;
        }
        let views = if folder { rotations } else { file.tensors().cloned().collect() };
        let mut tensors: Vec<TensorInfo> = views.iter().map(View::info).collect();
        let mut sources: Vec<Source> = views.into_iter().map(Source::View).collect();
        if folder {
            if let [first, ..] = &left_out[..] {
                let more = if left_out.len() > 1 { format!(" and {} more", left_out.len() - 1) } else { String::new() };
                warnings.push(format!("{first}{more}: left out, as neither texts nor embeddings depend on them"));
            }
            if let Some(name) = name_of(file.path()) {
                metadata.insert("general.name", name);
            }
            let shapes = ModelWeights::shapes(file, &spec);
            for request in requests {
                let format = shapes.again(&request)?.format;
                let name = spec.arch.gguf_name(&request.name);
                tensors.push(TensorInfo { name, format, shape: request.shape.clone() });
                sources.push(Source::Folder(request));
            }
        }
        if folder {
            shared_experts(&mut metadata, &spec, &tensors);
            let pooling = GgufPooling::of(&spec, file).map_err(|error| error.at(file.path()))?;
            // llama.cpp does not read an encoder's tokenizer without it.
            if let Some(types) = tensors.iter().find(|info| info.name == "token_types.weight") {
                metadata.insert(TOKEN_TYPES, types.shape[0] as u32);
            }
            for (key, value) in pooling.keys {
                metadata.insert(format!("{}.{key}", spec.arch.name()), value);
            }
            for view in pooling.tensors {
                tensors.push(view.info());
                sources.push(Source::View(view));
            }
            warnings.extend(pooling.warnings);
        }
        let interleave = is_in_halves(file, &spec);
        Ok(GgufModel { file, spec, metadata, tensors, sources, interleave, warnings })
    }

    /// The file that was opened.
    pub fn file(&self) -> &'a File {
        self.file
    }

    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The keys of the model and its tokenizer.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// What the folder says that GGUF has no keys for, and that changes embeddings, and tokens that a tokenizer lacks.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The tensors, in the order of the file. Formats are those that the weights are read in.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// A tensor of this model with its rows in the order of folders.
    pub(crate) fn in_halves(&self, view: View) -> Result<View> {
        let arch = self.spec.arch;
        let differs = arch.pairs == RopeLayout::Adjacent && arch.hf_pairs == RopeLayout::Halves;
        if !differs || rotated(&view.name, &self.spec).is_none() {
            return Ok(view);
        }
        // Layouts of whole matrices have no rows.
        reordered(view.by_rows(), &self.spec, deinterleave)
    }

    /// Gives back the memory that reading took, which is that of the mapped file. What was read stays valid, and is read again when it is used.
    pub fn release(&self) {
        self.file.release();
    }

    /// Reads a tensor by its index in [`GgufModel::tensors`].
    ///
    /// # Errors
    /// When it is badly packed.
    ///
    /// # Panics
    /// When there is no such tensor.
    pub fn read(&self, i: usize) -> Result<View> {
        let request = match &self.sources[i] {
            Source::View(view) => return Ok(view.clone()),
            Source::Folder(request) => request,
        };
        let read = || {
            let mut view = ModelWeights::new(self.file, &self.spec).again(request)?;
            view.name.clone_from(&self.tensors[i].name);
            view.shape.clone_from(&request.shape);
            match self.interleave && rotated(&view.name, &self.spec).is_some() {
                true => reordered(view, &self.spec, interleave),
                false => Ok(view),
            }
        };
        read().map_err(|error| error.at(self.file.path()))
    }
}

/// What the model reads of a file, without reading it, and the tensors that it leaves out.
fn requests(file: &File, spec: &Spec) -> Result<(Vec<Request>, Vec<String>)> {
    let mut nowhere = CpuPlan::new(&CpuOptions { threads: 1, ..CpuOptions::default() })?;
    let weights = ModelWeights::shapes(file, spec);
    let found = Model::of(&mut nowhere, &weights, spec, false, &mut |_| ControlFlow::Continue(()));
    let checked = found.and_then(|_| weights.check_all_read(true));
    checked.map_err(|error| hf::explain(file, error).at(file.path()))?;
    let left_out = weights.left_out();
    Ok((weights.requests(), left_out))
}

/// Says how wide the shared expert is, where it is not as wide as a number of others.
fn shared_experts(metadata: &mut Metadata, spec: &Spec, tensors: &[TensorInfo]) {
    let key = |name: &str| format!("{}.{name}", spec.arch.name());
    let up = tensors.iter().find(|tensor| tensor.name.ends_with(".ffn_up_shexp.weight"));
    if let Some(up) = up.filter(|_| metadata.get(&key("expert_shared_count")).is_none()) {
        metadata.insert(key("expert_shared_feed_forward_length"), up.shape[0] as u32);
    }
}

/// A tensor with its rows as `order` orders their bytes.
fn reordered(view: View, spec: &Spec, order: fn(&str, &mut [u8], usize, &Spec)) -> Result<View> {
    let elements = view.shape.len() == 1 || view.name.contains("_norm.");
    let rows = if elements { view.bytes.len() / view.format.bytes } else { view.rows() };
    let (mut bytes, len) = (view.bytes.to_vec(), (view.bytes.len() - view.format.tail) / rows);
    order(&view.name, &mut bytes[..rows * len], len, spec);
    Ok(View::new(view.name, view.format, view.shape, bytes)?)
}

/// The name of a model by its path.
fn name_of(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    let path = if path.is_dir() { &path } else { path.parent()? };
    Some(path.file_name()?.to_string_lossy().into_owned())
}
