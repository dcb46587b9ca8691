//! How large a model is, and how much memory it takes.

use crate::placement::Room;
use crate::{Error, Options};
use std::collections::HashSet;
use trine_backend::{DeviceMemory, PlanLog, WeightBytes, When};
use trine_engine::EngineOptions;
use trine_engine::sample::Candidate;
use trine_model::{DeviceOptions, MemoryPlan, QuantMethod, Spec, Unpacker, Workload, is_head, is_weight};
use trine_tensor::format::U8;
use trine_tensor::{File, TensorInfo, View, memory};

/// The weights of a model: everything in its file but tables that follow from its keys and the scales of packed weights.
pub fn parameters(file: &File) -> u64 {
    let quant_method = Spec::of(file).map_or(QuantMethod::None, |spec| spec.quant_method);
    let weights = unpacked(file, distinct(file), quant_method)
        .filter(|entry| ![".weight_scale", "_scales"].iter().any(|end| entry.name.ends_with(end)));
    weights
        .map(|entry| {
            let numbers: u64 = entry.shape.iter().map(|&n| n as u64).product();
            // Two numbers of MXFP4.
            if entry.format == &U8 { 2 * numbers } else { numbers }
        })
        .sum()
}

/// Bytes of the tensors of a file that hold weights, as the file has them.
pub fn tensor_bytes(file: &File) -> u64 {
    let weights = distinct(file).filter(|view| is_weight(file, &view.name));
    weights.map(|view| view.bytes.len() as u64).sum()
}

/// Bits of a weight on average; `None` for a file without weights.
pub fn bits_per_weight(file: &File) -> Option<f64> {
    let parameters = parameters(file);
    (parameters > 0).then(|| tensor_bytes(file) as f64 * 8.0 / parameters as f64)
}

/// The tensors of a file, each under one name.
pub fn distinct(file: &File) -> impl Iterator<Item = &View> {
    let mut seen = HashSet::new();
    file.tensors().filter(move |view| seen.insert(view.bytes.as_ptr()))
}

/// The tensors of a file as they are loaded.
fn loaded(file: &File, quant_method: QuantMethod) -> impl Iterator<Item = TensorInfo> {
    unpacked(file, file.tensors(), quant_method)
}

fn unpacked<'a>(
    file: &'a File,
    tensors: impl Iterator<Item = &'a View>,
    quant_method: QuantMethod,
) -> impl Iterator<Item = TensorInfo> {
    let unpack = Unpacker::new(file, quant_method);
    // What is badly packed is refused when it is loaded.
    tensors.filter_map(move |stored| unpack.entry(stored).unwrap_or_else(|_| Some(stored.info())))
}

/// A head that is in no tensor of its own.
fn made_head(spec: &Spec) -> Option<TensorInfo> {
    spec.quant_method.bitnet().and_then(|bitnet| bitnet.made_head(&spec.sizes))
}

/// Bytes of the weights of a file that are uploaded, as the file has them, or unpacked where they are unpacked when loaded.
pub(crate) fn uploaded(file: &File, headless: bool) -> u64 {
    let spec = Spec::of(file);
    let quant_method = spec.as_ref().map_or(QuantMethod::None, |spec| spec.quant_method.clone());
    // Folders of tied models may have a copy of the embedding.
    let idle_head = headless || spec.as_ref().is_ok_and(|spec| spec.tied);
    let made = spec.as_ref().ok().filter(|_| !headless).and_then(made_head);
    let weights = loaded(file, quant_method).filter(|entry| !(idle_head && is_head(&entry.name)));
    weights.chain(made).map(|entry| entry.size().unwrap_or(u64::MAX)).fold(0, u64::saturating_add)
}

/// Bytes that a process takes that runs a model: the plan before it is loaded, which holds when it runs, within 2 % and a few MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Weights, in whatever form and place they are used.
    pub weights: u64,
    /// Those that lie in a mapped file, whose pages the system may take back.
    pub mapped: u64,
    /// Those that are copied in the order in which products load them.
    pub repacked: u64,
    /// Keys and values of all sequences that run at once, when each fills its context.
    pub kv_cache: u64,
    /// Activations of the largest batch, and what kernels need for it.
    pub activations: u64,
    /// Logits of a batch, and what samplers keep.
    pub sampling: u64,
    /// The program itself and the vocabulary: what the process had before weights were loaded, and 5 MiB for code that is run later, stacks
    /// and gaps between buffers. 0 where the system does not tell.
    pub program: u64,
}

impl Memory {
    /// All of it.
    pub fn total(&self) -> u64 {
        [self.kv_cache, self.activations, self.sampling, self.program]
            .into_iter()
            .fold(self.weights, u64::saturating_add)
    }

    /// All but what the system may take back.
    pub fn pinned(&self) -> u64 {
        self.total().saturating_sub(self.mapped)
    }
}

