//! Knowledge distillation: the teacher's logits as targets, besides the text (arXiv:1503.02531).
//!
//! Teacher and student may have different tokenizers: see [`VocabMap`].

mod plan;
mod vocab_map;

pub use plan::TeacherPlan;

use self::vocab_map::VocabMap;
use crate::adjoint::Adjoint;
use crate::config::DistillConfig;
use crate::data::{TokenizedDocuments, hex};
use crate::{Error, Result};
use sha2::{Digest, Sha256};
use std::ops::ControlFlow;
use trine_backend::cpu::Act;
use trine_backend::{BLOCK_LEN, Backend, Batch, CacheId, CacheType, Cpu, CpuOptions};
use trine_model::runner::{Output, Want};
use trine_model::{DeviceOptions, Language, ModelOptions, Runner, Spec, load, open_file};
use trine_tensor::{File, Metadata, OpenOptions, View};

/// Bytes at each end of a tensor by which a teacher is known.
const EDGE: usize = 1 << 12;
/// Maximum number of documents from which a [`VocabMap`] is estimated.
const DOCUMENTS: usize = 4096;

/// Opens the teacher's file.
///
/// # Errors
/// When it is no model, or its context is shorter than `sequence` tokens.
fn open(distill: &DistillConfig, sequence: usize) -> Result<(File, Spec)> {
    let file = open_file(&distill.teacher, &OpenOptions::default())?;
    let spec = Spec::of(&file)?;
    if spec.context_length < sequence {
        return Err(Error::Config {
            key: "distill.teacher".into(),
            expected: format!("a model with a context of at least {sequence} tokens, `train.sequence`"),
            found: format!("a context of {}", spec.context_length),
        });
    }
    Ok((file, spec))
}

/// A hash of a model: of its metadata, and of the beginning and the end of each of its tensors.
fn hash(file: &File) -> String {
    let mut hash = Sha256::new();
    for (key, value) in file.metadata().iter() {
        hash.update(format!("{key:?} {value:?}\n"));
    }
    let mut tensors: Vec<&View> = file.tensors().collect();
    tensors.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    for View { name, format, shape, bytes, .. } in tensors {
        let edge = bytes.len().min(EDGE);
        hash.update(format!("{name:?} {format} {shape:?}\n"));
        hash.update(&bytes[..edge]);
        hash.update(&bytes[bytes.len() - edge..]);
    }
    hex(hash)
}

/// How the teacher runs.
fn options(threads: Option<usize>) -> CpuOptions {
    let options = CpuOptions::default();
    CpuOptions { threads: threads.unwrap_or(options.threads), ..options }
}

fn same_vocabulary(teacher: &File, student: &Metadata) -> bool {
    let tokens = |metadata: &Metadata| metadata.get("tokenizer.ggml.tokens").cloned();
    tokens(teacher.metadata()) == tokens(student)
}

pub struct Teacher {
    runner: Box<dyn Runner>,
    /// None if teacher and student have the same vocabulary.
    vocab_map: Option<VocabMap>,
    /// Its cache, and how many blocks that has.
    cache: Option<(CacheId, usize)>,
    output: Output,
    /// By which another teacher is known.
    pub hash: String,
}

/// The teacher's logits for rows of a batch.
pub struct TeacherLogits {
    /// None for all rows.
    pub rows: Option<Vec<u32>>,
    /// Over the student's vocabulary, `[rows, vocab]`.
    pub logits: Act,
}

impl Teacher {
    /// Loads the teacher for a student whose tokenizer is in the metadata `student`, trained on `texts`.
    ///
    /// # Errors
    /// When the teacher cannot be loaded, or its context is shorter than `sequence` tokens.
    pub fn load(
        distill: &DistillConfig,
        threads: Option<usize>,
        sequence: usize,
        student: &Metadata,
        texts: &TokenizedDocuments,
    ) -> Result<Teacher> {
        let (file, _) = open(distill, sequence)?;
        let device = DeviceOptions { cpu: options(threads), ..DeviceOptions::default() };
        let mut runner = load(&file, &device, ModelOptions::default(), &mut |_| ControlFlow::Continue(()))?;
        // A text may have more tokens in the teacher's vocabulary than in the student's.
        runner.limit_context(runner.spec().longest_context_like(sequence));
        let vocab_map = match same_vocabulary(&file, student) {
            true => None,
            false => {
                let step = texts.len().div_ceil(DOCUMENTS).max(1);
                let texts = (0..texts.len()).step_by(step).map(|document| texts.document(document).collect());
                Some(VocabMap::new(Language::of(&file)?.tokenizer, Language::of_metadata(student)?.tokenizer, texts))
            }
        };
        Ok(Teacher { runner, vocab_map, cache: None, output: Output::default(), hash: hash(&file) })
    }

    /// The logits for a batch in `blocks` KV blocks, on the student's device. `temperature` divides them where probabilities are mapped between
    /// vocabularies.
    ///
    /// # Errors
    /// When there is no memory for the KV cache.
    pub fn logits(
        &mut self,
        device: &mut Cpu,
        batch: &Batch,
        blocks: usize,
        temperature: f32,
    ) -> Result<TeacherLogits> {
        let vocab = self.runner.spec().vocab_size;
        let Some(mut vocab_map) = self.vocab_map.take() else {
            self.forward(batch, blocks)?;
            return Ok(TeacherLogits { rows: None, logits: device.to_device(&self.output.values, vocab) });
        };
        let (pairs, blocks) = vocab_map.retokenize(batch, self.runner.spec().context_length, BLOCK_LEN);
        let result = self.forward(vocab_map.batch(), blocks);
        let vocab_map = &*self.vocab_map.insert(vocab_map);
        result?;
        let student = vocab_map.student().len();
        let logits = device.to_device(&self.output.values, vocab);
        let mut weights = device.copy(&logits);
        device.executor().softmax_numerators(logits.data(), vocab, temperature, weights.data_mut());
        let mut mapped = device.act(pairs.len(), student);
        let (weights, ids) = (weights.data(), batch.tokens());
        device.executor().fill(mapped.data_mut(), student, 8 * vocab, &|i, out| {
            let (row, theirs) = pairs[i];
            vocab_map.map(ids[row as usize], &weights[theirs as usize * vocab..][..vocab], temperature, out);
        });
        Ok(TeacherLogits { rows: Some(pairs.into_iter().map(|(row, _)| row).collect()), logits: mapped })
    }

    /// Runs a batch in a cache of at least this many blocks.
    fn forward(&mut self, batch: &Batch, blocks: usize) -> Result<()> {
        let cache = match self.cache {
            Some((cache, room)) if room >= blocks => cache,
            old => {
                if let Some((old, _)) = old {
                    self.runner.release_cache(old);
                    self.cache = None;
                }
                let room = blocks + blocks / 4;
                let cache = self.runner.create_cache(room.into(), CacheType::F32)?;
                self.cache = Some((cache, room));
                cache
            }
        };
        Ok(self.runner.forward(cache, batch, Want::Logits, &mut self.output)?)
    }
}
