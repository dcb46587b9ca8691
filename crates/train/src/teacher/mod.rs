//! Knowledge distillation: the teacher's logits as targets, besides the text (arXiv:1503.02531).
//!
//! Teacher and student may have different tokenizers: see [`VocabMap`].

mod vocab_map;

use self::vocab_map::VocabMap;
use crate::adjoint::Adjoint;
use crate::config::DistillConfig;
use crate::data::TokenizedDocuments;
use crate::{Error, Result};
use std::ops::ControlFlow;
use trine_backend::{Act, Backend, Batch, Cpu, CpuOptions};
use trine_model::{Language, Model, Spec, open_file};
use trine_tensor::{File, OpenOptions};

/// Tokens per KV block.
const BLOCK: usize = 16;
/// Maximum number of documents from which a [`VocabMap`] is estimated.
const DOCUMENTS: usize = 4096;

pub struct Teacher {
    model: Model<Cpu>,
    device: Cpu,
    /// None if teacher and student have the same vocabulary.
    vocab_map: Option<VocabMap>,
    blocks: usize,
}

/// The teacher's logits for rows of a batch.
pub struct TeacherLogits {
    /// None for all rows.
    pub rows: Option<Vec<u32>>,
    /// Over the student's vocabulary, `[rows, vocab]`.
    pub logits: Act,
}

impl Teacher {
    /// Loads the teacher for a student with the tokenizer of the file `student`, trained on `texts`.
    ///
    /// # Errors
    /// When the teacher cannot be loaded, or its context is shorter than `sequence` tokens.
    pub fn load(
        distill: &DistillConfig,
        threads: Option<usize>,
        sequence: usize,
        student: &File,
        texts: &TokenizedDocuments,
    ) -> Result<Teacher> {
        let file = open_file(&distill.teacher, &OpenOptions::default())?;
        let context = Spec::of(&file)?.context_length;
        if context < sequence {
            return Err(Error::Config {
                key: "distill.teacher".into(),
                expected: format!("a model with a context of at least {sequence} tokens, `train.sequence`"),
                found: format!("a context of {context}"),
            });
        }
        let mut options = CpuOptions::default();
        options.threads = threads.unwrap_or(options.threads);
        let mut device = Cpu::new(options)?;
        let mut model = Model::load(&mut device, &file, &mut |_| ControlFlow::Continue(()))?;
        model.limit_context(sequence);
        let tokens = |file: &File| file.metadata().get("tokenizer.ggml.tokens").cloned();
        let vocab_map = match tokens(&file) == tokens(student) {
            true => None,
            false => {
                let step = texts.len().div_ceil(DOCUMENTS).max(1);
                let texts = (0..texts.len()).step_by(step).map(|document| texts.document(document).collect());
                Some(VocabMap::new(Language::of(&file)?.tokenizer, Language::of(student)?.tokenizer, texts))
            }
        };
        Ok(Teacher { model, device, vocab_map, blocks: 0 })
    }

    /// The logits for a batch in `blocks` KV blocks. `temperature` divides them where probabilities are mapped between vocabularies.
    ///
    /// # Errors
    /// When there is no memory for the KV cache.
    pub fn logits(&mut self, batch: &Batch, blocks: usize, temperature: f32) -> Result<TeacherLogits> {
        let Some(vocab_map) = &mut self.vocab_map else {
            reserve(&self.model, &mut self.device, &mut self.blocks, blocks)?;
            return Ok(TeacherLogits { rows: None, logits: self.model.forward(&mut self.device, batch) });
        };
        let (pairs, blocks) = vocab_map.retokenize(batch, self.model.spec().context_length, BLOCK);
        reserve(&self.model, &mut self.device, &mut self.blocks, blocks)?;
        let logits = self.model.forward(&mut self.device, vocab_map.batch());
        let (vocab, student) = (self.model.spec().vocab_size, vocab_map.student().len());
        let mut weights = self.device.copy(&logits);
        self.device.machine().powers(logits.data(), vocab, temperature, weights.data_mut());
        let mut mapped = self.device.act(pairs.len(), student);
        let (vocab_map, weights, ids) = (&*vocab_map, weights.data(), batch.tokens());
        self.device.machine().fill(mapped.data_mut(), student, 8 * vocab, &|i, out| {
            let (row, theirs) = pairs[i];
            vocab_map.map(ids[row as usize], &weights[theirs as usize * vocab..][..vocab], temperature, out);
        });
        Ok(TeacherLogits { rows: Some(pairs.into_iter().map(|(row, _)| row).collect()), logits: mapped })
    }
}

/// Makes room for at least this many KV blocks.
fn reserve(model: &Model<Cpu>, device: &mut Cpu, have: &mut usize, blocks: usize) -> Result<()> {
    if blocks > *have {
        *have = blocks + blocks / 4;
        device.reserve_kv(model.kv_shape(*have, BLOCK))?;
    }
    Ok(())
}
