//! The memory that a model will take, before it is loaded.

use crate::{Model, Result, Spec};
use trine_backend::{BLOCK_LEN, Backend, Batch, CacheType, CpuPlan, WeightBytes};
use trine_tensor::File;

/// How much a model runs at once.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Tokens of a sequence.
    pub context: usize,
    pub sequences: usize,
    /// Tokens of a pass, of one prompt.
    pub batch: usize,
    /// The format of keys and values.
    pub cache_type: CacheType,
    /// Hidden states alone, without a head.
    pub headless: bool,
}

/// Bytes that a model takes on its device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryPlan {
    pub weights: WeightBytes,
    /// Keys and values of all sequences when they fill their context.
    pub kv_cache: u64,
    /// Activations of the largest pass, what kernels need for it, and its outputs on the host.
    pub activations: u64,
}

/// The longest context that passes are planned with.
const LONGEST: usize = 1 << 17;

/// Plans a model on the CPU: all its passes are run, without numbers.
pub(crate) fn on_cpu(mut cpu: CpuPlan, file: &File, spec: &Spec, work: &Workload) -> Result<MemoryPlan> {
    let &Workload { context, sequences, batch, cache_type, headless } = work;
    let model = Model::load_shapes(&mut cpu, file, spec, headless)?;
    let cache = cpu.create_cache(spec.kv_shape(1, cache_type))?;
    let mut outputs = 0;
    // What attention needs of a longer context is small beside its cache.
    let context = context.clamp(1, LONGEST);
    let chunk = if spec.causal { batch.clamp(1, context) } else { context };
    // The first token tells whether the model makes sense; then the last part of a prompt, and the last token of all sequences.
    for (sequences, tokens, cached) in [(1, 1, 0), (1, chunk, context - chunk), (sequences.max(1), 1, context - 1)] {
        let (ids, mut batch) = (vec![0; tokens], Batch::new());
        let blocks = vec![0; (cached + tokens).div_ceil(BLOCK_LEN)];
        for _ in 0..sequences {
            batch.push(&ids, cached, &blocks, if headless { tokens } else { 1 });
        }
        let values = match headless || spec.arch.encoder {
            true => model.hidden_states(&mut cpu, cache, &batch)?,
            false => model.forward(&mut cpu, cache, &batch)?,
        };
        outputs = outputs.max(batch.outputs().len() * cpu.columns(&values) * size_of::<f32>());
    }
    let blocks = work.context.div_ceil(BLOCK_LEN).saturating_mul(sequences);
    Ok(MemoryPlan {
        weights: cpu.weights(),
        kv_cache: spec.kv_shape(blocks, cache_type).bytes().map_or(u64::MAX, |bytes| bytes as u64),
        activations: cpu.activations() + outputs as u64,
    })
}
