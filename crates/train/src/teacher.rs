//! A model to learn from: its distributions of the next token beside the text (arXiv:1503.02531).
//!
//! A teacher may have other tokens than its pupil. Both read the same pieces of text, each in its own tokens; where a token of both ends at the same
//! byte, both say what comes next, and each of the teacher's tokens counts for the token with which the pupil would begin that text. Elsewhere the
//! pupil learns from the text alone.

use crate::Result;
use crate::adjoint::Adjoint;
use crate::config::Distill;
use std::collections::HashMap;
use std::ops::ControlFlow;
use trine_backend::{Act, Backend, Batch, Cpu, CpuOptions};
use trine_model::{Language, Model, open_file};
use trine_tensor::{File, OpenOptions};
use trine_text::{Encode, Tokenizer};

/// Tokens of a block of the attention's cache.
const BLOCK: usize = 16;
/// What a probability is at least: none is infinitely surprising.
const LEAST: f32 = 1e-7;

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

/// From the tokens of a teacher to those of its pupil.
struct Bridge {
    own: Tokenizer,
    pupil: Tokenizer,
    /// For each token of the teacher the pupil's, if there is one.
    map: Vec<Option<u32>>,
    /// Room for a batch in the teacher's tokens.
    batch: Batch,
}

impl Teacher {
    /// Loads the teacher of a model that speaks like `pupil`.
    ///
    /// # Errors
    /// When it is no model.
    pub fn load(distill: &Distill, threads: Option<usize>, pupil: &File) -> Result<Teacher> {
        let file = open_file(&distill.teacher, &OpenOptions::default())?;
        let mut options = CpuOptions::default();
        options.threads = threads.unwrap_or(options.threads);
        let mut device = Cpu::new(options)?;
        let model = Model::load(&mut device, &file, &mut |_| ControlFlow::Continue(()))?;
        let tokens = |file: &File| file.metadata().get("tokenizer.ggml.tokens").cloned();
        let bridge = match tokens(&file) == tokens(pupil) {
            true => None,
            false => Some(Bridge::new(Language::of(&file)?.tokenizer, Language::of(pupil)?.tokenizer)),
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
        let (pairs, blocks) = bridge.translate(batch);
        reserve(&self.model, &mut self.device, &mut self.blocks, blocks)?;
        let logits = self.model.forward(&mut self.device, &bridge.batch);
        let (own, pupil) = (self.model.spec().vocab, bridge.pupil.len());
        let mut weights = self.device.copy(&logits);
        self.device.machine().powers(logits.data(), own, temperature, weights.data_mut());
        let mut mapped = self.device.act(pairs.len(), pupil);
        let (map, weights) = (&bridge.map, weights.data());
        self.device.machine().fill(mapped.data_mut(), pupil, 8 * own, &|i, out| {
            carry(&weights[pairs[i].1 as usize * own..][..own], map, temperature, out);
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

/// What a teacher's tokens weigh as logits over the pupil's, at this temperature.
fn carry(weights: &[f32], map: &[Option<u32>], temperature: f32, out: &mut [f32]) {
    out.fill(0.0);
    let mut total = 0.0;
    for (weight, to) in weights.iter().zip(map) {
        if let Some(to) = to {
            out[*to as usize] += weight;
            total += weight;
        }
    }
    let least = libm::logf(LEAST);
    for x in out {
        let probability = *x / total;
        *x = temperature * if probability > LEAST { libm::logf(probability) } else { least };
    }
}

impl Bridge {
    fn new(own: Tokenizer, pupil: Tokenizer) -> Bridge {
        let pieces: HashMap<&[u8], u32> =
            (0..pupil.len() as u32).rev().filter_map(|id| Some((pupil.piece(id)?, id))).collect();
        let counterpart = |id: u32| {
            if own.is_end(id) {
                return pupil.eos();
            }
            let piece = own.piece(id).filter(|piece| !piece.is_empty() && !own.is_control(id))?;
            let first = || pupil.encode(str::from_utf8(piece).ok()?, Encode::default()).first().copied();
            pieces.get(piece).copied().or_else(first)
        };
        let map = (0..own.len() as u32).map(counterpart).collect();
        Bridge { own, pupil, map, batch: Batch::new() }
    }

    /// Makes the batch of the same texts in the teacher's tokens; returns which rows of the pupil's batch go with which of it, and how many blocks
    /// it lies in.
    fn translate(&mut self, batch: &Batch) -> (Vec<(u32, u32)>, usize) {
        let Bridge { own, pupil, batch: translated, .. } = self;
        translated.clear();
        let (mut pairs, mut blocks, mut first) = (Vec::new(), 0, 0);
        for span in batch.spans() {
            let ids = &batch.tokens()[span.row..span.row + span.tokens];
            let length = |tokenizer: &Tokenizer, id: u32| match tokenizer.is_control(id) {
                true => 0,
                false => tokenizer.piece(id).map_or(0, <[u8]>::len),
            };
            let bytes: Vec<u8> = ids
                .iter()
                .filter(|&&id| !pupil.is_control(id))
                .flat_map(|&id| pupil.piece(id).unwrap_or(&[]))
                .copied()
                .collect();
            let Ok(text) = str::from_utf8(&bytes) else { continue };
            let mut theirs: Vec<u32> = own.bos().into_iter().collect();
            theirs.extend(own.encode(text, Encode::default()));
            let total: usize = theirs.iter().map(|&id| length(own, id)).sum();
            // A teacher may put a space before a text.
            let Some(shift @ 0..=1) = total.checked_sub(bytes.len()) else { continue };
            let mut ends = HashMap::new();
            let mut end = 0;
            for (row, &id) in theirs.iter().enumerate() {
                end += length(own, id);
                if let Some(end) = end.checked_sub(shift) {
                    ends.insert(end, first + row as u32);
                }
            }
            let mut end = 0;
            for (row, &id) in ids.iter().enumerate() {
                end += length(pupil, id);
                pairs.extend(ends.get(&end).map(|&theirs| ((span.row + row) as u32, theirs)));
            }
            let own_blocks: Vec<u32> = (blocks as u32..).take(theirs.len().div_ceil(BLOCK)).collect();
            blocks += own_blocks.len();
            first += theirs.len() as u32;
            translated.push(&theirs, 0, &own_blocks, theirs.len());
        }
        (pairs, blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn tokenizer(name: &str) -> Tokenizer {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../golden/models").join(name);
        Language::open(&path).unwrap().tokenizer
    }

    #[test]
    fn with_the_same_tokens_a_bridge_changes_nothing() {
        let (own, pupil) = (tokenizer("qwen2/model.gguf"), tokenizer("qwen2/model.gguf"));
        let mut ids: Vec<u32> = own.bos().into_iter().collect();
        ids.extend(own.encode("The miller counted 17 pear trees.", Encode::default()));
        let mut batch = Batch::new();
        batch.push(&ids, 0, &[0, 1], ids.len());
        let mut bridge = Bridge::new(own, pupil);
        let (pairs, _) = bridge.translate(&batch);
        assert!(pairs.iter().all(|(ours, theirs)| ours == theirs) && pairs.len() == ids.len());
        let logits: Vec<f32> = (0..bridge.own.len()).map(|i| (i * 7 % 13) as f32 / 3.0).collect();
        let weights: Vec<f32> = logits.iter().map(|x| (x / 2.0).exp()).collect();
        let mut out = vec![0.0; bridge.pupil.len()];
        carry(&weights, &bridge.map, 2.0, &mut out);
        // Ends of a text count together for one.
        let alone = |i: &usize| bridge.map.iter().filter(|&&to| to == Some(*i as u32)).count() == 1;
        let mapped: Vec<usize> = (0..out.len()).filter(|&i| bridge.map[i] == Some(i as u32)).filter(alone).collect();
        let shift = out[mapped[0]] - logits[mapped[0]];
        assert!(mapped.len() * 10 > out.len() * 9, "{} of {}", mapped.len(), out.len());
        assert!(mapped.into_iter().all(|i| (out[i] - logits[i] - shift).abs() < 1e-3));
    }

    #[test]
    fn other_tokens_meet_where_both_end() {
        // SentencePiece beside byte-level BPE: other tokens, and a space before the text.
        let (own, pupil) = (tokenizer("llama/model.gguf"), tokenizer("qwen2/model.gguf"));
        let text = "The miller counted 17 pear trees, and then he counted them again.";
        let ids = pupil.encode(text, Encode::default());
        let mut batch = Batch::new();
        batch.push(&ids, 0, &(0..9).collect::<Vec<_>>(), ids.len());
        let mut bridge = Bridge::new(own, pupil);
        let (pairs, _) = bridge.translate(&batch);
        let theirs = bridge.batch.tokens();
        assert!(!pairs.is_empty());
        for (row, their_row) in pairs {
            let (ours, theirs) = (&ids[..=row as usize], &theirs[..=their_row as usize]);
            assert_eq!(bridge.pupil.decode(ours), bridge.own.decode(theirs));
        }
    }
}