/// Bytes that a model takes, to compare with those that were [planned](Memory).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsedMemory {
    /// Weights, and activations with what kernels need, kept for later batches; `None` when the device does not know.
    pub device: Option<DeviceMemory>,
    /// Keys and values in blocks that a request has had. The rest of the cache takes no memory yet.
    pub kv_cache: u64,
    /// The memory of the process, and the most that it has been, where the system tells.
    pub resident: Option<u64>,
    pub peak: Option<u64>,
}

/// What the program takes beside its buffers only when it runs: 2.3 to 4.1 MiB were measured with small models.
const LATER: u64 = 5 << 20;

/// Bytes of a token that is sampled from, in a sampler's list and counts.
const CANDIDATE: usize = size_of::<Candidate>() + size_of::<u32>();

impl Options {
    /// The memory that a model will take with these options. Its vocabulary counts if it is loaded already.
    ///
    /// # Errors
    /// When the file is not a model.
    pub fn plan(&self, file: &File) -> Result<Memory, Error> {
        let spec = Spec::of(file).map_err(|error| error.at(file.path()))?;
        Ok(self.plan_of(file, &spec, spec.arch.encoder)?.0)
    }

    /// Each weight and value of [`Options::plan`], and where it will lie.
    ///
    /// # Errors
    /// Those of [`Options::plan`], and when the model lacks such a context or takes more than [`Options::memory_limit`].
    pub fn plan_log(&self, file: &File) -> Result<PlanLog, Error> {
        let spec = Spec::of(file).map_err(|error| error.at(file.path()))?;
        self.check_context(&spec)?;
        let (memory, device) = self.plan_of(file, &spec, spec.arch.encoder)?;
        self.check_limit(memory)?;
        let work = self.workload(&spec, spec.arch.encoder);
        Ok(trine_model::plan_log(file, &spec, &self.planned_on(&device), &work)?)
    }

    fn workload(&self, spec: &Spec, headless: bool) -> Workload {
        let EngineOptions { max_sequences: sequences, prefill_chunk: batch, cache_type, .. } = self.engine;
        Workload { context: self.context_of(spec), sequences, batch, cache_type, headless }
    }

    /// A file that is read is not copied again for its pages.
    fn planned_on(&self, device: &DeviceOptions) -> DeviceOptions {
        let mut device = device.clone();
        if !self.mmap {
            device.cpu.huge_pages = When::Off;
        }
        device
    }

    /// The plan, and the device's options in which nothing is left to decide.
    pub(crate) fn plan_of(
        &self,
        file: &File,
        spec: &Spec,
        headless: bool,
    ) -> Result<(Memory, DeviceOptions), trine_model::Error> {
        let work = self.workload(spec, headless);
        let sequences = work.sequences;
        let read = if self.mmap { 0 } else { file.size() };
        let there = |resident: u64| resident.saturating_sub(if file.is_mapped() { 0 } else { read });
        let program = memory::resident().map_or(0, |resident| there(resident) + LATER);
        let plan = |device: &DeviceOptions| -> Result<Memory, trine_model::Error> {
            let MemoryPlan { weights, kv_cache, activations, outputs } =
                trine_model::plan(file, spec, &self.planned_on(device), &work)?;
            let WeightBytes { mapped, held, copied, repacked } = weights;
            let samplers = if headless { 0 } else { sequences * spec.vocab_size * CANDIDATE };
            Ok(Memory {
                weights: copied + if self.mmap { mapped + held } else { read },
                mapped: if self.mmap { mapped } else { 0 },
                repacked,
                kv_cache: self.engine.cache_bytes.map_or(kv_cache, |bytes| bytes as u64),
                activations,
                sampling: outputs + samplers as u64,
                program,
            })
        };
        let mut device = self.device.clone();
        let memory = plan(&device)?;
        let possible = memory::transparent_huge_pages().is_some_and(|mode| mode != "never");
        // There is twice the memory that the model takes.
        let room = Room::read().is_some_and(|room| room.available() / 2 >= memory.total());
        let cpu = &mut device.cpu;
        let decide = |when: When, possible: bool| if when == When::Auto { (possible && room).into() } else { when };
        cpu.huge_pages = decide(cpu.huge_pages, possible);
        // What was read already would take its memory twice.
        cpu.repack = decide(cpu.repack, self.mmap);
        let decided = plan(&device)?;
        if self.check_limits(decided).is_ok() || self.check_limits(memory).is_err() {
            return Ok((decided, device));
        }
        // What is left to us leaves room.
        let off = |when: When| if when == When::Auto { When::Off } else { when };
        device.cpu.huge_pages = off(self.device.cpu.huge_pages);
        device.cpu.repack = off(self.device.cpu.repack);
        Ok((memory, device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn layouts_of_whole_matrices_are_uploaded_as_the_file_has_them() {
        for name in ["tl1.gguf", "tl2.gguf"] {
            let file =
                File::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/ternary").join(name)).unwrap();
            assert!(file.tensors().any(|view| view.format.matrix_layout().is_some()), "{name}");
            let there = file.tensors().map(|view| view.bytes.len() as u64).sum();
            // TL2 may be padded.
            assert!(uploaded(&file, false).abs_diff(there) <= 32, "{name}");
        }
    }
}
