//! The memory that a model will take, before it is loaded.

use crate::{Model, Spec};
use trine_backend::{BLOCK_LEN, Backend, Batch, CacheType, CpuPlan, KvBlocks, PlanLog, WeightBytes};
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

impl Workload {
    /// The blocks that a sequence takes at most: layers with a window keep what the tokens of the next pass see.
    pub fn sequence_blocks(&self, spec: &Spec) -> KvBlocks {
        let full = self.context.div_ceil(BLOCK_LEN);
        let window = match spec.max_window() {
            // What they see may begin and end in the middle of a block.
            Some(window) if spec.causal => full.min(window.saturating_add(self.batch).div_ceil(BLOCK_LEN) + 1),
            _ => full,
        };
        KvBlocks { full, window }
    }

    /// The blocks of a cache that has room for all sequences.
    pub fn cache_blocks(&self, spec: &Spec) -> KvBlocks {
        let KvBlocks { full, window } = self.sequence_blocks(spec);
        let full = full.saturating_mul(self.sequences);
        // As many again keep the windows of earlier sequences: a beginning can be used again as long as its last window is there.
        KvBlocks { full, window: window.saturating_mul(2).saturating_mul(self.sequences).min(full) }
    }

    /// The blocks of a cache of so many bytes, where `each` has the bytes of a block in the layers without a window and in those with one.
    ///
    /// # Errors
    /// When it has no room for one sequence; the bytes that this needs.
    pub fn cache_blocks_within(&self, bytes: usize, spec: &Spec, each: [usize; 2]) -> Result<KvBlocks, usize> {
        let (one, all, [full, window]) = (self.sequence_blocks(spec), self.cache_blocks(spec), each);
        let needed = one.full.saturating_mul(full).saturating_add(one.window.saturating_mul(window));
        let left = bytes.checked_sub(needed).ok_or(needed)?;
        let more = left / (full + window).max(1);
        if window == 0 || one.window == one.full {
            return Ok((one.full + more).into());
        }
        // Shared evenly, until those with a window have what they need.
        let windows = (one.window + more).min(all.window);
        let rest = left - (windows - one.window) * window;
        Ok(KvBlocks { full: rest.checked_div(full).map_or(all.full, |more| one.full + more), window: windows })
    }
}

/// Bytes that a model takes on its device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryPlan {
    pub weights: WeightBytes,
    /// Keys and values of all sequences when they fill their context.
    pub kv_cache: u64,
    /// Activations of the largest pass, and what kernels need for it.
    pub activations: u64,
    /// Its outputs on the host.
    pub outputs: u64,
}

/// The longest context that passes are planned with.
const LONGEST: usize = 1 << 17;

/// Plans a model on the CPU: all its passes are run, without numbers. `log` gets each weight and value.
pub(crate) fn on_cpu(
    cpu: CpuPlan,
    file: &File,
    spec: &Spec,
    work: &Workload,
    log: Option<&mut PlanLog>,
) -> crate::Result<MemoryPlan> {
    let mut cpu = if log.is_some() { cpu.with_log() } else { cpu };
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
    if let Some(log) = log {
        *log = cpu.take_log();
    }
    Ok(MemoryPlan {
        weights: cpu.weights(),
        kv_cache: spec.kv_shape(work.cache_blocks(spec), cache_type).bytes().map_or(u64::MAX, |bytes| bytes as u64),
        activations: cpu.activations(),
        outputs: outputs as u64,
    })
}
