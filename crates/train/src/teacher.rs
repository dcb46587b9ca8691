//! A model to learn from: its distributions of the next token beside the text (arXiv:1503.02531).
//!
//! A teacher may have other tokens than its pupil: see [`Bridge`].

mod bridge;

use self::bridge::Bridge;
use crate::adjoint::Adjoint;
use crate::config::Distill;
use crate::data::Tokens;
use crate::{Error, Result};
use std::ops::ControlFlow;
use trine_backend::{Act, Backend, Batch, Cpu, CpuOptions};
use trine_model::{Language, Model, Spec, open_file};
use trine_tensor::{File, OpenOptions};

/// Tokens of a block of the attention's cache.
const BLOCK: usize = 16;
/// Documents from which the way from other tokens is learned.
const DOCUMENTS: usize = 4096;

/// A teacher.
pub struct Teacher {
    model: Model<Cpu>,
    device: Cpu,
    /// Between its tokens and the pupil's, where they differ.
    bridge: Option<Bridge>,
    /// Blocks of its cache.
    blocks: usize,
}

/// What a teacher says of some rows of a batch.
pub struct Lesson {
    /// Which; all where missing.
    pub rows: Option<Vec<u32>>,
    /// Logits over the pupil's tokens.
    pub logits: Act,
}

impl Teacher {
    /// Loads the teacher of a model that speaks like `pupil`, and is to learn from `texts`.
    ///
    /// # Errors
    /// When it is no model, or not made for texts of `sequence` tokens.
    pub fn load(
        distill: &Distill,
        threads: Option<usize>,
        sequence: usize,
        pupil: &File,
        texts: &Tokens,
    ) -> Result<Teacher> {
        let file = open_file(&distill.teacher, &OpenOptions::default())?;
        let context = Spec::of(&file)?.context_length;
        if context < sequence {
            return Err(Error::Config {
                key: "distill.teacher".into(),
                expected: format!("a model with a context of {sequence} tokens, as `train.sequence` says"),
                found: format!("one of {context}"),
            });
        }
        let mut options = CpuOptions::default();
        options.threads = threads.unwrap_or(options.threads);
        let mut device = Cpu::new(options)?;
        let mut model = Model::load(&mut device, &file, &mut |_| ControlFlow::Continue(()))?;
        model.limit_context(sequence);
        let tokens = |file: &File| file.metadata().get("tokenizer.ggml.tokens").cloned();
        let bridge = match tokens(&file) == tokens(pupil) {
            true => None,
            false => {
                let step = texts.len().div_ceil(DOCUMENTS).max(1);
                let texts = (0..texts.len()).step_by(step).map(|document| texts.document(document).collect());
                Some(Bridge::new(Language::of(&file)?.tokenizer, Language::of(pupil)?.tokenizer, texts))
            }
        };
        Ok(Teacher { model, device, bridge, blocks: 0 })
    }

    /// What it says of a batch that lies in so many blocks. Distributions are flattened by `temperature`.
    ///
    /// # Errors
    /// When there is no room for its cache.
    pub fn lesson(&mut self, batch: &Batch, blocks: usize, temperature: f32) -> Result<Lesson> {
        let Some(bridge) = &mut self.bridge else {
            reserve(&self.model, &mut self.device, &mut self.blocks, blocks)?;
            return Ok(Lesson { rows: None, logits: self.model.forward(&mut self.device, batch) });
        };
        let (pairs, blocks) = bridge.translate(batch, self.model.spec().context_length, BLOCK);
        reserve(&self.model, &mut self.device, &mut self.blocks, blocks)?;
        let logits = self.model.forward(&mut self.device, bridge.batch());
        let (own, pupil) = (self.model.spec().vocab_size, bridge.pupil().len());
        let mut weights = self.device.copy(&logits);
        self.device.executor().softmax_numerators(logits.data(), own, temperature, weights.data_mut());
        let mut mapped = self.device.act(pairs.len(), pupil);
        let (bridge, weights, ids) = (&*bridge, weights.data(), batch.tokens());
        self.device.executor().fill(mapped.data_mut(), pupil, 8 * own, &|i, out| {
            let (row, theirs) = pairs[i];
            bridge.carry(ids[row as usize], &weights[theirs as usize * own..][..own], temperature, out);
        });
        Ok(Lesson { rows: Some(pairs.into_iter().map(|(row, _)| row).collect()), logits: mapped })
    }
}

/// Makes sure that there are so many blocks.
fn reserve(model: &Model<Cpu>, device: &mut Cpu, have: &mut usize, blocks: usize) -> Result<()> {
    if blocks > *have {
        *have = blocks + blocks / 4;
        device.reserve_kv(model.kv_shape(*have, BLOCK))?;
    }
    Ok(())
}
