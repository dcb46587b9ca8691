//! The memory of a teacher.

use super::{open, options, same_vocabulary};
use crate::Result;
use crate::adjoint::Adjoint;
use crate::config::{Config, DistillConfig};
use crate::plan::PlannedPass;
use trine_backend::cpu::PlannedAct;
use trine_backend::{CacheType, CpuPlan, WeightBytes};
use trine_model::Model;
use trine_tensor::Metadata;

/// What a teacher takes.
pub struct TeacherPlan {
    vocab: usize,
    /// Whether its vocabulary is not the student's.
    maps: bool,
    /// In all, but for what it takes on the student's device.
    pub bytes: u64,
}

impl TeacherPlan {
    /// Plans a teacher that runs the passes of a student, whose tokenizer is in the metadata `student`.
    ///
    /// # Errors
    /// As [`Teacher::load`](super::Teacher::load).
    pub(crate) fn new(
        distill: &DistillConfig,
        config: &Config,
        pass: &PlannedPass,
        student: &Metadata,
    ) -> Result<TeacherPlan> {
        let (file, spec) = open(distill, config.train.sequence)?;
        let mut device = CpuPlan::new(&options(config.train.threads))?;
        let model = Model::load_shapes(&mut device, &file, &spec, false)?;
        let cache = pass.cache(&mut device, &spec)?;
        drop(model.forward(&mut device, cache, &pass.batch)?);
        let WeightBytes { mapped, held, copied, .. } = device.weights();
        let kv_cache = spec.kv_shape(pass.blocks, CacheType::F32).bytes().unwrap_or(usize::MAX) as u64;
        // Logits are copied to the host.
        let logits = (4 * pass.batch.tokens().len() * spec.vocab_size) as u64;
        Ok(TeacherPlan {
            vocab: spec.vocab_size,
            maps: !same_vocabulary(&file, student),
            bytes: mapped + held + copied + pass.scaled(device.activations() + kv_cache + logits),
        })
    }

    /// What its logits, and the gradient that follows from them, take on the student's device.
    pub(crate) fn plan_logits(&self, device: &mut CpuPlan, logits: &PlannedAct, dlogits: &mut PlannedAct) {
        let tokens = logits.rows();
        let theirs = device.act(tokens, self.vocab);
        if !self.maps {
            return device.kl_divergence(logits, &theirs, 1.0, 1.0, dlogits, &mut Vec::new());
        }
        // At most, tokens of both end at the same bytes.
        let (_weights, mapped) = (device.copy(&theirs), device.act(tokens, logits.cols()));
        drop((theirs, _weights));
        let ours = device.copy(logits);
        let mut part = device.zeros_like(&ours);
        device.kl_divergence(&ours, &mapped, 1.0, 1.0, &mut part, &mut Vec::new());
        let part = device.gather_rows_backward(&[], tokens, &part);
        device.accumulate(dlogits, &part);
    }
}
